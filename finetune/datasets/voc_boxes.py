"""Pascal VOC's boxes: one XML file per image with `object`s, each of a `name` and a `bndbox`.

Coordinates count pixels from 1, the last one included, as VOC's own do. Tools that count from 0 lose half a pixel on
the left and the top by that. `difficult`, `truncated` and `occluded` become attributes. An object may have more than
VOC gives it: the `polygon` of Roboflow (`x1`, `y1`, `x2`, ...) and of the old LabelMe (`pt`s) is its outline, the
`robndbox` of roLabelImg its turned rectangle. Parts of objects are not read. Splits come from `ImageSets/Main/*.txt`,
from folders or from the `folder` that a file names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from xml.sax.saxutils import escape  # only its escaping of text that we write

import numpy as np
import numpy.typing as npt

from finetune.datasets.attributes import freeze, is_box_only, parse_scalar, unboxed
from finetune.datasets.cvat_write import NOT_XML
from finetune.datasets.export import Draft, box_of
from finetune.datasets.findings import Findings
from finetune.datasets.instances import EmptyShapeError, InstanceList, read_points, turned_rectangle
from finetune.datasets.kinds import AnnotationFormat, Format, Look, register, register_writer
from finetune.datasets.locate import ImageFinder, plain_path, usual_folders
from finetune.datasets.per_image import PerImageSource, find_images
from finetune.datasets.tree import IMAGE_SUFFIXES, Tree, split_of, split_word
from finetune.datasets.types import SPLITS, Dataset, Sample
from finetune.datasets.voc import LIST_NAMES
from finetune.datasets.xmlstream import Start, stream_xml
from finetune.errors import DatasetError

ROOT = "annotation"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_COORDINATE = re.compile(r"[xy]\d*")
_FLAGS = ("difficult", "occluded", "truncated")

# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Object:
    line: int
    fields: dict[str, str] = field(default_factory=dict)
    ring: list[str] = field(default_factory=list)
    """x, y, x, y, ... of its outline, where it has one."""
    said: dict[str, str] = field(default_factory=dict)
    """Attributes as CVAT writes them, by name."""
    named: str = ""


@dataclass(slots=True)
class _Document:
    filename: str = ""
    folder: str = ""
    size: dict[str, str] = field(default_factory=dict)
    objects: list[_Object] = field(default_factory=list)


def read_voc_boxes(tree: Tree, names: list[str], findings: Findings) -> PerImageSource:
    """VOC's XML files `names` as one dataset."""
    finder = ImageFinder(tree, findings)
    splits: dict[str, str] = {}
    stems: dict[str, list[str]] = {}
    for image in tree.with_suffix(*IMAGE_SUFFIXES):
        stems.setdefault(PurePosixPath(image).stem, []).append(image)

    def image_of(name: str) -> str:
        folders = [*usual_folders(name, split_of(name)), PurePosixPath(name).parent.parent / "JPEGImages"]
        document = _load(tree, name)
        try:
            image = finder.find(document.filename, folders)
        except ValueError:
            # Many tools write another picture's name for all files: the file's own then says which it is of.
            alike = stems.get(PurePosixPath(name).stem, [])
            if len(alike) != 1:
                raise
            image = alike[0]
        said = split_word(document.folder) or split_of(name) or split_of(plain_path(document.filename))
        if said is not None:
            splits[image] = said
        return image

    documents = find_images(tree, names, image_of, findings, kind="file of boxes", field="filename")
    return PerImageSource(tree, documents, _read_file, splits=splits)


def _read_file(tree: Tree, name: str, found: InstanceList, findings: Findings) -> list[str]:
    document = _load(tree, name)
    said = (document.size.get("width", ""), document.size.get("height", ""))
    # Some tools write zeros where they do not know, and some write 640.0.
    if any(_side(a) not in (0, b) for a, b in zip(said, (found.width, found.height), strict=True)):
        text = f"says {said[0]}x{said[1]} pixels, the image has {found.width}x{found.height}"
        if [_side(a) for a in said] == [found.height, found.width]:
            text += "; was it labelled in a tool that turns pictures by their EXIF tag?"
        findings.problem(text, name, field="size")
        return []
    labels = []
    for item in document.objects:
        if item.fields.get("deleted") == "1":  # the old LabelMe keeps what was taken back
            findings.warn("object that was deleted in LabelMe: not read", f"{name}:{item.line}")
            continue
        label = item.fields.get("name", "")
        if not label:
            findings.problem("the object has no name", name, line=item.line)
            continue
        where = f"{name}:{item.line}"
        try:
            _add(found, label, item, where, findings)
        except EmptyShapeError as error:
            found.skip(f"{error}: left out", where)
        except ValueError as error:
            findings.problem(str(error), name, line=item.line)
        else:
            labels.append(label)
    return labels


