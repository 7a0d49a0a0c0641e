"""COCO instances JSON: read as teams export it, written as we store it.

Read: one `annotations.json` (any name) for all, or one file per split like Roboflow's `train/_annotations.coco.json`
or `annotations/instances_val2017.json`; polygons with any number of parts, compressed and uncompressed RLE. Written:
compressed RLE only, and per image the extra fields `split` and `sequence`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList
from finetune.datasets.segmentation import read_segmentation
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, split_in_name, split_of, suffix_of
from finetune.datasets.types import SPLITS, Dataset, Sample
from finetune.errors import DatasetError

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Annotation:
    """A checked entry of `annotations`; `where` is its field, as in `annotations[12]`."""

    label: str
    segmentation: object
    where: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A checked entry of `images` with its annotations. `image` is the file's path in the tree."""

    document: str
    where: str
    image: str
    width: int | None
    height: int | None
    split: str | None
    sequence: str | None
    annotations: list[_Annotation]


@dataclass(frozen=True, slots=True)
class CocoSource:
    """A COCO dataset whose documents are checked and whose images are found."""

    tree: Tree
    classes: tuple[str, ...]
    entries: tuple[_Entry, ...]

    @property
    def images(self) -> tuple[str, ...]:
        return tuple(entry.image for entry in self.entries)

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """One sample per image in `sizes`; segmentations that cannot be used become problems."""
        for entry in self.entries:
            if entry.image not in sizes:
                continue
            height, width = sizes[entry.image]
            if not _same_size(entry, height, width, findings):
                continue
            found = InstanceList(height, width, findings)
            for annotation in entry.annotations:
                where = f"{entry.document} {annotation.where}"
                try:
                    counts, area = read_segmentation(annotation.segmentation, height, width, findings, where)
                except ValueError as error:
                    field = f"{annotation.where}.segmentation"
                    findings.problem(f"{error} (image {entry.image})", entry.document, field=field)
                    continue
                found.add(annotation.label, counts, area, where)
            yield found.sample(self.tree.path(entry.image), entry.image, entry.split, entry.sequence)


def _same_size(entry: _Entry, height: int, width: int, findings: Findings) -> bool:
    named = (entry.width or width, entry.height or height)
    if named == (width, height):
        return True
    text = f"says {named[0]}x{named[1]} pixels, but {entry.image} has {width}x{height}"
    if named == (height, width):
        text += "; was it labelled in a tool that turns pictures by their EXIF tag?"
    findings.problem(text, entry.document, field=entry.where)
    return False


# --- reading ----------------------------------------------------------------------------------------------------------


def find_coco(tree: Tree, findings: Findings) -> CocoSource | None:
    """The COCO dataset in `tree`, or None if no JSON file in it (two folders deep) is a COCO document.

    Raises DatasetError if a file that is named like one is not JSON.
    """
    documents = {}
    for name in tree.with_suffix(".json"):
        if name.count("/") <= 2:
            document = _load(tree, name)
            if document is not None:
                documents[name] = document
    if not documents:
        return None
    classes: dict[str, None] = {}
    entries: dict[str, _Entry] = {}
    for name, document in documents.items():
        reader = _DocumentReader(tree, name, document, findings)
        classes |= dict.fromkeys(reader.categories.values())
        for entry in reader.entries():
            if entry.image in entries:
                other = entries[entry.image]
                text = f"{entry.image} is listed a second time, after {other.document} {other.where}"
                findings.problem(text, name, field=entry.where)
                continue
            entries[entry.image] = entry
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        if image not in entries:
            findings.warn("image that no annotation file lists and that was left out", image)
    return CocoSource(tree, tuple(classes), tuple(entries.values()))


