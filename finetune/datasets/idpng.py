"""Id masks: one PNG per image in `masks/`, whose values are instance numbers, and one file that says what they are.

It is `instances.json`, which we write (`{"classes": [...], "masks": [{"file": "masks/a.png", "image": "images/a.jpg",
"split": ..., "sequence": ..., "instances": [{"id": 1, "class": "box", "attributes": {...}}]}]}`), a CSV (`image`, `id`,
`class`; other columns are attributes) or `classes.txt`: with one class each number is an instance, with several it is
1000 x the class's line (from 1) + the instance. 0 is background; colours, as in COCO's panoptic masks, count as
R + 256 G + 65536 B.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import Attributes, freeze, parse_scalar
from finetune.datasets.coco_write import dump
from finetune.datasets.export import Draft
from finetune.datasets.findings import Findings
from finetune.datasets.idmap import TWO_VALUES, one_value, paint, pieces, smoothed, windows_of_ids
from finetune.datasets.instances import InstanceList
from finetune.datasets.jsonstream import LIST, stream_json
from finetune.datasets.kinds import AnnotationFormat, Format, Look, register, register_writer
from finetune.datasets.limits import decimal
from finetune.datasets.locate import ImageFinder, NameIndex, plain_path, stem_of, usual_folders
from finetune.datasets.pngs import encode_png
from finetune.datasets.splits import delimiter_of
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, read_text, split_named, split_of, suffix_of, unicode_form
from finetune.datasets.types import SPLITS, Dataset, Sample
from finetune.datasets.voc import load_mask
from finetune.errors import DatasetError

FOLDER = "masks"
CLASS_LIST = "classes.txt"
_PER_CLASS = 1000
_WHITE = frozenset({255, 65_535, 0xFFFFFF})
_SPLIT_COLUMNS = ("split", "subset")
LABEL_STUDIO_COLUMNS = frozenset({"annotator", "annotation_id", "lead_time"})
"""Columns by which a table is Label Studio's CSV export, and no list of ids."""
_COLUMNS = {
    "image": ("image", "file", "file_name", "filename", "mask"),
    "id": ("id", "instance", "instance_id", "value"),
    "class": ("class", "label", "category", "class_name"),
}


# --- reading ----------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Mask:
    """A mask file and what is said of it. `known` is None where the list of classes alone says what numbers mean."""

    file: str
    split: str | None
    sequence: str | None = None
    known: dict[int, tuple[str, Attributes]] | None = None
    place: str = ""


