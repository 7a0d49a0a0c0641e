"""Label Studio's JSON export: a list of tasks with brush masks (RLE of its own), polygons and boxes in percent.

Images are found by the path that a task names (`/data/local-files/?d=...`, `/data/upload/...`, a URL, a path): by its
end, inside the dataset's folder only; nothing is fetched. Class names come from a labelling configuration (an XML file
with the root `View`) where there is one, else from the regions in their order. What a region says besides its label
(choices, numbers, texts "per region") becomes attributes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import Attributes, freeze
from finetune.datasets.brush import decode_brush
from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList, read_points, turned_rectangle
from finetune.datasets.jsonstream import LIST, stream_json
from finetune.datasets.locate import ImageFinder, usual_folders
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, split_named, split_of, suffix_of
from finetune.datasets.types import Sample
from finetune.datasets.xmlstream import Start, root_of, stream_xml
from finetune.errors import DatasetError

Record = dict[str, Any]
CONFIG_ROOT = "View"
_SHAPES = {"brushlabels": "brush", "brush": "brush", "polygonlabels": "polygon", "polygon": "polygon"}
_SHAPES |= {"rectanglelabels": "rectangle", "rectangle": "rectangle"}
_EXTRAS = frozenset({"choices", "textarea", "number", "rating", "taxonomy", "labels", "datetime"})
# What Label Studio puts before the name of an uploaded file.
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A checked task: its image and the annotation that counts."""

    document: str
    image: str
    split: str | None
    sequence: str | None


@dataclass(slots=True)
class LabelStudioSource:
    """Exports of Label Studio whose images are found."""

    tree: Tree
    documents: tuple[str, ...]
    known: dict[str, None] = field(default_factory=dict)
    entries: dict[tuple[str, int], _Entry] = field(default_factory=dict)
    """By document and the task's place in it."""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.known)

    @property
    def images(self) -> tuple[str, ...]:
        return tuple(entry.image for entry in self.entries.values())

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        for document in self.documents:
            for index, task in _tasks(self.tree, document):
                entry = self.entries.get((document, index))
                if entry is None or entry.image not in sizes:
                    continue
                found = InstanceList(*sizes[entry.image], findings)
                reader = _RegionReader(document, f"[{index}]", found, findings)
                reader.read(_annotation(task) or {})
                self.known |= dict.fromkeys(reader.labels)
                yield found.sample(self.tree.path(entry.image), entry.image, entry.split, entry.sequence)


def is_task(value: object) -> bool:
    """Whether the first element of a list is a task of Label Studio's JSON export."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("data"), dict)
        and bool({"annotations", "completions", "predictions"} & set(value))
    )


def read_labelstudio(tree: Tree, names: list[str], findings: Findings) -> LabelStudioSource:
    """The exports `names` as one dataset."""
    source = LabelStudioSource(tree, tuple(names))
    for config in tree.with_suffix(".xml"):
        source.known |= dict.fromkeys(_configured(tree, config))
    finder = ImageFinder(tree)
    listed: dict[str, str] = {}
    for name in names:
        for index, task in _tasks(tree, name):
            where = f"[{index}]"
            if not isinstance(task.get("data"), dict):
                findings.problem("is no task with `data`", name, field=where)
                continue
            annotation = _annotation(task)
            if annotation is None:
                findings.warn("task without an annotation (or with skipped ones only), left out", f"{name} {where}")
                continue
            if len(_usable(task)) > 1:
                text = "task with several annotations, of which the ground truth or else the first was taken"
                findings.warn(text, f"{name} {where}")
            data = task["data"]
            split, sequence = data.get("split"), data.get("sequence")
            try:
                image = _image(finder, name, data)
            except ValueError as error:
                findings.problem(str(error), name, field=f"{where}.data")
                continue
            if image in listed:
                findings.problem(f"{image} is in a second task, after {listed[image]}", name, field=where)
                continue
            listed[image] = f"{name} {where}"
            named = split_named(split) if isinstance(split, str) else None
            kept = sequence if isinstance(sequence, str) else None
            source.entries[name, index] = _Entry(name, image, named or split_of(image), kept)
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        if image not in listed:
            findings.warn("image that no annotated task names and that was left out", image)
    return source


def _tasks(tree: Tree, name: str) -> Iterator[tuple[int, Record]]:
    for item in stream_json(tree.path(name), name):
        if item.number is not None and item.number != LIST:
            yield item.number, item.value if isinstance(item.value, dict) else {}


def _usable(task: Record) -> list[Record]:
    listed = task.get("annotations", task.get("completions"))
    records = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    return [record for record in records if not record.get("was_cancelled")]


def _annotation(task: Record) -> Record | None:
    usable = _usable(task)
    return next((a for a in usable if a.get("ground_truth")), usable[0] if usable else None)


def _configured(tree: Tree, name: str) -> list[str]:
    """Class names of a labelling configuration; none if the XML file is something else."""
    try:
        if root_of(tree.path(name), name) != CONFIG_ROOT:
            return []
        starts = [event for event in stream_xml(tree.path(name), name) if isinstance(event, Start)]
    except DatasetError:
        return []
    values = [e.attributes.get("value", "").strip() for e in starts if e.path[-2:] in _LABEL_TAGS]
    return [value for value in values if value]


_LABEL_TAGS = {(parent, "Label") for parent in ("BrushLabels", "PolygonLabels", "RectangleLabels", "Labels")}


def _image(finder: ImageFinder, document: str, data: Record) -> str:
    """The image of a task's `data`, in the tree. Raises ValueError."""
    texts = [value for key, value in data.items() if isinstance(value, str) and key not in ("split", "sequence")]
    named = data.get("image")
    value = named if isinstance(named, str) else next((t for t in texts if _path_of(t)[1] in IMAGE_SUFFIXES), None)
    if value is None:
        raise ValueError("the task names no image")
    path, _ = _path_of(value)
    parts = [part for part in path.replace("\\", "/").split("/") if part]
    if ".." in parts:
        raise ValueError(f"{value[:80]!r} leads out of the dataset's folder")
    folders = usual_folders(document, None)
    for start in range(len(parts)):
        option = "/".join(parts[start:])
        for name in (option, _UPLOAD_PREFIX.sub("", option)):
            try:
                return finder.find(name, folders)
            except ValueError:
                continue
    raise ValueError(f"the image {value[:80]!r} is not in the folder")


