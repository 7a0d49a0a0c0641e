"""CVAT's shapes: masks as runs of their box, polygons; shapes of one group and label are the parts of one instance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList, read_points, turned_rectangle
from finetune.errors import DatasetError

Record = dict[str, Any]
Window = tuple[npt.NDArray[np.bool_], int, int]


def mask_points(mask: npt.NDArray[np.bool_]) -> list[float]:
    """`points` of a mask, bool [H, W] with at least one pixel: runs of its box row by row, those that are out first,
    then left, top, right and bottom, the last column and row included."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    box = mask[top : bottom + 1, left : right + 1].ravel()
    edges = np.flatnonzero(np.diff(box.astype(np.int8), prepend=0))
    runs = np.diff(edges, prepend=0, append=box.size)
    return [*map(float, runs.tolist()), float(left), float(top), float(right), float(bottom)]


def window_of(points: Sequence[object], height: int, width: int) -> Window:
    """(bool [h, w], left, top) of a mask's `points` in a picture of this size. Raises ValueError."""
    if len(points) < 5 or not all(_whole(one) for one in points):
        raise ValueError("a mask is no list of whole numbers")
    *runs, left, top, right, bottom = (int(one) for one in points)  # type: ignore[call-overload]  # checked
    across, down = right - left + 1, bottom - top + 1
    if not (0 <= left <= right < width and 0 <= top <= bottom < height):
        raise ValueError(f"a mask's box ({left}, {top}) to ({right}, {bottom}) leaves the picture")
    if min(runs) < 0 or sum(runs) != across * down:
        raise ValueError(f"a mask's runs cover {sum(runs):,} pixels, its box has {across * down:,}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(down, across), left, top


def read_shapes(
    shapes: Sequence[Record], labels: Mapping[int, tuple[str, str]], height: int, width: int
) -> tuple[list[tuple[str, str]], list[str], bool]:
    """(label, canonical RLE) of each instance, what is to be said of them, and whether all could be read."""
    groups: dict[tuple[object, object], list[Record]] = {}
    for number, shape in enumerate(shapes):
        group = shape.get("group") or f"alone {number}"
        groups.setdefault((shape.get("label_id"), group), []).append(shape)
    found: list[tuple[str, str]] = []
    notes: list[str] = []
    whole = True
    for (label_id, _), members in groups.items():
        findings = Findings()
        picture = InstanceList(height, width, findings)
        try:
            _add(picture, labels[int(str(label_id))][0], members)
            findings.raise_problems()
        except (KeyError, TypeError, ValueError, DatasetError) as error:
            notes.append(f"shape {members[0].get('id')}: {error}")
            whole = False
            continue
        notes += [f"shape {members[0].get('id')}: {text}" for text in findings.warnings()]
        sample = picture.sample(Path(), "", None, None)
        found += (
            [(label, one.decode("ascii")) for label, one in zip(sample.labels, sample.masks, strict=True)]
            if (sample is not None)
            else []
        )
        whole = whole and sample is not None
    return found, notes, whole


def _add(picture: InstanceList, label: str, members: Sequence[Record]) -> None:
    """Shapes of one instance. Raises ValueError."""
    polygons: list[npt.NDArray[np.float64]] = []
    windows: list[Window] = []
    for shape in members:
        points = shape.get("points")
        if not isinstance(points, list):
            raise ValueError("it has no list of points")  # noqa: TRY004  # what a tool sent
        if shape.get("type") == "mask":
            windows.append(window_of(points, picture.height, picture.width))
        elif shape.get("type") == "polygon":
            polygons.append(read_points(points))
        elif shape.get("type") == "rectangle" and len(members) == 1:
            x0, y0, x1, y1 = read_points(points).reshape(4)
            around = ((x0 + x1) / 2, (y0 + y1) / 2)
            angle = math.radians(float(shape.get("rotation") or 0))
            corners, turned = turned_rectangle((x0, y0, x1, y1), angle, around=around)
            picture.add_rectangle(label, corners, "", turned=turned)
            return
        else:
            raise ValueError(f"a {str(shape.get('type'))[:20]} says no outline")
    picture.add_parts(label, polygons, windows, "")


def _whole(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
