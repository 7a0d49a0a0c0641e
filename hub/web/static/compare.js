// The slider of the comparison: a native range input, so that keys and fingers work as everywhere.
"use strict";
const where = document.getElementById("where");
if (where) {
  const wide = Number(where.dataset.width);
  const left = document.getElementById("left"), right = document.getElementById("right"), line = document.getElementById("line");
  const move = () => {
    const x = wide * Number(where.value) / 1000;
    left.setAttribute("width", String(x));
    right.setAttribute("x", String(x));
    line.setAttribute("x", String(x - wide / 400));
  };
  where.addEventListener("input", move);
  move();
}
