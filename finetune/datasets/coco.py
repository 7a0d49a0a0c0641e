"""COCO instances JSON, as teams export it.

One `annotations.json` (any name) for all, or one file per split like Roboflow's `train/_annotations.coco.json` or
`annotations/instances_val2017.json`; polygons with any number of parts, compressed and uncompressed RLE; per image the
extra fields `split` and `sequence`, per annotation `attributes`. A file is read twice and never held: first its images
and categories, then, once the images are measured, its annotations, each of which becomes RLE at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from finetune.datasets.classes import is_background
from finetune.datasets.coco_annotations import ONE_CLASS, AnnotationReader, Id, Record, RecordReader, id_of, is_crowd
from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList
from finetune.datasets.kinds import AnnotationFormat, Look, is_main_name, register
from finetune.datasets.locate import ImageFinder, usual_folders
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, split_in_name, split_of, split_said
from finetune.datasets.types import Sample
from finetune.errors import DatasetError

_NO_OUTLINES = {"caption": "captions", "segments_info": "panoptic masks (their pixels lie in PNG files)"}
"""Fields of an annotation that show a file of COCO which holds no instances, and what it holds."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A checked entry of `images`. `image` is the file's path in the tree, `number` its id."""

    where: str
    number: Id
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
    categories: Mapping[Id, str] | None
    entries: tuple[_Entry, ...]
    rejected: frozenset[Id]
    crowds_are_masks: bool
    """Whether `iscrowd` says that a mask was drawn with a brush: so it is where all are marked like that, and where
    categories have the empty supercategory of CVAT's and Datumaro's exports."""


@dataclass(frozen=True, slots=True)
class CocoSource:
    """A COCO dataset whose images are found and whose annotations are yet to be read."""

    tree: Tree
    classes: tuple[str, ...]
    documents: tuple[_Document, ...]
    split_lists: bool = True

    @property
    def images(self) -> tuple[str, ...]:
        """The images that were found, as paths in the tree, document by document."""
        return tuple(entry.image for document in self.documents for entry in document.entries)

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """One sample per image in `sizes`; annotations that cannot be used become problems."""
        for document in self.documents:
            lists: dict[Id, InstanceList | None] = dict.fromkeys(document.rejected)
            for entry in document.entries:
                size = sizes.get(entry.image)
                fits = size is not None and _same_size(document.name, entry, *size, findings)
                lists[entry.number] = InstanceList(*size, findings) if size is not None and fits else None
            images = {entry.number: entry.image for entry in document.entries}
            reader = AnnotationReader(
                document.name,
                document.categories,
                images,
                lists,
                findings,
                crowds_are_masks=document.crowds_are_masks,
            )
            reader.read(self.tree)
            for entry in document.entries:
                found = lists.pop(entry.number)
                if found is None:
                    continue
                sample = found.sample(self.tree.path(entry.image), entry.image, entry.split, entry.sequence)
                if sample is not None:
                    yield sample


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
    """The COCO files `names` as one dataset. Raises DatasetError if one is not JSON, or none holds instances."""
    classes: dict[str, None] = {}
    listed: dict[str, str] = {}
    documents = []
    finder = ImageFinder(tree, findings)
    readers = [_ImageReader(tree, name, finder, findings) for name in names]
    for reader in readers:
        reader.read()
    readers = _of_instances(readers, findings)
    # Beside files that name their classes, one without is a file that lost them.
    agnostic = not any(reader.listed for reader in readers)
    for reader in readers:
        name = reader.name
        if agnostic:
            findings.warn(f"file without `categories`: all its masks are taken as one class, {ONE_CLASS!r}", name)
            classes[ONE_CLASS] = None
        elif not reader.categories:
            findings.problem("must name the classes, as in [{'id': 1, 'name': 'box'}]", name, field="categories")
        classes |= dict.fromkeys(reader.classes())
        entries = []
        for entry in reader.entries.values():
            place = f"{name} {entry.where}"
            if listed.setdefault(entry.image, place) != place:
                text = (
                    f"{entry.image} is listed a second time, after {listed[entry.image]}: images of one name from two "
                )
                text += (
                    "videos or tasks need a folder each, in the file names too; of two versions of one export keep one"
                )
                findings.problem(text, name, field=entry.where)
                reader.rejected.add(entry.number)
            else:
                entries.append(entry)
        categories = None if agnostic else reader.categories
        documents.append(
            _Document(name, categories, tuple(entries), frozenset(reader.rejected), reader.crowds_are_masks)
        )
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        if image not in listed:
            findings.warn("image that no annotation file lists and that was left out", image)
    return CocoSource(tree, tuple(classes), tuple(documents))


