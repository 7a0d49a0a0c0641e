// Shapes of the labelling page, and nothing of the page itself. A shape is a list of polygons, each a list of rings (the
// outer one, then the holes), each a list of [x, y] in pixels of the picture, not closed. What is given is never changed.
// Union and difference are those of polygon-clipping, which is exact for parts and holes.
"use strict";
window.LabelGeometry = (() => {
  const GRID = 64;
  const snap = (v) => Math.round(v * GRID) / GRID;
  const opened = (ring) => {
    const points = ring.map(([x, y]) => [snap(x), snap(y)]);
    const [a, b] = [points[0], points[points.length - 1]];
    return points.length > 1 && a[0] === b[0] && a[1] === b[1] ? points.slice(0, -1) : points;
  };
  const clean = (shape) => shape.map((polygon) => polygon.map(opened).filter((ring) => ring.length >= 3)).filter((polygon) => polygon.length && Math.abs(area(polygon[0])) >= 0.5);
  const area = (ring) => ring.reduce((sum, [x, y], k) => { const [u, v] = ring[(k + 1) % ring.length]; return sum + x * v - u * y; }, 0) / 2;
  const size = (shape) => shape.reduce((sum, [outer, ...holes]) => sum + Math.abs(area(outer)) - holes.reduce((s, hole) => s + Math.abs(area(hole)), 0), 0);

  const union = (shapes) => clean(window.polygonClipping.union(...shapes.map(clean)));
  const minus = (shape, other) => clean(window.polygonClipping.difference(clean(shape), clean(other)));
  const common = (shape, other) => clean(window.polygonClipping.intersection(clean(shape), clean(other)));
  const clipped = (shape, width, height) => common(shape, [[[[0, 0], [width, 0], [width, height], [0, height]]]]);

  // The shape on either side of the line through two points: two shapes, or fewer where one side has nothing.
  const split = (shape, [ax, ay], [bx, by]) => {
    const long = Math.hypot(bx - ax, by - ay);
    if (long < 1) return [shape];
    const far = 1e5, ux = (bx - ax) / long * far, uy = (by - ay) / long * far;
    const side = [[[[ax - ux, ay - uy], [ax + ux, ay + uy], [ax + ux - uy, ay + uy + ux], [ax - ux - uy, ay - uy + ux]]]];
    return [common(shape, side), minus(shape, side)].filter((part) => part.length);
  };

  // What a round brush of this radius covers on its way through the points.
  const stroke = (points, radius) => {
    const sides = 14, circle = ([x, y]) => Array.from({ length: sides }, (_, k) => [x + radius * Math.cos(2 * Math.PI * k / sides), y + radius * Math.sin(2 * Math.PI * k / sides)]);
    const way = points.filter((p, k) => k === 0 || k === points.length - 1 || k % Math.max(1, Math.ceil(points.length / 120)) === 0);
    if (way.length === 1) return [[circle(way[0])]];
    const pieces = way.slice(1).map((p, k) => [[hull([...circle(way[k]), ...circle(p)])]]);
    return union(pieces);
  };
  const cross = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
  const hull = (points) => {
    const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const half = (list) => list.reduce((kept, p) => {
      while (kept.length >= 2 && cross(kept[kept.length - 2], kept[kept.length - 1], p) <= 0) kept.pop();
      kept.push(p);
      return kept;
    }, []).slice(0, -1);
    return [...half(sorted), ...half(sorted.reverse())];
  };

  // Four corners in place of a ragged outline: of two ways the one whose area is nearer to what was there. A hull loses
  // the corner that cuts off least, or the side whose neighbours, made longer, add least.
  const straight = (shape) => {
    const outer = [...shape].sort((a, b) => Math.abs(area(b[0])) - Math.abs(area(a[0])))[0][0], around = hull(outer);
    if (around.length < 4) return shape;
    const corner = (ring, k) => Math.abs(cross(ring[(k + ring.length - 1) % ring.length], ring[k], ring[(k + 1) % ring.length])) / 2;
    let small = around, large = around;
    while (small.length > 4) { const least = small.reduce((best, _, k) => (corner(small, k) < corner(small, best) ? k : best), 0); small = small.filter((_, k) => k !== least); }
    while (large && large.length > 4) large = sideless(large);
    const off = (ring) => Math.abs(Math.abs(area(ring)) - size(shape));
    return [[large && off(large) < off(small) ? large : small]];
  };
  const sideless = (ring) => {
    let best = null;
    for (let k = 0; k < ring.length; k += 1) {
      const [a, b, c, d] = [-1, 0, 1, 2].map((step) => ring[(k + step + ring.length) % ring.length]);
      const [ux, uy, vx, vy] = [b[0] - a[0], b[1] - a[1], c[0] - d[0], c[1] - d[1]], turn = ux * vy - uy * vx;
      const t = ((d[0] - b[0]) * vy - (d[1] - b[1]) * vx) / turn, u = ((d[0] - b[0]) * uy - (d[1] - b[1]) * ux) / turn;
      if (!Number.isFinite(t) || t < 0 || u < 1) continue;
      const point = [b[0] + t * ux, b[1] + t * uy], more = Math.abs(cross(b, point, c)) / 2;
      if (!best || more < best.more) best = { more, k, point };
    }
    return best && ring.flatMap((p, n) => (n === best.k ? [best.point] : n === (best.k + 1) % ring.length ? [] : [p]));
  };

  // Fewer points, none of them further off than `slack` pixels: what a brush leaves behind is to be dragged by hand.
  const simpler = (shape, slack) => shape.map((polygon) => polygon.map((ring) => thinned(ring, slack))).filter((polygon) => polygon[0].length >= 3).map(([outer, ...holes]) => [outer, ...holes.filter((hole) => hole.length >= 3)]);
  const thinned = (ring, slack) => {
    if (ring.length < 5) return ring;
    const far = ring.reduce((best, p, k) => (Math.hypot(p[0] - ring[0][0], p[1] - ring[0][1]) > Math.hypot(ring[best][0] - ring[0][0], ring[best][1] - ring[0][1]) ? k : best), 0);
    return [...line(ring.slice(0, far + 1), slack).slice(0, -1), ...line([...ring.slice(far), ring[0]], slack).slice(0, -1)];
  };
  const line = (points, slack) => {
    const [a, b] = [points[0], points[points.length - 1]];
    let worst = 0, at = -1;
    for (let k = 1; k < points.length - 1; k += 1) {
      const off = distance(points[k], a, b);
      if (off > worst) { worst = off; at = k; }
    }
    return worst <= slack ? [a, b] : [...line(points.slice(0, at + 1), slack).slice(0, -1), ...line(points.slice(at), slack)];
  };
  const distance = (p, a, b) => {
    const [dx, dy] = [b[0] - a[0], b[1] - a[1]], square = dx * dx + dy * dy;
    const t = square ? Math.min(1, Math.max(0, ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / square)) : 0;
    return Math.hypot(p[0] - a[0] - t * dx, p[1] - a[1] - t * dy);
  };

  const crosses = (ring, [x, y]) => ring.reduce((inside, [ax, ay], k) => {
    const [bx, by] = ring[(k + 1) % ring.length];
    return (ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax ? !inside : inside;
  }, false);
  const holds = (shape, point) => shape.some((polygon) => polygon.reduce((inside, ring) => inside !== crosses(ring, point), false));

  // The same shape with one point moved, added behind another, or taken away (with its ring, if three are left).
  const edit = (shape, [i, j], change) => shape.map((polygon, p) => (p !== i ? polygon : polygon.map((ring, r) => (r !== j ? ring : change(ring)))));
  const moved = (shape, [i, j, k], point) => edit(shape, [i, j], (ring) => ring.map((old, n) => (n === k ? point : old)));
  const added = (shape, [i, j, k], point) => edit(shape, [i, j], (ring) => [...ring.slice(0, k + 1), point, ...ring.slice(k + 1)]);
  const removed = (shape, [i, j, k]) => edit(shape, [i, j], (ring) => ring.filter((_, n) => n !== k))
    .map((polygon) => (polygon[0].length < 3 ? null : [polygon[0], ...polygon.slice(1).filter((hole) => hole.length >= 3)])).filter(Boolean);

  const path = (shape) => shape.map((polygon) => polygon.map((ring) => `M${ring.map(([x, y]) => `${x} ${y}`).join("L")}Z`).join("")).join("");
  return { union, minus, common, clipped, split, stroke, simpler, straight, holds, moved, added, removed, path, size };
})();
