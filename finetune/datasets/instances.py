"""What both readers share: clipping of polygons, and the growing list of one image's instances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from finetune.datasets.findings import Findings
from finetune.datasets.types import Sample

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


class InstanceList:
    """Instances of one image as they are read. Empty and repeated ones are left out, with a warning."""

    def __init__(self, height: int, width: int, findings: Findings) -> None:
        self.height = height
        self.width = width
        self._findings = findings
        self._items: dict[tuple[str, bytes], None] = {}

    def add(self, label: str, counts: bytes, area: int, where: str) -> None:
        """Add a mask in canonical RLE; `where` is its place in the dataset, for the warnings."""
        if area == 0:
            self._findings.warn("mask that covers no pixel and was left out", where)
        elif (label, counts) in self._items:
            self._findings.warn("instance that repeats another of the same image and was left out", where)
        else:
            self._items[label, counts] = None

    def sample(self, image: Path, name: str, split: str | None, sequence: str | None) -> Sample:
        labels = tuple(label for label, _ in self._items)
        masks = tuple(counts for _, counts in self._items)
        return Sample(image, self.width, self.height, labels, masks, split, sequence, name)
