"""CVAT's own XML, version 1.1 "for images": polygons, masks, boxes, attributes, subsets.

A mask's RLE runs along the rows inside the mask's box. The split is the image's `subset`, or a tag whose label is the
name of a split. `occluded` and `group_id` become attributes like the label's own; a group is not an instance of several
parts here, since people group different things.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import Attributes, Scalar, freeze, parse_scalar
from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList, read_points, turned_rectangle
from finetune.datasets.limits import MAX_VERTICES
from finetune.datasets.locate import ImageFinder, usual_folders
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, split_named, split_of
from finetune.datasets.types import Sample
from finetune.datasets.xmlstream import End, Start, stream_xml
from finetune.errors import DatasetError

_SHAPES = ("polygon", "mask", "box")
_OTHER_SHAPES = ("polyline", "points", "cuboid", "ellipse", "skeleton")
_RUNS = re.compile(r"[\d,\s]*")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A checked <image>. `number` counts the images of its document."""

    document: str
    line: int
    number: int
    image: str
    width: int | None
    height: int | None
    split: str | None


@dataclass(slots=True)
class CvatSource:
    """CVAT documents whose images are found. `classes` grows by labels that <meta> does not name."""

    tree: Tree
    documents: tuple[str, ...]
    known: dict[str, None]
    kinds: Mapping[tuple[str, str], str]
    """(label, attribute) to its input type, as in `checkbox`."""
    entries: Mapping[tuple[str, int], _Entry]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.known)

    @property
    def images(self) -> tuple[str, ...]:
        return tuple(entry.image for entry in self.entries.values())

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        for document in self.documents:
            reader = _ShapeReader(self, document, findings)
            for event in stream_xml(self.tree.path(document), document):
                if event.path == ("annotations", "image") and isinstance(event, Start):
                    reader.begin(sizes)
                elif event.path == ("annotations", "image"):
                    entry, found = reader.entry, reader.found
                    if entry is not None and found is not None:
                        yield found.sample(self.tree.path(entry.image), entry.image, entry.split, None)
                else:
                    reader.take(event)


def read_cvat(tree: Tree, names: list[str], findings: Findings) -> CvatSource:
    """The CVAT files `names` as one dataset. Raises DatasetError if one is not XML or is of a video."""
    reader = _ImageReader(tree, findings)
    for name in names:
        reader.read(name)
    images = {entry.image for entry in reader.entries.values()}
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        if image not in images:
            findings.warn("image that no annotation file lists and that was left out", image)
    return CvatSource(tree, tuple(names), reader.known, reader.kinds, reader.entries)


class _ImageReader:
    """The first pass: labels with their attributes' types, and the images."""

    def __init__(self, tree: Tree, findings: Findings) -> None:
        self._tree = tree
        self._findings = findings
        self._finder = ImageFinder(tree)
        self._listed: dict[str, str] = {}
        self._attribute = ""
        self.known: dict[str, None] = {}
        self.kinds: dict[tuple[str, str], str] = {}
        self.entries: dict[tuple[str, int], _Entry] = {}

    def read(self, name: str) -> None:
        number = -1
        label = ""
        image: Start | None = None
        tags: list[str] = []
        for event in stream_xml(self._tree.path(name), name):
            if event.path[-1] == "track":
                text = 'is CVAT "for video": export it as "CVAT for images 1.1"'
                raise DatasetError(text, path=Path(name), line=event.line)
            if isinstance(event, Start):
                if event.path == ("annotations", "image"):
                    number, image, tags = number + 1, event, []
                elif event.path == ("annotations", "image", "tag"):
                    tags.append(event.attributes.get("label", ""))
            elif event.path == ("annotations", "image") and image is not None:
                self._add(name, number, image, tags)
            elif event.path[-2:] == ("label", "name"):
                label = event.text.strip()
            elif event.path[-1:] == ("label",):
                # Labels of tags alone that name a split are no classes.
                if label and split_named(label) is None:
                    self.known[label] = None
            elif event.path[-3:] == ("attributes", "attribute", "name"):
                self._attribute = event.text.strip()
            elif event.path[-3:] == ("attributes", "attribute", "input_type"):
                self.kinds[label, self._attribute] = event.text.strip()

    def _add(self, name: str, number: int, start: Start, tags: list[str]) -> None:
        fields = start.attributes
        subset = fields.get("subset", "")
        split = split_named(subset)
        for tag in tags:
            if split_named(tag) is None:
                self._findings.warn(f"tag {tag[:40]!r} of a whole image that was left out", f"{name}:{start.line}")
            split = split or split_named(tag)
        here = PurePosixPath(name).parent
        folders = [here / "images" / subset, here / subset, *usual_folders(name, split)]
        try:
            image = self._finder.find(fields.get("name"), folders)
            width, height = (_whole(fields[side]) if side in fields else None for side in ("width", "height"))
        except ValueError as error:
            self._findings.problem(str(error), name, line=start.line)
            return
        if image in self._listed:
            self._findings.problem(
                f"{image} is listed a second time, after {self._listed[image]}", name, line=start.line
            )
            return
        self._listed[image] = f"{name}:{start.line}"
        split = split or split_of(image)
        self.entries[name, number] = _Entry(name, start.line, number, image, width, height, split)


