"""Masks of a dataset's images, found without reading its annotations again, and drawn as SVG.

A dataset's `annotations.json` is gone through once; what each image needs is then one slice of a file beside the hub's
data, by the digest of the annotations. Nothing here trusts what it reads: a mask that is damaged is left out.
"""

from __future__ import annotations

import colorsys
import math
import mmap
import os
import tempfile
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from registry.blobs import BlobStore
from serving.image_header import MAX_PIXELS

MAX_ANNOTATIONS = 1024**3
MAX_MARKS = 500
"""Of one image; more are not drawn."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """One instance: its class, its COCO `segmentation` as it was written, and its score where a model made it."""

    label: str
    segmentation: Any
    score: float | None = None


class ImageMarks(msgspec.Struct, frozen=True):
    """All instances of one image of `width` x `height` pixels."""

    width: int
    height: int
    marks: list[Mark]


class _Image(msgspec.Struct, frozen=True):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(msgspec.Struct, frozen=True):
    image_id: int
    category_id: int | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Coco(msgspec.Struct, frozen=True):
    images: list[_Image]
    annotations: list[_Annotation] = []
    categories: list[_Category] = []


_decode = msgspec.json.Decoder(_Coco).decode
_Index = dict[str, tuple[int, int]]


class MarkIndex:
    """Marks by the digest of an annotation file and an image's name in it. Use from any number of threads."""

    def __init__(self, folder: Path, blobs: BlobStore) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._blobs = blobs
        self._lock = threading.Lock()
        self._index = lru_cache(maxsize=16)(self._read_index)

    def of(self, sha256: str, size: int, path: str) -> ImageMarks | None:
        """The marks of the image at `path` of the repository; None where there are none or they cannot be read."""
        if size > MAX_ANNOTATIONS or not self._build(sha256):
            return None
        index = self._index(sha256)
        found = index.get(path) or index.get(path.removeprefix("images/"))
        if found is None:
            return None
        with (self._folder / f"{sha256}.marks").open("rb") as file:
            file.seek(found[0])
            return msgspec.json.decode(file.read(found[1]), type=ImageMarks)

    def _read_index(self, sha256: str) -> _Index:
        return msgspec.json.decode((self._folder / f"{sha256}.index").read_bytes(), type=_Index)

    def _build(self, sha256: str) -> bool:
        """Make the two files unless they are there. False for annotations that are none."""
        done = self._folder / f"{sha256}.index"
        if done.exists():
            return True
        with self._lock:
            if done.exists():
                return True
            try:
                index, texts = self._read(sha256)
            except (msgspec.DecodeError, ValueError):
                index, texts = {}, []
            _write(self._folder / f"{sha256}.marks", texts)
            _write(done, [msgspec.json.encode(index)])
        return True

    def _read(self, sha256: str) -> tuple[_Index, list[bytes]]:
        path = self._blobs.local_path(sha256)
        if path is None:
            return _sliced(_decode(self._blobs.read(sha256)))
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            # What was decoded points into the map: nothing of it may outlive this line.
            return _sliced(_decode(text))


def _sliced(document: _Coco) -> tuple[_Index, list[bytes]]:
    names = {one.id: one.name for one in document.categories}
    by_image: dict[int, list[tuple[str, msgspec.Raw]]] = {one.id: [] for one in document.images}
    for one in document.annotations:
        found = by_image.get(one.image_id)
        if found is not None and len(found) < MAX_MARKS:
            found.append((names.get(one.category_id or 0, "?"), one.segmentation))
    index: _Index = {}
    texts: list[bytes] = []
    at = 0
    for image in document.images:
        if not image.width or not image.height or not 0 < image.width * image.height <= MAX_PIXELS:
            continue
        text = msgspec.json.encode({"width": image.width, "height": image.height, "marks": by_image[image.id]})
        index[image.file_name] = (at, len(text))
        texts.append(text)
        at += len(text)
    return index, texts


def _write(path: Path, parts: Iterable[bytes]) -> None:
    """Whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.writelines(parts)
    os.replace(file.name, path)  # noqa: PTH105  # a Path cannot be made of a name without a detour


# --- drawing ----------------------------------------------------------------------------------------------------------


def colour(number: int) -> str:
    """The colour of the mark of this number: hues a golden angle apart."""
    red, green, blue = colorsys.hls_to_rgb((0.58 + 0.61803 * number) % 1, (0.62, 0.52, 0.7)[number % 3], 0.9)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def outline(mark: Mark, width: int, height: int) -> str:
    """An SVG path of a mark, in pixels of the image; "" for a mask that is damaged or empty."""
    value = mark.segmentation
    if isinstance(value, list):
        return "".join(_polygon(part, width, height) for part in value if isinstance(part, list))
    if not isinstance(value, dict) or value.get("size") != [height, width]:
        return ""
    try:
        rle = {"size": [height, width], "counts": value["counts"]}
        if isinstance(value["counts"], list):
            rle = coco_mask.frPyObjects(rle, height, width)
        left, top, wide, high = (int(side) for side in coco_mask.toBbox(rle))
        if wide < 1 or high < 1:
            return ""
        window = np.ascontiguousarray(coco_mask.decode(rle)[top : top + high, left : left + wide])
    except (ValueError, TypeError, KeyError, OverflowError):
        return ""
    window = np.pad(window, 1)
    rings, _ = cv2.findContours(window, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # Half a thousandth of the picture is less than a pixel on any screen that shows it whole.
    slack = max(0.4, 0.0008 * max(width, height))
    path = []
    for ring in rings:
        points = cv2.approxPolyDP(ring, slack, closed=True)[:, 0]
        if len(points) >= 3:
            path.append("M" + "L".join(f"{x + left - 0.5:g} {y + top - 0.5:g}" for x, y in points.tolist()) + "Z")
    return "".join(path)


def _polygon(values: Sequence[object], width: int, height: int) -> str:
    numbers = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if len(numbers) < 6 or len(numbers) != len(values) or len(numbers) > 20_000:
        return ""
    xs = [min(max(x, 0.0), float(width)) for x in numbers[0::2]]
    ys = [min(max(y, 0.0), float(height)) for y in numbers[1::2]]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=False)) + "Z"


def svg(image: ImageMarks, colours: Sequence[str] | None = None, *, dashed: Sequence[bool] = ()) -> str:
    """A picture of nothing but the marks, to be laid over the image; `dashed` says which are outlines only."""
    stroke = max(1.0, max(image.width, image.height) / 320)
    parts = []
    for number, mark in enumerate(image.marks[:MAX_MARKS]):
        path = outline(mark, image.width, image.height)
        if not path:
            continue
        tone = colours[number] if colours else colour(number)
        hollow = number < len(dashed) and dashed[number]
        fill = 'fill="none" stroke-dasharray="6 4"' if hollow else f'fill="{tone}" fill-opacity=".38"'
        score = "" if mark.score is None else f" {mark.score:.0%}"
        parts.append(
            f'<path d="{path}" {fill} fill-rule="evenodd" stroke="{tone}" stroke-width="{stroke:.1f}">'
            f"<title>{escape(mark.label)}{score}</title></path>"
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {image.width} {image.height}" '
        f'preserveAspectRatio="xMidYMid meet">{"".join(parts)}</svg>'
    )
