"""YOLO folders: `data.yaml` with the class names, images, and one text file of polygons (or boxes) per image.

Layouts: `train/images` + `train/labels` (Roboflow), `images/train` + `labels/train` (Ultralytics), flat `images` +
`labels`, or labels beside their images in a split's folder. The folders' names say the split; the paths in data.yaml
are not used, since exports point them at other machines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from finetune.datasets.findings import Findings
from finetune.datasets.instances import InstanceList, clip
from finetune.datasets.limits import MAX_VERTICES
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, read_text, split_of, suffix_of
from finetune.datasets.types import Sample
from finetune.errors import DatasetError

_YAML_SUFFIXES = (".yaml", ".yml")
# Lists of classes that label tools leave among the label files.
_NOT_LABELS = frozenset({"classes.txt", "obj.names.txt", "notes.txt"})


@dataclass(frozen=True, slots=True)
class YoloSource:
    """A YOLO-seg folder whose class names are read and whose images are paired with their label files."""

    tree: Tree
    classes: tuple[str, ...]
    labels: Mapping[str, str | None]
    """Image to label file; None for an image without one."""

    @property
    def images(self) -> tuple[str, ...]:
        return tuple(self.labels)

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
            yield found.sample(self.tree.path(image), image, split_of(image), None)

    def _read_labels(self, label: str, found: InstanceList, findings: Findings) -> None:
        try:
            text = read_text(self.tree, label)
        except DatasetError as error:
            findings.problem(error.reason, label)
            return
        scale = np.array([found.width, found.height], np.float64)
        for number, line in enumerate(text.splitlines(), 1):
            fields = line.split()
            if not fields:
                continue
            try:
                class_id, points = _parse(fields, len(self.classes))
                if len(points) == 2:
                    found.add_box(self.classes[class_id], points * scale, f"{label}:{number}")
                    continue
                polygon = clip(points, 1.0, 1.0, findings, f"{label}:{number}") * scale
                found.add_polygons(self.classes[class_id], [polygon], f"{label}:{number}")
            except ValueError as error:
                findings.problem(str(error), label, line=number)


def _parse(fields: list[str], classes: int) -> tuple[int, np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Class id and points float64 [K, 2] of one label line's fields; of a box, its two corners.

    Raises ValueError with the sentence to show.
    """
    try:
        values = [float(field) for field in fields]
    except ValueError:
        bad = next(field for field in fields if not _is_number(field))
        raise ValueError(f"{bad[:40]!r} is not a number") from None
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not a finite number")
    class_id = values[0]
    if not class_id.is_integer():
        raise ValueError(f"the class id {fields[0]!r} is not a whole number")
    if not 0 <= class_id < classes:
        known = f"0 to {classes - 1}" if classes > 1 else "only 0"
        raise ValueError(f"the class id {int(class_id)} is out of range: data.yaml names {classes} ({known})")
    coordinates = len(values) - 1
    if coordinates == 4:
        x, y, width, height = values[1:]
        return int(class_id), np.array([[x - width / 2, y - height / 2], [x + width / 2, y + height / 2]])
    if coordinates % 2:
        raise ValueError(f"an odd number of coordinates ({coordinates}): x and y must come in pairs")
    if coordinates < 6:
        raise ValueError(f"a polygon needs at least 3 points, this one has {coordinates // 2}")
    if coordinates > 2 * MAX_VERTICES:
        raise ValueError(f"a polygon of {coordinates // 2:,} points; the limit is {MAX_VERTICES:,}")
    return int(class_id), np.array(values[1:], np.float64).reshape(-1, 2)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def read_yolo(tree: Tree, findings: Findings) -> YoloSource:
    """The YOLO-seg dataset in `tree`, whose data.yaml `find_config` finds.

    Raises DatasetError if the class names are missing or malformed.
    """
    config = find_config(tree)
    if config is None:
        raise DatasetError("has no data.yaml", path=Path(tree.root.name))
    pairs = _pairs(tree)
    label_files = {name for name in tree.files if _is_label(name)}
    for orphan in sorted(label_files - set(pairs.values())):
        findings.problem("label file without its image", orphan)
    return YoloSource(tree, _class_names(tree, config), pairs)


def has_labels(tree: Tree) -> bool:
    """Whether there are label files, with or without a data.yaml."""
    return any(map(_is_label, tree.files)) or any(_pairs(tree).values())


def _pairs(tree: Tree) -> dict[str, str | None]:
    files = set(tree.files)
    return {image: _label_of(image, files) for image in tree.files if _is_image(image, files)}


def _is_image(name: str, files: set[str]) -> bool:
    """An image of the dataset: in an `images` or split folder or beside its label, unlike a picture in a README."""
    if suffix_of(name) not in IMAGE_SUFFIXES:
        return False
    path = PurePosixPath(name)
    return "images" in path.parts or split_of(name) is not None or path.with_suffix(".txt").as_posix() in files


def _is_label(name: str) -> bool:
    path = PurePosixPath(name)
    if path.suffix.lower() != ".txt" or path.name.lower() in _NOT_LABELS:
        return False
    return "labels" in path.parts or split_of(name) is not None


def _label_of(image: str, files: set[str]) -> str | None:
    path = PurePosixPath(image).with_suffix(".txt")
    parts = list(path.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    name = PurePosixPath(*parts).as_posix()
    return next((option for option in (name, path.as_posix()) if option in files), None)


def find_config(tree: Tree) -> str | None:
    """data.yaml, or else the only other YAML file at the top."""
    top = [name for name in tree.with_suffix(*_YAML_SUFFIXES) if "/" not in name]
    named = [name for name in top if PurePosixPath(name).stem.lower() == "data"]
    if named:
        return named[0]
    return top[0] if len(top) == 1 else None


def _class_names(tree: Tree, config: str) -> tuple[str, ...]:
    where = tree.path(config).relative_to(tree.root)
    try:
        document = yaml.safe_load(read_text(tree, config))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DatasetError(f"is not YAML: {error.problem}", path=where, line=line) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DatasetError(f"cannot be read as YAML: {error}", path=where) from error
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DatasetError("the class ids must be 0, 1, 2, ... without gaps", path=where, field="names")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DatasetError("must name the classes, as in `names: [box, bag]`", path=where, field="names")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            # YAML reads a bare `no`, `on` or `7` as something else than text.
            raise DatasetError(f"class name {name!r} is not text; put it in quotes", path=where, field="names")
    cleaned = tuple(name.strip() for name in names)
    if len(set(cleaned)) != len(cleaned):
        raise DatasetError("a class name occurs twice", path=where, field="names")
    count = document.get("nc")
    if count is not None and count != len(cleaned):
        raise DatasetError(f"says {count!r} classes but names {len(cleaned)}", path=where, field="nc")
    return cleaned
