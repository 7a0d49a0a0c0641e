"""Numbers for `serving.observed.failures`: how other looks at the same view agree with one mask of an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import cv2
import numpy as np
import numpy.typing as npt

from serving.instances import Instances
from serving.observed.second_looks import Look

Bool = npt.NDArray[np.bool_]
MAX_EDGE: Final = 256
"""Masks are compared at this size; what a verdict needs does not hang on single pixels."""
SURE: Final = 0.3
"""Instances below this score say nothing in another look."""
PART: Final = 0.12
"""A part of a mask counts from this share of it on."""
GROWN: Final = 1.35
FILLED: Final = 0.5
FULL: Final = 0.8
"""Of a package that was split, its parts make up this share, at least; and where that is all that speaks for it."""
HELD: Final = 0.8
"""A mask that overlaps with another look's by this much has held."""


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """The masks of one answer, small: bool [N, h, w], with their areas and what one small pixel is in the frame."""

    small: Bool
    areas: npt.NDArray[np.float64]
    scale: float
    height: int
    width: int

    @classmethod
    def of(cls, found: Instances) -> Self:
        """Raises InstancesError for masks of another size."""
        small, scale = _small(found, found.height, found.width)
        return cls(small, small.sum((1, 2)).astype(float), scale, found.height, found.width)

    def __len__(self) -> int:
        return len(self.small)

    @property
    def edge(self) -> int:
        """The frame's longer edge, pixels."""
        return max(self.height, self.width)

    def alike(self, found: Instances, least: float = SURE) -> tuple[Bool, tuple[str, ...]]:
        """Another answer's masks at the same size, and their labels; none for frames of another size."""
        if (found.height, found.width) != (self.height, self.width):
            return np.zeros((0, *self.small.shape[1:]), np.bool_), ()
        sure = found.filter(least)
        return _small(sure, self.height, self.width)[0], sure.labels

    def holds(self, found: Instances, point: tuple[float, float]) -> bool:
        """Whether an instance of another answer lies at a point of the frame, sure or not."""
        masks, _ = self.alike(found, 0.1)
        x, y = _at(point, self)
        return bool(masks[:, y, x].any()) if len(masks) else False


@dataclass(frozen=True, slots=True)
class Measures:
    """How the other looks see the picked mask. Shares are of the looks, 0 to 1.

    Attributes:
        looks: how many there are.
        merged: looks in which it falls into several instances. split: in which one instance holds it and
            another mask of the answer.
        empty: in which nothing lies there. other_class: in which the best match has another class,
            most often `other_label`.
        moved: in which its edge lies elsewhere, an overlap below HELD.
        iou: median overlap with the best match; 1.0 without looks.
        nested: other masks of the same answer that lie inside it.
        joined: share of its edge along which one neighbour's mask runs.
    """

    looks: int
    merged: float
    split: float
    empty: float
    moved: float
    other_class: float
    other_label: str
    iou: float
    nested: int
    joined: float


def measure(masks: Masks, number: int, label: str, looks: Sequence[Look]) -> Measures:
    """Compare the mask `number`, of class `label`, with what the other looks have in its place."""
    mask = masks.small[number]
    others = np.delete(masks.small, number, axis=0)
    merged = split = empty = moved = 0
    ious: list[float] = []
    classes: Counter[str] = Counter()
    for look in looks:
        theirs, labels = masks.alike(look.instances)
        said, iou, matched = _compare(mask, theirs, others, again=look.again)
        merged += said == "merged"
        split += said == "split"
        empty += said == "empty"
        if said == "same":
            ious.append(iou)
            moved += iou < HELD
        if matched is not None and iou >= 0.5:
            classes[labels[matched]] += 1
    # A class that is another one in each look is as much in doubt as one that is always the same other.
    other = Counter({name: count for name, count in classes.items() if name != label})
    best = other.most_common(1)[0][0] if other else ""
    count = max(len(looks), 1)
    return Measures(
        looks=len(looks),
        merged=merged / count,
        split=split / count,
        empty=empty / count,
        moved=moved / count,
        other_class=other.total() / count,
        other_label=best,
        iou=float(np.median(ious)) if ious else 1.0,
        nested=_nested(masks, number),
        joined=_joined(masks, number),
    )


