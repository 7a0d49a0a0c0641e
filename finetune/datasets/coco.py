"""COCO instances JSON, as teams export it.

One `annotations.json` (any name) for all, or one file per split like Roboflow's `train/_annotations.coco.json` or
`annotations/instances_val2017.json`; polygons with any number of parts, compressed and uncompressed RLE; per image the
extra fields `split` and `sequence`, per annotation `attributes`. A file is read twice and never held: first its images
and categories, then, once the images are measured, its annotations, each of which becomes RLE at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import freeze
from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList
from finetune.datasets.jsonstream import LIST, stream_json
from finetune.datasets.locate import ImageFinder, usual_folders
from finetune.datasets.segmentation import read_segmentation
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, split_in_name, split_of
from finetune.datasets.types import SPLITS, Sample

Record = dict[str, Any]
ONE_CLASS = "package"
"""The class of masks that say what belongs together and not what it is, as tools for segmenting anything write them."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A checked entry of `images`. `image` is the file's path in the tree, `number` its id."""

    where: str
    number: int
    image: str
    width: int | None
    height: int | None
    split: str | None
    sequence: str | None


@dataclass(frozen=True, slots=True)
class _Document:
    """One COCO file, its images and categories checked. `rejected` are ids of images that are problems already.

    `categories` is None in a file that names none: its masks are of one class, `ONE_CLASS`.
    """

    name: str
    categories: Mapping[int, str] | None
    entries: tuple[_Entry, ...]
    rejected: frozenset[int]


@dataclass(frozen=True, slots=True)
class CocoSource:
    """A COCO dataset whose images are found and whose annotations are yet to be read."""

    tree: Tree
    classes: tuple[str, ...]
    documents: tuple[_Document, ...]

    @property
    def images(self) -> tuple[str, ...]:
        return tuple(entry.image for document in self.documents for entry in document.entries)

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """One sample per image in `sizes`; annotations that cannot be used become problems."""
        for document in self.documents:
            lists: dict[int, InstanceList | None] = dict.fromkeys(document.rejected)
            for entry in document.entries:
                size = sizes.get(entry.image)
                fits = size is not None and _same_size(document.name, entry, *size, findings)
                lists[entry.number] = InstanceList(*size, findings) if size is not None and fits else None
            images = {entry.number: entry.image for entry in document.entries}
            _AnnotationReader(document, images, lists, findings).read(self.tree)
            for entry in document.entries:
                found = lists.pop(entry.number)
                if found is not None:
                    yield found.sample(self.tree.path(entry.image), entry.image, entry.split, entry.sequence)


def _same_size(document: str, entry: _Entry, height: int, width: int, findings: Findings) -> bool:
    named = (entry.width or width, entry.height or height)
    if named == (width, height):
        return True
    text = f"says {named[0]}x{named[1]} pixels, but {entry.image} has {width}x{height}"
    if named == (height, width):
        text += "; was it labelled in a tool that turns pictures by their EXIF tag?"
    findings.problem(text, document, field=entry.where)
    return False


def read_coco(tree: Tree, names: list[str], findings: Findings) -> CocoSource:
    """The COCO files `names` as one dataset. Raises DatasetError if one is not JSON."""
    classes: dict[str, None] = {}
    listed: dict[str, str] = {}
    documents = []
    readers = [_ImageReader(tree, name, findings) for name in names]
    for reader in readers:
        reader.read()
    # Beside files that name their classes, one without is a file that lost them.
    agnostic = not any(reader.listed for reader in readers)
    for name, reader in zip(names, readers, strict=True):
        if agnostic:
            findings.warn(f"file without `categories`: all its masks are taken as one class, {ONE_CLASS!r}", name)
            classes[ONE_CLASS] = None
        elif not reader.categories:
            findings.problem("must name the classes, as in [{'id': 1, 'name': 'box'}]", name, field="categories")
        classes |= dict.fromkeys(reader.categories.values())
        entries = []
        for entry in reader.entries.values():
            place = f"{name} {entry.where}"
            if listed.setdefault(entry.image, place) != place:
                text = f"{entry.image} is listed a second time, after {listed[entry.image]}"
                findings.problem(text, name, field=entry.where)
                reader.rejected.add(entry.number)
            else:
                entries.append(entry)
        categories = None if agnostic else reader.categories
        documents.append(_Document(name, categories, tuple(entries), frozenset(reader.rejected)))
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        if image not in listed:
            findings.warn("image that no annotation file lists and that was left out", image)
    return CocoSource(tree, tuple(classes), tuple(documents))


class _Reader:
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


