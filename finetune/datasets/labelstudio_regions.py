"""The regions of one annotation of Label Studio: brush masks, bitmasks, polygons and boxes in percent."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import Attributes, freeze
from finetune.datasets.brush import decode_brush
from finetune.datasets.findings import Findings
from finetune.datasets.instances import EmptyShapeError, InstanceList, read_points, turned_rectangle
from finetune.datasets.pngs import decode_bitmask

Record = dict[str, Any]
_SHAPES = {"brushlabels": "brush", "brush": "brush", "polygonlabels": "polygon", "polygon": "polygon"}
_SHAPES |= {"rectanglelabels": "rectangle", "rectangle": "rectangle"}
_SHAPES |= {"bitmasklabels": "bitmask", "bitmask": "bitmask"}
_LABEL_KEYS = ("brushlabels", "polygonlabels", "rectanglelabels", "bitmasklabels", "labels")
_EXTRAS = frozenset({"choices", "textarea", "number", "rating", "taxonomy", "labels", "datetime"})
_MOSTLY = 0.5
"""The share of a rectangle that must lie inside the image: its edge was meant, and the hand went too far."""


class RegionReader:
    """Reads one annotation's regions into the list of its image's instances: all of them, or those of one image of
    several, which `shows` tells.
    """

    def __init__(
        self, document: str, where: str, found: InstanceList, findings: Findings, shows: Callable[[Record], bool]
    ) -> None:
        self._shows = shows
        self._document = document
        self._where = where
        self._found = found
        self._findings = findings
        self.labels: list[str] = []

    def read(self, annotation: Record) -> None:
        """Add the annotation's masks, polygons and boxes to the list; what cannot be used becomes a finding."""
        results = annotation.get("result", [])
        if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
            self._problem("`result` is not a list of objects", "")
            return
        extras: dict[object, list[Record]] = {}
        for result in results:
            if str(result.get("type")) in _EXTRAS:
                extras.setdefault(str(result.get("id")), []).append(result)
        for index, result in enumerate(results):
            kind = str(result.get("type"))
            if kind in _EXTRAS or kind == "relation" or not self._shows(result):
                continue
            where = f"{self._document} {self._where} region {str(result.get('id'))[:40]}"
            if kind not in _SHAPES:
                text = f"{kind[:30]} that was left out: only brush masks, polygons and boxes say where an instance is"
                self._found.skip(text, where)
                continue
            try:
                self._add(result, _SHAPES[kind], extras.get(str(result.get("id")), []), where)
            except EmptyShapeError as error:
                self._found.skip(f"{error}: left out", where)
            except ValueError as error:
                self._problem(f"{error} (region {str(result.get('id'))[:40]})", f".result[{index}]")

    def _add(self, result: Record, kind: str, extras: list[Record], where: str) -> None:
        value = result["value"] if isinstance(result.get("value"), dict) else {}
        found = self._found
        named, size = (result.get("original_width"), result.get("original_height")), (found.width, found.height)
        if any(a not in (None, b) for a, b in zip(named, size, strict=True)):
            text = f"says {named[0]}x{named[1]} pixels, the image has {size[0]}x{size[1]}"
            if named[::-1] == size:
                text += "; the picture carries a rotation (EXIF), which Label Studio obeys and robots do not: turn the "
                text += "pictures themselves before they are uploaded and labelled"
            raise ValueError(text)
        if result.get("image_rotation"):
            raise ValueError("was drawn on a rotated picture, which robots do not see; turn it back in Label Studio")
        label = _label(value, extras)
        attributes = self._attributes(extras, where)
        if kind == "brush":
            data = value.get("rle")
            if value.get("format") != "rle" or not isinstance(data, list):
                raise ValueError("the brush mask has no RLE; export JSON, not a mask preview")
            found.add_bitmap(label, decode_brush(data, found.height, found.width), where, attributes)
        elif kind == "bitmask":
            found.add_bitmap(label, _bitmask(value, found), where, attributes)
        elif kind == "rectangle":
            corners, turned = _corners(value, found, self._findings, where)
            found.add_rectangle(label, corners, where, attributes, turned=turned)
        else:
            points = value.get("points")
            if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
                raise ValueError("the points must be a list of [x, y] in percent")
            if value.get("closed") is False:
                self._findings.warn("polygon that was not closed: taken as closed", where)
            shares = read_points([number for point in points for number in point]) / 100.0
            found.add_polygons(label, [shares * [found.width, found.height]], where, attributes)
        self.labels.append(label)

    def _attributes(self, extras: list[Record], where: str) -> Attributes:
        values: Record = {}
        for extra in extras:
            kind, value = str(extra.get("type")), extra.get("value")
            if kind == "labels" or not isinstance(value, dict):
                continue
            said = value.get("text" if kind == "textarea" else kind)
            if isinstance(said, list) and len(said) == 1:
                said = said[0]
            if kind == "choices" and said in ("true", "false"):
                said = said == "true"
            values[str(extra.get("from_name"))] = said
        return freeze(values, self._findings, where)

    def _problem(self, message: str, place: str) -> None:
        self._findings.problem(message, self._document, field=f"{self._where}{place}")


