"""LabelMe: one JSON file per image, beside it.

Shapes of one label that share a `group_id` are parts of one instance, as LabelMe's own converters take them. `polygon`
and `mask` shapes are read, a `rectangle` is a box without an outline, others are left out with a warning. Attributes
are `flags` (true or false), `group_id` and the `attributes` object of LabelMe's descendants.
"""

from __future__ import annotations

import base64
import binascii
import json
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import Attributes, freeze, is_box_only, unboxed
from finetune.datasets.contours import trace
from finetune.datasets.export import Draft, box_of, window_of
from finetune.datasets.findings import Findings
from finetune.datasets.instances import EmptyShapeError, InstanceList, read_points
from finetune.datasets.jsonstream import load_json
from finetune.datasets.kinds import AnnotationFormat, Format, Look, register, register_writer
from finetune.datasets.locate import ImageFinder, plain_path, stem_of, usual_folders
from finetune.datasets.per_image import PerImageSource, find_images
from finetune.datasets.pngs import decode_mask_png, encode_png
from finetune.datasets.tree import IMAGE_SUFFIXES, Tree, read_text, split_named, split_of, suffix_of
from finetune.datasets.types import Dataset, Sample

Record = dict[str, Any]
_VERSION = "5.5.0"
_SHAPES = ("polygon", "mask", "rectangle", "quadrilateral")
_CLASS_LIST = "labels.txt"
# Entries that LabelMe itself puts at the head of a list of labels.
_NO_CLASSES = frozenset({"__ignore__", "_background_"})

# --- reading ----------------------------------------------------------------------------------------------------------


def read_labelme(tree: Tree, names: list[str], findings: Findings) -> PerImageSource:
    """The LabelMe files `names` as one dataset; `labels.txt` at the top gives the classes' order where it is there."""
    finder = ImageFinder(tree, findings)
    splits: dict[str, str] = {}
    files = frozenset(tree.files)
    documents = find_images(
        tree,
        names,
        lambda name: _image_of(tree, files, name, finder, splits),
        findings,
        kind="LabelMe file",
        field="imagePath",
    )
    listed = read_text(tree, _CLASS_LIST).splitlines() if _CLASS_LIST in tree.files else []
    classes = [line.strip() for line in listed]
    known = dict.fromkeys(c for c in classes if c and c not in _NO_CLASSES)
    return PerImageSource(tree, documents, _read_file, known, splits)


def _read_file(tree: Tree, name: str, found: InstanceList, findings: Findings) -> list[str]:
    def told(codec: str) -> None:
        text = (
            f"file that is not UTF-8 but, it seems, {codec.upper()}: look whether its class names are right, or save "
        )
        findings.warn(f"{text}it as UTF-8", name)

    reader = _DocumentReader(name, found, findings)
    reader.read(load_json(tree.path(name), name, told=told))
    return reader.labels


def _image_of(tree: Tree, files: frozenset[str], name: str, finder: ImageFinder, splits: dict[str, str]) -> str:
    document = load_json(tree.path(name), name, told=lambda _: None)
    record = document if isinstance(document, dict) else {}
    named = record.get("imagePath")
    image = _find(files, name, named, record, finder)
    flags = record.get("flags")
    ticked = [split_named(str(key)) for key, value in flags.items() if value is True] if isinstance(flags, dict) else []
    said = next(filter(None, ticked), None)
    if said is None and isinstance(named, str):
        said = split_of("/".join(plain_path(named).split("/")[-3:]))
    if said is not None:
        splits[image] = said
    return image


