"""Exports like those of public reports, one by one: what each says is read exactly, or refused in words to act on."""

from __future__ import annotations

import base64
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune.datasets import read_dataset
from finetune.datasets.brush import encode_brush
from finetune.errors import DatasetError
from tests.finetune.exports import (
    BOX,
    FAR,
    FULL,
    POINTS,
    Make,
    bndbox,
    coco,
    cvat,
    flat,
    ids,
    is_box,
    labelme,
    mask_shape,
    png,
    region,
    rle,
    row,
    shape,
    studio,
    voc,
    voc_masks,
    yolo,
)
from tests.finetune.folders import HEIGHT, WIDTH, write_image, write_text

A = "a.jpg"
NAMES = "names: [box, bag]\n"


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        write_image(folder / name, seed=number)
    return folder


def text(folder: Path, **files: str) -> Path:
    """Files by name, `__` for a slash and `_dot_` for a dot."""
    for name, content in files.items():
        write_text(folder / name.replace("__", "/").replace("_dot_", "."), content)
    return folder


# --- what is read: the square, as a box or an outline -----------------------------------------------------------------


def rotated_voc(folder: Path) -> Path:
    """CVAT's Pascal VOC: the box as it was before it was turned by a right angle, and the angle as an attribute."""
    said = "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>"
    return voc(pictures(folder, A), A, bndbox(1, 9, 20, 12) + said)


def class_masks(folder: Path, *, head: str, file: str) -> Path:
    """labelme2voc and others: numbers count behind a head that is called otherwise than `background`."""
    voc_masks(folder, f"JPEGImages/{A}", "a")
    return text(folder, **{file: f"{head}\nbox\nbag\n"})


def void_edges(folder: Path) -> Path:
    """Pascal's own masks as grey values: 255 around each object."""
    voc_masks(folder, f"JPEGImages/{A}", "a")
    pixels = FULL.astype(np.uint8)
    pixels[3:5, 3:17] = 255
    for kind in ("Class", "Object"):
        png(folder / f"Segmentation{kind}/a.png", pixels)
    return folder


def damaged(folder: Path, name: str, old: str, new: str) -> Path:
    path = folder / name
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    return folder


def studio_url(reference: str, there: str) -> Make:
    return lambda f: studio(pictures(f, there), reference)


def shared_data_url(folder: Path) -> Path:
    data = io.BytesIO()
    Image.fromarray((FULL * 255).astype(np.uint8)).convert("P").save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return studio(pictures(folder, A), A, region("bitmasklabels", imageDataURL=url))


