"""The stated models behind `benchmarks.fleet.picks`: how masks are damaged, when picks fail, and what the cause was.

A pick fails for a defect of the mask that it was made by, with the chances below; of a good mask one in ten fails all
the same (suction, a soft bag, an arm that is off). The cause of a failed pick is the defect if its mask has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from serving.instances import Instances
from serving.observed.failure_kinds import Verdict
from serving.observed.failures import CameraFault, Pick
from serving.observed.second_looks import Look

Bool = NDArray[np.bool_]
DAMAGES: Final[Mapping[str, float]] = {
    "merged": 0.14, "split": 0.1, "missed": 0.12, "wrong_class": 0.08, "loose_edge": 0.14, "none": 0.42,
}  # fmt: skip
"""What becomes of a package in a bad variant's answer."""
SUCCESS: Final[Mapping[str, float]] = {
    "merged": 0.25, "split": 0.4, "wrong_class": 0.3, "false_package": 0.0, "loose_edge": 0.45, "not_vision": 0.9,
    "missed": 0.0,
}  # fmt: skip
SOFT: Final = 0.9
"""Bags and sacks succeed so much less often."""
OUTCOMES: Final[Mapping[str, Mapping[str, float]]] = {
    "merged": {"multi_pick": 0.5, "drop": 0.3, "miss": 0.2},
    "split": {"drop": 0.6, "miss": 0.4},
    "wrong_class": {"wrong_item": 0.8, "drop": 0.2},
    "false_package": {"miss": 1.0},
    "loose_edge": {"miss": 0.5, "drop": 0.5},
    "missed": {"miss": 0.6, "drop": 0.4},
    "not_vision": {"drop": 0.6, "miss": 0.4},
    "camera_fault": {"miss": 0.7, "drop": 0.3},
}
NAMES_ITEM: Final = 0.5
"""So often a scanner behind the robot names a wrong item."""
ASTRAY: Final = 0.15
"""Of the picks that fail though the mask is good: the arm went elsewhere."""
SILENT: Final = 0.2
"""So many robots say the point alone."""
FAULTY: Final = 0.05
KNOWN: Final = 0.99
"""So many frames come while the camera is at fault, and so many of those faults have an alert."""
PER_FRAME: Final = 4


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed pick with its truth."""

    truth: Verdict
    served: Instances
    pick: Pick
    looks: Sequence[Look]
    camera: CameraFault | None = None


def truth_of(ids: NDArray[np.uint8], labels: Sequence[str]) -> Instances:
    """The packages of a generated view, uint8 [H, W] ids."""
    masks = ids[None] == np.arange(1, len(labels) + 1, dtype=np.uint8)[:, None, None]
    return Instances.from_masks(np.ascontiguousarray(masks), labels)


class Robot:
    """Picks by the served masks, and says how it went."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def picks(self, truth: Instances, served: Instances, looks: Sequence[Look]) -> Iterator[Failed]:
        """Picks on one frame that fail."""
        rng = self._rng
        real, masks = truth.decode_masks(), served.decode_masks()
        faulty = rng.random() < FAULTY
        camera = CameraFault("focus", "out of focus") if faulty and rng.random() < KNOWN else None
        for number in rng.permutation(len(masks))[:PER_FRAME].tolist():
            cause = cause_of(masks[number], served.labels[number], masks, real, truth.labels, number)
            soft = served.labels[number] in ("poly_bag", "sack")
            if rng.random() < (0.3 if faulty else SUCCESS[cause] * (SOFT if soft else 1.0)):
                continue
            yield self._failed("camera_fault" if faulty else cause, truth, served, masks, real, number, looks, camera)
        bare = [k for k in range(len(real)) if _unanswered(real[k], masks)]
        for number in bare[:1]:
            pick = Pick(self._outcome("missed"), None, self._inside(real[number]))
            yield Failed("camera_fault" if faulty else "missed", served, pick, looks, camera)

    def _failed(
        self,
        cause: Verdict,
        truth: Instances,
        served: Instances,
        masks: Bool,
        real: Bool,
        number: int,
        looks: Sequence[Look],
        camera: CameraFault | None,
    ) -> Failed:
        rng = self._rng
        outcome, point = self._outcome(cause), self._inside(masks[number])
        said: str | None = None
        if outcome == "wrong_item" and rng.random() < NAMES_ITEM:
            said = truth.labels[int((real & masks[number]).sum((1, 2)).argmax())]
        instance: int | None = number
        if cause == "not_vision" and rng.random() < ASTRAY:
            point = self._elsewhere(masks[number], point)
        elif rng.random() < SILENT:
            instance = None
        return Failed(cause, served, Pick(outcome, instance, point, said), looks, camera)

    def _outcome(self, cause: str) -> str:
        names = list(OUTCOMES[cause])
        return names[int(self._rng.choice(len(names), p=list(OUTCOMES[cause].values())))]

    def _inside(self, mask: Bool) -> tuple[float, float]:
        """Where a robot grips: the middle of the mask, a little off."""
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), mask.shape)
        off = min(float(depth.max()) / 2, 2.0)
        x, y = float(column) + self._rng.uniform(-off, off), float(row) + self._rng.uniform(-off, off)
        return min(max(x, 0.0), mask.shape[1] - 1.0), min(max(y, 0.0), mask.shape[0] - 1.0)

    def _elsewhere(self, mask: Bool, point: tuple[float, float]) -> tuple[float, float]:
        """A point outside of the mask by a tenth to a fifth of the frame, inside of the frame."""
        outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
        edge = max(mask.shape)
        rows, columns = np.nonzero((outside > 0.1 * edge) & (outside < 0.2 * edge))
        if not len(rows):
            return point
        at = int(self._rng.integers(len(rows)))
        return float(columns[at]), float(rows[at])


