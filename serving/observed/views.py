"""The little of a frame that is looked at: a small picture, and sixteen windows at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

LONG_EDGE = 96
"""Pixels of the small picture's longer side."""
TILES = 4
"""The view is judged in TILES x TILES tiles; each has one window at full resolution in its middle."""
WINDOW = 40
"""Pixels of a window's side; less in a tile that is smaller."""
MIN_EDGE = 64
"""A frame with a shorter side than this cannot be judged."""

Float = npt.NDArray[np.float32]
LOG = np.log(np.arange(256, dtype=np.float32) + 2.0)
"""Log-luminance by grey level; the 2 keeps a sensor's noise in black small."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What is kept of a frame until it is judged, some 50 KB.

    Attributes:
        size: (height, width) of the frame, pixels.
        small: uint8 [h, w, 3] RGB, the longer side LONG_EDGE.
        windows: uint8 [TILES * TILES, s, s] luminance at full resolution, row by row.
    """

    size: tuple[int, int]
    small: npt.NDArray[np.uint8]
    windows: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, image: npt.NDArray[np.uint8]) -> Self:
        """Of a frame uint8 [H, W, 3] RGB. Raises ValueError for another array, or a side below MIN_EDGE."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"a frame is uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        height, width = image.shape[:2]
        if min(height, width) < MIN_EDGE:
            raise ValueError(f"a frame of {width} x {height} pixels is too small to be judged")
        scale = LONG_EDGE / max(height, width)
        shape = (max(round(width * scale), TILES), max(round(height * scale), TILES))
        side = min(WINDOW, height // TILES, width // TILES)
        rows = [(2 * k + 1) * height // (2 * TILES) - side // 2 for k in range(TILES)]
        columns = [(2 * k + 1) * width // (2 * TILES) - side // 2 for k in range(TILES)]
        cut = np.concatenate([image[y : y + side, x : x + side] for y in rows for x in columns])
        windows = cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY).reshape(TILES * TILES, side, side)
        return cls((height, width), _small(image, shape), windows)

    def calm(self) -> npt.NDArray[np.uint8]:
        """The small picture [h, w, 3] without its noise: a dark camera's makes each frame differ from the one before,
        as if packages moved."""
        return np.asarray(cv2.blur(self.small, (5, 5)), np.uint8)


def _small(image: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    # Averaging a whole 1080p frame takes 2 ms. Every k-th pixel of it, two by two, is as good for what is judged here.
    step = max(min(image.shape[0] // (2 * shape[1]), image.shape[1] // (2 * shape[0])), 1)
    if step > 1:
        image = np.ascontiguousarray(image[::step, ::step])
    return np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_LINEAR), np.uint8)
