"""An annotator that follows stated rules: how many clicks a picture takes from nothing, and from what a model proposes.

The rules, the same for both ways. A region is done when its IoU with the truth is at least .9.

- To draw a region takes one click for each corner of the coarsest outline that is good enough, and one to close it.
- A proposal that is good enough takes nothing; one of a wrong class a click to select it, and a key.
- What the model was less sure of is offered: a click where no region is takes the surest offer there, and a key shows
  the next answer about the place of what is selected. A good one so costs a click, and a key for each before it.
- A key makes a ragged outline one of four corners: a click to select it, and the key.
- A proposal that is not good: the cheaper of correcting and of deleting it (a click and a key) and drawing anew. To
  correct is a click to select it and one for each corner that is dragged, added or taken away, by what it gains.
- Several proposals that together are one region: a click for each, and the key that merges them.
- One proposal that covers two regions: a click to select it, two for the line, and the key that splits it.
- Where proposals are poor, a key puts all of them aside, and another one those that are less sure, ten points a time.
  What was put aside is offered as above. Of these ways a person takes the one with the fewest clicks.
- A proposal of nothing: a click and a key. To accept a picture takes one click (or key).

The page has a brush as well; it is left out, since its drags have no honest price in clicks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from serving.instances import Instances

GOOD = 0.9
ASIDE = (0.6, 0.7, 0.8, 0.9)
"""What the key that puts less sure proposals aside goes through."""
Bool = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]
"""float64 [K, 2]: x, y in pixels."""
Take = Callable[[int, Sequence[int], "Cost"], None]
"""A region of the truth, the proposals that become it, and what that takes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a picture takes. `good` proposals needed nothing, `offers` were taken or straightened, `fixed` ones
    needed a correction, `redrawn` were deleted and drawn; nothing was there for `missed`; `false` were deleted."""

    clicks: int = 0
    keys: int = 0
    good: int = 0
    offers: int = 0
    fixed: int = 0
    redrawn: int = 0
    missed: int = 0
    false: int = 0

    def __add__(self, other: Cost) -> Cost:
        names = self.__slots__
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in names})


def draw_cost(truth: Bool) -> Cost:
    """From nothing: corners of the coarsest outline with an IoU of at least .9, for each part, and one to close it.

    Holes are drawn as corners are. `truth` is bool [H, W] with at least one pixel.
    """
    corners, parts = outline(truth)
    return Cost(clicks=corners + parts)


def outline(mask: Bool) -> tuple[int, int]:
    """(corners, rings) of the coarsest outline whose IoU with the mask is at least .9."""
    rings, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    size = max(mask.shape)
    for slack in [size * share for share in (0.08, 0.06, 0.045, 0.034, 0.025, 0.018, 0.013, 0.009, 0.006, 0.003)]:
        simple = [cv2.approxPolyDP(ring, slack, closed=True) for ring in rings]
        simple = [ring for ring in simple if len(ring) >= 3]
        if simple and iou(_filled(simple, mask.shape), mask) >= GOOD:
            return sum(map(len, simple)), len(simple)
    return sum(max(4, len(cv2.approxPolyDP(ring, 0.5, closed=True))) for ring in rings), len(rings)


def correct_cost(proposal: Bool, truth: Bool, most: int) -> int | None:
    """Clicks that turn a proposal into the truth by its corners, selecting it included; None where it takes `most`
    or more. Of each step the one is taken that gains most IoU."""
    points = _corners(proposal)
    goal = _corners(truth)
    if points is None or goal is None or len(points) > 60:
        return None
    clicks = 1
    while (now := iou(_fill(points, truth.shape), truth)) < GOOD:
        if clicks >= most:
            return None
        best, gain = None, now
        for changed in _steps(points, goal):
            value = iou(_fill(changed, truth.shape), truth)
            if value > gain:
                best, gain = changed, value
        if best is None:
            return None
        points, clicks = best, clicks + 1
    return clicks


def _steps(points: Points, goal: Points) -> list[Points]:
    """Outlines that are one click away: a corner on the nearest two corners of the goal, a new one there, one less."""
    found = []
    for k in range(len(points)):
        near = goal[np.argsort(np.abs(goal - points[k]).sum(1))[:2]]
        for place in near:
            moved = points.copy()
            moved[k] = place
            found.append(moved)
        middle = (points[k] + points[(k + 1) % len(points)]) / 2
        place = goal[np.abs(goal - middle).sum(1).argmin()]
        found.append(np.insert(points, k + 1, place, axis=0))
        if len(points) > 3:
            found.append(np.delete(points, k, axis=0))
    return found


def label(
    truth: Instances, proposed: Instances, offered: Instances | None = None, *, classes: bool = True
) -> tuple[Cost, Cost]:
    """What one picture takes from nothing, and from proposals and offers, the click that accepts it in both.

    `offered` are in the order of their scores; None: nothing is offered, and nothing can be put aside. `classes`:
    whether a wrong class is to be mended.
    """
    masks, ours = truth.decode_masks(), proposed.decode_masks()
    boxes = [_window(mask) for mask in masks]
    drawn = [draw_cost(mask[box]) for mask, box in zip(masks, boxes, strict=True)]
    scratch = sum(drawn, Cost(clicks=1))
    if offered is None:
        return scratch, _corrected(truth, masks, drawn, proposed, ours, masks[:0], classes=classes)
    others = offered.decode_masks()
    ways = []
    for keys, least in ((0, 0.0), *enumerate(ASIDE, 1), (1, np.inf)):
        aside = proposed.scores < least
        if keys and not aside.any():
            continue
        order = np.argsort(-np.concatenate([offered.scores, proposed.scores[aside]]), kind="stable")
        hidden = np.concatenate([others, ours[aside]])[order]
        left = Instances(
            proposed.height, proposed.width, proposed.boxes[~aside], proposed.scores[~aside],
            tuple(label for label, gone in zip(proposed.labels, aside, strict=True) if not gone),
            tuple(mask for mask, gone in zip(proposed.masks, aside, strict=True) if not gone),
        )  # fmt: skip
        ways.append(_corrected(truth, masks, drawn, left, ours[~aside], hidden, classes=classes) + Cost(keys=keys))
    return scratch, min(ways, key=lambda cost: (cost.clicks, cost.keys))


def _corrected(
    truth: Instances,
    masks: Bool,
    drawn: Sequence[Cost],
    proposed: Instances,
    ours: Bool,
    others: Bool,
    *,
    classes: bool,
) -> Cost:
    """What one picture takes from proposals `ours` and offers `others`, bool [N, H, W] each."""
    cost, left, done = Cost(clicks=1), set(range(len(ours))), set[int]()
    fits = _fits(masks, ours)

    def take(k: int, used: Sequence[int], price: Cost) -> None:
        nonlocal cost
        wrong = classes and any(proposed.labels[j] != truth.labels[k] for j in used)
        cost += price + (Cost(clicks=0 if price.clicks else 1, keys=1) if wrong else Cost())
        done.add(k)
        left.difference_update(used)

    pairs = [(float(fits[k, j]), k, j) for k in range(len(masks)) for j in range(len(ours))]
    pairs.sort(reverse=True)
    for value, k, j in pairs:
        if value >= GOOD and k not in done and j in left:
            take(k, [j], Cost(good=1))
    _merge(masks, ours, fits, left, done, take, drawn)
    _split(masks, ours, left, done, take)
    _offers(masks, ours, others, left, done, take)
    for value, k, j in pairs:
        if k in done or j not in left or value < 0.3:
            continue
        again = drawn[k].clicks + 1  # to select what is deleted
        y, x = _window(masks[k] | ours[j])
        clicks = correct_cost(ours[j][y, x], masks[k][y, x], again)
        take(k, [j], Cost(clicks=again, keys=1, redrawn=1) if clicks is None else Cost(clicks=clicks, fixed=1))
    for k in range(len(masks)):
        if k not in done:
            cost += drawn[k] + Cost(missed=1)
    return cost + Cost(clicks=len(left), keys=len(left), false=len(left))


def _merge(
    masks: Bool,
    ours: Bool,
    fits: npt.NDArray[np.float64],
    left: set[int],
    done: set[int],
    take: Take,
    drawn: Sequence[Cost],
) -> None:
    for k in range(len(masks)):
        inside = [j for j in left if (ours[j] & masks[k]).sum() > 0.7 * max(ours[j].sum(), 1)]
        if k in done or not 2 <= len(inside) <= 6 or len(inside) >= drawn[k].clicks:
            continue
        if iou(np.any(ours[inside], axis=0), masks[k]) >= GOOD and fits[k, inside].max() < GOOD:
            take(k, inside, Cost(clicks=len(inside), keys=1, fixed=1))


def _offers(masks: Bool, ours: Bool, others: Bool, left: set[int], done: set[int], take: Take) -> None:
    """Regions that an offer is good for, or a proposal or an offer with four corners."""
    shown, hidden = _fits(masks, ours), _fits(masks, others)
    inside = _inside(masks, others)
    for k in range(len(masks)):
        if k in done:
            continue
        at_place = [j for j in left if shown[k, j] > 0.3]
        used = [max(at_place, key=lambda j: float(shown[k, j]))] if at_place else []
        if used and iou(_straight(ours[used[0]]), masks[k]) >= GOOD:
            take(k, used, Cost(clicks=1, keys=1, offers=1))
            continue
        choices = [j for j in range(len(others)) if inside[k, j] > 0.5]
        for rank, j in enumerate(choices):
            keys = rank + (1 if used else 0)
            if hidden[k, j] >= GOOD or iou(_straight(others[j]), masks[k]) >= GOOD:
                take(k, used, Cost(clicks=1, keys=keys + (hidden[k, j] < GOOD), offers=1))
                break


def _inside(masks: Bool, others: Bool) -> npt.NDArray[np.float64]:
    """Overlap float64 [N, M], as a share of the smaller one."""
    a, b = (one.reshape(len(one), int(np.prod(one.shape[1:]))).astype(np.float32) for one in (masks, others))
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    return np.asarray(a @ b.T / np.minimum(a.sum(1)[:, None], b.sum(1)[None]).clip(1), np.float64)


def _straight(mask: Bool) -> Bool:
    """As the page's key does: four corners of the largest part, of two ways the one whose area is nearer."""
    rings, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not rings:
        return mask
    around = cv2.convexHull(max(rings, key=cv2.contourArea))[:, 0].astype(np.float64)
    if len(around) < 4:
        return mask
    small: Points = around
    while len(small) > 4:
        before, after = np.roll(small, 1, 0), np.roll(small, -1, 0)
        small = np.delete(small, int(np.abs(_cross(small - before, after - before)).argmin()), axis=0)
    large: Points | None = around
    while large is not None and len(large) > 4:
        large = _sideless(large)
    area = int(mask.sum())
    found = [points for points in (small, large) if points is not None]
    best = min(found, key=lambda points: abs(float(cv2.contourArea(points.astype(np.float32))) - area))
    return _fill(best, mask.shape)


