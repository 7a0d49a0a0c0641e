"""What all readers share: polygons and bitmaps to RLE, and the growing list of one image's instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from finetune.datasets import rle
from finetune.datasets.attributes import Attributes, boxed
from finetune.datasets.findings import Findings
from finetune.datasets.limits import MAX_INSTANCES, MAX_VERTICES
from finetune.datasets.types import Sample
from serving.instances import encode_windows

_HUGE = 1e12
_FEWEST = 3
_MASK_EDGE = 0.1
"""The share of a mask's window that may lie outside the image: tools round its corners to another row or column."""
TOLERANCE = 0.02
"""How far a point may lie outside the image, as a share of the image's side, before it is an error."""


def clip(
    points: npt.NDArray[np.float64], width: float, height: float, findings: Findings, where: str
) -> npt.NDArray[np.float64]:
    """Points float64 [K, 2] moved into 0..width x 0..height, with a warning if any was outside.

    Raises ValueError if one is further outside than `TOLERANCE`: that is another image's polygon, or pixels where
    shares were expected, and clipping it would hide the fault.
    """
    size = np.array([width, height])
    outside = float(np.maximum(-points / size, points / size - 1).max())
    if outside <= 0:
        return points
    if outside > TOLERANCE:
        x, y = points[np.maximum(-points / size, points / size - 1).max(1).argmax()]
        raise ValueError(f"the point ({x:g}, {y:g}) lies outside the image (0 to {width:g}, 0 to {height:g})")
    findings.warn("polygon reaches up to 2 % over the image's edge and was clipped", where)
    return np.clip(points, 0, size)


def read_points(values: Sequence[object]) -> npt.NDArray[np.float64]:
    """Points float64 [K, 2] of a polygon that a file gives as x0, y0, x1, y1, ...; too few are for `outline` to judge.

    Raises ValueError with the sentence to show for what is no polygon: odd counts, too many points, or values that are
    not finite numbers.
    """
    for value in values:
        # abs, not isfinite: that one fails on whole numbers which no float can hold.
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _HUGE:
            raise ValueError(f"{value!r:.40} is not a finite number")
    if len(values) % 2:
        raise ValueError(f"an odd number of coordinates ({len(values)}): x and y must come in pairs")
    if len(values) > 2 * MAX_VERTICES:
        raise ValueError(f"a polygon of {len(values) // 2:,} points; the limit is {MAX_VERTICES:,}")
    return np.array(values, np.float64).reshape(-1, 2)


def turned_rectangle(
    sides: tuple[float, float, float, float], angle: float, *, around: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], bool]:
    """The corners, float64 [4, 2], of the rectangle (x0, y0, x1, y1) turned clockwise by `angle`, in radians, and
    whether it is turned at all: less than a quarter of a degree is a slip of the hand, and right angles are upright.
    """
    x0, y0, x1, y1 = sides
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) - around
    sine, cosine = math.sin(angle), math.cos(angle)
    turned = corners @ np.array([[cosine, sine], [-sine, cosine]]) + around
    return turned, min(abs(sine), abs(cosine)) > math.sin(math.radians(0.25))


def outline(
    polygons: Sequence[npt.NDArray[np.float64]], height: int, width: int, findings: Findings, where: str
) -> tuple[bytes, int]:
    """Canonical RLE `counts` and area of the union of polygons, each float64 [K, 2] in pixels.

    Raises ValueError if one leaves the image, and EmptyShapeError if none has three points. A polygon that crosses
    itself is a warning: what lies between the crossings is in or out by parity, which may not be what was meant. A part
    of fewer than three points is left out with a warning.
    """
    size = float(width), float(height)
    whole = [points for points in polygons if len(points) >= _FEWEST]
    if not whole:
        count = max((len(points) for points in polygons), default=0)
        raise EmptyShapeError(f"a polygon needs at least 3 points, this one has {count}")
    if len(whole) < len(polygons):
        findings.warn("part of an outline with fewer than 3 points, left out of its instance", where)
    clipped = [clip(points, *size, findings, where) for points in whole]
    counts, area = rle.from_polygons([points.ravel() for points in clipped], height, width)
    if len(clipped) == 1 and _crosses(clipped[0], area):
        findings.warn("polygon that crosses itself", where)
    return counts, area