NFD = unicodedata.normalize("NFD", "Kühlregal_é")
SQUARE: dict[str, Make] = {
    # what a row or a region is
    "voc turned by CVAT": rotated_voc,
    "voc deleted in LabelMe": lambda f: voc(
        pictures(f, A), A, bndbox(6, 6, 15, 15), bndbox(2, 2, 30, 20) + "<deleted>1</deleted>"
    ),
    "voc truncated in Roboflow": lambda f: voc(pictures(f, A), A, "<pose>Unspecified</pose>" + bndbox(6, 6, 15, 15)),
    "voc with parts": lambda f: voc(
        pictures(f, A), A, bndbox(6, 6, 15, 15) + f"<part><name>lid</name>{bndbox(7, 7, 9, 9)}</part>"
    ),
    "voc in floats from nought": lambda f: voc(pictures(f, A), A, bndbox(6.0, 6.0, 15.0, 15.0)),
    "voc another picture's filename": lambda f: voc(pictures(f, A), "template.jpg", name="a.xml"),
    "voc masks behind _background_": lambda f: class_masks(f, head="_background_", file="classes_dot_txt"),
    "voc masks behind __ignore__": lambda f: class_masks(
        f, head="__ignore__\n_background_", file="class_names_dot_txt"
    ),
    "voc masks with grey edges": void_edges,
    "voc masks deep": lambda f: voc_masks(f / "site/line/cam/2024", f"JPEGImages/{A}", "a").parents[3],
    "coco annotator's box": lambda f: coco(
        pictures(f, A), A, {"segmentation": [flat(BOX)], "bbox": [5, 5, 10, 10], "isbbox": True}
    ),
    "coco annotator's outline": lambda f: coco(
        pictures(f, A), A, {"segmentation": [flat(BOX)], "bbox": [5, 5, 10, 10], "isbbox": False}
    ),
    "coco text for iscrowd": lambda f: coco(pictures(f, A), A, {"segmentation": [flat(BOX)], "iscrowd": "0"}),
    "coco null segmentation": lambda f: coco(pictures(f, A), A, {"segmentation": None, "bbox": [5, 5, 10, 10]}),
    "coco empty object": lambda f: coco(pictures(f, A), A, {"segmentation": {}, "bbox": [5.0, 5.0, 10.0, 10.0]}),
    "coco RLE beside outlines": lambda f: coco(pictures(f, A), A, {"segmentation": rle(FULL), "iscrowd": 0}),
    "coco ids in floats": lambda f: coco(
        pictures(f, A), A, {"segmentation": [flat(BOX)], "image_id": 1.0, "category_id": "1.0", "id": 1.0}
    ),
    "labelme box of four corners": lambda f: labelme(pictures(f, A), A, shape(shape_type="rectangle")),
    "labelme box backwards": lambda f: labelme(
        pictures(f, A), A, shape(shape_type="rectangle", points=[[15, 15], [5, 5]])
    ),
    "labelme mask": lambda f: labelme(pictures(f, A), A, mask_shape()),
    "labelme closed twice": lambda f: labelme(pictures(f, A), A, shape(points=[*BOX, BOX[0], BOX[0]])),
    "cvat points in CRLF": lambda f: crlf(cvat(pictures(f, A), A), "annotations.xml"),
    "cvat mask in spaces": lambda f: cvat(
        pictures(f, A), A, '<mask label="box" rle="0,  100" left="5" top="5" width="10" height="10"/>'
    ),
    "cvat a turn and back": lambda f: cvat(
        pictures(f, A), A, '<box label="box" xtl="5" ytl="5" xbr="15" ybr="15" rotation="360.0"/>'
    ),
    "studio palette bitmask": shared_data_url,
    "studio label apart": lambda f: studio(
        pictures(f, A), A, apart("polygon"), {"id": "r1", "type": "labels", "value": {"labels": ["box"]}}
    ),
    "studio brush": lambda f: studio(pictures(f, A), A, region("brushlabels", format="rle", rle=encode_brush(FULL))),
    "studio skipped beside": lambda f: studio(
        pictures(f, A),
        A,
        annotations=[{"was_cancelled": True, "result": []}, {"result": [region()]}],
    ),
    "yolo class in a float": lambda f: yolo(f, f"images/{A}", "labels/a.txt", "0.0" + row(BOX)[1:]),
    "yolo tabs": lambda f: yolo(f, f"images/{A}", "labels/a.txt", row(BOX).replace(" ", "\t")),
    "yolo CRLF": lambda f: crlf(yolo(f, f"images/{A}", "labels/a.txt"), "labels/a.txt"),
    "yolo BOM in the label": lambda f: bom(yolo(f, f"images/{A}", "labels/a.txt"), "labels/a.txt"),
    "yolo BOM in the yaml": lambda f: bom(yolo(f, f"images/{A}", "labels/a.txt"), "data.yaml"),
    "yolo suffix kept": lambda f: yolo(f, f"images/{A}", "labels/a.jpg.txt"),
    "id masks, one class": lambda f: ids(f, f"images/{A}", "masks/a.png"),
    # names
    "studio plus in a name": studio_url("/data/local-files/?d=line 3/a+b.jpg", "line 3/a+b.jpg"),
    "studio hash in a name": studio_url("/data/local-files/?d=line/a#1.jpg", "line/a#1.jpg"),
    "studio ampersand in a name": studio_url("/data/local-files/?d=line/a&b.jpg", "line/a&b.jpg"),
    "studio plus for a space": studio_url("/data/local-files/?d=line/a+b.jpg", "line/a b.jpg"),
    "studio bucket": studio_url("s3://bucket/2024/line%203/a.jpg", "photos/a.jpg"),
    "studio signed URL": studio_url("https://x.example/b/a.jpg?X-Amz-Signature=1&y=2", "photos/a.jpg"),
    "studio encoded prefix": studio_url("/data/upload/7/1a2b3c4d-K%C3%BChl_%281%29.jpg", "Kühl (1).jpg"),
    "studio gs": studio_url("gs://b/IMG.JPG", "img.jpg"),
    "coco dot slash": lambda f: coco(pictures(f, f"x/{A}"), f"./x/{A}"),
    "coco up and down": lambda f: coco(pictures(f, f"images/{A}") / "annotations", f"../images/{A}").parent,
    "coco twins in folders": lambda f: coco(pictures(f, f"x/{A}", f"y/{A}"), f"C:\\data\\x\\{A}"),
    "coco decomposed folder": lambda f: coco(
        pictures(f, f"{NFD}/{A}", f"other/{A}"), f"{unicodedata.normalize('NFC', NFD)}/{A}"
    ),
    "coco space at the end": lambda f: coco(pictures(f, A), f"{A} "),
    "labelme jpeg for jpg": lambda f: labelme(pictures(f, "a.jpeg"), "..\\IMG\\a.jpg", name="x.json"),
    "labelme moved": lambda f: labelme(pictures(f, f"s/{A}", f"t/{A}") / "s", "D:\\old\\a.jpg").parent,
    "cvat folder in the name": lambda f: cvat(pictures(f, f"images/cam 1/{A}", f"images/cam 2/{A}"), f"cam 1/{A}"),
    "voc another folder": lambda f: voc(pictures(f, f"JPEGImages/{A}") / "Annotations", A).parent,
    # depth, commas, encodings
    "deep coco": lambda f: coco(pictures(f / "1/2/3/4/5/6/7/8", A), A).parents[7],
    "deep yolo": lambda f: yolo(f / "1/2/3/4/5/6", f"images/{A}", "labels/a.txt").parents[5],
    "comma in an annotation": lambda f: damaged(coco(pictures(f, A), A), "a.json", '"name": "box"}', '"name": "box",}'),
    "comma in a polygon": lambda f: damaged(labelme(pictures(f, A), A), "a.json", "[5, 15]]", "[5, 15],\n ]"),
    "comma behind the last": lambda f: damaged(
        coco(pictures(f, A), A), "a.json", '"name": "bag"}]', '"name": "bag"},]'
    ),
    "labelme UTF-16": lambda f: recoded(labelme(pictures(f, A), A), "a.json", "utf-16"),
    "coco UTF-16 BE": lambda f: recoded(coco(pictures(f, A), A), "a.json", "utf-16-be"),
    "studio BOM": lambda f: bom(studio(pictures(f, A), A), "export.json"),
    "voc BOM": lambda f: bom(voc(pictures(f, A), A), "a.xml"),
}


