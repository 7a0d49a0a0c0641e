"""Refusals say in the words of the annotator's tool what to export instead; and the shared cases, one by one."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

import pytest

from finetune.datasets import read_dataset
from finetune.datasets.archive import unpack
from finetune.errors import DatasetError
from tests.finetune.exports import BY_NAME, region, shape
from tests.finetune.folders import HEIGHT, WIDTH, write_image

# --- messages ---------------------------------------------------------------------------------------------------------

MIN = {"image": "/data/upload/1/a.jpg", "id": 1, "label": [], "annotator": 1, "annotation_id": 1}
DRAFT = {"data": {"image": "a.jpg"}, "annotations": [], "predictions": [{"result": [region()]}]}
REFUSED: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "JSON-MIN": ({"p.json": [MIN]}, ("p.json", "JSON-MIN", '"JSON"')),
    "LS CSV": ({"p.csv": "image,id,label,annotator\n"}, ("p.csv", "Label Studio's CSV", '"JSON"')),
    "LS brush": ({"task-1-annotation-2-by-1-tag-box-0.png": "x"}, ("brush export", '"JSON"')),
    "predictions": ({"p.json": [DRAFT]}, ("p.json", "nothing is annotated yet", "predictions", "submit")),
    "CreateML": ({"p.json": [{"image": "a.jpg", "annotations": []}]}, ("CreateML", "COCO")),
    "VIA": ({"p.json": {"a.jpg1": {"filename": "a.jpg", "regions": []}}}, ("VGG Image Annotator", "COCO")),
    "VIA project": ({"p.json": {"_via_img_metadata": {}, "_via_settings": {}}}, ("VGG Image Annotator", "COCO")),
    "Darwin": ({"p.json": {"version": "2.0", "item": {}, "annotations": []}}, ("V7 Darwin", "COCO")),
    "Supervisely": ({"p.json": {"size": {}, "objects": []}}, ("Supervisely", "COCO")),
    "FiftyOne": ({"samples.json": {"samples": []}}, ("FiftyOne", "COCODetectionDataset")),
    "Hasty": ({"p.json": {"project_name": "p", "label_classes": [], "images": []}}, ("Hasty", "COCO")),
    "Segments.ai": ({"p.json": {"name": "v1", "dataset": {"samples": []}}}, ("Segments.ai", "COCO")),
    "Encord": ({"p.json": [{"data_hash": "x", "data_units": {}}]}, ("Encord", "COCO")),
    "Kili": ({"p.json": [{"id": "x", "externalId": "a", "labels": []}]}, ("Kili", "COCO")),
    "YouTube-VIS": ({"p.json": {"videos": [], "annotations": [], "categories": []}}, ("YouTube-VIS", "COCO")),
    "SOLO": ({"step0.frame_data.json": {"frame": 2, "captures": []}}, ("Unity", "COCO")),
    "Ground Truth": ({"output.manifest": "{}"}, ("Ground Truth", "COCO")),
    "masks in a table": ({"train.csv": "ImageId,EncodedPixels\n"}, ("table of masks", "COCO")),
    "Open Images": ({"m.csv": "MaskPath,ImageID,LabelName,BoxXMin\n"}, ("table of masks", "COCO")),
    "MOTS": ({"instances/0001/000000.png": "x", "instances/labels.txt": "box\n"}, ("MOTS", "COCO 1.0")),
    "CVAT backup of one job": ({"p.json": {"version": 0, "tags": [], "shapes": [], "tracks": []}}, ("CVAT backup",)),
    "Labelbox": ({"p.ndjson": "{}"}, ("Labelbox", "COCO")),
    "Roboflow CSV": ({"_annotations.csv": "filename,width,height,class,xmin,ymin\n"}, ("table of boxes", "COCO")),
    "no annotations": ({"p.json": {"images": [], "categories": []}}, ("COCO without `annotations`",)),
    "no images": ({"p.json": {"categories": [], "annotations": []}}, ("COCO without `images`",)),
    "video": (
        {"annotations.xml": '<annotations><track id="0"/></annotations>'},
        ("for video", '"CVAT for images 1.1"'),
    ),
    "classes alone": ({"SegmentationClass/a.png": "x"}, ("no SegmentationObject", "Segmentation mask")),
    "masks alone": ({"masks/a.png": "x"}, ("masks/", "classes.txt")),
    "labels alone": ({"labels/a.txt": "0 0.5 0.5 0.1 0.1"}, ("no data.yaml", "classes.txt", "labels/a.txt")),
    "archive": ({"x.zip": "x"}, ("x.zip", "unpack it")),
    "images alone": ({}, ("no annotation among them",)),
    "confidence": (
        {"images/a.txt": "0 0.5 0.5 0.1 0.1 0.9", "data.yaml": "names: [box]"},
        ("images/a.txt:1", "confidence"),
    ),
    "latin-1": (
        {
            "a.json": json.dumps({"shapes": [shape(label="Größe")], "imagePath": "a.jpg"}, ensure_ascii=False).encode(
                "latin-1"
            )
        },
        ("a.json", "save it as UTF-8"),
    ),
    "damaged list": ({"a.txt": "0 0 0 1 0 1 1\n", "data.yaml": "names: [a\nb: ]"}, ("data.yaml:2", "is not YAML")),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_say_what_to_export_instead(tmp_path: Path, kind: str) -> None:
    files, said = REFUSED[kind]
    write_image(tmp_path / ("images/a.jpg" if kind == "confidence" else "a.jpg"))
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path)
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize("make", ["coco", "cvat", "labelme", "labelstudio", "voc"])
def test_turned_pictures_are_spoken_of_as_such(tmp_path: Path, make: str) -> None:
    write_image(tmp_path / "a.jpg", width=HEIGHT, height=WIDTH)
    with pytest.raises(DatasetError, match="EXIF"):
        read_dataset(BY_NAME[make](tmp_path, "a.jpg"))


# --- the shared cases -------------------------------------------------------------------------------------------------

CASES = Path(os.environ.get("PARCELHUB_SHARED_CASES", Path(__file__).parents[4] / "shared" / "cases"))


def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_datasets", CASES / "run_datasets.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# CVAT's folder `images/Train` and `Train: Train.txt` in its data.yaml declare a split, which the case does not list.
_DECLARED = {"10-cvat-yolo-nested-images-folder": "split train instead of None"}


@pytest.mark.skipif(not (CASES / "run_datasets.py").is_file(), reason="the shared cases are not on this machine")
@pytest.mark.parametrize("case", sorted(p.parent.name for p in (CASES / "datasets").glob("*/expected.json")))
def test_shared_case(tmp_path: Path, case: str) -> None:
    from finetune.datasets import export_dataset

    expected = json.loads((CASES / "datasets" / case / "expected.json").read_text())
    source = next((CASES / "datasets" / case / "data").glob("*.zip"), CASES / "datasets" / case / "data")
    if source.suffix == ".zip":
        unpack(source, tmp_path / "in")
        source = tmp_path / "in"
    if "accept" not in expected:
        try:
            assert read_dataset(source).warnings, "read without a word"
        except DatasetError as error:
            assert error.path is not None
        return
    export_dataset(read_dataset(source), tmp_path / "out", "coco")
    report = runner().compare(tmp_path / "out", expected)
    assert [line for line in report if not line.endswith(_DECLARED.get(case, "\0"))] == []