def _load(tree: Tree, name: str) -> Record | None:
    stem = PurePosixPath(name).stem.lower()
    looks_like_it = any(word in stem for word in ("annotation", "coco", "instances"))
    try:
        document = json.loads(tree.path(name).read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        if not looks_like_it:
            return None
        raise DatasetError(f"is not JSON: {error.msg}", path=Path(name), line=error.lineno) from error
    except (OSError, ValueError, RecursionError) as error:
        if not looks_like_it:
            return None
        raise DatasetError(f"cannot be read as JSON: {error}", path=Path(name)) from error
    if isinstance(document, dict) and "images" in document and ("annotations" in document or looks_like_it):
        return document
    return None


class _DocumentReader:
    """Checks one COCO document: its categories at once, then its images with their annotations."""

    def __init__(self, tree: Tree, name: str, document: Record, findings: Findings) -> None:
        self._tree = tree
        self._files = set(tree.files)
        self._name = name
        self._document = document
        self._findings = findings
        self._split = split_of(name) or split_in_name(PurePosixPath(name).stem)
        self.categories = self._read_categories()

    def entries(self) -> list[_Entry]:
        """The images that can be used. Problems are noted for the others and for annotations that fit nowhere."""
        entries: dict[int, _Entry] = {}
        rejected: set[int] = set()
        for where, record in self._records("images"):
            number = record.get("id")
            if not _is_int(number):
                self._problem(f"the image id {number!r} is not a whole number", f"{where}.id")
            elif number in entries or number in rejected:
                self._problem(f"the image id {number} is used twice", f"{where}.id")
            elif (entry := self._entry(where, record)) is None:
                rejected.add(number)
            else:
                entries[number] = entry
        self._attach_annotations(entries, rejected)
        return list(entries.values())

    def _read_categories(self) -> dict[int, str]:
        categories: dict[int, str] = {}
        for where, record in self._records("categories"):
            number, name = record.get("id"), record.get("name")
            if not _is_int(number):
                self._problem(f"the category id {number!r} is not a whole number", f"{where}.id")
            elif not isinstance(name, str) or not name.strip():
                self._problem(f"the category name {name!r} is not text", f"{where}.name")
            elif number in categories:
                self._problem(f"the category id {number} is used twice", f"{where}.id")
            else:
                # One name under two ids is one class: Roboflow repeats a class as its own supercategory.
                categories[number] = name.strip()
        if not categories:
            self._problem("must name the classes, as in [{'id': 1, 'name': 'box'}]", "categories")
        return dict(sorted(categories.items()))

    def _entry(self, where: str, record: Record) -> _Entry | None:
        image = self._find_image(where, record.get("file_name"))
        if image is None:
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
        return _Entry(self._name, where, image, sides[0], sides[1], split, sequence, [])

    def _find_image(self, where: str, file_name: object) -> str | None:
        """The image's path in the tree: beside the document, in `images`, or in the split's folder."""
        field = f"{where}.file_name"
        if not isinstance(file_name, str) or not file_name:
            self._problem(f"{file_name!r} is not a file name", field)
            return None
        # CVAT on Windows writes backslashes.
        path = PurePosixPath(file_name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or path.as_posix()[1:2] == ":":
            self._problem(f"{file_name!r} leads out of the dataset's folder", field)
            return None
        here = PurePosixPath(self._name).parent
        split = self._split or ""
        folders = [here, here / "images", PurePosixPath(), PurePosixPath("images"), PurePosixPath(split)]
        folders += [PurePosixPath("images", split), PurePosixPath(split, "images")]
        words = PurePosixPath(self._name).stem.split("_")
        folders += [PurePosixPath(words[-1]), PurePosixPath("images", words[-1])]  # instances_val2017: val2017
        for folder in folders:
            if (folder / path).as_posix() in self._files:
                image = (folder / path).as_posix()
                if suffix_of(image) not in IMAGE_SUFFIXES:
                    self._problem(f"{file_name!r} is not a JPEG or PNG file", field)
                    return None
                return image
        self._problem(f"the image {file_name!r} is not in the folder", field)
        return None

    def _attach_annotations(self, entries: Mapping[int, _Entry], rejected: set[int]) -> None:
        seen = set()
        for where, record in self._records("annotations"):
            number, image = record.get("id"), record.get("image_id")
            category = record.get("category_id")
            if number is not None and (not _is_int(number) or number in seen):
                text = f"the annotation id {number} is used twice" if _is_int(number) else f"{number!r} is no id"
                self._problem(text, f"{where}.id")
                continue
            seen.add(number)
            if _is_int(image) and image in rejected:
                continue  # its image is a problem already
            if not _is_int(image) or image not in entries:
                self._problem(f"no image has the id {image!r}", f"{where}.image_id")
            elif not _is_int(category) or category not in self.categories:
                self._problem(f"no category has the id {category!r}", f"{where}.category_id")
            elif record.get("iscrowd"):
                self._findings.warn(
                    "annotation with iscrowd=1 that was left out: it marks a group, not one instance (some tools "
                    "set it on every RLE mask; export those as polygons)",
                    f"{self._name} {where}",
                )
            else:
                label = self.categories[category]
                entries[image].annotations.append(_Annotation(label, record.get("segmentation"), where))

    def _records(self, key: str) -> Iterator[tuple[str, Record]]:
        records = self._document.get(key, [])
        if not isinstance(records, list):
            self._problem("is not a list", key)
            return
        for number, record in enumerate(records):
            if isinstance(record, dict):
                yield f"{key}[{number}]", record
            else:
                self._problem("is not an object", f"{key}[{number}]")

    def _problem(self, message: str, field: str) -> None:
        self._findings.problem(message, self._name, field=field)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


# --- writing ----------------------------------------------------------------------------------------------------------


def coco_document(dataset: Dataset, file_name: Callable[[Sample], str]) -> Record:
    """`dataset` as a COCO document with compressed RLE masks; ids are 1, 2, ... in the dataset's order."""
    numbers = {name: number for number, name in enumerate(dataset.classes, 1)}
    images: list[Record] = []
    annotations: list[Record] = []
    for image_id, sample in enumerate(dataset.samples, 1):
        record: Record = {"id": image_id, "file_name": file_name(sample)}
        record |= {"width": sample.width, "height": sample.height}
        record |= {"split": sample.split} if sample.split is not None else {}
        record |= {"sequence": sample.sequence} if sample.sequence is not None else {}
        images.append(record)
        truth = sample.truth()
        for label, counts, box, area in zip(
            truth.labels, truth.masks, truth.boxes.tolist(), truth.areas().tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": numbers[label],
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": {"size": [sample.height, sample.width], "counts": counts.decode("ascii")},
                }
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
