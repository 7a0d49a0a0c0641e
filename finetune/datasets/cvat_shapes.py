"""The texts of CVAT's shapes: numbers, corners, points and the runs of masks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import Scalar, parse_scalar
from finetune.datasets.findings import Findings
from finetune.datasets.instances import EmptyShapeError, InstanceList, read_points, turned_rectangle
from finetune.datasets.limits import MAX_VERTICES

_RUNS = re.compile(r"[\d,\s]*")


def value_of(text: str, kind: str) -> Scalar:
    """An attribute's text as the value that its input type spells."""
    if kind == "checkbox" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return parse_scalar(text) if kind == "number" else text


def whole(text: str) -> int:
    """A whole number of pixels; CVAT's SDK writes some as "12.0". Raises ValueError."""
    if not re.fullmatch(r"\d{1,9}(\.0+)?", text.strip()):
        raise ValueError(f"{text[:40]!r} is not a whole number of pixels")
    return int(text.strip().split(".")[0])


def rounded(text: str, findings: Findings, where: str) -> int:
    """A place in whole pixels; a mask that was dragged may lie between them, or over the edge."""
    value = _number(text)
    if not value.is_integer():
        findings.warn("mask whose corner lies between pixels: rounded", where)
    return round(value)


def corners_of(fields: Mapping[str, str], findings: Findings, where: str) -> tuple[npt.NDArray[np.float64], bool]:
    """A <box>'s corners, float64 [4, 2], turned around its middle by `rotation` degrees, and whether it is turned.

    Raises KeyError, ValueError. EmptyShapeError is for a box without area.
    """
    x0, y0, x1, y1 = (_number(fields[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(_number(fields.get("rotation", "0")))
    if x1 < x0 or y1 < y0:
        findings.warn("box that was drawn backwards (its width or height is negative): turned round", where)
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    if x1 <= x0 or y1 <= y0:
        raise EmptyShapeError("the box has no area")
    return turned_rectangle((x0, y0, x1, y1), angle, around=((x0 + x1) / 2, (y0 + y1) / 2))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if not abs(value) < 1e9:
        raise ValueError(f"{text[:40]!r} is not a number of pixels")
    return value


def points_of(text: str) -> npt.NDArray[np.float64]:
    """Points of a polygon, float64 [K, 2] in pixels. Raises ValueError."""
    pairs = [pair.split(",") for pair in text.strip("; \n").split(";")] if text.strip("; \n") else []
    if len(pairs) > MAX_VERTICES:
        raise ValueError(f"a polygon of {len(pairs):,} points; the limit is {MAX_VERTICES:,}")
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("the points must be written as x,y;x,y;...")
    values = []
    for value in (value for pair in pairs for value in pair):
        try:
            values.append(float(value))
        except ValueError:
            raise ValueError(f"{value[:40]!r} is not a number") from None
    return read_points(values)


def bitmap_of(fields: Mapping[str, str], found: InstanceList) -> npt.NDArray[np.bool_]:
    """bool [h, w] of a mask's box. Raises KeyError, ValueError."""
    width, height, text = whole(fields["width"]), whole(fields["height"]), fields["rle"]
    if not 0 < width <= 1.1 * found.width + 1 or not 0 < height <= 1.1 * found.height + 1:
        raise ValueError(f"the mask's box of {width}x{height} does not fit the image of {found.width}x{found.height}")
    if not _RUNS.fullmatch(text) or not text.strip():
        raise ValueError("the RLE is not a list of run lengths")
    try:
        runs = np.array([int(run) for run in text.split(",")], np.int64)
    except (ValueError, OverflowError):
        raise ValueError("the RLE is not a list of run lengths") from None
    if runs.max() > width * height or int(runs.sum()) != width * height:
        raise ValueError(f"the RLE covers {int(runs.sum()):,} pixels, the mask's box has {width * height:,}")
    return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(height, width)
