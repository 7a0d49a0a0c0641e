"""COCO run-length encoding in canonical form: equal masks give equal bytes, whoever encoded them.

A mask of height x width pixels is read down its columns; runs of 0 and 1 alternate, the first is of 0 (and may be
empty). Other tools write empty runs in the middle or at the end; the canonical form has none, like pycocotools'
encoder. Damaged runs are found here, because pycocotools' area and box functions do not look.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

Runs = npt.NDArray[np.int64]


def parse_counts(counts: bytes) -> Runs:
    """Run lengths of a compressed RLE string. Raises ValueError where the string is not one.

    Each value is a row of 6-bit characters (5 bits of value, lowest first, and a continuation bit); from the fourth
    value on it is the difference to the value two before.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        raise ValueError("the RLE is empty")
    if codes.min() < 0 or codes.max() > 63:
        raise ValueError("the RLE holds characters that COCO's encoding does not use")
    ends = np.flatnonzero((codes & 0x20) == 0)
    if ends.size == 0 or ends[-1] != codes.size - 1:
        raise ValueError("the RLE is cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 8:
        raise ValueError("the RLE holds a run that is too long")
    shifts = (np.arange(codes.size) - np.repeat(starts, lengths)) * 5
    values = np.add.reduceat((codes & 0x1F) << shifts, starts)
    values -= ((codes[ends] & 0x10) != 0).astype(np.int64) << (5 * lengths)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def canonical(runs: Runs, height: int, width: int) -> tuple[bytes, int]:
    """Canonical `counts` of run lengths, and the mask's area in pixels.

    Raises ValueError if a run is negative or the runs do not fill the image exactly.
    """
    if runs.size == 0 or runs.min() < 0 or runs.max() > height * width:
        raise ValueError("the RLE holds a run that cannot be")
    if int(runs.sum()) != height * width:
        raise ValueError(f"the RLE covers {int(runs.sum()):,} pixels, the image has {height * width:,}")
    area = int(runs[1::2].sum())
    if (runs[1:] == 0).any():
        # Two edges at one place cancel each other out: the runs on both sides are one.
        edges, times = np.unique(np.cumsum(runs)[:-1], return_counts=True)
        edges = edges[(times % 2 == 1) & (edges < height * width)]
        runs = np.diff(edges, prepend=0, append=height * width)
    encoded = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return bytes(encoded["counts"]), area


def from_polygons(polygons: Sequence[npt.NDArray[np.float64]], height: int, width: int) -> tuple[bytes, int]:
    """Canonical `counts` and area of the union of polygons, by COCO's own rasteriser.

    Each polygon is float64 [2 K], K >= 3, as x0, y0, x1, y1, ... in pixels, inside the image.
    """
    parts = coco_mask.frPyObjects([polygon.tolist() for polygon in polygons], height, width)
    whole = parts[0] if len(parts) == 1 else coco_mask.merge(parts)
    return canonical(parse_counts(whole["counts"]), height, width)