def cause_of(mask: Bool, label: str, masks: Bool, real: Bool, labels: Sequence[str], number: int) -> Verdict:
    """What is wrong with a served mask, by the truth."""
    area = max(float(mask.sum()), 1.0)
    shared = (real & mask).sum((1, 2)).astype(float)
    sizes = np.maximum(real.sum((1, 2)).astype(float), 1.0)
    best = int(shared.argmax())
    if shared[best] < 0.3 * area:
        return "false_package"
    second = (shared >= 0.5 * sizes) & (shared >= 0.12 * area)
    if second.sum() >= 2:
        return "merged"
    iou = shared[best] / (area + sizes[best] - shared[best])
    if shared[best] >= 0.75 * area and shared[best] < 0.7 * sizes[best]:
        rest = (masks & real[best]).sum((1, 2))
        inside = (rest >= 0.6 * np.maximum(masks.sum((1, 2)), 1)) & (rest >= 0.15 * sizes[best])
        inside[number] = False
        if inside.any():
            return "split"
    if iou < 0.75:
        return "loose_edge"
    return "wrong_class" if labels[best] != label else "not_vision"


def _unanswered(real: Bool, masks: Bool) -> bool:
    """Whether no served mask covers a package, or its middle."""
    if not len(masks):
        return True
    depth = cv2.distanceTransform(np.pad(real, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), real.shape)
    near = masks[:, max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4]
    return not near.any() and float((masks & real).sum((1, 2)).max()) < 0.3 * real.sum()


# --- a bad variant ----------------------------------------------------------------------------------------------------


def damage(truth: Instances, rng: np.random.Generator, *, looks: int = 4) -> tuple[Instances, list[Look]]:
    """A bad variant's answer, and its answers when the frame is mirrored or moved.

    Each package, or pair of packages, is damaged in a way of its own. How stable that is differs: from 0 (gone when the
    picture moves) to 1 (there each time), evenly.
    """
    real = truth.decode_masks()
    groups: list[tuple[list[tuple[Bool, str]], list[int], float]] = []
    left = list(range(len(real)))
    while left:
        one = left.pop(0)
        kind = str(rng.choice(list(DAMAGES), p=list(DAMAGES.values())))
        members = [one]
        if kind == "merged":
            other = _neighbour(real, one, left)
            if other is None:
                kind = "none"
            else:
                left.remove(other)
                members.append(other)
        groups.append((_damaged(kind, real, truth.labels, members, rng), members, float(rng.uniform())))
    served = _answer([part for parts, _, _ in groups for part in parts], truth, rng)
    again = []
    for number in range(looks):
        chosen: list[tuple[Bool, str]] = []
        for parts, members, stays in groups:
            chosen += parts if rng.random() < stays else [(real[k], truth.labels[k]) for k in members]
        again.append(Look(f"moved {number + 1}", _answer(chosen, truth, rng)))
    return served, again


def _damaged(
    kind: str, real: Bool, labels: Sequence[str], members: list[int], rng: np.random.Generator
) -> list[tuple[Bool, str]]:
    mask, label = real[members[0]], labels[members[0]]
    if kind == "merged":
        joined = (mask | real[members[1]]).astype(np.uint8)
        return [(cv2.morphologyEx(joined, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0, label)]
    if kind == "missed":
        return []
    if kind == "wrong_class":
        others = sorted(set(labels) - {label}) or ["item"]
        return [(mask, others[int(rng.integers(len(others)))])]
    if kind == "split":
        rows, columns = np.nonzero(mask)
        angle, share = rng.uniform(0, np.pi), rng.uniform(0.35, 0.65)
        along = np.cos(angle) * columns + np.sin(angle) * rows
        first = np.zeros_like(mask)
        chosen = along < np.quantile(along, share)
        first[rows[chosen], columns[chosen]] = True
        return [(first, label), (mask & ~first, label)]
    if kind == "loose_edge":
        return [(_loose(mask, rng), label)]
    return [(mask, label)]


def _loose(mask: Bool, rng: np.random.Generator) -> Bool:
    """Too large, too small or beside, until the overlap is below 0.72."""
    way, area = int(rng.integers(3)), float(mask.sum())
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    for step in range(1, 60):
        if way == 0:
            moved = cv2.dilate(mask.astype(np.uint8), kernel, iterations=step) > 0
        elif way == 1:
            moved = cv2.erode(mask.astype(np.uint8), kernel, iterations=step) > 0
        else:
            moved = np.roll(mask, step, axis=int(area) % 2)
        both = float((mask & moved).sum())
        if both / max(area + moved.sum() - both, 1.0) < 0.72:
            return moved
    return mask


def _neighbour(real: Bool, one: int, left: Sequence[int]) -> int | None:
    """A package that touches this one."""
    near = cv2.dilate(real[one].astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    shared = [(int((near & real[k]).sum()), k) for k in left]
    best = max(shared, default=(0, -1))
    return best[1] if best[0] > 10 else None


def _answer(parts: Sequence[tuple[Bool, str]], truth: Instances, rng: np.random.Generator) -> Instances:
    """Masks as a model gives them: an edge that is off by a pixel at random, scores, and no empty ones."""
    masks, labels = [], []
    for mask, label in parts:
        step = int(rng.integers(-1, 2))
        change = cv2.dilate if step > 0 else cv2.erode
        rough = change(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 if step else mask
        rough = rough if rough.sum() >= 12 else mask
        if rough.any():
            masks.append(rough)
            labels.append(label)
    if not masks:
        return Instances.empty(truth.height, truth.width)
    return Instances.from_masks(np.stack(masks), labels, rng.uniform(0.6, 0.99, len(masks)))
