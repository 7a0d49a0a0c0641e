"""CVAT's own XML, version 1.1 "for images": polygons, masks, boxes, attributes, subsets.

A mask's RLE runs along the rows inside the mask's box. The split is the image's `subset`, its task's, or a tag whose
label is the name of a split. `occluded` and `group_id` become attributes like the label's own. Polygons and masks of
one label and one group are the parts of one instance that something hides in between, as CVAT's own COCO and mask
exports take them; boxes of a group stay what they are, and a box in the group of an outline is that outline's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import Attributes, Scalar, freeze, parse_scalar
from finetune.datasets.cvat_shapes import bitmap_of, corners_of, points_of, rounded, value_of, whole
from finetune.datasets.findings import Findings
from finetune.datasets.instances import EmptyShapeError, InstanceList
from finetune.datasets.kinds import AnnotationFormat, Look, register
from finetune.datasets.locate import ImageFinder, usual_folders
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, split_named, split_of
from finetune.datasets.types import Sample
from finetune.datasets.xmlstream import End, Start, stream_xml
from finetune.errors import DatasetError

_SHAPES = ("polygon", "mask", "box")
_OTHER_SHAPES = ("polyline", "points", "cuboid", "ellipse", "skeleton")
# Types of labels whose shapes outline no instance: no classes. A label with a parent is a joint of a skeleton.
_NO_CLASSES = frozenset({*_OTHER_SHAPES, "tag"})


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
    split_lists: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the order of their first mention; complete once `samples` has run to its end."""
        return tuple(self.known)

    @property
    def images(self) -> tuple[str, ...]:
        """The images that were found, as paths in the tree, document by document."""
        return tuple(entry.image for entry in self.entries.values())

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """The samples whose image has a size, document by document. Raises DatasetError for XML that cannot be read."""
        for document in self.documents:
            reader = _ShapeReader(self, document, findings)
            for event in stream_xml(self.tree.path(document), document):
                if event.path == ("annotations", "image") and isinstance(event, Start):
                    reader.begin(sizes)
                elif event.path == ("annotations", "image"):
                    if (sample := reader.finish()) is not None:
                        yield sample
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
        self._finder = ImageFinder(tree, findings)
        self._listed: dict[str, str] = {}
        self._label: dict[str, str] = {}
        self._attribute = ""
        self._task = ""
        self._subsets: dict[str, str] = {}
        self.known: dict[str, None] = {}
        self.kinds: dict[tuple[str, str], str] = {}
        self.entries: dict[tuple[str, int], _Entry] = {}

    def read(self, name: str) -> None:
        number = -1
        image: Start | None = None
        tags: list[str] = []
        self._subsets = {}
        for event in stream_xml(self._tree.path(name), name):
            if event.path[-1] == "track":
                text = 'is CVAT "for video": export the task as "CVAT for images 1.1" or "COCO 1.0", with images'
                raise DatasetError(text, path=Path(name), line=event.line)
            if event.path[:2] == ("annotations", "meta"):
                self._read_meta(event)
            elif isinstance(event, Start):
                if event.path == ("annotations", "image"):
                    number, image, tags = number + 1, event, []
                elif event.path == ("annotations", "image", "tag"):
                    tags.append(event.attributes.get("label", ""))
            elif event.path == ("annotations", "image") and image is not None:
                self._add(name, number, image, tags)

    def _read_meta(self, event: Start | End) -> None:
        """Labels with their attributes' types, and the subsets of tasks."""
        if isinstance(event, Start):
            self._label = {} if event.path[-1] == "label" else self._label
            return
        text = event.text.strip()
        if event.path[-2:-1] == ("label",):
            self._label[event.path[-1]] = text
        elif event.path[-1] == "label":
            kind, label = self._label.get("type", ""), self._label.get("name", "")
            # Labels of tags alone that name a split are no classes.
            if label and kind not in _NO_CLASSES and not self._label.get("parent") and split_named(label) is None:
                self.known[label] = None
        elif event.path[-3:] == ("attributes", "attribute", "name"):
            self._attribute = text
        elif event.path[-3:] == ("attributes", "attribute", "input_type"):
            self.kinds[self._label.get("name", ""), self._attribute] = text
        elif event.path[-2:] == ("task", "id"):
            self._task = text
        elif event.path[-2:] == ("task", "subset"):
            # Of a project's many tasks, each image says which is its own.
            self._subsets[self._task if "tasks" in event.path else ""] = text

    def _add(self, name: str, number: int, start: Start, tags: list[str]) -> None:
        fields = start.attributes
        subset = fields.get("subset") or self._subsets.get(fields.get("task_id", ""), self._subsets.get("", ""))
        split = split_named(subset)
        for tag in tags:
            if split_named(tag) is None:
                self._findings.warn(f"tag {tag[:40]!r} of a whole image that was left out", f"{name}:{start.line}")
            split = split or split_named(tag)
        here = PurePosixPath(name).parent
        folders = [here / "images" / subset, here / subset, *usual_folders(name, split)]
        try:
            image = self._finder.find(fields.get("name"), folders)
            width, height = (whole(fields[side]) if side in fields else None for side in ("width", "height"))
        except ValueError as error:
            self._findings.problem(str(error), name, line=start.line)
            return
        if image in self._listed:
            self._findings.problem(
                f"{image} is listed a second time, after {self._listed[image]}: images of one name from two tasks "
                "need a folder each",
                name,
                line=start.line,
            )
            return
        self._listed[image] = f"{name}:{start.line}"
        split = split or split_of(image) or split_of(fields.get("name", ""))
        self.entries[name, number] = _Entry(name, start.line, number, image, width, height, split)


