"""Masks as polygons that lose nothing: rings along the edges of pixels, in whole coordinates.

COCO's rasteriser (and with it every reader here) turns such rings back into exactly the same pixels. Pixels that touch
at a corner only are apart. Outer rings run clockwise as seen on screen and holes the other way, so that even-odd and
non-zero filling agree.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Ring = npt.NDArray[np.int64]
"""int64 [K, 2]: corners x, y in pixels, not closed."""


class Rings(NamedTuple):
    """The boundary of a mask: one outer ring per part, one ring per hole."""

    parts: list[Ring]
    holes: list[Ring]

    @property
    def simple(self) -> bool:
        """Whether one ring says all: a single part without a hole."""
        return len(self.parts) == 1 and not self.holes


def trace(counts: bytes, height: int, width: int) -> Rings:
    """The rings of a mask given as COCO compressed RLE; the mask must cover at least one pixel."""
    rle = {"size": [height, width], "counts": counts}
    x, y, w, h = (int(value) for value in coco_mask.toBbox(rle))
    window = coco_mask.decode(rle)[y : y + h, x : x + w].astype(bool)
    rings = trace_window(window)
    offset = np.array([x, y])
    return Rings([ring + offset for ring in rings.parts], [ring + offset for ring in rings.holes])


def trace_window(mask: npt.NDArray[np.bool_]) -> Rings:
    """The rings of a mask, bool [h, w].

    Corners of the boundary are found at once; along every row and every column of corners they pair up to edges, and
    a ring is what alternates between the two pairings. Where two pixels meet at a corner only, that corner is there
    twice, once for each.
    """
    pad = np.pad(mask, 1)
    nw, ne, sw, se = pad[:-1, :-1], pad[:-1, 1:], pad[1:, :-1], pad[1:, 1:]
    double = (nw == se) & (ne == sw) & (nw != ne)
    ys, xs = np.nonzero((nw ^ ne ^ sw ^ se) | double)
    times = np.where(double[ys, xs], 2, 1)
    xs, ys = np.repeat(xs, times), np.repeat(ys, times)  # by row: the order in which horizontal edges pair
    count = len(xs)
    second = np.zeros(count, np.int64)
    second[1:] = (xs[1:] == xs[:-1]) & (ys[1:] == ys[:-1])
    # Of a doubled corner the first copy ends the edge from the left. If that edge bounds the pixel above, it goes on
    # upwards and comes first in its column too, else second.
    upwards = nw[ys, xs] & se[ys, xs] & double[ys, xs]
    order = np.lexsort((np.where(upwards, second, 1 - second), ys, xs))
    across = np.arange(count) ^ 1
    along = np.empty(count, np.int64)
    along[order] = order[np.arange(count) ^ 1]
    below = se[ys, xs]
    rings = Rings([], [])
    links, points = (across.tolist(), along.tolist()), np.stack([xs, ys], 1)
    seen = bytearray(count)
    for start in range(count):
        if seen[start]:
            continue
        # The first corner of a ring in reading order is its top left: right first keeps an outer ring clockwise.
        turn = 0 if below[start] else 1
        ring, at = [], start
        while not seen[at]:
            seen[at] = 1
            ring.append(at)
            at = links[turn][at]
            turn = 1 - turn
        (rings.parts if below[start] else rings.holes).append(points[ring])
    return rings


def single_ring(rings: Rings) -> Ring:
    """All rings as one: each joined to those before it by the shortest edge there and back, which encloses nothing.

    Filled by parity or by winding it gives the mask's own pixels, but a tool that also draws the outline shows the
    joining edges as lines.
    """
    first, *others = sorted(rings.parts, key=len, reverse=True) + rings.holes
    path = first
    for ring in others:
        i, j = _nearest(path, ring)
        # By way of a corner: edges along the grid are rasterised exactly in both directions.
        elbow = np.array([[ring[j, 0], path[i, 1]]])
        loop = np.concatenate([ring[j:], ring[: j + 1]])
        path = np.concatenate([path[: i + 1], elbow, loop, elbow, path[i:]])
    # Elbows that fall on a corner repeat it.
    keep = np.ones(len(path), bool)
    keep[1:] = (path[1:] != path[:-1]).any(1)
    return path[keep]


def _nearest(path: Ring, ring: Ring) -> tuple[int, int]:
    """Indices of two corners, one on each, that are close; the closest where the rings are not very long."""
    rough_path, rough_ring = path[:: 1 + len(path) // 2000], ring[:: 1 + len(ring) // 500]
    distances = np.abs(rough_path[:, None] - rough_ring[None]).sum(2)
    i, j = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(i) * (1 + len(path) // 2000), int(j) * (1 + len(ring) // 500)
