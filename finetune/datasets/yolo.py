"""YOLO folders: the class names, images, and one text file of polygons (or boxes) per image.

Layouts: `train/images` + `train/labels` (Roboflow), `images/train` + `labels/train` (Ultralytics), flat `images` +
`labels`, labels beside their images (Darknet). The splits are those of the configuration (`yolo_config`), or else of
the folders' names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from finetune.datasets.findings import Findings
from finetune.datasets.instances import EmptyShapeError, InstanceList, clip
from finetune.datasets.kinds import AnnotationFormat, Look, register
from finetune.datasets.limits import MAX_VERTICES
from finetune.datasets.locate import NameIndex
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, read_text, split_of, split_word, suffix_of
from finetune.datasets.types import Sample
from finetune.datasets.yolo_config import CLASS_LISTS, SplitReader, YoloConfig, find_config, read_config
from finetune.errors import DatasetError

# Lists of classes and texts that tools leave among the label files.
_NOT_LABELS = frozenset({*CLASS_LISTS, "obj.names.txt", "notes.txt"})
_PIXELS = 2.0
"""No share of a side is larger, whatever the slip."""
_BOX = 4
_COMMA: Final = re.compile(r"-?\d+(,\d+)?([eE][-+]?\d+)?")
_QUAD = 4
_SLIP = 1.5
"""So many pixels may the corners of a rectangle be off."""


@dataclass(slots=True)
class _Rows:
    """Rows of four corners: how many are rectangles that are turned, and how many outlines are anything else."""

    turned: int = 0
    others: int = 0
    first: str = ""


@dataclass(frozen=True, slots=True)
class YoloSource:
    """A YOLO folder whose class names are read and whose images are paired with their label files."""

    tree: Tree
    config: YoloConfig
    labels: Mapping[str, str | None]
    """Image to label file; None for an image without one."""
    splits: Mapping[str, str]
    rows: _Rows = field(default_factory=_Rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of their numbers in the label files."""
        return self.config.names

    @property
    def images(self) -> tuple[str, ...]:
        """The images of the folder, as paths in the tree; one without a label file shows nothing."""
        return tuple(self.labels)

    @property
    def split_lists(self) -> bool:
        """Whether lists of images may give splits: only where the configuration names none."""
        return not self.config.splits

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """One sample per image in `sizes`; label lines that cannot be used become problems."""
        for image, label in self.labels.items():
            if label is None:
                findings.warn("image without a label file, taken as background without any instance", image)
            if image not in sizes:
                continue
            height, width = sizes[image]
            found = InstanceList(height, width, findings)
            if label is not None:
                self._read_labels(label, found, findings)
            split = self.splits.get(image) or split_of(image)
            if (sample := found.sample(self.tree.path(image), image, split, None)) is not None:
                yield sample
        if self.rows.turned and not self.rows.others:
            text = "row of 8 numbers that is a turned rectangle (YOLO-OBB): taken as an outline of four corners, which "
            text += "may reach beyond the package"
            findings.warn_times(text, self.rows.turned, self.rows.first)

    def _read_labels(self, label: str, found: InstanceList, findings: Findings) -> None:
        try:
            text = read_text(self.tree, label)
        except DatasetError as error:
            findings.problem(error.reason, label)
            return
        scale = np.array([found.width, found.height], np.float64)
        for number, line in enumerate(text.splitlines(), 1):
            where = f"{label}:{number}"
            fields = _fields(line, findings, where)
            if not fields:
                continue
            try:
                class_id, points, is_box = _parse(fields, self.config)
                if is_box:
                    found.add_box(self.classes[class_id], points * scale, where)
                    if self.config.key_points:
                        findings.warn("row of a box and key points (YOLO pose): the box alone is read", where)
                    continue
                polygon = clip(points, 1.0, 1.0, findings, where) * scale if len(points) else points
                self._note(polygon, where)
                found.add_polygons(self.classes[class_id], [polygon], where)
            except EmptyShapeError as error:
                found.skip(f"{error}: left out", where)
            except ValueError as error:
                findings.problem(str(error), label, line=number)

    def _note(self, polygon: npt.NDArray[np.float64], where: str) -> None:
        if len(polygon) == _QUAD and _is_turned_rectangle(polygon):
            self.rows.turned += 1
            self.rows.first = self.rows.first or where
        elif len(polygon) != _QUAD or not _is_rectangle(polygon):
            self.rows.others += 1