def apart(kind: str) -> dict[str, Any]:
    """A region without a label of its own."""
    bare = region("polygonlabels")
    return bare | {"type": kind, "value": {"points": bare["value"]["points"]}}


def crlf(folder: Path, name: str) -> Path:
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"\n", b"\r\n"))
    return folder


def bom(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    return folder


def recoded(folder: Path, name: str, codec: str) -> Path:
    (folder / name).write_bytes((folder / name).read_text().encode(codec))
    return folder


BOXES = (
    "voc turned by CVAT",
    "voc deleted in LabelMe",
    "voc truncated in Roboflow",
    "voc with parts",
    "coco annotator's box",
    "coco null segmentation",
    "labelme box of four corners",
    "cvat a turn and back",
)


@pytest.mark.parametrize("kind", SQUARE)
def test_the_square_is_read(tmp_path: Path, kind: str) -> None:
    dataset = read_dataset(SQUARE[kind](tmp_path))
    sample = dataset.samples[0]
    if kind == "voc turned by CVAT":
        assert sample.truth().boxes.tolist() == [[8, 0, 12, 20]]
    else:
        assert is_box(dataset)
    assert len(dataset.samples) == 1
    assert sample.box_only[0] or kind not in BOXES
    assert not {"_background_", "__ignore__"} & set(dataset.classes)


# --- declared splits --------------------------------------------------------------------------------------------------


def two(folder: Path, make: Callable[[Path, str], object], first: str = A, second: str = "b.jpg") -> Path:
    for name in (first, second):
        make(pictures(folder, first, second), name)
    return folder


def two_coco(
    folder: Path, first: dict[str, Any], second: dict[str, Any], names: tuple[str, str] = (A, "b.jpg")
) -> Path:
    images = [
        {"id": n, "file_name": name} | extra
        for n, (name, extra) in enumerate(zip(names, (first, second), strict=True), 1)
    ]
    listed = [{"segmentation": [flat(BOX)], "image_id": n} for n in (1, 2)]
    return coco(pictures(folder, A, "b.jpg"), "", *listed, images=images)


def two_files(folder: Path, first: str, second: str) -> Path:
    """One COCO file per split."""
    for name, image in ((first, A), (second, "b.jpg")):
        coco(pictures(folder / "images", image).parent, image, name=name)
        pictures(folder / "images", A, "b.jpg")
    return folder


def two_yolo(folder: Path, config: str, places: tuple[str, str] = ("images", "images")) -> Path:
    for number, (place, name) in enumerate(zip(places, "ab", strict=True)):
        yolo(folder, f"{place}/{name}.jpg", f"{place.replace('images', 'labels', 1)}/{name}.txt", config=config)
        write_image(folder / f"{place}/{name}.jpg", seed=number)
    return folder


def two_labelme(folder: Path, **changes: tuple[Any, Any]) -> Path:
    pictures(folder, A, "b.jpg")
    for at, name in enumerate("ab"):
        labelme(folder, f"{name}.jpg", name=f"{name}.json", **{key: pair[at] for key, pair in changes.items()})
    return folder


def two_studio(folder: Path, change: Callable[[str], dict[str, Any]]) -> Path:
    tasks = []
    for name, split in (("a", "train"), ("b", "test")):
        task: dict[str, Any] = {"data": {"image": f"{name}.jpg"}, "annotations": [{"result": [region()]}]}
        tasks.append(
            task | change(split)
            if "data" not in (new := change(split))
            else task | {"data": task["data"] | new["data"]}
        )
    write_text(pictures(folder, A, "b.jpg") / "export.json", json.dumps(tasks))
    return folder


def two_voc(folder: Path, **files: str) -> Path:
    for name in "ab":
        voc(folder / "Annotations", f"{name}.jpg", name=f"{name}.xml")
    return text(pictures(folder, f"JPEGImages/{A}", "JPEGImages/b.jpg"), **files)


DECLARED: dict[str, Make] = {
    "coco words in any case": lambda f: two_coco(f, {"split": "TRAIN"}, {"split": "Test"}),
    "coco null before the folder": lambda f: two_coco(f, {"split": None}, {"split": ""}, ("train/a.jpg", "test/b.jpg")),
    "coco subset": lambda f: two_coco(f, {"subset": "training"}, {"subset": "testing"}),
    "coco files": lambda f: two_files(f, "train.json", "test.json"),
    "coco instances_": lambda f: two_files(
        f, "annotations/instances_train2017.json", "annotations/instances_test2017.json"
    ),
    "coco folders of files": lambda f: two_files(f, "train/labels.json", "test/labels.json"),
    "coco Windows folders": lambda f: two_coco(f, {}, {}, ("D:\\set\\train\\a.jpg", "D:\\set\\test\\b.jpg")),
    "coco table": lambda f: text(two_coco(f, {}, {}), splits_dot_csv="image,split\na.jpg,train\nb.jpg,test\n"),
    "coco tabs": lambda f: text(two_coco(f, {}, {}), s_dot_tsv="filename\tsubset\na\ttrain\nb\ttest\n"),
    "coco JSON of lists": lambda f: text(two_coco(f, {}, {}), split_dot_json='{"train": ["a.jpg"], "test": ["b"]}'),
    "yolo ** patterns": lambda f: two_yolo(
        f, f"train: images/day/**/*.jpg\ntest: images/night/**/*.jpg\n{NAMES}", ("images/day", "images/night")
    ),
    "yolo ** deeper": lambda f: two_yolo(
        f, f"train: images/day/**/*.jpg\ntest: images/night/**/*.jpg\n{NAMES}", ("images/day/x/y", "images/night/z")
    ),
    "yolo sets of letters": lambda f: two_yolo(
        f, f"train: images/[a]*.jpg\ntest: images/?.jp?\n{NAMES}".replace("?.jp?", "[b-z].jp?")
    ),
    "yolo list in quotes": lambda f: text(
        two_yolo(f, f"train: train.txt\ntest: test.txt\n{NAMES}"),
        train_dot_txt='"images/a.jpg"\n',
        test_dot_txt="'./images/b.jpg'\r\n",
    ),
    "yolo list of Windows": lambda f: text(
        two_yolo(f, f"train: .\\train.txt\ntest: .\\test.txt\n{NAMES}"),
        train_dot_txt=".\\images\\a.jpg\r\n",
        test_dot_txt="E:\\x\\images\\b.jpg\r\n",
    ),
    "yolo several lists": lambda f: text(
        two_yolo(f, f"train: [l/one.txt, l/two.txt]\ntest: [l/three.txt]\n{NAMES}"),
        l__one_dot_txt="images/a.jpg\n",
        l__two_dot_txt="",
        l__three_dot_txt="images/b.jpg\n",
    ),
    "yolo list in a folder": lambda f: text(
        two_yolo(f, f"train: lists/day.txt\ntest: lists/night.txt\n{NAMES}"),
        lists__day_dot_txt="../images/a.jpg\n",
        lists__night_dot_txt="../images/b.jpg\n",
    ),
    "yolo folder in capitals": lambda f: two_yolo(
        f, f"Train: Images/Day\nTEST: Images/Night\n{NAMES}".replace("Images", "images"), ("images/day", "images/night")
    ),
    "yolo trailing slash": lambda f: two_yolo(
        f, f"train: images/day/\ntest: ./images/night/\n{NAMES}", ("images/day", "images/night")
    ),
    "yolo test is the judge twice": lambda f: two_yolo(
        f, f"train: images/day\nval: images/day\ntest: images/night\n{NAMES}", ("images/day", "images/night")
    ),
    "yolo autosplit": lambda f: text(
        two_yolo(f, NAMES), autosplit_train_dot_txt="./images/a.jpg\n", autosplit_test_dot_txt="./images/b.jpg\n"
    ),
    "yolo Roboflow folders": lambda f: two_yolo(f, NAMES, ("train/images", "test/images")),
    "voc Layout": lambda f: two_voc(f, ImageSets__Layout__train_dot_txt="a\n", ImageSets__Layout__test_dot_txt="b\n"),
    "voc CVAT's subsets": lambda f: two_voc(
        f, ImageSets__Main__Train_dot_txt="a\n", ImageSets__Main__Test_dot_txt="b\n"
    ),
    "voc trainval beside": lambda f: two_voc(
        f,
        ImageSets__Main__train_dot_txt="a\n",
        ImageSets__Main__trainval_dot_txt="a\n",
        ImageSets__Main__test_dot_txt="b\n",
    ),
    "labelme flags": lambda f: two_labelme(f, flags=({"train": True, "test": False}, {"test": True})),
    "labelme paths": lambda f: two_labelme(f, imagePath=("x/train/a.jpg", "x/test/b.jpg")),
    "studio subset": lambda f: two_studio(f, lambda s: {"data": {"subset": s.upper()}}),
    "studio meta": lambda f: two_studio(f, lambda s: {"meta": {"split": s}}),
    "studio choice": lambda f: two_studio(
        f,
        lambda s: {
            "annotations": [
                {"result": [region(), {"from_name": "split", "type": "choices", "value": {"choices": [s]}}]}
            ]
        },
    ),
    "cvat folders in names": lambda f: (
        write_text(
            pictures(f, "images/train/a.jpg", "images/test/b.jpg") / "annotations.xml",
            "<annotations>"
            + "".join(
                f'<image name="{n}"><polygon label="box" points="{POINTS["near"]}"/></image>'
                for n in ("train/a.jpg", "test/b.jpg")
            )
            + "</annotations>",
        ).parent
    ),
}


@pytest.mark.parametrize("kind", DECLARED)
def test_a_declared_split_is_kept(tmp_path: Path, kind: str) -> None:
    DECLARED[kind](tmp_path)
    assert {s.image.name: s.split for s in read_dataset(tmp_path).samples} == {A: "train", "b.jpg": "test"}


def test_equal_lists_are_no_split_and_training_keeps_its_images(tmp_path: Path) -> None:
    config = f"train: images/day\nval: images/day\n{NAMES}"
    dataset = read_dataset(two_yolo(tmp_path, config, ("images/day", "images/day")))
    assert {s.split for s in dataset.samples} == {"train"}
    assert any("names the same images as train and valid: taken as train" in w for w in dataset.warnings)


# --- refused in words -------------------------------------------------------------------------------------------------

PIXELS = " ".join(str(value) for value in flat(FAR))
WORDS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "coco unknown split": (
        lambda f: coco(pictures(f, A), "", images=[{"id": 1, "file_name": A, "split": "holdout"}]),
        ("a.json [images[0].split]", "'holdout'"),
    ),
    "studio unknown split": (
        lambda f: studio(pictures(f, A), A, data={"image": A, "split": "holdout"}),
        ("export.json", "data.split", "'holdout'"),
    ),
    "yolo pixels": (
        lambda f: yolo(f, f"images/{A}", "labels/a.txt", f"0 {PIXELS}\n"),
        ("labels/a.txt:1", "are these pixels?"),
    ),
    "yolo box in pixels": (
        lambda f: yolo(f, f"images/{A}", "labels/a.txt", "0 20 10 5 5\n"),
        ("labels/a.txt:1", "are these pixels?"),
    ),
    "yolo track": (
        lambda f: yolo(f, f"images/{A}", "labels/a.txt", "0 0.5 0.5 0.1 0.1 7\n"),
        ("labels/a.txt:1", "tracks"),
    ),
    "yolo class beyond": (
        lambda f: yolo(f, f"images/{A}", "labels/a.txt", "7 0.5 0.5 0.1 0.1\n"),
        ("labels/a.txt:1", "names 2 (0 to 1)"),
    ),
    "studio video": (
        lambda f: (
            write_text(
                pictures(f, A) / "e.json", json.dumps([{"data": {"video": "x.mp4"}, "annotations": [{"result": []}]}])
            ).parent
        ),
        ("e.json", "video", "frames"),
    ),
    "studio tasks alone": (
        lambda f: text(pictures(f, A), t_dot_json='[{"data": {"image": "a.jpg"}}]'),
        ("t.json", "without annotations"),
    ),
    "studio two labels": (
        lambda f: studio(
            pictures(f, A),
            A,
            region() | {"value": {"points": region()["value"]["points"], "polygonlabels": ["box", "bag"]}},
        ),
        ("2 labels", "region r1"),
    ),
    "cvat backup": (
        lambda f: text(pictures(f, A), annotations_dot_json='[{"version": 0, "shapes": [], "tracks": [], "tags": []}]'),
        ("annotations.json", "CVAT backup", "CVAT for images 1.1"),
    ),
    "coco results": (
        lambda f: text(pictures(f, A), r_dot_json='[{"image_id": 1, "category_id": 1, "score": 0.5}]'),
        ("r.json", "predictions"),
    ),
    "segment anything": (
        lambda f: text(pictures(f, A), sa_1_dot_json='{"image": {"image_id": 1}, "annotations": []}'),
        ("sa_1.json", "Segment Anything", "COCO"),
    ),
    "cityscapes": (
        lambda f: text(pictures(f, A), a_polygons_dot_json='{"imgHeight": 1, "imgWidth": 1, "objects": []}'),
        ("Cityscapes", "COCO"),
    ),
    "datumaro": (
        lambda f: text(pictures(f, A), annotations__default_dot_json='{"info": {}, "categories": {}, "items": []}'),
        ("annotations/default.json", "Datumaro"),
    ),
    "VIA table": (
        lambda f: text(
            pictures(f, A),
            v_dot_csv="filename,file_size,file_attributes,region_count,region_id,region_shape_attributes\n",
        ),
        ("v.csv", "VGG Image Annotator"),
    ),
    "Roboflow masks": (
        lambda f: text(pictures(f, A), train___classes_dot_csv="Pixel Value, Class\n0, background\n"),
        ("_classes.csv", "which package is which"),
    ),
    "Roboflow classes": (
        lambda f: text(pictures(f, A), train___classes_dot_csv="filename, box, bag\na.jpg, 1, 0\n"),
        ("_classes.csv", "whole images"),
    ),
    "KITTI": (
        lambda f: text(pictures(f, A), label_2__a_dot_txt="box 0 0 0 1 1 2 2 0 0 0 0 0 0 0\n"),
        ("label_2/", "KITTI"),
    ),
    "DOTA": (lambda f: text(pictures(f, A), labelTxt__a_dot_txt="1 1 2 1 2 2 1 2 box 0\n"), ("labelTxt/", "DOTA")),
    "pickle": (lambda f: text(pictures(f, A), x_dot_pkl="x"), ("x.pkl", "never opened")),
    "tiff": (lambda f: tiff(coco(pictures(f, A), "b.tif")), ("b.tif", "PNG")),
    "12-bit grey of another kind": (lambda f: coco(text(f, a_dot_jpg="II*\0"), A), ("a.jpg",)),
    "labelme in the JSON alone": (
        lambda f: labelme(pictures(f, "x.jpg"), "zz.jpg", imageData="abc", name="zz.json"),
        ("zz.json", "lies inside the JSON"),
    ),
    "two candidates": (
        lambda f: coco(pictures(f, "x/cam.PNG", "y/CAM.png"), "cam.png"),
        ("may be x/cam.PNG or y/CAM.png",),
    ),
    "square of NaN": (
        lambda f: damaged(coco(pictures(f, A), A), "a.json", "[5, 5, ", "[NaN, 5, ").joinpath("."),
        ("annotations[0].segmentation", "nan is not a finite number"),
    ),
}