def _of_instances(readers: list[_ImageReader], findings: Findings) -> list[_ImageReader]:
    """Those of `readers` whose files hold instances: COCO's captions, panoptic masks and key points lie beside them and
    name the same images. Raises DatasetError if there are none.
    """
    kept = [reader for reader in readers if reader.kind not in _NO_OUTLINES]
    for reader in readers:
        if reader.kind in _NO_OUTLINES:
            findings.warn(f"file of {_NO_OUTLINES[reader.kind]} that was left out: it outlines nothing", reader.name)
    if not kept:
        text = f"holds {_NO_OUTLINES[readers[0].kind]} and no instance: export COCO instances (segmentation per object)"
        raise DatasetError(text, path=Path(readers[0].name))
    listed = {e.image for reader in kept if reader.kind != "keypoints" for e in reader.entries.values()}
    others = []
    for reader in kept:
        if reader.kind == "keypoints" and listed and all(e.image in listed for e in reader.entries.values()):
            text = "file of key points that was left out: another file holds the instances of its images"
            findings.warn(text, reader.name)
        else:
            others.append(reader)
    for reader in others:
        reader.report()
    return others


class _ImageReader(RecordReader):
    """The first pass: categories, and the images that can be used."""

    def __init__(self, tree: Tree, name: str, finder: ImageFinder, findings: Findings) -> None:
        super().__init__(name, findings)
        self.name = name
        self.kind = ""
        """The field that says what its annotations are, where that is no instances."""
        self.categories: dict[Id, str] = {}
        self.listed = False
        """Whether the file has an entry of `categories`, a bad one even."""
        self.entries: dict[Id, _Entry] = {}
        self.rejected: set[Id] = set()
        self._tree = tree
        self._finder = finder
        self._split = split_of(name) or split_in_name(PurePosixPath(name).stem)
        self._used: set[object] = set()
        self._parents: set[object] = set()
        self._problems: list[tuple[str, str]] = []
        self._all_crowds = True
        self._all_plain = True

    def read(self) -> None:
        for key, where, record in self._records(self._tree, ("images", "categories", "annotations")):
            if key == "annotations":
                self._look(record)
                continue
            if key == "categories":
                self.listed = True
                self._read_category(where, record)
                continue
            number = id_of(record.get("id"))
            if number is None:
                self._note(f"the image id {record.get('id')!r} is not a whole number or text", f"{where}.id")
            elif number in self.entries or number in self.rejected:
                self._note(f"the image id {number} is used twice", f"{where}.id")
            elif (entry := self._entry(where, number, record)) is None:
                self.rejected.add(number)
            else:
                self.entries[number] = entry
        self.categories = dict(sorted(self.categories.items(), key=lambda item: (isinstance(item[0], str), item[0])))

    def report(self) -> None:
        """Tell the problems of the images and categories, once it is clear that the file counts."""
        for message, field in self._problems:
            self._problem(message, field)

    def classes(self) -> list[str]:
        """The classes' names. Roboflow heads the list with the project's own name, the others' supercategory."""
        project = PurePosixPath(self.name).name == "_annotations.coco.json"
        names: dict[str, None] = {}
        for number, name in self.categories.items():
            parent = name in self._parents or (project and number == 0) or is_background(name)
            if number in self._used or not parent or len(self.categories) == 1:
                names[name] = None
        return list(names)

    @property
    def crowds_are_masks(self) -> bool:
        return self._all_crowds or (self._all_plain and bool(self.categories))

    def _look(self, record: Record) -> None:
        """Note what an annotation is, and its class."""
        if self._all_crowds and not is_crowd(record.get("iscrowd")):
            self._all_crowds = False
        category = record.get("category_id")
        if isinstance(category, int | str):
            self._used.add(id_of(category))
        if not self.kind:
            outlined = "segmentation" in record or "bbox" in record
            options = ("segments_info",) if outlined else tuple(_NO_OUTLINES)
            self.kind = next((key for key in options if key in record), "keypoints" if "keypoints" in record else "-")

    def _note(self, message: str, field: str) -> None:
        self._problems.append((message, field))

    def _read_category(self, where: str, record: Record) -> None:
        number, name = id_of(record.get("id")), record.get("name")
        self._all_plain &= record.get("supercategory") == ""
        self._parents.add(record.get("supercategory") if isinstance(record.get("supercategory"), str) else None)
        if number is None:
            self._note(f"the category id {record.get('id')!r} is not a whole number or text", f"{where}.id")
        elif not isinstance(name, str) or not name.strip():
            self._note(f"the category name {name!r} is not text", f"{where}.name")
        elif number in self.categories:
            self._note(f"the category id {number} is used twice", f"{where}.id")
        else:
            if record.get("supercategory") == name:  # a class that is its own kind is no project's name
                self._used.add(number)
            # One name under two ids is one class: Roboflow repeats a class as its own supercategory.
            self.categories[number] = name.strip()

    def _entry(self, where: str, number: Id, record: Record) -> _Entry | None:
        named = record.get("file_name")
        if named is None:  # COCO's own files say both; some tools say the addresses alone
            for key in _ADDRESSES:
                address = record.get(key)
                if isinstance(address, str):
                    text = "image without `file_name`: taken by its address's last part"
                    self._findings.warn(text, f"{self.name} {where}.{key}")
                    named = PurePosixPath(re.split("[?#]", address)[0]).name
                    break
            else:
                self._note("None is not a file name: nothing says which picture it is", f"{where}.file_name")
                return None
        try:
            image = self._finder.find(named, usual_folders(self._name, self._split))
        except ValueError as error:
            self._note(str(error), f"{where}.file_name")
            return None
        width, height = (_side(record.get(key)) for key in ("width", "height"))
        if width is None or height is None:
            sides = [record.get("width"), record.get("height")]
            self._note(f"width and height {sides} are not whole numbers above 0", where)
            return None
        key = "subset" if record.get("split") is None else "split"
        try:
            split = split_said(record.get(key)) or self._split or split_of(image) or _split_in(named)
        except ValueError as error:
            self._note(str(error), f"{where}.{key}")
            return None
        sequence = record.get("sequence")
        if sequence is not None and not isinstance(sequence, str):
            self._note(f"{sequence!r} is not text", f"{where}.sequence")
            return None
        return _Entry(where, number, image, width or None, height or None, split, sequence)


_ADDRESSES = ("coco_url", "flickr_url", "url", "path")


def _side(value: object) -> int | None:
    """A side in pixels, 0 where it is not said; None for what is none."""
    if value is None:
        return 0
    number = id_of(value)
    return number if isinstance(number, int) and number > 0 else None


def _split_in(name: object) -> str | None:
    """The split that the folders of a file name say, of another computer's path the last two."""
    parts = str(name).replace("\\", "/").split("/")
    return split_of("/".join(parts[-3:]))


def _files(look: Look) -> list[str]:
    found = []
    for name in look.tree.with_suffix(".json"):
        peek = look.json(name)
        if peek is not None and (
            {"images", "annotations"} <= peek.keys or (is_main_name(name) and "images" in peek.keys)
        ):
            found.append(name)
    return found


register(
    AnnotationFormat(
        "coco",
        "COCO",
        "a .json file with `images`, `annotations` and `categories`, at the top or one per split",
        _files,
        read_coco,
        json_keys=frozenset({"images", "annotations"}),
    )
)
