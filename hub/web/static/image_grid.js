// The wall of images: pages are fetched when they come near the window, and emptied when they are far from it, so that
// ten thousand images are never more than a few hundred elements. Empty pages keep their height.
"use strict";
const toggle = document.getElementById("masks");
if (toggle) {
  const apply = (on) => {
    document.getElementById("content").classList.toggle("no-masks", !on);
    toggle.setAttribute("aria-pressed", String(on));
    toggle.textContent = on ? "Masks on" : "Masks off";
    try { sessionStorage.setItem("masks", on ? "1" : "0"); } catch { /* private windows may refuse */ }
  };
  toggle.hidden = false;
  let kept = "1";
  try { kept = sessionStorage.getItem("masks") || "1"; } catch { /* as above */ }
  apply(kept === "1");
  toggle.addEventListener("click", () => apply(toggle.getAttribute("aria-pressed") !== "true"));
}
const wall = document.getElementById("wall");
if (wall && wall.dataset.pages && Number(wall.dataset.pages) > 1) {
  const { source, query } = wall.dataset;
  const pages = Number(wall.dataset.pages), per = Number(wall.dataset.per), total = Number(wall.dataset.total);
  const first = wall.querySelector(".page");
  const start = Number(wall.dataset.page);
  const holders = [];
  for (let number = 1; number <= pages; number += 1) {
    let holder = first;
    if (number !== start) {
      holder = document.createElement("div");
      holder.className = "page";
      holder.dataset.number = String(number);
    }
    holders.push(holder);
    wall.append(holder);
  }
  document.getElementById("pager").hidden = true;
  const measure = () => {
    const tile = wall.querySelector(".tile");
    if (!tile) return;
    const columns = getComputedStyle(first.childElementCount ? first : tile.parentElement).gridTemplateColumns.split(" ").length;
    const high = tile.getBoundingClientRect().height + 10;
    holders.forEach((holder, k) => {
      const images = k === pages - 1 ? total - per * (pages - 1) : per;
      holder.style.minHeight = `${Math.ceil(images / columns) * high - 10}px`;
    });
  };
  const state = new Map();
  const fill = async (holder) => {
    const number = holder.dataset.number;
    if (holder.childElementCount || state.get(number)) return;
    const asked = new AbortController();
    state.set(number, asked);
    try {
      const answer = await fetch(`${source}${number}?${query}`, { signal: asked.signal, credentials: "same-origin" });
      if (answer.ok && !answer.redirected) holder.innerHTML = await answer.text();
      else if (answer.redirected) location.reload();
    } catch { /* scrolled past, or offline: the next look tries again */ }
    state.delete(number);
  };
  const empty = (holder) => {
    const asked = state.get(holder.dataset.number);
    if (asked) asked.abort();
    if (!holder.contains(document.activeElement)) holder.replaceChildren();
  };
  measure();
  if (start > 1) first.scrollIntoView();
  new ResizeObserver(measure).observe(wall);
  const near = new IntersectionObserver((seen) => seen.forEach((one) => { if (one.isIntersecting) fill(one.target); }), { rootMargin: "1200px" });
  const far = new IntersectionObserver((seen) => seen.forEach((one) => { if (!one.isIntersecting) empty(one.target); }), { rootMargin: "4000px" });
  holders.forEach((holder) => { near.observe(holder); far.observe(holder); });
}
