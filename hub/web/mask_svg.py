"""Masks of a dataset's images, found without reading its annotations again, and drawn as SVG.

A dataset's `annotations.json` is gone through once; what each image needs is then one slice of a file beside the hub's
data, by the digest of the annotations. Nothing here trusts what it reads: a mask that is damaged is left out.
"""

from __future__ import annotations

import colorsys
import mmap
import os
import tempfile
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from finetune.report.picture_svg import MAX_MARKS, Drawn, outline, picture
from hub.errors import UNREADABLE
from registry.blobs.blobs import BlobStore
from serving.image_header import MAX_PIXELS
from serving.instances import Instances

MAX_ANNOTATIONS = 1024**3


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
            except UNREADABLE:
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


def drawn(image: ImageMarks) -> list[Drawn]:
    """The marks that can be drawn, each in a colour of its own."""
    found = []
    for number, mark in enumerate(image.marks[:MAX_MARKS]):
        if path := outline(mark.segmentation, image.width, image.height):
            found.append(Drawn(mark.label, path, "label", mark.score, colour(number)))
    return found


def svg(image: ImageMarks) -> str:
    """A picture of nothing but the marks, to be laid over the image as a part of the same SVG."""
    return picture(image.width, image.height, drawn(image))


def instances(image: ImageMarks, least: float = 0.0) -> Instances:
    """The marks with a score of at least `least` that can be drawn, from RLE, to be compared with others. Annotations
    have no score, and count as sure.
    """
    size = [image.height, image.width]
    kept = [
        one
        for one in image.marks[:MAX_MARKS]
        if (one.score is None or one.score >= least)
        and isinstance(one.segmentation, dict)
        and isinstance(one.segmentation.get("counts"), str)
        and one.segmentation.get("size") == size
        and outline(one.segmentation, image.width, image.height)
    ]
    scores = np.array([1.0 if one.score is None else one.score for one in kept], np.float32)
    masks = tuple(one.segmentation["counts"].encode() for one in kept)
    boxes = np.zeros((len(kept), 4), np.float32)
    return Instances(image.height, image.width, boxes, scores, tuple(one.label for one in kept), masks)
