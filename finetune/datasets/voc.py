"""Pascal-style masks: two PNGs per image, one with a class and one with an instance number per pixel.

`JPEGImages`, `SegmentationClass`, `SegmentationObject`, the splits in `ImageSets/Segmentation/*.txt`, the classes in
`labelmap.txt` (as CVAT writes it: `name:r,g,b:parts:actions`) or in `classes.txt` (one name per line from index 1).
PNGs hold indices into a palette, grey values or plain colours; 0 (black) is background and Pascal's index 255 with its
pale yellow is "unknown": no instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import is_box_only
from finetune.datasets.classes import is_background
from finetune.datasets.export import Draft
from finetune.datasets.findings import Findings
from finetune.datasets.idmap import TWO_VALUES, one_value, paint, pieces, present_values, windows_of_ids
from finetune.datasets.instances import InstanceList
from finetune.datasets.kinds import AnnotationFormat, Format, Look, register, register_writer
from finetune.datasets.limits import decimal
from finetune.datasets.locate import NameIndex, stem_of
from finetune.datasets.pngs import MaskPng, decode_mask_png, distinct_colours, encode_png
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, read_text, split_of
from finetune.datasets.types import SPLITS, Dataset, Sample
from finetune.errors import DatasetError

CLASS_FOLDER, OBJECT_FOLDER = "SegmentationClass", "SegmentationObject"
_LABELMAP = "labelmap.txt"
_CLASS_LISTS = ("classes.txt", "label_names.txt", "class_names.txt")
_MASK_FOLDERS = {CLASS_FOLDER, OBJECT_FOLDER}
_UNKNOWN = 0xE0E0C0
_UNKNOWN_INDEX = 255
_BACKGROUND = "background"
LIST_NAMES = {"train": "train", "valid": "val", "test": "test"}

IntArray = npt.NDArray[np.int64]

# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two masks of an image, as paths in the tree."""

    classes: str
    objects: str


@dataclass(frozen=True, slots=True)
class VocSource:
    """A folder of Pascal-style masks. `colours` gives the class of a colour (0xRRGGBB), where they are named."""

    tree: Tree
    classes: tuple[str, ...]
    colours: Mapping[int, str]
    pairs: Mapping[str, _Pair]
    split_lists: bool = True

    @property
    def images(self) -> tuple[str, ...]:
        """The images that have a mask, as paths in the tree."""
        return tuple(self.pairs)

    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]:
        """The samples whose image has a size; a mask that cannot be read is a problem among the findings."""
        for image, pair in self.pairs.items():
            if image not in sizes:
                continue
            found = InstanceList(*sizes[image], findings)
            try:
                self._read(pair, found, findings)
            except DatasetError as error:
                findings.problem(error.reason, str(error.path))
                continue
            split = split_of(image) or split_of(pair.objects)
            if (sample := found.sample(self.tree.path(image), image, split, None)) is not None:
                yield sample

    def _read(self, pair: _Pair, found: InstanceList, findings: Findings) -> None:
        objects_png = load_mask(self.tree, pair.objects, found.height, found.width)
        classes_png = load_mask(self.tree, pair.classes, found.height, found.width)
        classes = self._class_numbers(classes_png, pair.classes)
        # Indices, not the palette's colours: it may use one colour twice.
        objects = _numbers(objects_png.pixels)
        unknown = objects == (_UNKNOWN_INDEX if objects_png.palette is not None else _UNKNOWN)
        if (
            classes_png.pixels.ndim == objects_png.pixels.ndim == 2
        ):  # without a palette 255 is unknown where both say it
            unknown |= (objects == _UNKNOWN_INDEX) & (classes_png.pixels == _UNKNOWN_INDEX) & (classes < 0)
        objects[unknown] = 0
        if unknown.any() and not objects.any():
            found.skip('region of the "unknown" colour, left out', pair.objects)
        if one_value(objects) in (255, 0xFFFFFF) and pieces(objects) > 1:
            raise DatasetError(TWO_VALUES, path=Path(pair.objects))
        for number, bitmap, x, y in windows_of_ids(objects):
            where = f"{pair.objects} instance {number}"
            inside = classes[y : y + bitmap.shape[0], x : x + bitmap.shape[1]][bitmap]
            kinds = np.unique(inside[inside >= 0])
            if kinds.size == 1 and not (inside < 0).any():
                found.add_bitmap(self.classes[int(kinds[0])], bitmap, where, x=x, y=y)
            elif kinds.size == 0:
                findings.problem(f"instance {number} has no class in {pair.classes}", pair.objects)
            else:
                names = ", ".join(self.classes[int(kind)] for kind in kinds)
                none = " and no class at all" if (inside < 0).any() else ""
                findings.problem(f"instance {number} covers {names}{none} in {pair.classes}", pair.objects)

    def _class_numbers(self, png: MaskPng, name: str) -> IntArray:
        """Index into `classes` of each pixel, -1 where there is none. Raises DatasetError for unknown classes."""
        values = _numbers(png.pixels)
        # Without colours the numbers count the classes from 1, behind the background.
        known = {0: -1, _UNKNOWN_INDEX: -1} | {number + 1: number for number in range(len(self.classes))}
        if self.colours and png.palette is not None:
            meanings = [self._class_of(colour) for colour in _numbers(png.palette[None])[0].tolist()]
            known = {index: number for index, number in enumerate(meanings) if number is not None}
        elif png.pixels.ndim == 3:
            if not self.colours:
                raise DatasetError(f"has colours, and there is no {_LABELMAP} that names them", path=Path(name))
            found = {colour: self._class_of(colour) for colour in present_values(values).tolist()}
            known = {colour: number for colour, number in found.items() if number is not None}
        present = present_values(values)
        unknown = [value for value in present.tolist() if value not in known]
        if unknown:
            said = f"the value {unknown[0]}" if png.pixels.ndim == 2 else f"the colour #{unknown[0]:06x}"
            raise DatasetError(f"holds {said}, which is no class ({len(self.classes)} are named)", path=Path(name))
        return np.array([known[value] for value in present.tolist()])[np.searchsorted(present, values)]

    def _class_of(self, colour: int) -> int | None:
        """Index into `classes` of a colour: -1 for background and unknown, None where nothing names it."""
        if name := self.colours.get(colour):
            return self.classes.index(name)
        if name == "":  # another word for the background
            return -1
        return -1 if colour in (0, _UNKNOWN) else None