def tiff(folder: Path) -> Path:
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(folder / "b.tif")
    return folder


@pytest.mark.parametrize("kind", WORDS)
def test_refused_in_words_to_act_on(tmp_path: Path, kind: str) -> None:
    make, said = WORDS[kind]
    with pytest.raises(DatasetError) as caught:
        read_dataset(make(tmp_path))
    for part in said:
        assert part in str(caught.value)


# --- labels that were left out ----------------------------------------------------------------------------------------

SKIPPED: dict[str, Make] = {
    "voc deleted": lambda f: voc(
        voc(f, A), "b.jpg", bndbox(6, 6, 15, 15) + "<deleted>1</deleted>", name="b.xml"
    ),
    "coco outlines of nothing": lambda f: two_masks(f, {"segmentation": [[1, 1, 1, 1]]}),
    "coco empty RLE": lambda f: two_masks(f, {"segmentation": rle(np.zeros_like(FULL))}),
    "coco flat box": lambda f: two_masks(f, {"bbox": [3, 3, 0, 5]}),
}  # fmt: skip


def two_masks(folder: Path, other: dict[str, Any]) -> Path:
    images = [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("ab", 1)]
    return coco(folder, "", {"segmentation": [flat(BOX)]}, other | {"image_id": 2}, images=images)