def _is_rectangle(points: npt.NDArray[np.float64]) -> bool:
    """Whether four corners, float64 [4, 2] in pixels, are those of a rectangle: its diagonals halve each other."""
    middles = np.abs(points[0] + points[2] - points[1] - points[3]).max() / 2
    diagonals = abs(math.dist(points[0], points[2]) - math.dist(points[1], points[3]))
    return bool(middles <= _SLIP and diagonals <= _SLIP)


def _is_turned_rectangle(points: npt.NDArray[np.float64]) -> bool:
    sides = np.abs(points - np.roll(points, -1, axis=0)).min(1)
    return _is_rectangle(points) and bool(sides.max() > _SLIP)


def _parse(fields: list[str], config: YoloConfig) -> tuple[int, npt.NDArray[np.float64], bool]:
    """Class id and points float64 [K, 2] of one label line's fields; of a box its two corners, and True.

    Raises ValueError with the sentence to show.
    """
    try:
        values = [float(field) for field in fields]
    except ValueError:
        bad = next(field for field in fields if not _is_number(field))
        raise ValueError(f"{bad[:40]!r} is not a number") from None
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not a finite number")
    class_id, classes = values[0], len(config.names)
    if not class_id.is_integer():
        raise ValueError(f"the class id {fields[0]!r} is not a whole number")
    if not 0 <= class_id < classes:
        known = f"0 to {classes - 1}" if classes > 1 else "only 0"
        text = (
            f"the class id {int(class_id)} is out of range: {PurePosixPath(config.file).name} names {classes} ({known})"
        )
        raise ValueError(text)
    coordinates = len(values) - 1
    if coordinates != _BOX + 1 and min(values[1:], default=0) >= 0 and max(values[1:], default=0) > _PIXELS:
        text = (
            f"{max(values[1:]):g} lies outside the image (0 to 1): are these pixels? YOLO wants shares of the image's "
        )
        raise ValueError(f"{text}width and height")
    if coordinates == _BOX or (config.key_points and coordinates > _BOX):
        x, y, width, height = values[1:5]
        corners = np.array([[x - width / 2, y - height / 2], [x + width / 2, y + height / 2]])
        return int(class_id), corners, True
    if coordinates == _BOX + 1:
        raise ValueError(
            "an odd number of coordinates (5): a box and a sixth number, as predictions have their confidence and "
            "tracks their number; labels are class, x, y, width and height: export those"
        )
    if coordinates % 2:
        text = f"an odd number of coordinates ({coordinates}): x and y must come in pairs; one number too many, "
        raise ValueError(f"{text}as predictions have their confidence and tracks their number, must go")
    if coordinates > 2 * MAX_VERTICES:
        raise ValueError(f"a polygon of {coordinates // 2:,} points; the limit is {MAX_VERTICES:,}")
    return int(class_id), np.array(values[1:], np.float64).reshape(-1, 2), False


def _fields(line: str, findings: Findings, where: str) -> list[str]:
    """The words of a label line. Spreadsheets of some countries write a comma for the point, and some scripts between
    the numbers."""
    fields = line.split()
    if "," not in line:
        return fields
    if "." not in line and all(_COMMA.fullmatch(field) for field in fields):
        findings.warn("row whose numbers have a comma for the decimal point: read so", where)
        return [field.replace(",", ".") for field in fields]
    apart = line.replace(",", " ").split()
    if all(map(_is_number, apart)):
        findings.warn("row with commas between its numbers: read so", where)
        return apart
    return fields


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def read_yolo(tree: Tree, findings: Findings) -> YoloSource:
    """The YOLO dataset in `tree`, whose configuration `config_of` finds.

    Raises DatasetError if the class names are missing or malformed.
    """
    name = config_of(tree)
    if name is None:
        raise DatasetError("has no data.yaml", path=Path(tree.root.name))
    config = read_config(tree, name, findings)
    splits = SplitReader(tree, config, findings).read() if config.splits else {}
    pairs = _pairs(tree, splits)
    _adopt(tree, pairs, findings)
    owners: dict[str, str] = {}
    for image, label in pairs.items():
        if label is not None and owners.setdefault(label, image) != image:
            text = f"is of {owners[label]} and of {image}: one label file cannot be both images', rename one of them"
            findings.problem(text, label)
    undecided = [image for image in pairs if splits and image not in splits and split_of(image) is None]
    if undecided:
        text = f"image that {config.file} puts into no split"
        findings.warn_times(text, len(undecided), undecided[0])
    return YoloSource(tree, config, pairs, splits)