@dataclass(frozen=True, slots=True)
class _Part:
    """A shape that may be a part of a group: a polygon, a mask in its window, or the corners of a box."""

    shape: Start
    label: str
    where: str
    attributes: Attributes
    ring: npt.NDArray[np.float64] | None = None
    window: tuple[npt.NDArray[np.bool_], int, int] | None = None
    box: tuple[npt.NDArray[np.float64], bool] | None = None


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
        self._groups: dict[tuple[str, str, str], list[_Part]] = {}
        self.entry: _Entry | None = None
        self.found: InstanceList | None = None

    def finish(self) -> Sample | None:
        """The image whose element ends; None if it is a problem or its labels were all left out."""
        entry, found, groups = self.entry, self.found, self._groups
        self._groups = {}
        if entry is None or found is None:
            return None
        for parts in groups.values():
            self._add_group(parts, found)
        return found.sample(self._source.tree.path(entry.image), entry.image, entry.split, None)

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
            self.found.skip(text, f"{self._document}:{event.line}")
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
            self._values[self._attribute] = value_of(event.text, kind)
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
            group = fields.get("group_id", "0")
            if shape.path[-1] == "box":
                corners, turned = corners_of(fields, self._findings, where)
                part = _Part(shape, label, where, attributes, box=(corners, turned))
            elif shape.path[-1] == "mask":
                bitmap = bitmap_of(fields, found)
                x, y = (rounded(fields[side], self._findings, where) for side in ("left", "top"))
                part = _Part(shape, label, where, attributes, window=(bitmap, x, y))
            else:
                part = _Part(shape, label, where, attributes, ring=points_of(fields.get("points", "")))
        except KeyError as error:
            self._findings.problem(f"the {shape.path[-1]} has no {error}", self._document, line=shape.line)
        except EmptyShapeError as error:
            found.skip(f"{error}: left out", where)
        except ValueError as error:
            self._findings.problem(str(error), self._document, line=shape.line)
        else:
            # What is in no group is one of its own, in its turn.
            alone = str(len(self._groups)) if group == "0" else ""
            self._groups.setdefault((label, group, alone), []).append(part)

    def _add_group(self, parts: list[_Part], found: InstanceList) -> None:
        """One instance of all outlines, or one of each box."""
        outlines = [part for part in parts if part.box is None]
        first = outlines[0] if outlines else parts[0]
        try:
            if outlines:
                if len(outlines) < len(parts):
                    self._findings.warn("box left out: its group has the outline", parts[0].where)
                rings = [part.ring for part in outlines if part.ring is not None]
                windows = [part.window for part in outlines if part.window is not None]
                found.add_parts(first.label, rings, windows, first.where, first.attributes)
                if len(outlines) > 1:
                    text = "group of outlines of one label: taken as the parts of one instance"
                    self._findings.warn(text, first.where)
            for part in parts if not outlines else []:
                first = part
                if part.box is not None:
                    found.add_rectangle(part.label, part.box[0], part.where, part.attributes, turned=part.box[1])
        except EmptyShapeError as error:
            found.skip(f"{error}: left out", first.where)
        except ValueError as error:
            self._findings.problem(str(error), self._document, line=first.shape.line)
        else:
            self._source.known[first.label] = None

    def _attributes(self, fields: Mapping[str, str], where: str) -> Attributes:
        values: dict[str, Scalar] = dict(self._values)
        if fields.get("occluded") == "1":
            values["occluded"] = True
        if "group_id" in fields:
            values["group_id"] = parse_scalar(fields["group_id"])
        return freeze(values, self._findings, where)


def _files(look: Look) -> list[str]:
    return [name for name in look.tree.with_suffix(".xml") if look.root(name) == "annotations"]


register(AnnotationFormat("cvat", "CVAT XML", 'an .xml file of "CVAT for images"', _files, read_cvat))