def _numbers(pixels: npt.NDArray[np.integer]) -> IntArray:
    """One number per pixel: colours as 0xRRGGBB, others as they are."""
    wide = pixels.astype(np.int64)
    return wide if wide.ndim == 2 else wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def load_mask(tree: Tree, name: str, height: int, width: int) -> MaskPng:
    """The mask file `name`, of an image of height x width. Raises DatasetError."""
    try:
        png = decode_mask_png(tree.path(name).read_bytes())
    except ValueError as error:
        raise DatasetError(str(error), path=Path(name)) from None
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=Path(name)) from error
    if png.pixels.shape[:2] != (height, width):
        size = f"{png.pixels.shape[1]}x{png.pixels.shape[0]}"
        raise DatasetError(f"is {size} pixels, the image has {width}x{height}", path=Path(name))
    return png


def read_voc(tree: Tree, _names: list[str], findings: Findings) -> VocSource:
    """The masks in `tree` as a dataset. Raises DatasetError if the classes are not named."""
    classes, colours = _class_names(tree)
    index = NameIndex(n for n in tree.with_suffix(*IMAGE_SUFFIXES) if not _MASK_FOLDERS & set(n.split("/")[:-1]))
    files = set(tree.files)
    pairs: dict[str, _Pair] = {}
    for name in tree.with_suffix(".png"):
        parts = PurePosixPath(name).parts
        if OBJECT_FOLDER not in parts:
            continue
        at = parts.index(OBJECT_FOLDER)
        beside = PurePosixPath(*parts[:at], CLASS_FOLDER, *parts[at + 1 :]).as_posix()
        top, inner = PurePosixPath(*parts[:at]), PurePosixPath(*parts[at + 1 :])
        near = [top / folder / inner.parent for folder in ("JPEGImages", "images", "")]
        images = index.match(stem_of(inner.as_posix()), near).files
        if beside not in files:
            findings.problem(f"there is no {beside} with its classes", name)
        elif len(images) != 1:
            findings.problem(f"may belong to {' or '.join(images[:4])}" if images else "mask without its image", name)
        elif images[0] in pairs:
            findings.problem(f"{images[0]} has two masks, {pairs[images[0]].objects} and this", name)
        else:
            pairs[images[0]] = _Pair(beside, name)
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        if image not in pairs and not _MASK_FOLDERS & set(image.split("/")[:-1]):
            findings.warn("image without masks that was left out", image)
    return VocSource(tree, classes, colours, pairs)