def config_of(tree: Tree) -> str | None:
    """The file that names a YOLO folder's classes, or None. Raises DatasetError if there are several."""
    return find_config(tree, labelled=has_labels(tree))


def has_labels(tree: Tree) -> bool:
    """Whether there are label files, with or without a data.yaml."""
    files = set(tree.files)
    return any(_is_label(name, files) and _looks_like_rows(tree, name) for name in tree.with_suffix(".txt"))


def _looks_like_rows(tree: Tree, name: str) -> bool:
    """Whether a text file begins with a row of numbers, or is empty, as the labels of a background are."""
    try:
        with tree.path(name).open("rb") as file:
            fields = file.readline(4096).split()
    except OSError:
        return False
    return not fields or all(_is_number(field.decode("ascii", "replace")) for field in fields)


def _pairs(tree: Tree, splits: Mapping[str, str]) -> dict[str, str | None]:
    files = set(tree.files)
    images = [name for name in tree.with_suffix(*IMAGE_SUFFIXES) if name in splits or _is_image(name, files)]
    return {image: _label_of(image, files) for image in images}


def _adopt(tree: Tree, pairs: dict[str, str | None], findings: Findings) -> None:
    """Give label files that are left over to the images that people see they are of; the rest are problems."""
    files = set(tree.files)
    taken = {label for label in pairs.values() if label is not None}
    left = [name for name in tree.with_suffix(".txt") if name not in taken and _is_label(name, files)]
    if not left:
        return
    index = NameIndex(image for image in tree.with_suffix(*IMAGE_SUFFIXES) if pairs.get(image) is None)
    for label in left:
        parts = [part for part in PurePosixPath(label).with_suffix("").parts if part.lower() != "labels"]
        found = index.match("/".join(parts), [PurePosixPath(label).parent]).files
        if len(found) == 1 and pairs.get(found[0]) is None:
            findings.warn("label file that is matched to its image by its name alone", f"{label} is of {found[0]}")
            pairs[found[0]] = label
        elif found:
            text = f"may be of {' or '.join(found[:4])}: put images and labels into folders of the same names"
            findings.problem(text, label)
        elif _looks_like_rows(tree, label) or "labels" in _folders(label):
            findings.problem("label file without its image", label)


def _folders(name: str) -> list[str]:
    return name.lower().split("/")[:-1]


def _is_image(name: str, files: set[str]) -> bool:
    """An image of the dataset: in an `images` or split folder or beside its label, unlike a picture in a README."""
    path = PurePosixPath(name)
    return "images" in _folders(name) or split_of(name) is not None or path.with_suffix(".txt").as_posix() in files


def _is_label(name: str, files: set[str]) -> bool:
    path = PurePosixPath(name)
    if path.suffix.lower() != ".txt" or path.name.lower() in _NOT_LABELS or path.name.lower().startswith("readme"):
        return False
    if "labels" in _folders(name):
        return True
    beside = any(f"{path.with_suffix('')}{suffix}" in files for suffix in IMAGE_SUFFIXES)
    return beside or (split_of(name) is not None and split_word(path.stem) is None)


def _label_of(image: str, files: set[str]) -> str | None:
    path = PurePosixPath(image)
    stem = path.parent / path.name[: -len(suffix_of(image))]
    parts = list(stem.parts)
    options = []
    # Ultralytics turns the last `images` of a path into `labels`; a folder within may have that name too.
    for at in reversed([k for k, part in enumerate(parts[:-1]) if part == "images"]):
        options.append(PurePosixPath(*parts[:at], "labels", *parts[at + 1 :]).as_posix())
    options.append(stem.as_posix())
    # Some tools keep the image's suffix: `a.jpg.txt`.
    named = [f"{option}{suffix}.txt" for suffix in ("", suffix_of(image)) for option in options]
    return next((option for option in named if option in files), None)


def _files(look: Look) -> list[str]:
    config = config_of(look.tree)
    return [] if config is None else [config]


register(
    AnnotationFormat(
        "yolo",
        "YOLO segmentation",
        "data.yaml with `names`, or classes.txt, and images/ with labels/",
        _files,
        lambda tree, _, findings: read_yolo(tree, findings),
    )
)