class _ImageReader(_Reader):
    """The first pass: categories, and the images that can be used."""

    def __init__(self, tree: Tree, name: str, findings: Findings) -> None:
        super().__init__(name, findings)
        self._tree = tree
        self._finder = ImageFinder(tree)
        self._split = split_of(name) or split_in_name(PurePosixPath(name).stem)
        self.categories: dict[int, str] = {}
        self.listed = False
        """Whether the file has an entry of `categories`, a bad one even."""
        self.entries: dict[int, _Entry] = {}
        self.rejected: set[int] = set()

    def read(self) -> None:
        for key, where, record in self._records(self._tree, ("images", "categories")):
            if key == "categories":
                self.listed = True
                self._read_category(where, record)
                continue
            number = record.get("id")
            if not _is_int(number):
                self._problem(f"the image id {number!r} is not a whole number", f"{where}.id")
            elif number in self.entries or number in self.rejected:
                self._problem(f"the image id {number} is used twice", f"{where}.id")
            elif (entry := self._entry(where, number, record)) is None:
                self.rejected.add(number)
            else:
                self.entries[number] = entry
        self.categories = dict(sorted(self.categories.items()))

    def _read_category(self, where: str, record: Record) -> None:
        number, name = record.get("id"), record.get("name")
        if not _is_int(number):
            self._problem(f"the category id {number!r} is not a whole number", f"{where}.id")
        elif not isinstance(name, str) or not name.strip():
            self._problem(f"the category name {name!r} is not text", f"{where}.name")
        elif number in self.categories:
            self._problem(f"the category id {number} is used twice", f"{where}.id")
        else:
            # One name under two ids is one class: Roboflow repeats a class as its own supercategory.
            self.categories[number] = name.strip()

    def _entry(self, where: str, number: int, record: Record) -> _Entry | None:
        try:
            image = self._finder.find(record.get("file_name"), usual_folders(self._name, self._split))
        except ValueError as error:
            self._problem(str(error), f"{where}.file_name")
            return None
        sides = [record.get("width"), record.get("height")]
        if any(side is not None and not (_is_int(side) and side > 0) for side in sides):
            self._problem(f"width and height {sides} are not whole numbers above 0", where)
            return None
        split = record.get("split", self._split or split_of(image))
        if split is not None and split not in SPLITS:
            self._problem(f"must be one of {', '.join(SPLITS)}, not {split!r}", f"{where}.split")
            return None
        sequence = record.get("sequence")
        if sequence is not None and not isinstance(sequence, str):
            self._problem(f"{sequence!r} is not text", f"{where}.sequence")
            return None
        return _Entry(where, number, image, sides[0], sides[1], split, sequence)


class _AnnotationReader(_Reader):
    """The second pass: annotations into the lists of their images. A list is None where the image is a problem."""

    def __init__(
        self,
        document: _Document,
        images: Mapping[int, str],
        lists: Mapping[int, InstanceList | None],
        findings: Findings,
    ) -> None:
        super().__init__(document.name, findings)
        self._categories = document.categories
        self._images = images
        self._lists = lists
        self._run = range(0)
        self._seen: set[int] = set()

    def _is_new(self, number: int) -> bool:
        """Whether an annotation's id comes for the first time. Ids in a row, the usual case, cost no memory."""
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
        for _, where, record in self._records(tree, ("annotations",)):
            number = record.get("id")
            if number is not None and not _is_int(number):
                self._problem(f"{number!r} is no id", f"{where}.id")
            elif number is not None and not self._is_new(number):
                self._problem(f"the annotation id {number} is used twice", f"{where}.id")
            else:
                self._read(where, record)

    def _read(self, where: str, record: Record) -> None:
        image, category = record.get("image_id"), record.get("category_id")
        if not _is_int(image) or image not in self._lists:
            self._problem(f"no image has the id {image!r}", f"{where}.image_id")
            return
        found = self._lists[image]
        if found is None:
            return
        label = self._label(category)
        if label is None:
            self._problem(f"no category has the id {category!r}", f"{where}.category_id")
            return
        place = f"{self._name} {where}"
        if record.get("iscrowd"):
            self._findings.warn(
                "annotation with iscrowd=1 that was left out: it marks a group, not one instance (some tools "
                "set it on every RLE mask; export those as polygons)",
                place,
            )
            return
        extra = record.get("attributes")
        attributes = freeze(extra, self._findings, place) if isinstance(extra, dict) else ()
        value, box = record.get("segmentation"), record.get("bbox")
        try:
            if not value and box is not None:
                found.add_box(label, _corners(box), place, attributes)
                return
            counts, area = read_segmentation(value, found.height, found.width, self._findings, place)
        except ValueError as error:
            self._problem(f"{error} (image {self._images[image]})", f"{where}.segmentation")
            return
        found.add(label, counts, area, place, attributes)

    def _label(self, category: object) -> str | None:
        """The class of an annotation; None where its number is no category's."""
        if self._categories is None:
            return ONE_CLASS
        return self._categories.get(category) if _is_int(category) else None


def _corners(box: object) -> npt.NDArray[np.float64]:
    """x0, y0 and x1, y1, float64 [2, 2], of a COCO `bbox`. Raises ValueError with the sentence to show."""
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise ValueError(f"the bbox {str(box)[:60]} does not hold x, y, width and height")
    x, y, width, height = map(float, box)
    return np.array([[x, y], [x + width, y + height]])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