def _bitmask(value: Record, found: InstanceList) -> npt.NDArray[np.bool_]:
    """bool [H, W] of a region that is a PNG of the whole image in a data URL. Raises ValueError."""
    head, _, data = str(value.get("imageDataURL") or "").partition(",")
    if not head.startswith("data:image/png") or not data:
        raise ValueError("the bitmask has no PNG in `imageDataURL`")
    try:
        mask = decode_bitmask(base64.b64decode(data, validate=True))
    except binascii.Error:
        raise ValueError("the bitmask is not base64") from None
    if mask.shape != (found.height, found.width):
        size = f"{mask.shape[1]}x{mask.shape[0]}"
        raise ValueError(f"the bitmask is {size} pixels, the image has {found.width}x{found.height}")
    return mask


def _corners(
    value: Record, found: InstanceList, findings: Findings, where: str
) -> tuple[npt.NDArray[np.float64], bool]:
    """A rectangle's corners in pixels, float64 [4, 2], turned around its first one, and whether it is turned.

    Raises ValueError.
    """
    numbers = [value.get(name) for name in ("x", "y", "width", "height")] + [value.get("rotation") or 0]
    if any(isinstance(n, bool) or not isinstance(n, int | float) or not abs(n) < 1e6 for n in numbers):
        raise ValueError("the rectangle needs x, y, width and height in percent")
    x, y, across, down, degrees = (float(n) for n in numbers if isinstance(n, int | float))
    if across < 0 or down < 0:
        findings.warn("box that was drawn backwards (its width or height is negative): turned round", where)
    if across == 0 or down == 0:
        raise EmptyShapeError("the box has no area")
    scale = np.array([found.width, found.height]) / 100
    (x0, y0), (x1, y1) = np.array([[x, y], [x + across, y + down]]) * scale
    points, turned = turned_rectangle((x0, y0, x1, y1), math.radians(degrees), around=(x0, y0))
    if not turned:
        low, high = points.min(0), points.max(0)
        inside = np.clip([low, high], 0, (found.width, found.height))
        share = float((inside[1] - inside[0]).prod() / (high - low).prod())
        if _MOSTLY <= share < 1:
            findings.warn("rectangle that was dragged over the image's edge: clipped", where)
            points = np.clip(points, 0, (found.width, found.height))
    return points, turned


def _label(value: Record, extras: list[Record]) -> str:
    """The one class of a region, from its own value or from the `labels` of the same id."""
    sources = [value, *(e["value"] for e in extras if e.get("type") == "labels" and isinstance(e.get("value"), dict))]
    listed = [s[key] for s in sources for key in _LABEL_KEYS if isinstance(s.get(key), list)]
    names = [name for names in listed for name in names]
    if len(names) != 1 or not isinstance(names[0], str) or not names[0].strip():
        text = f"the region has {len(names)} labels, not one" if names else "the region has no label"
        raise ValueError(f"{text}: give it one in Label Studio, or delete it")
    return names[0].strip()
