"""Which format a folder is in: found out by what its files hold, never by what they are called alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from finetune.datasets.coco import read_coco
from finetune.datasets.cvat import read_cvat
from finetune.datasets.findings import Findings
from finetune.datasets.idpng import is_id_list, read_ids
from finetune.datasets.jsonstream import LIST, stream_json
from finetune.datasets.labelme import read_labelme
from finetune.datasets.labelstudio import is_task, read_labelstudio
from finetune.datasets.tree import IMAGE_SUFFIXES, Size, Tree, suffix_of
from finetune.datasets.types import Sample
from finetune.datasets.voc import is_voc, read_voc
from finetune.datasets.voc_boxes import ROOT as VOC_ROOT
from finetune.datasets.voc_boxes import read_voc_boxes
from finetune.datasets.xmlstream import root_of
from finetune.datasets.yolo import find_config, has_labels, read_yolo
from finetune.errors import DatasetError


class Source(Protocol):
    """A dataset in one format: its files are found and its class names read, its masks are not.

    `classes` may grow while `samples` runs, in formats that have no list of them.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def images(self) -> tuple[str, ...]: ...
    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]: ...


@dataclass(frozen=True, slots=True)
class Detected:
    """A format's short name, and the annotation files that say so."""

    format: str
    files: list[str] = field(default_factory=list)


_DEPTH = 3
_READERS: dict[str, tuple[str, Callable[[Tree, list[str], Findings], Source]]] = {
    "coco": ("COCO", read_coco),
    "yolo": ("YOLO segmentation", lambda tree, _, findings: read_yolo(tree, findings)),
    "labelme": ("LabelMe", read_labelme),
    "voc-masks": ("Pascal-style masks", read_voc),
    "voc-boxes": ("Pascal VOC's boxes", read_voc_boxes),
    "id-masks": ("id masks", read_ids),
    "cvat": ("CVAT XML", read_cvat),
    "labelstudio": ("Label Studio", read_labelstudio),
}


def detect(tree: Tree) -> Detected:
    """The one format that `tree` is in. Raises DatasetError that says what was seen if it is none or several."""
    found: dict[str, list[str]] = {}
    unreadable: dict[str, DatasetError] = {}
    for name in tree.files:
        try:
            kind = _kind(tree, name) if name.count("/") < _DEPTH else None
        except DatasetError as error:
            if _named_like_one(name):
                raise
            unreadable[name] = error
            continue
        if kind:
            found.setdefault(kind, []).append(name)
    if "labelme" in found:  # a damaged file among those of the other images is one of them
        found["labelme"] = sorted([*found["labelme"], *(name for name in unreadable if suffix_of(name) == ".json")])
    if (config := find_config(tree)) is not None:
        found["yolo"] = [config]
    if (mask := is_voc(tree)) is not None:
        found["voc-masks"] = [mask]
        found.pop("voc-boxes", None)  # VOC's own folders have both; the masks say more
    if not found:
        text = "has label files but no data.yaml with the class names (`names: [box, bag]`)"
        text = text if has_labels(tree) else _nothing_found(tree)
        for fault in list(unreadable.values())[:3]:
            text += f"\n  {fault}"
        raise DatasetError(text, path=Path(tree.root.name))
    if len(found) > 1:
        seen = " and ".join(f"{_READERS[kind][0]} ({files[0]})" for kind, files in sorted(found.items()))
        raise DatasetError(f"holds {seen}; keep the one that is right", path=Path(tree.root.name))
    ((kind, files),) = found.items()
    return Detected(kind, files)


def open_source(tree: Tree, detected: Detected, findings: Findings) -> Source:
    """The dataset in `tree`, ready to be measured and read. Raises DatasetError, or notes problems in `findings`."""
    return _READERS[detected.format][1](tree, detected.files, findings)


def _kind(tree: Tree, name: str) -> str | None:
    """The format that the file `name` is the annotation file of."""
    suffix = suffix_of(name)
    if suffix == ".json":
        return _json_kind(tree, name)
    if suffix == ".xml":
        return {"annotations": "cvat", VOC_ROOT: "voc-boxes"}.get(root_of(tree.path(name), name))
    return "id-masks" if suffix in (".csv", ".txt") and is_id_list(tree, name) else None


def _named_like_one(name: str) -> bool:
    """Whether an unreadable file is named like a dataset's main file: then its fault is the thing to tell."""
    return any(word in PurePosixPath(name).stem.lower() for word in ("annotation", "coco", "instances", "tasks"))


def _json_kind(tree: Tree, name: str) -> str | None:
    keys: set[str] = set()
    for item in stream_json(tree.path(name), name):
        if not item.key:
            if item.number != LIST:
                return "labelstudio" if item.number == 0 and is_task(item.value) else None
            continue
        keys.add(item.key)
        if {"images", "annotations"} <= keys:
            return "coco"
        if {"shapes", "imagePath"} <= keys:
            return "labelme"
        if item.key == "masks" and item.number is not None:
            return "id-masks"
    return "coco" if _named_like_one(name) and "images" in keys else None


def _nothing_found(tree: Tree) -> str:
    kinds = Counter(suffix_of(name) or "no suffix" for name in tree.files)
    there = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
    text = (
        "no dataset found. Looked for COCO (a .json file with `images`, `annotations` and `categories`, at the top or "
        "one per split), YOLO segmentation (data.yaml with `names`, and images/ with labels/), LabelMe (a .json file "
        "with `shapes` per image), Label Studio (a .json file with a list of tasks), CVAT for images (an .xml file), "
        "Pascal VOC's boxes (an .xml file per image), "
        "class and instance masks (SegmentationClass/ and SegmentationObject/) and id masks (masks/ with "
        f"instances.json, a .csv or classes.txt). There is: {there}"
    )
    if not any(kinds[suffix] for suffix in IMAGE_SUFFIXES):
        text += "; no image among them"
    tops = {PurePosixPath(name).parts[0] for name in tree.files}
    if len(tops) == 1 and all("/" in name for name in tree.files):
        text += f". Everything is in the folder '{tops.pop()}': is that the dataset?"
    elif kinds[".xml"]:
        text += ". The XML files are neither CVAT's nor Pascal VOC's"
    return text