def _class_names(tree: Tree) -> tuple[tuple[str, ...], dict[int, str]]:
    by_name: dict[str, str] = {}
    for name in sorted(tree.files, key=lambda name: name.count("/")):
        by_name.setdefault(PurePosixPath(name).name.lower(), name)
    if _LABELMAP in by_name:
        return _labelmap(tree, by_name[_LABELMAP])
    for option in _CLASS_LISTS:
        if option in by_name:
            lines = [line.strip() for line in read_text(tree, by_name[option]).splitlines()]
            names = [line for line in lines if line and not is_background(line)]
            if not names or len(set(names)) != len(names):
                raise DatasetError("must name each class once, one per line", path=Path(by_name[option]))
            return tuple(names), {}
    raise DatasetError(
        f"has masks but no {_LABELMAP} (name:r,g,b::) or {_CLASS_LISTS[0]} that names the classes",
        path=Path(tree.root.name),
    )


def _labelmap(tree: Tree, name: str) -> tuple[tuple[str, ...], dict[int, str]]:
    colours: dict[int, str] = {}
    names: list[str] = []
    for number, line in enumerate(read_text(tree, name).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        label, *rest = line.split(":")
        channels = [decimal(one) for one in rest[0].split(",")] if rest else []
        known = [one for one in channels if one is not None and one < 256]
        if not label.strip() or len(channels) != 3 or len(known) != 3:
            raise DatasetError("expecting name:red,green,blue:parts:actions", path=Path(name), line=number)
        colour = known[0] << 16 | known[1] << 8 | known[2]
        label = label.strip()
        if is_background(label):
            if colour not in (0, _UNKNOWN):
                colours[colour] = ""
            continue
        if label in names or colour in colours:
            raise DatasetError(f"{label!r} or its colour is there twice", path=Path(name), line=number)
        names.append(label)
        colours[colour] = label
    if not names:
        raise DatasetError("names no class but the background", path=Path(name))
    return tuple(names), colours


def _files(look: Look) -> list[str]:
    return [name for name in look.tree.with_suffix(".png") if OBJECT_FOLDER in PurePosixPath(name).parts][:1]


register(
    AnnotationFormat(
        "voc-masks",
        "Pascal-style masks",
        "class and instance PNGs in SegmentationClass/ and SegmentationObject/",
        _files,
        read_voc,
        before=("voc-boxes",),  # VOC's own folders have both; the masks say more
    )
)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_voc(dataset: Dataset, draft: Draft) -> None:
    """Images, both masks, `labelmap.txt` and lists of the splits. Raises DatasetError for over 254 classes."""
    if len(dataset.classes) >= _UNKNOWN_INDEX:
        raise DatasetError(f"{len(dataset.classes)} classes; a class mask has room for {_UNKNOWN_INDEX - 1}")
    palette = distinct_colours()
    lines = ["# label:color_rgb:parts:actions", f"{_BACKGROUND}:0,0,0::"]
    for name, colour in zip(dataset.classes, palette[1:].tolist(), strict=False):
        if ":" in name or is_background(name):
            raise DatasetError(f"the class name {name!r} cannot be written in a {_LABELMAP}")
        lines.append(f"{name}:{','.join(map(str, colour))}::")
    draft.write_lines(_LABELMAP, lines)
    numbers = {name: number for number, name in enumerate(dataset.classes, 1)}
    stems: dict[str | None, list[str]] = {}
    for sample in draft.samples():
        image = PurePosixPath(draft.copy_image(sample, "JPEGImages"))
        stems.setdefault(sample.split, []).append(image.stem)
        ids = paint(sample, draft)
        kinds = np.array([0, *(numbers[label] for label in sample.labels)], np.uint8)
        # Beyond 254 instances the numbers need 16 bits, and there is no palette of that size.
        small = ids.astype(np.uint8) if len(sample.masks) < _UNKNOWN_INDEX else None
        objects = encode_png(ids) if small is None else encode_png(small, palette)
        draft.write_bytes(f"{OBJECT_FOLDER}/{image.stem}.png", objects)
        draft.write_bytes(f"{CLASS_FOLDER}/{image.stem}.png", encode_png(kinds[ids], palette))
        for attributes in filter(None, sample.attributes):
            if is_box_only(attributes):
                draft.lose(
                    "box without an outline, written as a filled mask: other tools take it for an outline", sample
                )
                continue
            draft.lose(f"instance with attributes ({attributes[0][0]}, ...), which masks have no room for", sample)
    for split in SPLITS:
        if split in stems:
            draft.write_text(f"ImageSets/Segmentation/{LIST_NAMES[split]}.txt", "".join(f"{s}\n" for s in stems[split]))


register_writer(
    Format("voc-masks", "Pascal-style class and instance PNGs", write_voc, True, overlaps=False, attributes=False)
)