def _find(files: frozenset[str], name: str, named: object, record: Record, finder: ImageFinder) -> str:
    here = PurePosixPath(name).parent
    stem = PurePosixPath(name).with_suffix("")
    beside = next((f"{stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES) if f"{stem}{suffix}" in files), None)
    plain = plain_path(named) if isinstance(named, str) else ""
    moved = (here / plain).as_posix() not in files and stem_of(plain.split("/")[-1]) == stem.name
    # Moved folders keep the old path inside: the picture of the same name beside the file is meant.
    if beside is not None and moved:
        return beside
    try:
        return finder.find(named, usual_folders(name, split_of(name)))
    except ValueError:
        if beside is not None:
            return beside
        if record.get("imageData"):
            raise ValueError("the image lies inside the JSON file only; save it beside the file") from None
        raise


class _DocumentReader:
    """Reads one LabelMe file into the list of its image's instances."""

    def __init__(self, name: str, found: InstanceList, findings: Findings) -> None:
        self._name = name
        self._found = found
        self._findings = findings
        self.labels: list[str] = []

    def read(self, document: object) -> None:
        record = document if isinstance(document, dict) else {}
        named = (record.get("imageWidth"), record.get("imageHeight"))
        size = (self._found.width, self._found.height)
        if any(a not in (None, 0, b) for a, b in zip(named, size, strict=True)):
            turned = "; was it labelled in a tool that turns pictures by their EXIF tag?" if named[::-1] == size else ""
            self._problem(f"says {named[0]}x{named[1]} pixels, the image has {size[0]}x{size[1]}{turned}", "imageWidth")
            return
        shapes = record.get("shapes")
        if not isinstance(shapes, list):
            self._problem("is not a list", "shapes")
            return
        groups: dict[object, list[tuple[int, Record]]] = {}
        for index, shape in enumerate(shapes):
            if not isinstance(shape, dict):
                self._problem("is not an object with a `label`", f"shapes[{index}]")
                continue
            label = shape.get("label")
            if not isinstance(label, str) or not label.strip():
                said = f"the label {label!r:.40} is not text" if label else "the shape has no label"
                self._problem(f"{said}: give it one in LabelMe, or delete the shape", f"shapes[{index}].label")
                continue
            kind = shape.get("shape_type") or "polygon"
            if kind not in _SHAPES:
                text = (
                    f"{str(kind)[:20]} that was left out: only polygons, masks and rectangles say where an instance is"
                )
                self._found.skip(text, f"{self._name} shapes[{index}]")
                continue
            group = shape.get("group_id")
            if group is not None and not isinstance(group, int | str):
                self._problem(f"{group!r:.40} is no group", f"shapes[{index}].group_id")
                continue
            key = (index,) if group is None else (shape["label"], group)
            groups.setdefault(key, []).append((index, shape))
        for parts in groups.values():
            self._add(parts)

    def _add(self, parts: list[tuple[int, Record]]) -> None:
        """One instance of one or several shapes."""
        label = parts[0][1]["label"].strip()
        if label in _NO_CLASSES:
            if label == "__ignore__":
                self._found.skip(
                    "shape of the label '__ignore__' that was left out", f"{self._name} shapes[{parts[0][0]}]"
                )
            return
        boxes = [part for part in parts if part[1].get("shape_type") == "rectangle"]
        if boxes and len(boxes) < len(parts):
            # Tools that box what they outline put both into one group.
            self._findings.warn("rectangle left out: its group has the outline", f"{self._name} shapes[{boxes[0][0]}]")
            parts = [part for part in parts if part not in boxes]
            boxes = []
        where = f"{self._name} shapes[{parts[0][0]}]"
        try:
            masks = [shape for _, shape in parts if shape.get("shape_type") == "mask"]
            if boxes:
                corners = np.concatenate([_corners(shape.get("points")) for _, shape in boxes])
                turned = any(_is_turned(_corners(shape.get("points"))) for _, shape in boxes)
                attributes = self._attributes(boxes[0][1], where)
                self._found.add_rectangle(label, corners, where, attributes, turned=turned)
            else:
                windows = [_read_mask(shape, self._findings, where) for shape in masks]
                polygons = [
                    read_points(_flat(shape.get("points"))) for _, shape in parts if shape.get("shape_type") != "mask"
                ]
                self._found.add_parts(label, polygons, windows, where, self._attributes(parts[0][1], where))
        except EmptyShapeError as error:
            self._found.skip(f"{error}: left out", where)
            return
        except ValueError as error:
            self._problem(str(error), f"shapes[{parts[0][0]}]")
            return
        self.labels.append(label)

    def _attributes(self, shape: Record, where: str) -> Attributes:
        values: Record = {}
        for key in ("flags", "attributes"):
            values |= shape[key] if isinstance(shape.get(key), dict) else {}
        values |= {"group_id": shape["group_id"]} if shape.get("group_id") is not None else {}
        return freeze(values, self._findings, where)

    def _problem(self, message: str, field: str) -> None:
        self._findings.problem(message, self._name, field=field)


def _flat(points: object) -> list[object]:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ValueError("the points must be a list of [x, y]")
    return [value for point in points for value in point]


def _corners(points: object) -> npt.NDArray[np.float64]:
    """Points of a rectangle, float64 [2, 2] of two opposite corners or [4, 2] of all. Raises ValueError."""
    values = _flat(points)
    if len(values) not in (4, 8) or not all(isinstance(v, int | float) and abs(v) < 1e9 for v in values):
        raise ValueError("a rectangle needs two opposite corners, or all four")
    return np.array(values, np.float64).reshape(-1, 2)


def _is_turned(corners: npt.NDArray[np.float64]) -> bool:
    """Whether four corners are not those of an upright rectangle, by more than a pixel."""
    sides = np.stack([corners.min(0), corners.max(0)])
    return len(corners) == 4 and bool((np.abs(corners[:, None] - sides).min(1) > 1).any())


def _read_mask(shape: Record, findings: Findings, where: str) -> tuple[npt.NDArray[np.bool_], int, int]:
    """(bool [h, w], x, y) of a `mask` shape: a PNG in base64 for the box whose corner pixels are the two points.

    A mask that was dragged lies between pixels: its corner is rounded, as LabelMe itself does.
    """
    corners = _flat(shape.get("points"))
    if len(corners) != 4 or not all(isinstance(v, int | float) and abs(v) < 1e9 for v in corners):
        raise ValueError("a mask needs two points, the corners of its box")
    exact = [float(v) for v in corners if isinstance(v, int | float)]
    x0, y0, x1, y1 = (round(v) for v in exact)
    if [x0, y0, x1, y1] != exact:
        findings.warn("mask whose corners lie between pixels: rounded", where)
    try:
        data = base64.b64decode(shape.get("mask") or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("the mask is not base64") from None
    bitmap = decode_mask_png(data).pixels != 0
    if bitmap.ndim != 2 or max(abs(bitmap.shape[1] - x1 + x0 - 1), abs(bitmap.shape[0] - y1 + y0 - 1)) > (
        [x0, y0, x1, y1] != exact
    ):
        size = f"{bitmap.shape[1]}x{bitmap.shape[0]}"
        raise ValueError(f"the mask is {size} pixels, its box {x1 - x0 + 1}x{y1 - y0 + 1}")
    return bitmap, x0, y0


def _files(look: Look) -> list[str]:
    found = [
        name
        for name in look.tree.with_suffix(".json")
        if (peek := look.json(name)) is not None and {"shapes", "imagePath"} <= peek.keys
    ]
    # A damaged file among those of the other images is one of them.
    damaged = [name for name in look.faults if suffix_of(name) == ".json"] if found else []
    return sorted([*found, *damaged])


register(
    AnnotationFormat(
        "labelme",
        "LabelMe",
        "a .json file with `shapes` per image",
        _files,
        read_labelme,
        json_keys=frozenset({"shapes", "imagePath"}),
    )
)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_labelme(dataset: Dataset, draft: Draft, *, masks: bool) -> None:
    """One JSON beside each image, in a folder per split, and `labels.txt`; `masks` writes the pixels themselves."""
    draft.write_lines(_CLASS_LIST, dataset.classes)
    for sample in draft.samples():
        image = draft.copy_image(sample, sample.split or "")
        shapes = [
            _box_shape(sample, label, counts)
            if is_box_only(attributes)
            else _mask_shape(sample, label, counts)
            if masks
            else _polygon_shape(sample, draft, label, counts)
            for label, counts, attributes in sample.instances()
        ]
        shared = [(label, dict(attributes).get("group_id")) for label, _, attributes in sample.instances()]
        for shape, (_, _, attributes), group in zip(shapes, sample.instances(), shared, strict=True):
            # A group that two instances share would be read as one instance of two parts.
            shape |= _attribute_fields(unboxed(attributes), draft, sample, alone=shared.count(group) == 1)
        document: Record = {"version": _VERSION, "flags": {}, "shapes": shapes, "imagePath": PurePosixPath(image).name}
        document |= {"imageData": None, "imageHeight": sample.height, "imageWidth": sample.width}
        draft.write_text(str(PurePosixPath(image).with_suffix(".json")), json.dumps(document, ensure_ascii=False))


def _attribute_fields(attributes: Attributes, draft: Draft, sample: Sample, *, alone: bool) -> Record:
    values = dict(attributes)
    group = values.get("group_id")
    fields: Record = {"group_id": None}
    if isinstance(group, int | str) and not isinstance(group, bool):
        del values["group_id"]
        if alone:
            fields["group_id"] = group
        else:
            draft.lose(
                "a group of several instances, which LabelMe takes for the parts of one: group_id left out", sample
            )
    fields["flags"] = {name: value for name, value in values.items() if isinstance(value, bool)}
    others = {name: value for name, value in values.items() if not isinstance(value, bool)}
    return fields | ({"attributes": others} if others else {})


def _polygon_shape(sample: Sample, draft: Draft, label: str, counts: bytes) -> Record:
    ring = draft.one_ring(sample, trace(counts, sample.height, sample.width))
    return {"label": label, "points": ring.tolist(), "shape_type": "polygon"}


def _box_shape(sample: Sample, label: str, counts: bytes) -> Record:
    x0, y0, x1, y1 = box_of(counts, sample.height, sample.width)
    return {"label": label, "points": [[x0, y0], [x1, y1]], "shape_type": "rectangle"}


def _mask_shape(sample: Sample, label: str, counts: bytes) -> Record:
    bitmap, x, y = window_of(counts, sample.height, sample.width)
    corners = [[x, y], [x + bitmap.shape[1] - 1, y + bitmap.shape[0] - 1]]
    data = base64.b64encode(encode_png(bitmap.astype(np.uint8) * 255)).decode("ascii")
    return {"label": label, "points": corners, "shape_type": "mask", "mask": data}


register_writer(Format("labelme", "LabelMe, polygons", partial(write_labelme, masks=False), False, True, True))
register_writer(Format("labelme-masks", "LabelMe, mask shapes", partial(write_labelme, masks=True), True, True, True))