def _crosses(points: npt.NDArray[np.float64], area: int) -> bool:
    """Whether a polygon's signed area is another than that of its pixels, beyond what rounding to pixels explains."""
    following = np.roll(points, -1, axis=0)
    signed = abs(float((points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]).sum())) / 2
    around = float(np.hypot(*(following - points).T).sum())
    return abs(signed - area) > 0.05 * max(signed, area) + around


class EmptyShapeError(ValueError):
    """Raised for a shape without any extent: a slip of the hand, which is left out and refuses no dataset."""


class InstanceList:
    """Instances of one image as they are read. Empty and repeated ones are left out, with a warning.

    An image that loses all of its labels like that is no background: `sample` answers None for it.
    """

    def __init__(self, height: int, width: int, findings: Findings) -> None:
        self.height = height
        self.width = width
        self._findings = findings
        # Three lists, not one dictionary: of a million masks the keys alone would weigh as much as the masks.
        self._labels: list[str] = []
        self._masks: list[bytes] = []
        self._attributes: list[Attributes] = []
        self._full = False
        self._skipped = ""

    def skip(self, message: str, where: str) -> None:
        """Leave out something that was labelled, with a warning."""
        self._findings.warn(message, where)
        self._skipped = self._skipped or where

    def add_polygons(
        self, label: str, polygons: Sequence[npt.NDArray[np.float64]], where: str, attributes: Attributes = ()
    ) -> None:
        """Add the union of polygons, each float64 [K, 2] in pixels. Raises ValueError if one leaves the image."""
        counts, area = outline(polygons, self.height, self.width, self._findings, where)
        self.add(label, counts, area, where, attributes)

    def add_parts(
        self,
        label: str,
        polygons: Sequence[npt.NDArray[np.float64]],
        windows: Sequence[tuple[npt.NDArray[np.bool_], int, int]],
        where: str,
        attributes: Attributes = (),
    ) -> None:
        """Add one instance of several parts: polygons, each float64 [K, 2] in pixels, and masks in windows, each
        (bool [h, w], x, y). Raises ValueError if one leaves the image, EmptyShapeError if none has any extent.
        """
        if not windows:
            self.add_polygons(label, polygons, where, attributes)
            return
        if len(windows) == 1 and not polygons:
            bitmap, x, y = windows[0]
            self.add_bitmap(label, bitmap, where, attributes, x=x, y=y)
            return
        parts = [self._encoded(*self._cut(*window, where)) for window in windows]
        if any(len(points) >= _FEWEST for points in polygons):
            parts.append(outline(polygons, self.height, self.width, self._findings, where)[0])
        whole = coco_mask.merge([{"size": [self.height, self.width], "counts": counts} for counts in parts])
        self.add(label, *rle.canonical(rle.parse_counts(whole["counts"]), self.height, self.width), where, attributes)

    def add_box(self, label: str, corners: npt.NDArray[np.float64], where: str, attributes: Attributes = ()) -> None:
        """Add an instance of which only a box is known, float64 [2, 2] of x0, y0 and x1, y1 in pixels.

        Its mask is the box, filled, and its attributes say so (`BOX_ONLY`). Raises ValueError if the box is none, or
        leaves the image. EmptyShapeError is for one without area.
        """
        if not np.isfinite(corners).all() or (np.abs(corners) > _HUGE).any():
            raise ValueError("the box holds a value that is not a finite number")
        if (corners[1] < corners[0]).any():
            self._findings.warn("box that was drawn backwards (its width or height is negative): turned round", where)
            corners = np.sort(corners, axis=0)
        if (corners[1] <= corners[0]).any():
            raise EmptyShapeError("the box has no area")
        corners = clip(corners, float(self.width), float(self.height), self._findings, where)
        x0, y0 = np.minimum(np.round(corners[0]), (self.width - 1, self.height - 1)).astype(int).tolist()
        x1, y1 = np.maximum(np.round(corners[1]), (x0 + 1, y0 + 1)).astype(int).tolist()
        self._findings.warn(
            "instance with a box and no mask: it teaches its class and its extent, not its outline", where
        )
        self.add_bitmap(label, np.ones((y1 - y0, x1 - x0), np.bool_), where, boxed(attributes), x=x0, y=y0)

    def add_rectangle(
        self, label: str, points: npt.NDArray[np.float64], where: str, attributes: Attributes = (), *, turned: bool
    ) -> None:
        """Add the upright box around a rectangle's corners, float64 [K, 2] in pixels, K >= 2; errors as of `add_box`.

        A rectangle that is `turned` is no outline either: what it holds need not reach into its corners.
        """
        if turned:
            text = "rectangle that is turned: taken as the upright box around it, which may be larger than the package"
            self._findings.warn(text, where)
            points = np.clip(points, 0, (self.width, self.height))  # its corners may stand out where it does not
        self.add_box(label, np.stack([points.min(0), points.max(0)]), where, attributes)

    def add_bitmap(
        self,
        label: str,
        bitmap: npt.NDArray[np.bool_],
        where: str,
        attributes: Attributes = (),
        *,
        x: int = 0,
        y: int = 0,
    ) -> None:
        """Add a mask that is given inside a window, bool [h, w] with its top left pixel at x, y.

        Raises ValueError if the window leaves the image.
        """
        bitmap, x, y = self._cut(bitmap, x, y, where)
        self.add(label, self._encoded(bitmap, x, y), int(bitmap.sum()), where, attributes)

    def _encoded(self, bitmap: npt.NDArray[np.bool_], x: int, y: int) -> bytes:
        """Canonical `counts` of a window. Raises ValueError if it leaves the image."""
        height, width = bitmap.shape
        if x < 0 or y < 0 or x + width > self.width or y + height > self.height:
            raise ValueError(
                f"the mask of {width}x{height} at ({x}, {y}) lies outside the image of {self.width}x{self.height}"
            )
        (counts,) = encode_windows([(bitmap, x, y)], self.height, self.width)
        return counts

    def _cut(self, bitmap: npt.NDArray[np.bool_], x: int, y: int, where: str) -> tuple[npt.NDArray[np.bool_], int, int]:
        """A window without the rows and columns that lie outside the image, where these are few."""
        height, width = bitmap.shape
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + width, self.width), min(y + height, self.height)
        inside = max(x1 - x0, 0) * max(y1 - y0, 0)
        if inside == bitmap.size or inside < (1 - _MASK_EDGE) * bitmap.size:
            return bitmap, x, y
        self._findings.warn("mask that reaches a little over the image's edge and was clipped", where)
        return np.ascontiguousarray(bitmap[y0 - y : y1 - y, x0 - x : x1 - x]), x0, y0

    def add(self, label: str, counts: bytes, area: int, where: str, attributes: Attributes = ()) -> None:
        """Add a mask in canonical RLE; `where` is its place in the dataset, for the warnings."""
        if self._full:
            return
        if len(self._masks) >= MAX_INSTANCES:
            self._full = True
            self._findings.problem(f"more than {MAX_INSTANCES:,} instances in one image", where)
        elif area == 0:
            self.skip("mask that covers no pixel and was left out", where)
        elif counts in self._masks and (label, counts) in zip(self._labels, self._masks, strict=True):
            self._findings.warn("instance that repeats another of the same image and was left out", where)
        else:
            self._labels.append(label)
            self._masks.append(counts)
            if attributes and not self._attributes:
                self._attributes = [()] * (len(self._masks) - 1)
            if attributes or self._attributes:
                self._attributes.append(attributes)

    def sample(self, image: Path, name: str, split: str | None, sequence: str | None) -> Sample | None:
        """The image with its instances; None, with a warning, if all that was labelled in it was left out."""
        if self._skipped and not self._masks:
            text = "image all of whose labels were left out: left out too, since it is no background"
            self._findings.warn(text, f"{name}, {self._skipped}")
            return None
        if not self._masks:
            text = "image without any instance, which will be learnt as background: is it labelled at all?"
            self._findings.warn(text, name)
        labels, masks, attributes = tuple(self._labels), tuple(self._masks), tuple(self._attributes)
        return Sample(image, self.width, self.height, labels, masks, split, sequence, name, attributes)
