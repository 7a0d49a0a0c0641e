// The labelling page: one picture after the other, keyboard first. Regions are values that are never changed in place,
// so what was before is what `undo` brings back.
"use strict";
(() => {
  const root = document.getElementById("labelling");
  if (!root) return;
  const find = (id) => document.getElementById(id);
  const G = window.LabelGeometry, { cell, csrf } = root.dataset;
  const said = find("said"), list = find("regions"), svg = find("canvas"), help = find("help"), empty = find("nothing");
  const tell = (text, bad = false) => { said.textContent = text; said.classList.toggle("bad", bad); };
  const post = new window.LabelPost(cell, csrf, tell);
  let work = null, past = [], future = [], begun = 0, counts = { clicks: 0, keys: 0 }, number = 0, classes = [], label = "", loading = false;

  const editor = {
    regions: [], selected: [], several: false, offers: [],
    state: () => ({ regions: editor.regions, selected: editor.selected }),
    find: (key) => editor.regions.find((region) => region.key === key),
    selectedOne: () => (editor.selected.length === 1 ? editor.find(editor.selected[0]) : undefined),
    count: (what) => { counts[what] += 1; },
    chosen: (tool) => { for (const button of root.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool)); },
    remember: (before) => { past.push(before); if (past.length > 200) past.shift(); future = []; draft(); },
    restore: ({ regions, selected }) => { editor.regions = regions; editor.selected = selected; editor.redraw(); },
    change: (regions, selected) => { const before = editor.state(); editor.regions = regions; editor.selected = selected; editor.remember(before); editor.redraw(); },
    // A new outline of a region. `kept` is whether it can be undone from here (a drag is undone as one).
    reshape: (key, shape, kept = true) => {
      const next = shape.length ? editor.regions.map((one) => (one.key === key ? { ...one, shape, keep: null, low: false, disputed: false, score: null } : one)) : editor.regions.filter((one) => one.key !== key);
      if (kept) { editor.change(next, editor.selected.filter((one) => next.some((region) => region.key === one))); return; }
      editor.regions = next;
      editor.redraw(false);
    },
    made: (shape, name = label) => ({ key: `n${++number}`, keep: null, label: name, score: null, low: false, disputed: false, shape }),
    add: (shape) => attempt(() => {
      const inside = G.clipped(G.union([shape]), ...view.size);
      if (!inside.length) throw new Error("That covers no pixel of the picture.");
      const region = editor.made(inside);
      editor.change([...editor.regions, region], [region.key]);
    }),
    select: (key, more = false) => {
      const was = editor.selected;
      editor.selected = !key ? (more ? was : []) : !more ? [key] : was.includes(key) ? was.filter((one) => one !== key) : [...was, key];
      tools.active = "";
      const one = editor.selectedOne();
      if (one && classes.includes(one.label)) label = one.label;
      editor.redraw();
    },
    split: (a, b) => attempt(() => {
      const chosen = editor.selected.length ? editor.selected : [tools.hit([(a[0] + b[0]) / 2, (a[1] + b[1]) / 2])].filter(Boolean);
      if (!chosen.length) throw new Error("Draw the line across a region.");
      const kept = [], made = [];
      for (const region of editor.regions) {
        const parts = chosen.includes(region.key) ? G.split(region.shape, a, b) : [region.shape];
        if (parts.length < 2) kept.push(region); else made.push(...parts.map((part) => editor.made(part, region.label)));
      }
      if (!made.length) throw new Error("The line crosses no region that is selected.");
      editor.change([...kept, ...made], made.map((one) => one.key));
    }),
    merge: () => attempt(() => {
      if (editor.selected.length < 2) throw new Error("Select two regions or more (Shift and click), then merge.");
      const parts = editor.selected.map(editor.find);
      const region = editor.made(G.union(parts.map((one) => one.shape)), parts[0].label);
      editor.change([...editor.regions.filter((one) => !editor.selected.includes(one.key)), region], [region.key]);
    }),
    brush: (points, radius, adds) => attempt(() => {
      const trail = G.clipped(G.stroke(points, radius), ...view.size), one = editor.selectedOne();
      if (!trail.length) return;
      if (!one) {
        if (!adds) throw new Error("Select the region that the brush is to cut.");
        editor.add(G.simpler(trail, 0.4));
        return;
      }
      const shape = adds ? G.union([one.shape, trail]) : G.minus(one.shape, trail);
      editor.reshape(one.key, G.simpler(shape, 0.4));
    }),
    // The surest of the offers that hold a point where no region is.
    adopt: (point) => {
      const used = new Set(editor.regions.map((one) => one.keep));
      const offer = editor.offers.find((one) => !used.has(one.keep) && G.holds(one.shape, point));
      if (offer) editor.change([...editor.regions, offer], [offer.key]);
      return Boolean(offer);
    },
    // Another answer about the place of the region that is selected, one after the other.
    other: () => attempt(() => {
      const one = editor.selectedOne();
      if (!one) throw new Error("Select the region whose place has another answer.");
      const first = one.place || one, used = new Set(editor.regions.filter((region) => region !== one).map((region) => region.keep));
      const least = G.size(first.shape), same = (offer) => G.size(G.common(first.shape, offer.shape)) > 0.5 * Math.min(least, G.size(offer.shape));
      const choices = [first, ...editor.offers.filter((offer) => offer.key !== first.key && !used.has(offer.keep) && same(offer))];
      if (choices.length < 2) throw new Error("There is no other answer about this place.");
      const next = choices[(choices.findIndex((choice) => choice.key === one.key) + 1) % choices.length];
      editor.change(editor.regions.map((region) => (region === one ? { ...next, place: first } : region)), [next.key]);
    }),
    straighten: () => attempt(() => {
      const one = editor.selectedOne();
      if (!one) throw new Error("Select the region that has four corners.");
      editor.reshape(one.key, G.clipped(G.straight(one.shape), ...view.size));
    }),
    // What is less sure than `least` goes aside: a click at its place takes it back, as it takes an offer.
    aside: (least) => {
      const gone = editor.regions.filter((one) => one.keep && !(one.score !== null && one.score >= least));
      if (!gone.length) { tell("No proposal is less sure."); return; }
      const known = new Set(editor.offers.map((one) => one.keep));
      editor.offers = [...editor.offers, ...gone.filter((one) => !known.has(one.keep))].sort((a, b) => (b.score || 0) - (a.score || 0));
      editor.change(editor.regions.filter((one) => !gone.includes(one)), []);
      tell(`${gone.length} proposals are put aside: a click at the place of one takes it back.`);
    },
    remove: () => { if (editor.selected.length) editor.change(editor.regions.filter((one) => !editor.selected.includes(one.key)), []); },
    classify: (name) => {
      label = name;
      if (editor.selected.length) editor.change(editor.regions.map((one) => (editor.selected.includes(one.key) ? { ...one, label: name, disputed: false } : one)), editor.selected);
      else editor.redraw();
    },
    redraw: (all = true) => {
      if (!work) return;
      view.draw(editor.regions, editor.selected, classes);
      view.handles(tools.tool === "select" ? editor.selectedOne() : null, tools.active);
      if (all) lists();
    },
  };
  const view = new window.LabelView(svg);
  const tools = new window.LabelTools(view, editor);

  // Geometry that cannot be worked out changes nothing.
  function attempt(change) {
    try { change(); tell(""); } catch (error) { tell(error.message.startsWith("Unable") ? "This shape could not be worked out; nothing was changed." : error.message, true); }
  }

  function lists() {
    list.replaceChildren(...editor.regions.map((region, k) => {
      const item = document.createElement("li"), button = document.createElement("button"), chip = document.createElement("span");
      chip.className = `swatch tone${Math.max(0, classes.indexOf(region.label)) % 9}`;
      const marks = [region.score === null ? "" : `${Math.round(region.score * 100)} %`, region.low ? "not sure" : "", region.disputed ? "disputed" : ""].filter(Boolean);
      button.type = "button";
      button.append(chip, `${k + 1} ${region.label}${marks.length ? ` · ${marks.join(" · ")}` : ""}`);
      button.setAttribute("aria-pressed", String(editor.selected.includes(region.key)));
      button.addEventListener("click", (event) => editor.select(region.key, event.shiftKey || editor.several));
      item.append(button);
      return item;
    }));
    find("classes").replaceChildren(...classes.map((name, k) => {
      const button = document.createElement("button"), chip = document.createElement("span");
      chip.className = `swatch tone${k % 9}`;
      button.type = "button";
      button.append(chip, `${k < 9 ? `${k + 1} ` : ""}${name}`);
      button.setAttribute("aria-pressed", String(name === label));
      button.addEventListener("click", () => editor.classify(name));
      return button;
    }));
    find("undo").disabled = !past.length;
    find("redo").disabled = !future.length;
  }

  const undo = () => { if (tools.cancel() || !past.length) return; future.push(editor.state()); editor.restore(past.pop()); draft(); };
  const redo = () => { if (!future.length) return; past.push(editor.state()); editor.restore(future.pop()); draft(); };
  const draft = () => { if (work) post.write(post.draft(work.task), { regions: editor.regions, counts, seconds: seconds() }); };
  const seconds = () => (performance.now() - begun) / 1000;

  function open(next) {
    if (work) post.write(post.draft(work.task), null);
    work = next;
    [past, future, counts, begun] = [[], [], { clicks: 0, keys: 0 }, performance.now()];
    editor.regions = [];
    editor.selected = [];
    empty.hidden = Boolean(next);
    root.classList.toggle("idle", !next);
    if (!next) { view.clear(); list.replaceChildren(); find("task").textContent = ""; return; }
    classes = [...new Set([...next.classes, ...next.regions.map((one) => one.label)])];
    label = classes.includes(label) ? label : classes[0] || "package";
    if (!classes.length) classes = [label];
    const shown = (one) => ({ key: one.id, keep: one.id, label: one.label, score: one.score, low: one.low, disputed: one.disputed, shape: one.polygons });
    editor.regions = next.regions.filter((one) => !one.offered).map(shown);
    editor.offers = next.regions.filter((one) => one.offered).map(shown).sort((a, b) => b.score - a.score);
    const kept = post.read(post.draft(next.task));
    if (kept) { editor.regions = kept.regions; counts = kept.counts; begun = performance.now() - 1000 * kept.seconds; number = 1000 + Math.floor(Math.random() * 1e6); tell("Your unsaved work on this picture is back."); }
    const { task } = next, by = task.proposed_by || "nobody";
    find("task").textContent = `${task.looks ? "Second look" : "Proposed by"}: ${task.looks ? task.labelled_by.join(", ") : by}`;
    find("left").textContent = `${(next.counts.open || 0) + (next.counts.second_look || 0) + (next.counts.taken || 0)} to do, ${next.counts.labelled || 0} labelled`;
    view.show(`/ui/label/tasks/${task.id}/picture`, task.width, task.height);
    tools.choose("select");
    editor.redraw();
  }

  // One thing at a time goes to the hub; what was tried is told when it fails, and nothing on the page changes.
  async function step(change) {
    if (loading) return;
    loading = true;
    root.setAttribute("aria-busy", "true");
    try { await change(); } catch (error) { tell(error.status ? error.message : "The hub does not answer. Your work is kept in this browser; try again.", true); } finally { loading = false; root.removeAttribute("aria-busy"); }
  }
  const next = async () => open(await post.call("POST", `/cells/${encodeURIComponent(cell)}/next`));
  const hex = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  const accept = () => step(async () => {
    if (!work) return;
    if (tools.points.length) { tools.close(); return; }
    const regions = editor.regions.map((one) => (one.keep ? { label: one.label, keep: one.keep } : { label: one.label, polygons: one.shape }));
    const result = await post.send(work.task, { action: hex(), version: work.task.version, regions, seconds: Math.min(seconds(), 86400), ...counts });
    if (result === "saved") { tell("Saved."); await next(); } else if (result === "waits") {
      post.write(post.draft(work.task), null);
      open(null);
    }
  });
  const move = (what) => step(async () => {
    if (!work) return;
    await post.call("POST", `/tasks/${work.task.id}/move`, { what, version: work.task.version });
    tell({ skip: "Skipped.", remove: "This picture is not learnt from.", release: "Given back." }[what]);
    if (what === "release") open(null); else await next();
  });
  const actions = {
    accept, undo, redo, merge: editor.merge, other: editor.other, straighten: editor.straighten,
    unsure: () => { const scores = editor.regions.filter((one) => one.keep && one.score !== null).map((one) => one.score); editor.aside(scores.length ? Math.floor(Math.min(...scores) * 10 + 1.001) / 10 : 2); },
    clear: () => editor.aside(2),
    skip: () => move("skip"), discard: () => move("remove"), release: () => move("release"),
    next: () => step(next),
    delete: () => { if (!tools.backspace()) editor.remove(); },
    several: () => { editor.several = !editor.several; find("several").setAttribute("aria-pressed", String(editor.several)); },
    fit: () => view.fit(), closer: () => view.zoom(0.7, view.middle()), further: () => view.zoom(1.4, view.middle()),
    help: () => (help.open ? help.close() : help.showModal()),
    fill: () => step(async () => { const { made } = await post.call("POST", `/cells/${encodeURIComponent(cell)}/fill`, {}); tell(made ? `${made} new pictures.` : "There are no new captures."); await next(); }),
    commit: () => step(async () => { const made = await post.call("POST", `/cells/${encodeURIComponent(cell)}/batches`); tell(made ? `${made.pictures} pictures with ${made.instances} instances are in ${made.dataset} now.` : "Nothing waits to be put into the dataset."); }),
    propagate: () => step(async () => { if (!work) return; const made = await post.call("POST", `/cells/${encodeURIComponent(cell)}/propagate`, { look_alike: work.task.look_alike }); tell(`${made.proposed} pictures that look alike have new proposals, from ${made.verified} that were verified.`); }),
  };
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    counts.clicks += 1;
    if (event.detail) svg.focus({ preventScroll: true });  // a click leaves the keys to the picture
    if (button.dataset.tool) tools.choose(button.dataset.tool);
    else if (button.dataset.action) actions[button.dataset.action]();
  });
  find("second-look")?.addEventListener("change", (event) => step(async () => {
    try { await post.call("PUT", `/cells/${encodeURIComponent(cell)}/settings`, { second_look: event.target.checked }); } catch (error) { event.target.checked = !event.target.checked; throw error; }
  }));

  const keys = {
    Enter: "accept", n: "next", s: "skip", X: "discard", g: "release", Delete: "delete", Backspace: "delete", x: "delete", u: "undo", U: "redo", m: "merge", o: "other", q: "straighten",
    f: "fit", "+": "closer", "=": "closer", "-": "further", "?": "help", p: "propagate", t: "unsure", 0: "clear",
  };
  const byKey = { v: "select", d: "draw", l: "split", b: "brush", c: "cut" };
  document.addEventListener("keydown", (event) => {
    if (help.open || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    const control = event.ctrlKey || event.metaKey;
    if (control && /^[zy]$/i.test(event.key)) { event.preventDefault(); counts.keys += 1; (event.key.toLowerCase() === "y" || event.shiftKey ? redo : undo)(); return; }
    if (control || event.altKey) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") { event.preventDefault(); tools.space = true; svg.classList.add("hand"); return; }
    if (event.key === "Enter" && event.target.tagName === "BUTTON" && event.target.closest("#labelling")) return;
    const digit = "123456789".indexOf(event.key);
    if (digit >= 0 && classes[digit]) editor.classify(classes[digit]);
    else if (event.key === "Escape") { if (!tools.cancel()) editor.select(""); tools.choose("select"); } else if (event.key === "[" || event.key === "]") { tools.radius = Math.min(200, Math.max(2, tools.radius * (event.key === "]" ? 1.25 : 0.8))); tell(`Brush of ${Math.round(2 * tools.radius)} pixels.`); } else if (event.key === "Tab" && document.activeElement === svg && editor.regions.length && !event.shiftKey) {
      const at = editor.regions.findIndex((one) => one.key === editor.selected[0]);
      if (at + 1 >= editor.regions.length) return;  // beyond the last region the focus goes on as on every page
      editor.select(editor.regions[at + 1].key);
    } else if (byKey[event.key]) tools.choose(byKey[event.key]);
    else if (keys[event.key]) actions[keys[event.key]]();
    else return;
    counts.keys += 1;
    event.preventDefault();
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") { tools.space = false; svg.classList.remove("hand"); } });

  // A person who is at work keeps the picture; one who has gone loses it after ten minutes.
  let stirred = performance.now();
  for (const name of ["pointermove", "keydown"]) document.addEventListener(name, () => { stirred = performance.now(); }, { passive: true });
  setInterval(() => {
    if (!work || loading || performance.now() - stirred > 300_000) return;
    post.call("POST", `/tasks/${work.task.id}/move`, { what: "renew", version: work.task.version }).catch((error) => { if (error.status === 409) tell("Your time for this picture is over. If nobody else has it, your answer is taken all the same.", true); });
  }, 120_000);
  window.addEventListener("beforeunload", (event) => { draft(); if (post.waiting.length) event.preventDefault(); });
  post.onSaved = () => { if (!work) step(next); };
  tools.choose("select");
  if (root.dataset.labels === "1") step(async () => { if (post.waiting.length) await post.flush(); await next(); });
})();