@pytest.mark.parametrize("kind", [k for k in SKIPPED if k != "voc deleted"])
def test_left_out_labels_make_no_background(tmp_path: Path, kind: str) -> None:
    dataset = read_dataset(SKIPPED[kind](pictures(tmp_path, A, "b.jpg")))
    assert [s.name for s in dataset.samples] == [A]
    assert any("no background" in w for w in dataset.warnings)


def test_what_was_deleted_is_no_label(tmp_path: Path) -> None:
    dataset = read_dataset(SKIPPED["voc deleted"](pictures(tmp_path, A, "b.jpg")))
    assert [s.labels for s in dataset.samples] == [("box",), ()]


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_pictures_of_more_bits_are_as_bright_as_they_are_meant(tmp_path: Path, bits: int) -> None:
    levels = np.linspace(0, (1 << bits) - 1, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    Image.fromarray(levels).save(tmp_path / "a.png")
    pixels = read_dataset(coco(tmp_path, "a.png")).samples[0].read_image()
    assert pixels.min() == 0 and pixels.max() == 255
    assert np.abs(pixels[..., 0].astype(int) - (levels >> (bits - 8))).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_pictures_of_any_mode_are_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.where(FULL, 255, 0).astype(np.uint8)
    name = "a.jpg" if mode == "CMYK" else "a.png"
    Image.fromarray(np.stack([grey] * 3, -1)).convert(mode).save(tmp_path / name)
    pixels = read_dataset(coco(tmp_path, name)).samples[0].read_image()
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels[10, 10].min() > 200 and pixels[25, 35].max() < 60
