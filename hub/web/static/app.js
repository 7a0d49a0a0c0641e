// Small things that every page may use. Everything works without them.
"use strict";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const link = document.getElementById({ ArrowLeft: "before", ArrowRight: "after" }[event.key] || "-");
  if (link) link.click();
});
// A field for a new cell is of use only where no cell is chosen.
const cell = document.getElementById("cell");
if (cell) {
  const field = document.getElementById("new-cell-field");
  const show = () => { field.hidden = cell.value !== ""; };
  cell.addEventListener("change", show);
  show();
}
// The classes of the form are those of the dataset.
const dataset = document.getElementById("dataset");
if (dataset && dataset.form.action.endsWith("/ui/finetune")) {
  dataset.addEventListener("change", () => { if (dataset.value) location.assign(`/ui/finetune?dataset=${encodeURIComponent(dataset.value)}`); });
}
// A form is sent once.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "1";
});
window.addEventListener("pageshow", () => document.querySelectorAll("form").forEach((form) => delete form.dataset.sent));
