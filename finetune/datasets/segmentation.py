"""The `segmentation` field of a COCO annotation: polygons or RLE, to canonical RLE.

Tools write it in more ways than COCO's own. What can be read without a doubt is read, and told.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from finetune.datasets import rle
from finetune.datasets.findings import Findings
from finetune.datasets.instances import outline, read_points

_NEITHER = "must be a list of polygons, as in [[x, y, x, y, ...]], or an RLE object"
_BYTES_AS_TEXT = re.compile(r"""b(?:'[^']*'|"[^"]*")""")


def is_empty(value: object) -> bool:
    """Whether a segmentation says nothing: none, an empty list, or lists that are all empty (`[[]]`)."""
    return not value or (isinstance(value, list) and all(isinstance(part, list) and not part for part in value))


def read_segmentation(value: object, height: int, width: int, findings: Findings, where: str) -> tuple[bytes, int]:
    """Canonical RLE `counts` and area in pixels of a segmentation in an image of height x width.

    Raises ValueError with the sentence to show, EmptyShapeError for what has no extent.
    """
    if isinstance(value, dict):
        return _from_rle(value, height, width, findings, where)
    if is_empty(value):
        raise ValueError("there is neither a mask nor a box")
    if not isinstance(value, list):
        raise ValueError(_NEITHER)  # noqa: TRY004
    if all(isinstance(part, dict) and "counts" in part for part in value):
        masks = [_from_rle(part, height, width, findings, where)[0] for part in value]
        whole = coco_mask.merge([{"size": [height, width], "counts": counts} for counts in masks])
        return rle.canonical(rle.parse_counts(whole["counts"]), height, width)
    rings = [_numbers(ring, findings, where) for ring in _rings(value, findings, where)]
    return outline([read_points(ring) for ring in rings], height, width, findings, where)


def _numbers(ring: Sequence[object], findings: Findings, where: str) -> Sequence[object]:
    """The values of a ring; numbers that a script has put in quotes are numbers."""
    if not any(isinstance(value, str) for value in ring):
        return ring
    try:
        made = [float(value) if isinstance(value, str) else value for value in ring]
    except ValueError:
        return ring  # it is refused, in words
    findings.warn("coordinates that are text: read as the numbers that they are", where)
    return made


def _rings(value: Sequence[object], findings: Findings, where: str) -> list[Sequence[object]]:
    """The rings of a list, each x0, y0, x1, y1, ... Raises ValueError."""
    if not any(isinstance(part, list | dict) for part in value):
        findings.warn("segmentation that is one flat list of numbers: taken as one polygon, [[x, y, ...]]", where)
        return [value]
    if _are_points(value):
        findings.warn("segmentation that is a list of points [x, y]: taken as one polygon, [[x, y, x, y, ...]]", where)
        return [_flat(value)]
    rings: list[Sequence[object]] = []
    for part in value:
        if not isinstance(part, list):
            raise ValueError(_NEITHER)  # noqa: TRY004
        if len(part) > 0 and _are_points(part):
            findings.warn("polygon that is a list of points [x, y]: taken as [x, y, x, y, ...]", where)
            rings.append(_flat(part))
        else:
            rings.append(part)
    return rings


def _are_points(value: Sequence[object]) -> bool:
    """Whether a list holds points, each a pair of numbers or an object with `x` and `y`."""
    return len(value) > 1 and all(
        (isinstance(point, list) and len(point) == 2 and not any(isinstance(n, list) for n in point))
        or (isinstance(point, dict) and {"x", "y"} <= set(point))
        for point in value
    )


def _flat(points: Sequence[object]) -> list[object]:
    flat: list[object] = []
    for point in points:
        if isinstance(point, dict):
            flat += [point["x"], point["y"]]
        elif isinstance(point, list):
            flat += point
    return flat


def _from_rle(
    value: dict[object, object], height: int, width: int, findings: Findings, where: str
) -> tuple[bytes, int]:
    size, counts = value.get("size"), value.get("counts")
    if isinstance(size, list) and size != [height, width]:
        size = _whole(size, "RLE whose `size` is not whole numbers: read as such", findings, where)
    if size != [height, width]:
        hint = "; the order is [height, width]" if size == [width, height] else ""
        raise ValueError(f"the mask's size {size!r} is not the image's, [{height}, {width}]{hint}")
    if isinstance(counts, str):
        if _BYTES_AS_TEXT.fullmatch(counts):
            # str() of bytes in Python. A literal of bytes evaluates to bytes and to nothing else.
            try:
                counts = str(ast.literal_eval(counts), "ascii")
            except (ValueError, SyntaxError, UnicodeDecodeError):
                raise ValueError("the RLE is Python's text of bytes (b'...'); write counts.decode()") from None
            findings.warn(
                "RLE whose `counts` are Python's text of bytes (b'...', for want of .decode()): decoded", where
            )
        try:
            return rle.canonical(rle.parse_counts(counts.encode("ascii")), height, width)
        except UnicodeEncodeError:
            raise ValueError("the RLE holds characters that COCO's encoding does not use") from None
    if isinstance(counts, list):
        counts = _whole(counts, "RLE whose `counts` are not whole numbers: read as such", findings, where)
    if not isinstance(counts, list) or not all(
        isinstance(run, int) and not isinstance(run, bool) and 0 <= run <= height * width for run in counts
    ):
        raise ValueError("the RLE's counts are neither a string nor a list of run lengths")
    return rle.canonical(np.array(counts, np.int64), height, width)


def _whole(values: list[object], text: str, findings: Findings, where: str) -> list[object]:
    """The values, floats without a fraction and digits in quotes as the whole numbers that they are."""
    if all(type(value) is int for value in values):
        return values
    whole: list[object] = []
    for value in values:
        digits = isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value.strip()) is not None
        if not digits and type(value) is not int and not (isinstance(value, float) and value.is_integer()):
            return values
        whole.append(int(value))  # type: ignore[call-overload]
    findings.warn(text, where)
    return whole
