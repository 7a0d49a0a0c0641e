"""Words for who brought something that is not read: what it is in the terms of its tool, and what to export instead."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from finetune.datasets.kinds import JsonPeek, Look, annotation_formats
from finetune.datasets.tree import IMAGE_SUFFIXES, suffix_of

_COCO = "COCO with segmentation"
_CVAT = 'the task\'s dataset ("Export task dataset": "CVAT for images 1.1", with "Save images")'
# Members that show a JSON object of another tool: all of the first, any of the second if there are any.
_OBJECTS: tuple[tuple[frozenset[str], str, str], ...] = (
    (frozenset({"_via_img_metadata"}), "a project of the VGG Image Annotator (VIA)", 'its "COCO format" annotations'),
    (frozenset({"item", "annotations"}), "V7 Darwin JSON", _COCO),
    (frozenset({"metadata", "instances"}), "SuperAnnotate JSON", _COCO),
    (frozenset({"size", "objects"}), "Supervisely JSON", 'COCO, with the app "Export to COCO"'),
    (frozenset({"asset", "regions"}), "VoTT JSON", "Pascal VOC"),
    (frozenset({"assets", "tags"}), "VoTT's JSON export", "Pascal VOC"),
    (frozenset({"project", "file", "metadata"}), "a project of the VGG Image Annotator 3 (VIA)", _COCO),
    (frozenset({"dataset", "image", "annotations"}), "V7 Darwin JSON (version 1)", _COCO),
    (frozenset({"categories", "items"}), "Datumaro JSON", _COCO),
    (frozenset({"image", "annotations"}), "Segment Anything's JSON", _COCO),
    (frozenset({"imgHeight", "objects"}), "Cityscapes JSON", _COCO),
    (frozenset({"frames", "name"}), "Scalabel (BDD100K) JSON", _COCO),
    (frozenset({"label_classes", "images"}), "Hasty JSON", _COCO),
    (frozenset({"name", "dataset"}), "a release of Segments.ai", f"{_COCO} (its instance segmentation)"),
    (frozenset({"object_hash", "data_units"}), "Encord JSON", _COCO),
    (frozenset({"objects", "classifications"}), "Encord's ontology", f"the labels, as {_COCO}"),
    (frozenset({"videos", "annotations"}), "YouTube-VIS JSON of videos", f"the frames, as {_COCO}"),
    (frozenset({"captures"}), "Unity Perception's SOLO", _COCO),
    (frozenset({"filename", "annotations", "metadata"}), "Dataloop JSON", _COCO),
    (frozenset({"shapes", "tracks"}), "of a CVAT backup", _CVAT),
    (frozenset({"samples"}), "FiftyOne's own dataset", "fiftyone.types.COCODetectionDataset"),
)
_ELEMENTS: tuple[tuple[frozenset[str], str, str], ...] = (
    (frozenset({"annotator"}), "Label Studio's JSON-MIN", '"JSON" (not JSON-MIN)'),
    (frozenset({"annotation_id"}), "Label Studio's JSON-MIN", '"JSON" (not JSON-MIN)'),
    (frozenset({"image", "annotations"}), "CreateML JSON", f"{_COCO}, or YOLO"),
    (frozenset({"Labeled Data"}), "Labelbox JSON", _COCO),
    (frozenset({"data_hash", "data_units"}), "Encord JSON", _COCO),
    (frozenset({"externalId", "labels"}), "Kili JSON", _COCO),
    (frozenset({"task_id", "response"}), "Scale's tasks", _COCO),
    (frozenset({"name", "labels", "frameIndex"}), "Scalabel (BDD100K) JSON", _COCO),
    (frozenset({"name", "labels", "attributes"}), "Scalabel (BDD100K) JSON", _COCO),
    (frozenset({"data_row"}), "Labelbox JSON", _COCO),
    (
        frozenset({"shapes", "tracks"}),
        "of a CVAT backup",
        _CVAT,
    ),
    (
        frozenset({"image_id", "score"}),
        "COCO results, which are a model's predictions",
        "the annotations (COCO instances)",
    ),
    (frozenset({"data"}), "a list of Label Studio's tasks without annotations", '"JSON" after labelling'),
    (frozenset({"file_name", "annotations"}), "Detectron2's list of dictionaries", _COCO),
)
_VIA_ENTRY = frozenset({"filename", "regions"})
_BRUSH_EXPORT = re.compile(r"task-\d+-annotation-\d+-by-\d+")
_LABEL_STUDIO_TABLE = frozenset({"annotator", "annotation_id", "lead_time"})
_SUFFIXES = {
    ".ndjson": "NDJSON (Labelbox?)",
    ".jsonl": "JSON lines (as for training language models, or an image folder's metadata)",
    ".manifest": "a manifest of SageMaker Ground Truth",
    ".tfrecord": "TensorFlow's TFRecord",
    ".record": "TensorFlow's TFRecord",
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".pkl": "a Python pickle, which is never opened",
    ".npz": "NumPy's arrays",
    ".npy": "NumPy's arrays",
    ".mat": "MATLAB's data",
    ".h5": "HDF5",
    ".mp4": "a video",
}
_FOLDERS = {
    "label_2": "KITTI",
    "labelTxt": "DOTA (turned boxes with class names)",
    "gtFine": "Cityscapes",
}
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


def explain(look: Look) -> str:
    """Why a folder is no dataset: the first thing in it that is known, or what was looked for."""
    return next(_known(look), None) or _nothing(look)


def _known(look: Look) -> Iterator[str]:
    tree = look.tree
    for name in tree.with_suffix(".json"):
        peek = look.json(name)
        said = _json(peek) if peek is not None else None
        if said:
            yield f"{name} is {said}"
    for name in tree.with_suffix(".csv", ".tsv"):
        header = _header(look, name)
        if header & _LABEL_STUDIO_TABLE:
            yield f'{name} is Label Studio\'s CSV: export "JSON" instead'
        elif "region_shape_attributes" in header:
            yield f'{name} is CSV of the VGG Image Annotator (VIA): export its "COCO format" annotations instead'
        elif any(column.startswith("pixel value") for column in header):
            yield f"{name} is of masks of classes, which do not say which package is which: export {_COCO} instead"
        elif name.lower().rsplit("/", 1)[-1] == "_classes.csv":
            yield f"{name} says what whole images show, and outlines nothing: export {_COCO} instead"
        elif name.lower().rsplit("/", 1)[-1] == "metadata.csv" and "file_name" in header:
            yield f"{name} is the table of an image folder of the `datasets` library: export {_COCO} instead"
        elif {"encodedpixels", "maskpath", "rle", "segmentation"} & header or {
            "annotation",
            "width",
            "height",
        } <= header:
            yield f"{name} is a table of masks (like Open Images' or a Kaggle contest's): export {_COCO} instead"
        elif {"xmin", "x_min", "bbox"} & header or _rows_of_boxes(header):
            yield f"{name} is a table of boxes (like Roboflow's TensorFlow CSV): export {_COCO}, or Pascal VOC, instead"
    for name in tree.files:
        stem = PurePosixPath(name).name
        if _BRUSH_EXPORT.match(stem) and suffix_of(name) in (".png", ".npy"):
            yield f'{name} is of Label Studio\'s brush export, which keeps no instances: export "JSON" instead'
        if stem == "label_colors.txt":
            yield f"{name} is CamVid's list of colours, whose masks do not say which package is which: export {_COCO}"
        if suffix_of(name) in _SUFFIXES:
            yield f"{name} is {_SUFFIXES[suffix_of(name)]}: export {_COCO} instead"
    folders = {part for name in tree.files for part in name.split("/")[:-1]}
    for folder, what in _FOLDERS.items():
        if folder in folders:
            yield f"has {folder}/ like {what}: export {_COCO} instead"
    if "SegmentationClass" in folders:
        yield (
            "has SegmentationClass and no SegmentationObject: masks of classes do not say which package is which. "
            'Export with instances (CVAT: "Segmentation mask" has both), or COCO'
        )
    if "instances" in folders and tree.with_suffix(".png"):
        yield f'has instances/ like MOTS and KITTI: export {_COCO} instead (in CVAT: "COCO 1.0")'
    if "masks" in folders and tree.with_suffix(".png"):
        yield (
            "has masks/ and nothing that says what their numbers are: add classes.txt (one class per line), a .csv "
            "with image,id,class or instances.json"
        )
    texts = [name for name in tree.with_suffix(".txt") if "labels" in name.split("/")[:-1] or _rows(look, name)]
    if texts:
        yield (
            "has label files but no data.yaml with the class names (`names: [box, bag]`), nor a classes.txt or "
            f"obj.names (the first label file: {texts[0]})"
        )
    archives = tree.with_suffix(*_ARCHIVES)
    if archives:
        yield f"holds an archive, {archives[0]}: bring that one itself, or unpack it"


def _json(peek: JsonPeek) -> str | None:
    first = peek.first
    keys = frozenset(first) if peek.is_list and isinstance(first, dict) else peek.keys
    for wanted, what, instead in _ELEMENTS if peek.is_list else _OBJECTS:
        if wanted <= keys:
            return f"{what}: export {instead} instead"
    if not peek.is_list and isinstance(first, dict) and frozenset(first) >= _VIA_ENTRY:
        return 'JSON of the VGG Image Annotator (VIA): export its "COCO format" annotations instead'
    if {"annotations", "categories"} <= keys:
        return "COCO without `images`: nothing says which picture an annotation is of; export again, whole"
    if {"images", "categories"} <= keys:
        return "COCO without `annotations`: nothing is labelled in it; export the instances"
    return None


def _header(look: Look, name: str) -> frozenset[str]:
    try:
        with look.tree.path(name).open(encoding="utf-8-sig", errors="replace") as file:
            return frozenset(word.strip().strip('"').lower() for word in re.split("[,;\t]", file.readline(4096)))
    except OSError:
        return frozenset()


def _rows_of_boxes(first: frozenset[str]) -> bool:
    """Whether a table's first line is no head: a class, a picture, and numbers (MakeSense's CSV)."""
    numbers = sum(re.fullmatch(r"\d+(\.\d+)?", word) is not None for word in first)
    return numbers >= 3 and any(word.endswith(tuple(IMAGE_SUFFIXES)) for word in first)


def _rows(look: Look, name: str) -> bool:
    """Whether a text file lies beside an image of its name and begins with a row of numbers."""
    stem = name.rsplit(".", 1)[0]
    if not any(f"{stem}{suffix}" in look.tree.files for suffix in IMAGE_SUFFIXES):
        return False
    try:
        with look.tree.path(name).open("rb") as file:
            return all(re.fullmatch(rb"[-+.\deE]+", word) for word in file.readline(4096).split())
    except OSError:
        return False


def _nothing(look: Look) -> str:
    tree = look.tree
    kinds = Counter(suffix_of(name) or "no suffix" for name in tree.files)
    there = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
    sought = [f"{known.title} ({known.sought})" for known in annotation_formats()]
    text = f"no dataset found. Looked for {', '.join(sought[:-1])} and {sought[-1]}. There is: {there}"
    if not any(kinds[suffix] for suffix in IMAGE_SUFFIXES):
        text += "; no image among them"
    elif set(kinds) <= IMAGE_SUFFIXES:
        text += "; no annotation among them: export the labels too"
    tops = {PurePosixPath(name).parts[0] for name in tree.files}
    if len(tops) == 1 and all("/" in name for name in tree.files):
        text += f". Everything is in the folder '{tops.pop()}': is that the dataset?"
    elif kinds[".xml"]:
        text += ". The XML files are neither CVAT's nor Pascal VOC's"
    return text