def _path_of(value: str) -> tuple[str, str]:
    """(path, suffix) that a reference names: the file of `?d=`, a URL's path, or the text itself."""
    try:
        parts = urlsplit(value)
        query = parse_qs(parts.query).get("d")
    except ValueError:
        return value, suffix_of(value)
    if query:
        return query[0], suffix_of(query[0])
    path = unquote(parts.path) if parts.scheme in ("http", "https", "s3", "gs", "azure-blob", "file") else value
    return path, suffix_of(PurePosixPath(path).name)


class _RegionReader:
    """Reads one annotation's regions into the list of its image's instances."""

    def __init__(self, document: str, where: str, found: InstanceList, findings: Findings) -> None:
        self._document = document
        self._where = where
        self._found = found
        self._findings = findings
        self.labels: list[str] = []

    def read(self, annotation: Record) -> None:
        results = annotation.get("result", [])
        if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
            self._problem("`result` is not a list of objects", "")
            return
        extras: dict[object, list[Record]] = {}
        for result in results:
            if result.get("type") in _EXTRAS:
                extras.setdefault(str(result.get("id")), []).append(result)
        for index, result in enumerate(results):
            kind = str(result.get("type"))
            if kind in _SHAPES:
                try:
                    self._add(result, _SHAPES[kind], extras.get(str(result.get("id")), []))
                except ValueError as error:
                    self._problem(str(error), f".result[{index}]")
            elif kind not in _EXTRAS and kind != "relation":
                text = f"{kind[:30]} that was left out: only brush masks, polygons and boxes say where an instance is"
                self._findings.warn(text, f"{self._document} {self._where}")

    def _add(self, result: Record, kind: str, extras: list[Record]) -> None:
        value = result["value"] if isinstance(result.get("value"), dict) else {}
        found = self._found
        named, size = (result.get("original_width"), result.get("original_height")), (found.width, found.height)
        if any(a not in (None, b) for a, b in zip(named, size, strict=True)):
            raise ValueError(f"says {named[0]}x{named[1]} pixels, the image has {size[0]}x{size[1]}")
        if result.get("image_rotation"):
            raise ValueError("was drawn on a rotated picture, which robots do not see; turn it back in Label Studio")
        label = _label(value, extras)
        where = f"{self._document} {self._where} region {str(result.get('id'))[:40]}"
        attributes = self._attributes(extras, where)
        if kind == "brush":
            data = value.get("rle")
            if value.get("format") != "rle" or not isinstance(data, list):
                raise ValueError("the brush mask has no RLE; export JSON, not a mask preview")
            found.add_bitmap(label, decode_brush(data, found.height, found.width), where, attributes)
        elif kind == "rectangle":
            corners, turned = _corners(value, found.width, found.height)
            found.add_rectangle(label, corners, where, attributes, turned=turned)
        else:
            points = value.get("points")
            if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
                raise ValueError("the points must be a list of [x, y] in percent")
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


def _corners(value: Record, width: int, height: int) -> tuple[npt.NDArray[np.float64], bool]:
    """A rectangle's corners in pixels, float64 [4, 2], turned around its first one, and whether it is turned.

    Raises ValueError.
    """
    numbers = [value.get(name) for name in ("x", "y", "width", "height")] + [value.get("rotation") or 0]
    if any(isinstance(n, bool) or not isinstance(n, int | float) or not abs(n) < 1e6 for n in numbers):
        raise ValueError("the rectangle needs x, y, width and height in percent")
    x, y, across, down, degrees = (float(n) for n in numbers if isinstance(n, int | float))
    if across <= 0 or down <= 0:
        raise ValueError("the box has no area")
    x, y, across, down = x * width / 100, y * height / 100, across * width / 100, down * height / 100
    return turned_rectangle((x, y, x + across, y + down), math.radians(degrees), around=(x, y))


def _label(value: Record, extras: list[Record]) -> str:
    """The one class of a region, from its own value or from the `labels` of the same id."""
    sources = [value, *(e["value"] for e in extras if e.get("type") == "labels" and isinstance(e.get("value"), dict))]
    listed = [
        s[key]
        for s in sources
        for key in ("brushlabels", "polygonlabels", "rectanglelabels", "labels")
        if isinstance(s.get(key), list)
    ]
    names = [name for names in listed for name in names]
    if len(names) != 1 or not isinstance(names[0], str) or not names[0].strip():
        raise ValueError("the region has no label" if not names else f"the region has {len(names)} labels, not one")
    return names[0].strip()
