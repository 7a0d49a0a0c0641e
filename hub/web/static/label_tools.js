// The hand on the labelling page: what a mouse, a finger or a pen does with the tool that is chosen. Two fingers always
// zoom and pan. The regions themselves belong to the editor (label.js), which keeps what can be undone.
"use strict";
window.LabelTools = class {
  constructor(view, editor) {
    this.view = view;
    this.editor = editor;
    this.tool = "select";
    this.radius = 14;
    this.points = [];
    this.drag = null;
    this.fingers = new Map();
    this.space = false;
    this.active = "";
    const svg = view.svg;
    svg.addEventListener("pointerdown", (event) => this.down(event));
    svg.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, (event) => this.up(event));
    svg.addEventListener("dblclick", () => this.twice());
    svg.addEventListener("contextmenu", (event) => event.preventDefault());
    svg.addEventListener("wheel", (event) => {
      event.preventDefault();
      view.zoom(Math.exp(Math.min(Math.max(event.deltaY, -200), 200) * 0.0022), view.point(event));
    }, { passive: false });
    svg.addEventListener("pointerleave", () => { if (!this.drag) this.sketch(null); });
    view.onMove = () => editor.redraw(false);
  }

  choose(tool) {
    this.tool = tool;
    this.cancel();
    this.view.svg.dataset.tool = tool;
    this.editor.chosen(tool);
  }

  // Give up what is half done. True if there was anything.
  cancel() {
    const busy = this.points.length > 0 || this.drag !== null;
    if (this.drag && this.drag.before) this.editor.restore(this.drag.before);
    this.points = [];
    this.drag = null;
    this.active = "";
    this.sketch(null);
    this.editor.redraw(false);
    return busy;
  }

  sketch(pointer) {
    const brush = this.tool === "brush" || this.tool === "cut";
    const points = this.tool === "draw" && this.points.length && pointer ? [...this.points, pointer] : this.points;
    this.view.sketch({ points, kind: this.tool, radius: brush ? this.radius : 0, pointer: brush ? pointer : null });
  }

  down(event) {
    this.view.svg.focus({ preventScroll: true });
    this.fingers.set(event.pointerId, event);
    this.view.svg.setPointerCapture(event.pointerId);
    this.editor.count("clicks");
    if (this.fingers.size === 2) {
      this.cancel();
      this.drag = { kind: "pinch", ...this.pinch() };
      return;
    }
    if (this.fingers.size > 2) return;
    const at = this.view.point(event);
    if (event.button === 1 || this.space) { this.drag = { kind: "pan", x: event.clientX, y: event.clientY }; return; }
    if (event.button !== 0) return;
    ({ select: () => this.downSelect(event, at), draw: () => this.downDraw(at), split: () => this.begin("split", at), brush: () => this.begin("brush", at), cut: () => this.begin("cut", at) })[this.tool]();
  }

  begin(kind, at) {
    this.drag = { kind };
    this.points = [this.view.inside(at)];
    this.sketch(at);
  }

  downSelect(event, at) {
    const { vertex, between, key } = event.target.dataset;
    const region = this.editor.selectedOne();
    if (region && (vertex || between)) {
      const again = vertex && vertex === this.touched?.vertex && event.timeStamp - this.touched.time < 400;
      this.touched = { vertex, time: event.timeStamp };
      if (again) { this.active = vertex; this.backspace(); return; }
      const place = (vertex || between).split(",").map(Number);
      const before = this.editor.state();
      if (between) {
        this.editor.reshape(region.key, LabelGeometry.added(region.shape, place, this.view.inside(at)), false);
        place[2] += 1;
      }
      this.active = place.join(",");
      this.drag = { kind: "vertex", place, key: region.key, before, moved: Boolean(between), from: [event.clientX, event.clientY] };
      this.editor.redraw(false);
      return;
    }
    this.active = "";
    this.drag = { kind: "pan", x: event.clientX, y: event.clientY, click: true, key: key || this.hit(at), more: event.shiftKey || this.editor.several, from: [event.clientX, event.clientY] };
  }

  // The smallest region that holds a point: it lies on top.
  hit(at) {
    const found = this.editor.regions.filter((region) => LabelGeometry.holds(region.shape, at));
    return found.sort((a, b) => LabelGeometry.size(a.shape) - LabelGeometry.size(b.shape))[0]?.key || "";
  }

  downDraw(at) {
    const point = this.view.inside(at);
    const first = this.points[0];
    if (first && this.points.length >= 3 && Math.hypot(first[0] - point[0], first[1] - point[1]) < 12 * this.view.scale) { this.close(); return; }
    this.points.push(point);
    this.sketch(null);
  }

  // The polygon that is drawn is done.
  close() {
    const points = this.points;
    this.points = [];
    this.sketch(null);
    if (points.length >= 3) this.editor.add([[points]]);
  }

  backspace() {
    if (this.tool === "draw" && this.points.length) { this.points.pop(); this.sketch(null); return true; }
    const region = this.editor.selectedOne();
    if (this.tool === "select" && this.active && region) {
      const place = this.active.split(",").map(Number);
      this.active = "";
      this.editor.reshape(region.key, LabelGeometry.removed(region.shape, place));
      return true;
    }
    return false;
  }

  move(event) {
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, event);
    const at = this.view.point(event), drag = this.drag;
    if (!drag) { this.sketch(event.pointerType === "touch" ? null : this.view.inside(at)); return; }
    if (drag.kind === "pinch") {
      if (this.fingers.size < 2) return;
      const now = this.pinch();
      this.view.pan(now.x - drag.x, now.y - drag.y);
      this.view.zoom(drag.spread / Math.max(now.spread, 1), this.view.point({ clientX: now.x, clientY: now.y }));
      Object.assign(drag, now);
    } else if (drag.kind === "pan") {
      if (drag.click && Math.hypot(event.clientX - drag.from[0], event.clientY - drag.from[1]) < 5) return;
      drag.click = false;
      this.view.pan(event.clientX - drag.x, event.clientY - drag.y);
      [drag.x, drag.y] = [event.clientX, event.clientY];
    } else if (drag.kind === "vertex") {
      if (!drag.moved && Math.hypot(event.clientX - drag.from[0], event.clientY - drag.from[1]) < 3) return;
      drag.moved = true;
      const region = this.editor.find(drag.key);
      if (region) this.editor.reshape(drag.key, LabelGeometry.moved(region.shape, drag.place, this.view.inside(at)), false);
    } else if (drag.kind === "split") {
      this.points = [this.points[0], at];
      this.sketch(null);
    } else {
      const last = this.points[this.points.length - 1], point = this.view.inside(at);
      if (Math.hypot(point[0] - last[0], point[1] - last[1]) > Math.max(this.radius / 4, this.view.scale)) this.points.push(point);
      this.sketch(point);
    }
  }

  up(event) {
    this.fingers.delete(event.pointerId);
    const drag = this.drag, points = this.points;
    if (!drag || (drag.kind === "pinch" && this.fingers.size)) return;
    this.drag = null;
    if (event.type === "pointercancel") { if (drag.before) this.editor.restore(drag.before); this.points = []; this.sketch(null); return; }
    if (drag.kind === "vertex") {
      if (drag.moved) this.editor.remember(drag.before);
      this.editor.redraw();
    } else if (drag.kind === "pan" && drag.click) {
      if (drag.key || !this.editor.adopt(this.view.point(event))) this.editor.select(drag.key, drag.more);
    } else if (["split", "brush", "cut"].includes(drag.kind)) {
      this.points = [];
      this.sketch(null);
      if (drag.kind === "split") { if (points.length === 2) this.editor.split(points[0], points[1]); } else this.editor.brush(points, this.radius, drag.kind === "brush");
    }
  }

  // The second click of two has put a point where the first one did.
  twice() {
    if (this.tool === "draw") { this.points.pop(); this.close(); }
  }

  pinch() {
    const [a, b] = [...this.fingers.values()];
    return { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2, spread: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) };
  }
};