def _add(found: InstanceList, label: str, item: _Object, where: str, findings: Findings) -> None:
    """Add an object by the best that it says: its outline, its turned rectangle, its box. Raises ValueError."""
    values = {key: parse_scalar(text) for key, text in item.said.items() if key and key != "rotation"}
    values |= {flag: True for flag in _FLAGS if item.fields.get(flag) == "1"}
    attributes = freeze(values, findings, where)
    degrees = _number(item.said.get("rotation") or "0")
    if item.ring:
        found.add_polygons(label, [read_points([_number(text) for text in item.ring])], where, attributes)
    elif "cx" in item.fields:
        cx, cy, across, down, angle = (_number(item.fields.get(key)) for key in ("cx", "cy", "w", "h", "angle"))
        sides = (cx - across / 2, cy - down / 2, cx + across / 2, cy + down / 2)
        points, turned = turned_rectangle(sides, angle, around=(cx, cy))
        found.add_rectangle(label, points, where, attributes, turned=turned)
    else:
        corners = _corners(item.fields, findings, where)
        if not degrees:
            found.add_box(label, corners, where, attributes)
            return
        # CVAT writes the box as it was before it was turned around its middle.
        (x0, y0), (x1, y1) = corners.tolist()
        around = (x0 + x1) / 2, (y0 + y1) / 2
        points, turned = turned_rectangle((x0, y0, x1, y1), math.radians(degrees), around=around)
        found.add_rectangle(label, points, where, attributes, turned=turned)


def _side(text: str) -> int | None:
    """A side of an image in pixels, 0 where it is not said, None for what is none."""
    try:
        value = float(text or 0)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def _load(tree: Tree, name: str) -> _Document:
    """One file's texts. Raises DatasetError."""
    document = _Document()
    for event in stream_xml(tree.path(name), name):
        if isinstance(event, Start):
            if event.path == (ROOT, "object"):
                document.objects.append(_Object(event.line))
            continue
        text = event.text.strip()
        match event.path:
            case ("annotation", "filename"):
                document.filename = text
            case ("annotation", "folder"):
                document.folder = text
            case ("annotation", "size", side):
                document.size[side] = text
            case ("annotation", "object", "polygon", _) | ("annotation", "object", "polygon", "pt", _):
                if document.objects and _COORDINATE.fullmatch(event.path[-1]):
                    document.objects[-1].ring.append(text)
            case ("annotation", "object", "attributes", "attribute", "name"):
                if document.objects:
                    document.objects[-1].named = text
            case ("annotation", "object", "attributes", "attribute", "value"):
                if document.objects:
                    document.objects[-1].said[document.objects[-1].named] = text
            case ("annotation", "object", key) | ("annotation", "object", "bndbox" | "robndbox", key):
                if document.objects:
                    document.objects[-1].fields[key] = text
    return document


def _corners(fields: Mapping[str, str], findings: Findings, where: str) -> npt.NDArray[np.float64]:
    """x0, y0 and x1, y1 in pixels, float64 [2, 2], the last two exclusive. Raises ValueError."""
    x0, y0, x1, y1 = (_number(fields.get(side)) for side in _SIDES)
    if x1 < x0 or y1 < y0:
        findings.warn("box that was drawn backwards (its width or height is negative): turned round", where)
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    return np.array([[max(0.0, x0 - 1), max(0.0, y0 - 1)], [x1, y1]])


def _number(text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        raise ValueError(f"the bndbox needs numbers for {', '.join(_SIDES)}, not {(text or '')[:40]!r}") from None
    if not abs(value) < 1e9:
        raise ValueError(f"{(text or '')[:40]!r} is not a number of pixels")
    return value


def _files(look: Look) -> list[str]:
    return [name for name in look.tree.with_suffix(".xml") if look.root(name) == ROOT]


register(AnnotationFormat("voc-boxes", "Pascal VOC's boxes", "an .xml file per image", _files, read_voc_boxes))


# --- writing ----------------------------------------------------------------------------------------------------------


def write_voc_boxes(dataset: Dataset, draft: Draft) -> None:
    """`JPEGImages`, `Annotations` and lists of the splits. Raises DatasetError for names that XML cannot hold."""
    for name in dataset.classes:
        if NOT_XML.search(name) or name != name.strip():
            raise DatasetError(f"the class name {name!r} cannot be written in XML; rename the class")
    stems: dict[str | None, list[str]] = {}
    for sample in draft.samples():
        image = PurePosixPath(draft.copy_image(sample, "JPEGImages"))
        stems.setdefault(sample.split, []).append(image.stem)
        draft.write_text(f"Annotations/{image.stem}.xml", _text(sample, image.name, draft))
    for split in SPLITS:
        if split in stems:
            draft.write_text(f"ImageSets/Main/{LIST_NAMES[split]}.txt", "".join(f"{stem}\n" for stem in stems[split]))


def _text(sample: Sample, image: str, draft: Draft) -> Iterator[str]:
    yield f"<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{escape(image)}</filename>\n"
    yield f"  <size><width>{sample.width}</width><height>{sample.height}</height><depth>3</depth></size>\n"
    for label, counts, attributes in sample.instances():
        if not is_box_only(attributes):
            draft.lose("instance with an outline, of which the box alone is written", sample)
        said = dict(unboxed(attributes))
        flags = "".join(f"<{flag}>1</{flag}>" for flag in _FLAGS if said.get(flag) is True)
        if any(name not in _FLAGS or value is not True for name, value in said.items()):
            draft.lose("instance with attributes that VOC's XML has no room for", sample)
        x0, y0, x1, y1 = box_of(counts, sample.height, sample.width)
        sides = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        yield f"  <object><name>{escape(label)}</name>{flags}<bndbox>{sides}</bndbox></object>\n"
    yield "</annotation>\n"


register_writer(Format("voc-boxes", "Pascal VOC's boxes", write_voc_boxes, False, True, False, outlines=False))