@dataclass(slots=True)
class IdSource:
    """A folder of id masks whose images are found."""

    tree: Tree
    known: dict[str, None] = field(default_factory=dict)
    masks: dict[str, _Mask] = field(default_factory=dict)
    """Image to its mask."""
    split_lists: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; from a JSON or CSV in the order of their first mention."""
        return tuple(self.known)

    @property
    def images(self) -> tuple[str, ...]:
        """The images that have a mask, as paths in the tree."""
        return tuple(self.masks)

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """The samples whose image has a size; a mask that cannot be read is a problem among the findings."""
        for image, mask in self.masks.items():
            if image not in sizes:
                continue
            found = InstanceList(*sizes[image], findings)
            try:
                self._read(mask, found, findings)
            except DatasetError as error:
                findings.problem(error.reason, mask.file)
                continue
            sample = found.sample(self.tree.path(image), image, mask.split, mask.sequence)
            if sample is not None:
                yield sample

    def _read(self, mask: _Mask, found: InstanceList, findings: Findings) -> None:
        pixels = load_mask(self.tree, mask.file, found.height, found.width).pixels.astype(np.int64)
        ids = pixels if pixels.ndim == 2 else pixels[..., 0] | pixels[..., 1] << 8 | pixels[..., 2] << 16
        if mask.known is None:
            self._check(one_value(ids), ids, mask, findings)
        unused = set(mask.known or ())
        for number, bitmap, x, y in windows_of_ids(ids):
            try:
                label, attributes = self._meaning(mask, number)
            except ValueError as error:
                findings.problem(str(error), mask.file)
                continue
            unused.discard(number)
            found.add_bitmap(label, bitmap, f"{mask.file} id {number}", attributes, x=x, y=y)
        for number in sorted(unused):
            findings.warn("instance that is listed but has no pixel", f"{mask.place} id {number}")

    def _check(self, value: int, ids: npt.NDArray[np.int64], mask: _Mask, findings: Findings) -> None:
        """Look whether a mask without a list of its instances tells them apart. Raises DatasetError."""
        if count := smoothed(ids):
            text = f"holds {count} numbers, most of them of a few pixels: edges that resizing or drawing smoothed. "
            raise DatasetError(f"{text}Export masks without smoothing", path=Path(mask.file))
        if value in _WHITE and pieces(ids) > 1:
            raise DatasetError(TWO_VALUES, path=Path(mask.file))
        if value in _WHITE:
            text = "mask of two values, black and white: taken as one instance; are several packages one there?"
            findings.warn(text, mask.file)
        elif value == 1 and pieces(ids) > 1:
            text = "mask whose only number covers several pieces: taken as one instance; are they several packages?"
            findings.warn(text, mask.file)

    def _meaning(self, mask: _Mask, number: int) -> tuple[str, Attributes]:
        """(class, attributes) of a number in a mask. Raises ValueError if nothing says what it is."""
        if mask.known is not None:
            if number not in mask.known:
                raise ValueError(f"holds the id {number}, which {mask.place} does not list")
            return mask.known[number]
        classes = self.classes
        if len(classes) == 1:
            return classes[0], ()
        line = number // _PER_CLASS
        if not 1 <= line <= len(classes):
            raise ValueError(
                f"holds the id {number}; with {len(classes)} classes an id is 1000 x class (from 1) + number"
            )
        return classes[line - 1], ()


def is_id_list(tree: Tree, name: str) -> bool:
    """Whether a CSV or a list of classes goes with a folder of id masks. Raises DatasetError for a broken CSV."""
    if suffix_of(name) == ".csv":
        try:
            with tree.path(name).open("rb") as file:
                codec = unicode_form(file.read(4))
            with tree.path(name).open(encoding=codec, errors="replace") as file:
                line = file.readline(4096)
                header = next(csv.reader([line], delimiter=delimiter_of(line)), [])
                listed = _columns(header) is not None and not LABEL_STUDIO_COLUMNS & set(header)
                return listed and bool(_mask_files(tree))  # beside other formats, tables say other things
        except (OSError, csv.Error) as error:
            raise DatasetError(f"cannot be read as CSV: {error}", path=Path(name)) from error
    return PurePosixPath(name).name == CLASS_LIST and bool(_mask_files(tree))


def _mask_files(tree: Tree) -> list[str]:
    return [name for name in tree.with_suffix(".png") if FOLDER in PurePosixPath(name).parts[:-1]]


def read_ids(tree: Tree, names: list[str], findings: Findings) -> IdSource:
    """The id masks that the files `names` describe. Raises DatasetError where one of those cannot be read."""
    reader = _Reader(tree, findings)
    # A list of classes beside a richer file only gives the order.
    for name in sorted(names, key=lambda name: suffix_of(name) != ".txt"):
        if suffix_of(name) == ".txt":
            reader.read_class_list(name, alone=len(names) == 1)
        elif suffix_of(name) == ".csv":
            reader.read_csv(name)
        else:
            reader.read_json(name)
    return reader.source


class _Reader:
    def __init__(self, tree: Tree, findings: Findings) -> None:
        self.source = IdSource(tree)
        self._tree = tree
        self._files = set(tree.files)
        self._findings = findings
        self._finder = ImageFinder(tree, findings)
        self._pictures = NameIndex(
            name for name in tree.with_suffix(*IMAGE_SUFFIXES) if FOLDER not in PurePosixPath(name).parts[:-1]
        )
        self._masks = NameIndex(_mask_files(tree))

    def read_class_list(self, name: str, *, alone: bool) -> None:
        names = [line.strip() for line in read_text(self._tree, name).splitlines() if line.strip()]
        if not names or len(set(names)) != len(names):
            raise DatasetError("must name each class once, one per line", path=Path(name))
        self.source.known = dict.fromkeys(names)
        for mask in _mask_files(self._tree) if alone else ():
            self._add(mask, mask, _Mask(mask, split_of(mask), place=name))

    def read_json(self, name: str) -> None:
        for item in stream_json(self._tree.path(name), name):
            where = f"{item.key}[{item.number}]"
            if item.key == "classes" and item.number is not None and item.number != LIST:
                if not isinstance(item.value, str) or not item.value.strip():
                    self._findings.problem(f"{item.value!r:.40} is no class name", name, field=where)
                else:
                    self.source.known[item.value.strip()] = None
            elif item.key == "masks" and item.number != LIST:
                if item.number is None or not isinstance(item.value, dict):
                    self._findings.problem("is not a list of objects", name, field=where)
                else:
                    self._read_record(name, where, item.value)

    def _read_record(self, name: str, where: str, record: dict[str, Any]) -> None:
        split, sequence, listed = record.get("split"), record.get("sequence"), record.get("instances")
        problem: str | None = None
        split = split_named(split) or split if isinstance(split, str) else split
        if split is not None and split not in SPLITS:
            problem = f"split must be one of {', '.join(SPLITS)}, not {split!r:.40}"
        elif sequence is not None and not isinstance(sequence, str):
            problem = f"sequence {sequence!r:.40} is not text"
        elif not isinstance(listed, list):
            problem = "has no list `instances`"
        if problem is not None or not isinstance(listed, list):
            self._findings.problem(problem or "", name, field=where)
            return
        mask = _Mask("", split, sequence, {}, f"{name} {where}")
        for index, entry in enumerate(listed):
            fields = entry if isinstance(entry, dict) else {}
            extra = fields.get("attributes")
            attributes = freeze(extra, self._findings, mask.place) if isinstance(extra, dict) else ()
            try:
                self._list(mask, fields.get("id"), fields.get("class"), attributes)
            except ValueError as error:
                self._findings.problem(str(error), name, field=f"{where}.instances[{index}]")
        file = record.get("file")
        self._add(file, record.get("image", file), mask, name, where)

    def read_csv(self, name: str) -> None:
        text = read_text(self._tree, name)
        rows = csv.reader(io.StringIO(text), strict=True, delimiter=delimiter_of(text))
        masks: dict[str, _Mask] = {}
        try:
            header = next(rows, [])
            columns = _columns(header)
            if columns is None:
                raise DatasetError("expecting the columns image, id and class", path=Path(name), line=1)
            for row in rows:
                if row:
                    self._read_row(name, rows.line_num, header, columns, row, masks)
        except csv.Error as error:
            raise DatasetError(f"is not CSV: {error}", path=Path(name), line=rows.line_num) from error
        for image, mask in masks.items():
            self._add(image, image, mask, name)

    def _read_row(
        self,
        name: str,
        line: int,
        header: list[str],
        columns: Mapping[str, int],
        row: list[str],
        masks: dict[str, _Mask],
    ) -> None:
        if len(row) != len(header):
            self._findings.problem(f"has {len(row)} fields, the header {len(header)}", name, line=line)
            return
        image = row[columns["image"]]
        said = {h.strip().lower(): v for h, v in zip(header, row, strict=True)}
        split = next((found for key in _SPLIT_COLUMNS if (found := split_named(said.get(key, "")))), None)
        mask = masks.setdefault(image, _Mask("", split or split_of(image), None, {}, name))
        if split is not None and mask.split != split:
            self._findings.problem(f"{image!r:.80} is in {mask.split} too", name, line=line)
        extra = {
            h: parse_scalar(v)
            for i, (h, v) in enumerate(zip(header, row, strict=True))
            if i not in columns.values() and h.strip().lower() not in _SPLIT_COLUMNS
        }
        attributes = freeze({h: v for h, v in extra.items() if v != ""}, self._findings, f"{name}:{line}")
        number = row[columns["id"]].strip().removesuffix(".0")  # as pandas writes a column with gaps
        try:
            value = decimal(number)
            self._list(mask, number if value is None else value, row[columns["class"]], attributes)
        except ValueError as error:
            self._findings.problem(str(error), name, line=line)

    def _list(self, mask: _Mask, number: object, label: object, attributes: Attributes) -> None:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"the id {number!r:.40} is not a whole number above 0")
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"the class {label!r:.40} is not text")
        if mask.known is None or number in mask.known:
            raise ValueError(f"the id {number} is there twice")
        self.source.known[label.strip()] = None
        mask.known[number] = (label.strip(), attributes)

    def _add(self, file: object, image: object, mask: _Mask, name: str = "", where: str | None = None) -> None:
        """Find the mask file and the image, whichever of the two was named."""
        try:
            mask.file = self._mask_of(file)
            picture = self._picture_of(image, mask.file)
        except ValueError as error:
            self._findings.problem(str(error), name or str(file), field=where)
            return
        if picture in self.source.masks:
            self._findings.problem(f"{picture} is there twice", name or mask.file, field=where)
        self.source.masks.setdefault(picture, mask)

    def _mask_of(self, file: object) -> str:
        if isinstance(file, str) and file:
            stem = PurePosixPath(plain_path(file)).with_suffix(".png")
            options = [stem, PurePosixPath(FOLDER) / stem, PurePosixPath(FOLDER) / stem.name]
            for option in options:
                if option.as_posix() in self._files and FOLDER in option.parts[:-1]:
                    return option.as_posix()
            found = self._masks.match(plain_path(file)).files
            if len(found) == 1:
                return found[0]
            if found:
                raise ValueError(f"the mask for {file!r:.80} may be {' or '.join(found[:4])}: name its folder")
        raise ValueError(f"there is no mask for {file!r:.80} in the folder '{FOLDER}'")

    def _picture_of(self, image: object, mask: str) -> str:
        if isinstance(image, str) and image != mask:
            try:
                picture = self._finder.find(image, usual_folders("", split_of(mask)))
            except ValueError:
                if suffix_of(image) != ".png":
                    raise
            else:
                if FOLDER not in PurePosixPath(picture).parts[:-1]:
                    return picture
        # Only the mask is named: its picture has the same stem and lies in `images`, or is the only one of its name.
        parts = PurePosixPath(mask).parts
        at = parts.index(FOLDER)
        inner = PurePosixPath(*parts[at + 1 :])
        near = [PurePosixPath(*parts[:at], "images") / inner.parent, PurePosixPath(*parts[:at]) / inner.parent]
        found = self._pictures.match(stem_of(inner.as_posix()), near).files
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{mask} may be of {' or '.join(found[:4])}: rename one of them, and its mask")
        raise ValueError(f"there is no image for {mask}")


def _columns(header: Iterable[str]) -> dict[str, int] | None:
    """Position of the image, the id and the class in a CSV's header, or None if it is another kind of CSV."""
    names = [name.strip().lower() for name in header]
    found = {key: next((names.index(o) for o in options if o in names), -1) for key, options in _COLUMNS.items()}
    return found if min(found.values()) >= 0 else None