def distance_to(masks: Masks, number: int, point: tuple[float, float]) -> float:
    """Pixels of the frame from a point to a mask; 0.0 on it, infinite for an empty mask."""
    x, y = _at(point, masks)
    mask = masks.small[number]
    if mask[y, x]:
        return 0.0
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return float("inf")
    return float(np.sqrt(((rows - y) ** 2 + (columns - x) ** 2).min())) / masks.scale


def _compare(mask: Bool, theirs: Bool, others: Bool, *, again: bool) -> tuple[str, float, int | None]:
    """What a look has in the place of a mask (`merged`, `split`, `empty`, `same`), the overlap with its best match,
    and which that is."""
    area = float(mask.sum())
    if not len(theirs) or not area:
        return "empty", 0.0, None
    shared = (theirs & mask).sum((1, 2)).astype(float)
    sizes = np.maximum(theirs.sum((1, 2)).astype(float), 1.0)
    inside, within = shared / area, shared / sizes
    iou = shared / (area + sizes - shared)
    best = int(iou.argmax())
    if inside.max() < 0.3:
        return "empty", float(iou[best]), None
    if _parts(theirs, inside, within, mask) >= 2:
        return "merged", float(iou[best]), best
    # Where the mask is there as well, or another model speaks, the parts have to make up nearly all of the whole.
    filled = FILLED if again and iou[best] < HELD else FULL
    for k in np.flatnonzero((inside >= 0.75) & (sizes >= GROWN * area)):
        if _has_rest(theirs[k], mask, others, filled):
            return "split", float(iou[best]), best
    return "same", float(iou[best]), best


def _parts(theirs: Bool, inside: npt.NDArray[np.float64], within: npt.NDArray[np.float64], mask: Bool) -> int:
    """Into how many instances a mask falls: those that lie in it, each with a share of its own."""
    taken = np.zeros_like(mask)
    parts, area = 0, max(float(mask.sum()), 1.0)
    for k in np.argsort(-inside):
        if inside[k] < PART or within[k] < 0.6:
            continue
        fresh = theirs[k] & mask & ~taken
        if fresh.sum() >= PART * area and fresh.sum() >= 0.7 * inside[k] * area:
            parts += 1
            taken |= theirs[k]
    return parts


def _has_rest(whole: Bool, mask: Bool, others: Bool, filled: float) -> bool:
    """Whether another mask of the answer is a part of this larger one, and both together are so much of it. Else the
    picked mask is only too small, or the larger one holds several packages."""
    shared = (others & whole).sum((1, 2))
    sizes = others.sum((1, 2))
    parts = (shared >= 0.6 * sizes) & (shared >= PART * whole.sum())
    together = (others[parts].any(axis=0) | mask) & whole
    return bool(parts.any() and together.sum() >= filled * whole.sum())


def _nested(masks: Masks, number: int) -> int:
    """Other masks of the same answer that lie inside this one and do not fill it."""
    mask, area = masks.small[number], masks.areas[number]
    shared = (masks.small & mask).sum((1, 2))
    filled = (masks.areas > 0) & (shared >= 0.8 * masks.areas) & (masks.areas >= PART * area)
    filled &= masks.areas < 0.8 * area
    filled[number] = False
    return int(filled.sum())


def _joined(masks: Masks, number: int) -> float:
    """The largest share of a mask's edge along which one other mask runs."""
    mask = masks.small[number].astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    rim = (cv2.dilate(mask, cross, iterations=2) > 0) & (mask == 0)
    if not rim.any():
        return 0.0
    shares = (masks.small & rim).sum((1, 2)) / rim.sum()
    shares[number] = 0.0
    return float(shares.max())


def _small(found: Instances, height: int, width: int) -> tuple[Bool, float]:
    scale = min(1.0, MAX_EDGE / max(height, width))
    shape = (max(round(height * scale), 1), max(round(width * scale), 1))
    if not len(found):
        return np.zeros((0, *shape), np.bool_), scale
    masks = found.decode_masks()
    if scale == 1.0:
        return masks, scale
    rows = np.minimum(((np.arange(shape[0]) + 0.5) / scale).astype(int), height - 1)
    columns = np.minimum(((np.arange(shape[1]) + 0.5) / scale).astype(int), width - 1)
    return np.ascontiguousarray(masks[:, rows][:, :, columns]), scale


def _at(point: tuple[float, float], masks: Masks) -> tuple[int, int]:
    height, width = masks.small.shape[1:]
    return min(int(point[0] * masks.scale), width - 1), min(int(point[1] * masks.scale), height - 1)
