"""The records of a COCO file's `annotations`, each an instance of one image, to RLE at once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import Attributes, freeze
from finetune.datasets.findings import Findings
from finetune.datasets.instances import EmptyShapeError, InstanceList, turned_rectangle
from finetune.datasets.jsonstream import LIST, stream_json
from finetune.datasets.segmentation import is_empty, read_segmentation
from finetune.datasets.tree import Tree

Record = dict[str, Any]
Id = int | str
ONE_CLASS = "package"
"""The class of masks that say what belongs together and not what it is, as tools for segmenting anything write them."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


class RecordReader:
    """Goes over the records of some lists of one document."""

    def __init__(self, name: str, findings: Findings) -> None:
        self._name = name
        self._findings = findings

    def _records(self, tree: Tree, keys: tuple[str, ...]) -> Iterator[tuple[str, str, Record]]:
        """(key, place, record) of the lists `keys`; what is neither list nor record is a problem."""
        for item in stream_json(tree.path(self._name), self._name):
            if item.key not in keys or item.number == LIST:
                continue
            if item.number is None:
                self._problem("is not a list", item.key)
            elif isinstance(item.value, dict):
                yield item.key, f"{item.key}[{item.number}]", item.value
            else:
                self._problem("is not an object", f"{item.key}[{item.number}]")

    def _problem(self, message: str, field: str) -> None:
        self._findings.problem(message, self._name, field=field)


class AnnotationReader(RecordReader):
    """The second pass: annotations into the lists of their images. A list is None where the image is a problem."""

    def __init__(
        self,
        name: str,
        categories: Mapping[Id, str] | None,
        images: Mapping[Id, str],
        lists: Mapping[Id, InstanceList | None],
        findings: Findings,
        *,
        crowds_are_masks: bool,
    ) -> None:
        super().__init__(name, findings)
        self._categories = categories
        self._images = images
        self._lists = lists
        self._crowds_are_masks = crowds_are_masks
        self._run = range(0)
        self._seen: set[Id] = set()

    def _is_new(self, number: Id) -> bool:
        """Whether an annotation's id comes for the first time. Ids in a row, the usual case, cost no memory."""
        if isinstance(number, str):
            new = number not in self._seen
            self._seen.add(number)
            return new
        if not self._run:
            self._run = range(number, number + 1)
        elif number == self._run.stop and number not in self._seen:
            self._run = range(self._run.start, number + 1)
        elif number in self._run or number in self._seen:
            return False
        else:
            self._seen.add(number)
        return True

    def read(self, tree: Tree) -> None:
        """Read the records of `annotations`. What is wrong with one becomes a finding; nothing is raised for it."""
        for _, where, record in self._records(tree, ("annotations",)):
            number = id_of(record.get("id"))
            if record.get("id") is not None and number is None:
                self._problem(f"{record['id']!r} is no id", f"{where}.id")
            elif number is not None and not self._is_new(number):
                self._problem(f"the annotation id {number} is used twice", f"{where}.id")
            else:
                self._read(where, record)

    def _read(self, where: str, record: Record) -> None:
        image, category = id_of(record.get("image_id")), record.get("category_id")
        if image is None or image not in self._lists:
            self._problem(f"no image has the id {record.get('image_id')!r}", f"{where}.image_id")
            return
        found = self._lists[image]
        if found is None:
            return
        label = self._label(category)
        if label is None:
            self._problem(f"no category has the id {category!r}", f"{where}.category_id")
            return
        place = f"{self._name} {where}"
        extra, segmentation = record.get("attributes"), record.get("segmentation")
        if is_crowd(record.get("iscrowd")):
            if not (self._crowds_are_masks or isinstance(extra, dict)) or not isinstance(segmentation, dict):
                found.skip(
                    "annotation with iscrowd=1 that was left out: it marks a group, not one instance (some tools "
                    "set it on every RLE mask; export those as polygons)",
                    place,
                )
                return
            text = "mask with iscrowd=1, as CVAT and Datumaro mark every brush mask: taken as one instance"
            self._findings.warn(text, place)
        attributes = freeze(extra, self._findings, place) if isinstance(extra, dict) else ()
        value, box = record.get("segmentation"), record.get("bbox")
        try:
            # COCO Annotator outlines what was drawn as a box, and says so.
            if (is_empty(value) or record.get("isbbox") is True) and box is not None:
                _add_box(found, label, box, place, attributes)
                return
            counts, area = read_segmentation(value, found.height, found.width, self._findings, place)
        except EmptyShapeError as error:
            found.skip(f"{error}: left out", place)
        except ValueError as error:
            self._problem(f"{error} (image {self._images[image]})", f"{where}.segmentation")
        else:
            found.add(label, counts, area, place, attributes)

    def _label(self, category: object) -> str | None:
        """The class of an annotation; None where its number is no category's."""
        if self._categories is None:
            return ONE_CLASS
        number = id_of(category)
        return None if number is None else self._categories.get(number)


def _add_box(found: InstanceList, label: str, box: object, place: str, attributes: Attributes) -> None:
    """Add an instance of which a `bbox` is known. Raises ValueError."""
    corners = _corners(box)
    degrees = dict(attributes).get("rotation", 0)
    if not _is_number(degrees) or not degrees:
        found.add_box(label, corners, place, attributes)
        return
    # CVAT writes the box as it was before it was turned around its middle.
    (x0, y0), (x1, y1) = np.sort(corners, axis=0).tolist()
    around = (x0 + x1) / 2, (y0 + y1) / 2
    points, turned = turned_rectangle((x0, y0, x1, y1), math.radians(degrees), around=around)
    kept = tuple(pair for pair in attributes if pair[0] != "rotation")
    found.add_rectangle(label, points, place, kept, turned=turned)


def _corners(box: object) -> npt.NDArray[np.float64]:
    """x0, y0 and x1, y1, float64 [2, 2], of a COCO `bbox`. Raises ValueError with the sentence to show."""
    if isinstance(box, list):
        box = [float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value for value in box]
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise ValueError(f"the bbox {str(box)[:60]} does not hold x, y, width and height")
    x, y, width, height = map(float, box)
    return np.array([[x, y], [x + width, y + height]])


def id_of(value: object) -> Id | None:
    """An id in one form: tools write 7, 7.0 and "7" for the same image. None for what is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else None
    if isinstance(value, str) and 0 < len(value.strip()) <= 200:
        text = re.sub(r"^([0-9]+)\.0+$", r"\1", value.strip())
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 and str(int(text)) == text else text
    return None


def is_crowd(value: object) -> bool:
    """Whether the field `iscrowd` says so; some tools write text."""
    return value not in (None, 0, "0", "", "false", "False") if not isinstance(value, list | dict) else bool(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