def _files(look: Look) -> list[str]:
    tree = look.tree
    lists = [
        name
        for name in tree.with_suffix(".json")
        if (peek := look.json(name)) is not None and "masks" in peek.lists and "annotations" not in peek.keys
    ]
    return lists + [name for name in tree.with_suffix(".csv", ".txt") if is_id_list(tree, name)]


register(
    AnnotationFormat(
        "id-masks",
        "id masks",
        "masks/ with instances.json, a .csv or classes.txt",
        _files,
        read_ids,
        json_keys=frozenset({"masks"}),
    )
)


# --- writing ----------------------------------------------------------------------------------------------------------
def write_ids(dataset: Dataset, draft: Draft) -> None:
    """`images`, `masks` (16-bit PNG) and `instances.json`."""

    def text() -> Iterator[str]:
        yield f'{{"classes":{dump(list(dataset.classes))},"masks":['
        for number, sample in enumerate(draft.samples()):
            image = draft.copy_image(sample, "images")
            file = f"{FOLDER}/{PurePosixPath(image).stem}.png"
            draft.write_bytes(file, encode_png(paint(sample, draft)))
            record: dict[str, object] = {"file": file, "image": image}
            record |= {"split": sample.split} if sample.split is not None else {}
            record |= {"sequence": sample.sequence} if sample.sequence is not None else {}
            entries = [
                {"id": index, "class": label} | ({"attributes": dict(attributes)} if attributes else {})
                for index, (label, _, attributes) in enumerate(sample.instances(), 1)
            ]
            yield ("," if number else "") + dump(record | {"instances": entries})
        yield "]}\n"

    draft.write_text("instances.json", text())


register_writer(Format("id-masks", "id PNGs and instances.json", write_ids, True, False, True, sequences=True))