def _sideless(ring: Points) -> Points | None:
    """Without the side whose neighbours, made longer until they meet, add least; None where no two meet."""
    best: tuple[float, Points] | None = None
    for k in range(len(ring)):
        a, b, c, d = (ring[(k + step) % len(ring)] for step in (-1, 0, 1, 2))
        u, v = b - a, c - d
        turn = float(_cross(u, v))
        if abs(turn) < 1e-9:
            continue
        t, s = float(_cross(d - b, v)) / turn, float(_cross(d - b, u)) / turn
        if t < 0 or s < 1:
            continue
        point = b + t * u
        more = abs(float(_cross(point - b, c - b))) / 2
        if best is None or more < best[0]:
            changed = ring.copy()
            changed[k] = point
            best = (more, np.delete(changed, (k + 1) % len(ring), axis=0))
    return None if best is None else best[1]


def _cross(a: Points, b: Points) -> Points:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0], np.float64)


def _split(masks: Bool, ours: Bool, left: set[int], done: set[int], take: Take) -> None:
    for j in sorted(left):
        covered = [k for k in range(len(masks)) if k not in done and (ours[j] & masks[k]).sum() > 0.8 * masks[k].sum()]
        if len(covered) != 2:
            continue
        one, other = (np.argwhere(masks[k]).mean(0) for k in covered)
        ys, xs = np.indices(ours[j].shape)
        side = (ys - (one + other)[0] / 2) * (other - one)[0] + (xs - (one + other)[1] / 2) * (other - one)[1] < 0
        if iou(ours[j] & side, masks[covered[0]]) >= GOOD and iou(ours[j] & ~side, masks[covered[1]]) >= GOOD:
            take(covered[0], [j], Cost(clicks=3, keys=1, fixed=1))
            take(covered[1], [], Cost(fixed=1))


