"""A picture with the masks on it: the one way in which pages draw them.

Picture and masks are parts of one SVG, in pixels of the picture. Whatever size a page gives it, both are scaled as one:
no style can move a mask off its package. What a model found, missed and made up is told apart by colour, by the line
and by the filling, so that it is seen without colours, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from finetune.evaluation.ground_truth import match
from serving.instances import Instances

Kind = Literal["label", "hit", "miss", "false"]
"""What a mask is: an annotation, an answer that found a package, a package that was missed, an answer that is none."""
MAX_MARKS: Final = 500
"""Of one picture; more are not drawn."""
COLOURS: Final[Mapping[Kind, str]] = {"label": "#ffffff", "hit": "#3d8bff", "miss": "#ffb000", "false": "#f0288c"}
"""Told apart with every common colour blindness."""
TITLES: Final[Mapping[Kind, str]] = {"label": "labelled", "hit": "found", "miss": "missed", "false": "false find"}
_POINT = re.compile(r"[ML](-?[\d.]+) (-?[\d.]+)")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One mask as it is drawn: its class, its SVG path in pixels of the picture, what it is, and the answer's score.
    `tone` is a colour of its own in place of that of its kind.
    """

    label: str
    path: str
    kind: Kind
    score: float | None = None
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many masks of each kind a picture shows."""

    hit: int = 0
    miss: int = 0
    false: int = 0
    label: int = 0

    def __str__(self) -> str:
        if self.label:
            return f"{self.label} labelled"
        return f"{self.hit} found, {self.miss} missed, {self.false} false find{'' if self.false == 1 else 's'}"


def told_apart(truth: Instances, answer: Instances, *, by_size: bool = True) -> list[Drawn]:
    """Hits, misses and false finds of an answer, in this order; `answer` is what a robot would act on. Masks that
    cannot be drawn are left out of the comparison. `by_size`: large ones first, so that none hides another.
    """
    height, width = truth.height, truth.width
    theirs, truth_paths = _drawable(truth)
    mine, answer_paths = _drawable(answer)
    pairs = list(match(theirs, mine))
    found, right = {k for k, _ in pairs}, {k for _, k in pairs}
    drawn = [
        Drawn(mine.labels[k], answer_paths[k], "hit" if k in right else "false", float(mine.scores[k]))
        for k in range(len(mine))
    ]
    drawn += [Drawn(theirs.labels[k], truth_paths[k], "miss") for k in range(len(theirs)) if k not in found]
    order = {"hit": 0, "false": 1, "miss": 2, "label": 3}
    drawn.sort(key=lambda one: order[one.kind])
    if by_size:
        drawn.sort(key=lambda one: -_extent(one.path, width, height))
    return drawn[:MAX_MARKS]


def labelled(truth: Instances) -> list[Drawn]:
    """Annotations as they are drawn."""
    kept, paths = _drawable(truth)
    return [Drawn(label, path, "label") for label, path in zip(kept.labels, paths, strict=True)][:MAX_MARKS]


def tally(drawn: Iterable[Drawn]) -> Tally:
    """How many of each kind are drawn."""
    kinds = [one.kind for one in drawn]
    return Tally(kinds.count("hit"), kinds.count("miss"), kinds.count("false"), kinds.count("label"))


def picture(
    width: int,
    height: int,
    drawn: Sequence[Drawn] = (),
    *,
    href: str = "",
    use: str = "",
    key: str = "p",
    alt: str = "",
) -> str:
    """The picture at `href` with the masks on it, as one SVG of `width` x `height` units; without `href` the masks on
    nothing. `use` shows a picture that stands elsewhere on the page under that id. `key` must be another for every
    SVG of a page; the picture's own id is `<key>-picture`.
    """
    shown = ""
    if href:
        shown = (
            f'<image id="{escape(key)}-picture" href="{escape(href)}" width="{width}" height="{height}" '
            'preserveAspectRatio="none"/>'
        )
    elif use:
        shown = f'<use href="#{escape(use)}"/>'
    return (
        f'<svg class="scene" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'preserveAspectRatio="xMidYMid meet" role="img" aria-label="{escape(alt or _words(drawn))}">'
        f"{shown}{layer(width, height, drawn, key=key)}</svg>"
    )


def layer(width: int, height: int, drawn: Sequence[Drawn], *, key: str = "p") -> str:
    """The masks alone, as a group to be put into an SVG whose units are pixels of the picture."""
    stroke = max(1.0, max(width, height) / 260)
    parts = [_hatch(key, stroke)] if any(one.kind == "false" for one in drawn) else []
    parts += [_shape(one, stroke, key, width, height) for one in drawn[:MAX_MARKS]]
    return f'<g class="overlay">{"".join(parts)}</g>'


def legend(kinds: Iterable[Kind] = ("hit", "miss", "false")) -> str:
    """What the shapes mean, as an HTML list."""
    square = "M3 3L25 3L25 15L3 15Z"
    parts = []
    for kind in kinds:
        key = f"legend-{kind}"
        drawing = (_hatch(key, 1.6) if kind == "false" else "") + _shape(
            Drawn(TITLES[kind], square, kind), 1.6, key, 28, 18
        )
        parts.append(
            f'<li class="{kind}"><svg viewBox="0 0 28 18" width="28" height="18" aria-hidden="true">'
            f'<rect width="28" height="18" fill="#59606b"/>{drawing}</svg> {TITLES[kind]}</li>'
        )
    return f'<ul class="shapes">{"".join(parts)}</ul>'


def _shape(one: Drawn, stroke: float, key: str, width: int, height: int) -> str:
    tone = one.tone or COLOURS[one.kind]
    score = "" if one.score is None else f" {one.score:.0%}"
    what = "" if one.kind == "label" else f", {TITLES[one.kind]}"
    title = f"<title>{escape(one.label)}{score}{what}</title>"
    fill = {
        "label": f'fill="{tone}" fill-opacity=".38"',
        "hit": f'fill="{tone}" fill-opacity=".32"',
        "miss": 'fill="none"',
        "false": f'fill="url(#{escape(key)}-hatch)"',
    }[one.kind]
    dash = {"miss": f'stroke-dasharray="{3.2 * stroke:.1f} {2 * stroke:.1f}"'}.get(one.kind, "")
    rule = 'fill-rule="evenodd" stroke-linejoin="round"'
    casing = ""
    if not one.tone:  # a dark edge, so that the line is seen on bright packages; colours of their own are seen anyway
        casing = (
            f'<path d="{one.path}" fill="none" stroke="#000" stroke-opacity=".7" stroke-width="{1.9 * stroke:.1f}"/>'
        )
    line = f'<path d="{one.path}" {fill} {rule} stroke="{tone}" stroke-width="{stroke:.1f}" {dash}>{title}</path>'
    cross = _cross(one.path, tone, stroke, width, height) if one.kind == "miss" else ""
    return f'<g class="{one.kind}">{casing}{line}{cross}</g>'


def _cross(path: str, tone: str, stroke: float, width: int, height: int) -> str:
    """A cross in the middle of what was missed."""
    x0, y0, x1, y1 = _bounds(path, width, height)
    x, y, arm = (x0 + x1) / 2, (y0 + y1) / 2, min(x1 - x0, y1 - y0, 24 * stroke) / 5
    left, right, top, bottom = x - arm, x + arm, y - arm, y + arm
    lines = f"M{left:.1f} {top:.1f}L{right:.1f} {bottom:.1f}M{right:.1f} {top:.1f}L{left:.1f} {bottom:.1f}"
    return (
        f'<path d="{lines}" fill="none" stroke="#000" stroke-opacity=".7" stroke-width="{2.2 * stroke:.1f}"/>'
        f'<path d="{lines}" fill="none" stroke="{tone}" stroke-width="{1.2 * stroke:.1f}"/>'
    )


def _hatch(key: str, stroke: float) -> str:
    step = 5 * stroke
    return (
        f'<defs><pattern id="{escape(key)}-hatch" width="{step:.1f}" height="{step:.1f}" '
        f'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="{step:.1f}" height="{step:.1f}" '
        f'fill="{COLOURS["false"]}" fill-opacity=".14"/><rect width="{1.5 * stroke:.1f}" height="{step:.1f}" '
        f'fill="{COLOURS["false"]}" fill-opacity=".85"/></pattern></defs>'
    )


def _words(drawn: Sequence[Drawn]) -> str:
    return str(tally(drawn)) if drawn else "a picture"


# --- paths ------------------------------------------------------------------------------------------------------------


def _drawable(instances: Instances) -> tuple[Instances, list[str]]:
    """The instances that can be drawn, and their paths."""
    size = [instances.height, instances.width]
    paths = [outline({"size": size, "counts": one}, instances.width, instances.height) for one in instances.masks]
    kept = [k for k, path in enumerate(paths) if path]
    return instances.take(kept), [paths[k] for k in kept]


def outline(segmentation: Any, width: int, height: int) -> str:  # noqa: ANN401  # COCO's, as it was written
    """An SVG path of a COCO segmentation, in pixels of the image; "" for a mask that is damaged or empty."""
    value = segmentation
    if isinstance(value, list):
        return "".join(_polygon(part, width, height) for part in value if isinstance(part, list))
    if not isinstance(value, dict) or value.get("size") != [height, width]:
        return ""
    try:
        rle = {"size": [height, width], "counts": value["counts"]}
        if isinstance(value["counts"], list):
            rle = coco_mask.frPyObjects(rle, height, width)
        left, top, wide, high = (int(side) for side in coco_mask.toBbox(rle))
        if wide < 1 or high < 1:
            return ""
        window = np.ascontiguousarray(coco_mask.decode(rle)[top : top + high, left : left + wide])
    except (ValueError, TypeError, KeyError, OverflowError):
        return ""
    return _rings(window, left, top, max(width, height))


def _rings(window: Any, left: int, top: int, edge: int) -> str:  # noqa: ANN401  # uint8 [h, w]
    # Each pixel becomes two by two, so that the path runs along the edges of pixels and not through their middles.
    doubled = np.pad(np.repeat(np.repeat(window, 2, 0), 2, 1), 1)
    rings, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # Half a thousandth of the picture is less than a pixel on any screen that shows it whole.
    slack = max(0.6, 0.0016 * edge)
    path = []
    for ring in rings:
        points = cv2.approxPolyDP(ring, slack, closed=True)[:, 0]
        if len(points) >= 3:
            path.append(
                "M" + "L".join(f"{(x - 0.5) / 2 + left:g} {(y - 0.5) / 2 + top:g}" for x, y in points.tolist()) + "Z"
            )
    return "".join(path)


def _polygon(values: Sequence[object], width: int, height: int) -> str:
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if len(numbers) < 6 or len(numbers) != len(values) or len(numbers) > 20_000:
        return ""
    xs = [min(max(x, 0.0), float(width)) for x in numbers[0::2]]
    ys = [min(max(y, 0.0), float(height)) for y in numbers[1::2]]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=False)) + "Z"


def _bounds(path: str, width: int, height: int) -> tuple[float, float, float, float]:
    points = [(float(x), float(y)) for x, y in _POINT.findall(path)]
    if not points:
        return 0.0, 0.0, float(width), float(height)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _extent(path: str, width: int, height: int) -> float:
    x0, y0, x1, y1 = _bounds(path, width, height)
    return (x1 - x0) * (y1 - y0)
