"""A frame looked at again: mirrored and moved by a few pixels, the answers brought back into the frame's own pixels.

A good mask stays where it is when the picture is mirrored or moved. One that hangs on a thread falls apart, grows or
goes. This runs beside the path of answers, on the frames of failed picks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from serving.instances import Instances

Image = npt.NDArray[np.uint8]
Segment = Callable[[Sequence[Image]], Sequence[Instances]]
"""Frames uint8 [H, W, 3] RGB to their answers."""
SHIFT: Final = 0.027
"""Of the longer edge: no multiple of any model's stride at usual sizes."""


@dataclass(frozen=True, slots=True)
class Look:
    """Another answer about the same view, in the frame's own pixels.

    Attributes:
        name: in words, as in `mirrored`, `the base`, `a frame 1.2 s later`.
        again: whether the same model answered; False for another model's answer and for another frame.
    """

    name: str
    instances: Instances
    again: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at a frame again: mirrored or not, and moved by shares of its longer edge."""

    name: str
    mirrored: bool = False
    right: float = 0.0
    down: float = 0.0

    def of(self, image: Image) -> Image:
        """The frame as it is looked at, uint8 [H, W, 3]; what moves in at a border mirrors what is inside."""
        if self.mirrored:
            image = image[:, ::-1]
        x, y = self._offset(*image.shape[:2])
        if x or y:
            top, left = max(y, 0), max(x, 0)
            padded = cv2.copyMakeBorder(image, top, max(-y, 0), left, max(-x, 0), cv2.BORDER_REFLECT_101)
            image = padded[max(-y, 0) :, max(-x, 0) :][: image.shape[0], : image.shape[1]]
        return np.ascontiguousarray(image)

    def back(self, found: Instances) -> Instances:
        """An answer about the view, in the frame's own pixels. What left the picture is cut off."""
        masks = found.decode_masks()
        x, y = self._offset(found.height, found.width)
        if x or y:
            moved = np.zeros_like(masks)
            high, wide = found.height - abs(y), found.width - abs(x)
            moved[:, max(-y, 0) :, max(-x, 0) :][:, :high, :wide] = masks[:, max(y, 0) :, max(x, 0) :][:, :high, :wide]
            masks = moved
        if self.mirrored:
            masks = masks[:, :, ::-1]
        return Instances.from_masks(np.ascontiguousarray(masks), found.labels, found.scores)

    def _offset(self, height: int, width: int) -> tuple[int, int]:
        edge = max(height, width)
        # At least so much of the picture stays in it.
        x, y = round(self.right * edge), round(self.down * edge)
        return max(-width // 4, min(width // 4, x)), max(-height // 4, min(height // 4, y))


VIEWS: Final[tuple[View, ...]] = (
    View("mirrored", mirrored=True),
    View("moved right and down", right=SHIFT, down=SHIFT),
    View("moved left and up", right=-SHIFT, down=-SHIFT),
    View("mirrored and moved", mirrored=True, right=SHIFT, down=-SHIFT),
)
PLAIN: Final = View("as it is")


def look_again(image: Image, segment: Segment, views: Sequence[View] = VIEWS) -> list[Look]:
    """The frame uint8 [H, W, 3] RGB through these views, in one batch. Raises what `segment` raises."""
    found = segment([view.of(image) for view in views])
    return [Look(view.name, view.back(one)) for view, one in zip(views, found, strict=True)]


def unmoved(first: Image, second: Image, box: Sequence[float]) -> float:
    """How alike two frames are around a box (x0, y0, x1, y1 in pixels): correlation of grey levels, -1 to 1.

    0.0 where the frames have different sizes, or nothing to compare. A package that lies still gives above 0.8; a
    belt that moved on does not.
    """
    if first.shape != second.shape:
        return 0.0
    height, width = first.shape[:2]
    room = 0.15 * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = max(int(box[0] - room), 0), max(int(box[1] - room), 0)
    x1, y1 = min(int(box[2] + room) + 1, width), min(int(box[3] + room) + 1, height)
    if x1 - x0 < 8 or y1 - y0 < 8:
        return 0.0
    small = [
        cv2.resize(cv2.cvtColor(np.ascontiguousarray(one[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY), (48, 48)).astype(float)
        for one in (first, second)
    ]
    a, b = (one - one.mean() for one in small)
    power = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / power) if power > 48 * 48 else 0.0