def iou(a: Bool, b: Bool) -> float:
    """Of two masks of one shape."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def _fits(masks: Bool, ours: Bool) -> npt.NDArray[np.float64]:
    a, b = (one.reshape(len(one), int(np.prod(one.shape[1:]))).astype(np.float32) for one in (masks, ours))
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    both = a @ b.T
    return np.asarray(both / (a.sum(1)[:, None] + b.sum(1)[None] - both).clip(1), np.float64)


def _window(mask: Bool) -> tuple[slice, slice]:
    """Rows and columns that the mask is in, and two pixels around."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    return slice(max(rows[0] - 2, 0), rows[-1] + 3), slice(max(columns[0] - 2, 0), columns[-1] + 3)


def _corners(mask: Bool) -> Points | None:
    """Corners of the largest part, as simple as the page shows them; None for a mask of several rings."""
    rings, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    large = [ring for ring in rings if cv2.contourArea(ring) > 0.03 * mask.sum()]
    if len(large) != 1:
        return None
    simple = cv2.approxPolyDP(large[0], max(1.0, 0.012 * max(mask.shape)), closed=True)[:, 0].astype(np.float64)
    return simple if len(simple) >= 3 else None


def _fill(points: Points, shape: tuple[int, ...]) -> Bool:
    return _filled([points.round().astype(np.int32)[:, None]], shape)


def _filled(rings: Sequence[npt.NDArray[np.int32]], shape: tuple[int, ...]) -> Bool:
    canvas = np.zeros(shape[:2], np.uint8)
    cv2.fillPoly(canvas, list(rings), 1)
    return canvas.astype(bool)
