// What the labelling page shows: the picture and the regions on it as one SVG in pixels of the picture, so that nothing
// can move a mask off its package. Zooming and panning change what part of it is seen, and nothing else.
"use strict";
window.LabelView = class {
  static SVG = "http://www.w3.org/2000/svg";

  constructor(svg) {
    this.svg = svg;
    this.layers = Object.fromEntries(["picture", "regions", "handles", "tool"].map((name) => {
      const group = document.createElementNS(LabelView.SVG, "g");
      group.setAttribute("class", name);
      svg.append(group);
      return [name, group];
    }));
    this.size = [1, 1];
    this.box = [0, 0, 1, 1];
    this.onMove = () => {};
    new ResizeObserver(() => this.look(...this.box)).observe(svg);
  }

  element(name, attributes, parent, text = "") {
    const made = document.createElementNS(LabelView.SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
    if (text) made.textContent = text;
    parent.append(made);
    return made;
  }

  show(address, width, height) {
    this.size = [width, height];
    this.layers.picture.replaceChildren();
    this.element("image", { href: address, width, height, preserveAspectRatio: "none" }, this.layers.picture);
    this.fit();
  }

  clear() {
    for (const layer of Object.values(this.layers)) layer.replaceChildren();
  }

  // Pixels of the picture in one pixel of the screen.
  get scale() {
    const { width, height } = this.svg.getBoundingClientRect();
    return Math.max(this.box[2] / Math.max(width, 1), this.box[3] / Math.max(height, 1)) || 1;
  }

  fit() {
    this.look(0, 0, ...this.size);
  }

  look(x, y, width, height) {
    const [w, h] = this.size;
    const least = Math.max(w, h) / 60;
    const factor = Math.min(Math.max(width, least), 2 * w) / width;
    this.box = [Math.min(Math.max(x, -0.75 * width), w - 0.25 * width), Math.min(Math.max(y, -0.75 * height), h - 0.25 * height), width * factor, height * factor];
    this.svg.setAttribute("viewBox", this.box.join(" "));
    this.onMove();
  }

  // Make the part that is seen smaller or larger, the point of the picture staying where it is on the screen.
  zoom(factor, [px, py]) {
    const [x, y, width, height] = this.box;
    this.look(px - (px - x) * factor, py - (py - y) * factor, width * factor, height * factor);
  }

  pan(dx, dy) {
    const [x, y, width, height] = this.box;
    this.look(x - dx * this.scale, y - dy * this.scale, width, height);
  }

  middle() {
    const [x, y, width, height] = this.box;
    return [x + width / 2, y + height / 2];
  }

  // A place of the screen in pixels of the picture.
  point(event) {
    const matrix = this.svg.getScreenCTM().inverse();
    return [matrix.a * event.clientX + matrix.e, matrix.d * event.clientY + matrix.f];
  }

  inside([x, y]) {
    return [Math.min(Math.max(x, 0), this.size[0]), Math.min(Math.max(y, 0), this.size[1])];
  }

  draw(regions, selected, classes) {
    this.layers.regions.replaceChildren();
    const order = regions.map((region) => [region, LabelGeometry.size(region.shape)]).sort((a, b) => b[1] - a[1]);
    for (const [region] of order) {
      const tone = Math.max(0, classes.indexOf(region.label)) % 9;
      const marks = [`tone${tone}`, region.low ? "low" : "", region.disputed ? "disputed" : "", selected.includes(region.key) ? "selected" : ""];
      const drawn = this.element("path", { class: `region ${marks.join(" ").trim()}`, d: LabelGeometry.path(region.shape), "fill-rule": "evenodd", "data-key": region.key }, this.layers.regions);
      const why = [region.score === null ? "" : `${Math.round(region.score * 100)} %`, region.low ? "not sure" : "", region.disputed ? "disputed" : ""].filter(Boolean);
      this.element("title", {}, drawn, [region.label, ...why].join(", "));
    }
  }

  // Handles of one region: squares on its points, small rounds between them where another point may be put.
  handles(region, active) {
    this.layers.handles.replaceChildren();
    if (!region) return;
    const radius = 6 * this.scale, reach = 13 * this.scale;
    region.shape.forEach((polygon, i) => polygon.forEach((ring, j) => ring.forEach(([x, y], k) => {
      const [u, v] = ring[(k + 1) % ring.length];
      if (Math.hypot(u - x, v - y) > 4 * radius) {
        this.element("circle", { class: "between", cx: (x + u) / 2, cy: (y + v) / 2, r: radius * 0.6, "data-between": `${i},${j},${k}` }, this.layers.handles);
      }
    })));
    region.shape.forEach((polygon, i) => polygon.forEach((ring, j) => ring.forEach(([x, y], k) => {
      const at = `${i},${j},${k}`;
      this.element("rect", { class: `vertex${at === active ? " active" : ""}`, x: x - radius * 0.8, y: y - radius * 0.8, width: 1.6 * radius, height: 1.6 * radius }, this.layers.handles);
      this.element("circle", { class: "grip", cx: x, cy: y, r: reach, "data-vertex": at }, this.layers.handles);
    })));
  }

  // What the hand is just doing: a polygon that grows, a line that will split, the brush and its trail.
  sketch({ points = [], kind = "", radius = 0, pointer = null } = {}) {
    this.layers.tool.replaceChildren();
    if (points.length) {
      const d = `M${points.map(([x, y]) => `${x} ${y}`).join("L")}`;
      const trail = this.element("path", { class: `sketch ${kind}`, d: points.length === 1 ? `${d}l0.01 0` : d }, this.layers.tool);
      if (kind === "brush" || kind === "cut") trail.style.strokeWidth = String(2 * radius);
      if (kind === "draw") points.forEach(([x, y], k) => this.element("circle", { class: k ? "dot" : "dot first", cx: x, cy: y, r: (k ? 4 : 8) * this.scale }, this.layers.tool));
    }
    if (pointer && radius) this.element("circle", { class: `brush-ring ${kind}`, cx: pointer[0], cy: pointer[1], r: radius }, this.layers.tool);
  }
};