class _ShapeReader:
    """The second pass over one document: shapes into the list of the image that they lie in."""

    def __init__(self, source: CvatSource, document: str, findings: Findings) -> None:
        self._source = source
        self._document = document
        self._findings = findings
        self._number = -1
        self._attribute = ""
        self._values: dict[str, Scalar] = {}
        self._shape: Start | None = None
        self.entry: _Entry | None = None
        self.found: InstanceList | None = None

    def begin(self, sizes: Mapping[str, Size]) -> None:
        self._number += 1
        self.entry = self._source.entries.get((self._document, self._number))
        self.found = None
        if self.entry is None or self.entry.image not in sizes:
            return
        height, width = sizes[self.entry.image]
        named = (self.entry.width or width, self.entry.height or height)
        if named != (width, height):
            text = f"says {named[0]}x{named[1]} pixels, but {self.entry.image} has {width}x{height}"
            if named == (height, width):
                text += "; was it labelled in a tool that turns pictures by their EXIF tag?"
            self._findings.problem(text, self._document, line=self.entry.line)
            return
        self.found = InstanceList(height, width, self._findings)

    def take(self, event: Start | End) -> None:
        """An event inside an <image>; all others are none of this reader's business."""
        if self.found is None or event.path[:2] != ("annotations", "image"):
            return
        kind = event.path[2]
        if kind in _OTHER_SHAPES and len(event.path) == 3 and isinstance(event, Start):
            text = f"{kind} that was left out: only polygons, masks and boxes say where an instance is"
            self._findings.warn(text, f"{self._document}:{event.line}")
        if kind not in _SHAPES:
            return
        if isinstance(event, Start):
            if len(event.path) == 3:
                self._shape, self._values = event, {}
            else:
                self._attribute = event.attributes.get("name", "")
        elif len(event.path) == 4 and event.path[3] == "attribute" and self._shape is not None:
            label = self._shape.attributes.get("label", "").strip()
            kind = self._source.kinds.get((label, self._attribute), "")
            self._values[self._attribute] = _value(event.text, kind)
        elif len(event.path) == 3 and self._shape is not None:
            self._add(self._shape, self.found)

    def _add(self, shape: Start, found: InstanceList) -> None:
        fields = shape.attributes
        where = f"{self._document}:{shape.line}"
        label = fields.get("label", "").strip()
        if not label:
            self._findings.problem("the shape has no label", self._document, line=shape.line)
            return
        try:
            attributes = self._attributes(fields, where)
            if shape.path[-1] == "mask":
                bitmap = _bitmap(fields, found)
                x, y = _whole(fields["left"]), _whole(fields["top"])
                found.add_bitmap(label, bitmap, where, attributes, x=x, y=y)
            elif shape.path[-1] == "box":
                corners, turned = _corners(fields)
                found.add_rectangle(label, corners, where, attributes, turned=turned)
            else:
                found.add_polygons(label, [_points(fields.get("points", ""))], where, attributes)
        except KeyError as error:
            self._findings.problem(f"the {shape.path[-1]} has no {error}", self._document, line=shape.line)
        except ValueError as error:
            self._findings.problem(str(error), self._document, line=shape.line)
        else:
            self._source.known[label] = None

    def _attributes(self, fields: Mapping[str, str], where: str) -> Attributes:
        values: dict[str, Scalar] = dict(self._values)
        if fields.get("occluded") == "1":
            values["occluded"] = True
        if "group_id" in fields:
            values["group_id"] = parse_scalar(fields["group_id"])
        return freeze(values, self._findings, where)


def _value(text: str, kind: str) -> Scalar:
    if kind == "checkbox" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return parse_scalar(text) if kind == "number" else text


def _whole(text: str) -> int:
    """A whole number of pixels; CVAT's SDK writes some as "12.0"."""
    if not re.fullmatch(r"\d{1,9}(\.0+)?", text.strip()):
        raise ValueError(f"{text[:40]!r} is not a whole number of pixels")
    return int(text.strip().split(".")[0])


def _corners(fields: Mapping[str, str]) -> tuple[npt.NDArray[np.float64], bool]:
    """A <box>'s corners, float64 [4, 2], turned around its middle by `rotation` degrees, and whether it is turned.

    Raises KeyError, ValueError.
    """
    x0, y0, x1, y1 = (_number(fields[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(_number(fields.get("rotation", "0")))
    if x1 <= x0 or y1 <= y0:
        raise ValueError("the box has no area")
    return turned_rectangle((x0, y0, x1, y1), angle, around=((x0 + x1) / 2, (y0 + y1) / 2))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a number") from None
    if not abs(value) < 1e9:
        raise ValueError(f"{text[:40]!r} is not a number of pixels")
    return value


def _points(text: str) -> npt.NDArray[np.float64]:
    pairs = [pair.split(",") for pair in text.split(";")] if text.strip() else []
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


def _bitmap(fields: Mapping[str, str], found: InstanceList) -> npt.NDArray[np.bool_]:
    """bool [h, w] of a mask's box. Raises KeyError, ValueError."""
    width, height, text = _whole(fields["width"]), _whole(fields["height"]), fields["rle"]
    if not 0 < width <= found.width or not 0 < height <= found.height:
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
