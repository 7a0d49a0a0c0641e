"""The `segmentation` field of a COCO annotation: polygons or RLE, to canonical RLE."""

from __future__ import annotations

import numpy as np

from finetune.datasets import rle
from finetune.datasets.findings import Findings
from finetune.datasets.instances import outline, read_points


def read_segmentation(value: object, height: int, width: int, findings: Findings, where: str) -> tuple[bytes, int]:
    """Canonical RLE `counts` and area in pixels of a segmentation in an image of height x width.

    Raises ValueError with the sentence to show.
    """
    if isinstance(value, dict):
        return _from_rle(value, height, width)
    if not value:
        raise ValueError("there is neither a mask nor a box")
    if not isinstance(value, list) or not all(isinstance(polygon, list) for polygon in value):
        raise ValueError("must be a list of polygons or an RLE object")
    return outline([read_points(part) for part in value], height, width, findings, where)


def _from_rle(value: dict[object, object], height: int, width: int) -> tuple[bytes, int]:
    size, counts = value.get("size"), value.get("counts")
    if size != [height, width]:
        hint = "; the order is [height, width]" if size == [width, height] else ""
        raise ValueError(f"the mask's size {size!r} is not the image's, [{height}, {width}]{hint}")
    if isinstance(counts, str):
        try:
            return rle.canonical(rle.parse_counts(counts.encode("ascii")), height, width)
        except UnicodeEncodeError:
            raise ValueError("the RLE holds characters that COCO's encoding does not use") from None
    if not isinstance(counts, list) or not all(
        isinstance(run, int) and not isinstance(run, bool) and 0 <= run <= height * width for run in counts
    ):
        raise ValueError("the RLE's counts are neither a string nor a list of run lengths")
    return rle.canonical(np.array(counts, np.int64), height, width)
