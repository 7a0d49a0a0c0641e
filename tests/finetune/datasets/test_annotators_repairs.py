"""One repairable value refuses no dataset, and no picture becomes background because its labels were left out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.datasets import read_dataset
from finetune.datasets.archive import unpack
from finetune.datasets.brush import encode_brush
from finetune.errors import DatasetError
from tests.finetune.exports import (
    BOX,
    BY_NAME,
    FAR,
    FULL,
    POINTS,
    RUNS,
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

# --- one repairable value does not refuse a dataset -------------------------------------------------------------------

EMPTY = {"coco": {"segmentation": [[1, 1, 5, 5]]}, "labelme": shape(points=[])}
GOOD_POLYGON = f'<polygon label="box" points="{POINTS["near"]}"/>'
REPAIRED: dict[str, tuple[Make, str]] = {
    "coco two points": (lambda f: coco(f, "a.jpg", {"segmentation": [flat(BOX)]}, EMPTY["coco"]), "at least 3 points"),
    "coco ring of two": (
        lambda f: coco(f, "a.jpg", {"segmentation": [[1, 1, 5, 5], flat(BOX), []]}),
        "part of an outline",
    ),
    "coco flat": (lambda f: coco(f, "a.jpg", {"segmentation": flat(BOX)}), "one flat list"),
    "coco pairs": (lambda f: coco(f, "a.jpg", {"segmentation": BOX}), "list of points"),
    "coco rings of pairs": (lambda f: coco(f, "a.jpg", {"segmentation": [BOX]}), "list of points"),
    "coco objects": (
        lambda f: coco(f, "a.jpg", {"segmentation": [[{"x": x, "y": y} for x, y in BOX]]}),
        "list of points",
    ),
    "coco text coordinates": (
        lambda f: coco(f, "a.jpg", {"segmentation": [[str(v) for v in flat(BOX)]]}),
        "coordinates that are text",
    ),
    "coco text bbox": (lambda f: coco(f, "a.jpg", {"bbox": ["5", "5.0", "10", "1e1"]}), "box and no mask"),
    "yolo decimal commas": (
        lambda f: yolo(f, "images/a.jpg", "labels/a.txt", row(BOX).replace(".", ",")),
        "comma for the decimal point",
    ),
    "yolo commas between": (
        lambda f: yolo(f, "images/a.jpg", "labels/a.txt", row(BOX).replace(" ", ", ")),
        "commas between",
    ),
    "coco empty ring": (
        lambda f: coco(f, "a.jpg", {"segmentation": [[], []], "bbox": [5, 5, 10, 10]}),
        "box and no mask",
    ),
    "coco backwards": (lambda f: coco(f, "a.jpg", {"bbox": [15, 15, -10, -10]}), "drawn backwards"),
    "coco list of RLE": (lambda f: coco(f, "a.jpg", {"segmentation": [rle(FULL)]}), ""),
    "coco text ids": (
        lambda f: coco(f, "a.jpg", {"image_id": "1", "category_id": "1", "id": "x-1", "segmentation": [flat(BOX)]}),
        "",
    ),
    "coco sizes in floats": (
        lambda f: coco(
            f, "a.jpg", images=[{"id": 1.0, "file_name": "a.jpg", "width": float(WIDTH), "height": str(HEIGHT)}]
        ),
        "",
    ),
    "coco UTF-16": (lambda f: encoded(coco(f, "a.jpg") / "a.json", "utf-16"), ""),
    "coco BOM": (lambda f: encoded(coco(f, "a.jpg") / "a.json", "utf-8-sig"), ""),
    "cvat two points": (
        lambda f: cvat(f, "a.jpg", GOOD_POLYGON + '<polygon label="box" points="1,1;5,5"/>'),
        "at least 3 points",
    ),
    "cvat no points": (
        lambda f: cvat(f, "a.jpg", GOOD_POLYGON + '<polygon label="box" points=""/>'),
        "at least 3 points",
    ),
    "cvat flat box": (
        lambda f: cvat(f, "a.jpg", GOOD_POLYGON + '<box label="box" xtl="1" ytl="1" xbr="1" ybr="9"/>'),
        "no area",
    ),
    "cvat backwards": (
        lambda f: cvat(f, "a.jpg", '<box label="box" xtl="15" ytl="15" xbr="5" ybr="5"/>'),
        "drawn backwards",
    ),
    "cvat mask between pixels": (
        lambda f: cvat(f, "a.jpg", f'<mask label="box" rle="{RUNS}" left="5.4" top="4.6" width="10" height="10"/>'),
        "between pixels",
    ),
    "cvat UTF-16": (lambda f: encoded(cvat(f, "a.jpg") / "annotations.xml", "utf-16"), ""),
    "cvat GB18030": (
        lambda f: encoded(cvat(f, "a.jpg") / "annotations.xml", "gb18030", '<?xml version="1.0" encoding="GB18030"?>'),
        "",
    ),
    "labelme no points": (lambda f: labelme(f, "a.jpg", shape(), EMPTY["labelme"]), "at least 3 points"),
    "labelme between pixels": (lambda f: labelme(f, "a.jpg", mask_shape([[5.4, 4.7], [14.4, 13.7]])), "between pixels"),
    "labelme UTF-16": (lambda f: encoded(labelme(f, "a.jpg") / "a.json", "utf-16-le"), ""),
    "labelme GB2312": (lambda f: encoded(labelme(f, "..\\照片\\a.jpg") / "a.json", "gb2312"), "GB2312"),
    "studio backwards": (
        lambda f: studio(f, "a.jpg", region("rectanglelabels", x=37.5, y=50, width=-25, height=-100 / 3)),
        "drawn backwards",
    ),
    "studio over the edge": (
        lambda f: studio(f, "a.jpg", region(), region("rectanglelabels", label="bag", x=-5, y=50, width=40, height=20)),
        "dragged over",
    ),
    "studio two points": (lambda f: studio(f, "a.jpg", region(), region(points=[[1, 1], [5, 5]])), "at least 3 points"),
    "voc backwards": (lambda f: voc(f, "a.jpg", bndbox(15, 15, 6, 6)), "drawn backwards"),
    "voc size in floats": (lambda f: voc(f, "a.jpg", extra=f"<size><width>{WIDTH}.0</width></size>"), ""),
    "yolo two points": (
        lambda f: yolo(f, "images/a.jpg", "labels/a.txt", row(BOX) + "0 0.1 0.1\n"),
        "at least 3 points",
    ),
    "yolo negative side": (
        lambda f: yolo(f, "images/a.jpg", "labels/a.txt", "0 0.25 0.333333 -0.25 -0.333333\n"),
        "drawn backwards",
    ),
    "yolo flat box": (lambda f: yolo(f, "images/a.jpg", "labels/a.txt", row(BOX) + "0 0.5 0.5 0 0.2\n"), "no area"),
    "yolo UTF-16": (lambda f: encoded(yolo(f, "images/a.jpg", "labels/a.txt") / "labels/a.txt", "utf-16"), ""),
    "yolo quoted Windows path": (
        lambda f: yolo(f, "images/a.jpg", "labels/a.txt", config='path: "C:\\Users\\x"\nnames: [box]\n'),
        "backslashes",
    ),
    "yolo names by text": (
        lambda f: yolo(f, "images/a.jpg", "labels/a.txt", config="names: {'0': box, '1': bag}\n"),
        "",
    ),
    "yolo classes.txt": (lambda f: without(yolo(f, "images/a.jpg", "labels/a.txt"), "classes.txt"), ""),
    "yolo obj.names": (lambda f: without(yolo(f, "images/a.jpg", "labels/a.txt"), "data/obj.names"), ""),
}


def encoded(path: Path, codec: str, head: str = "") -> Path:
    path.write_bytes((head + path.read_text()).encode(codec))
    return path.parent if path.parent.name != "labels" else path.parent.parent


def without(folder: Path, names: str) -> Path:
    (folder / "data.yaml").unlink()
    write_text(folder / names, "box\nbag\n")
    return folder


@pytest.mark.parametrize("kind", REPAIRED)
def test_one_repairable_value_is_repaired_and_told(tmp_path: Path, kind: str) -> None:
    write_image(tmp_path / ("images/a.jpg" if kind.startswith("yolo") else "a.jpg"))
    make, told = REPAIRED[kind]
    dataset = read_dataset(make(tmp_path))
    sample = dataset.samples[0]
    assert sample.labels[0] == "box"
    assert np.array_equal(sample.truth().decode_masks()[0], FULL)
    assert any(told in warning for warning in dataset.warnings) or not told


# --- a picture whose labels were all left out is no background --------------------------------------------------------

LOST: dict[str, Make] = {
    "coco": lambda f: two_images(
        f, coco, {"segmentation": [flat(BOX)]}, {"segmentation": [[1, 1, 5, 5]], "image_id": 2}
    ),
    "cvat ellipse": lambda f: lost_cvat(f, '<ellipse label="box" cx="5" cy="5" rx="2" ry="2"/>'),
    "cvat points": lambda f: lost_cvat(f, '<points label="box" points="5,5"/>'),
    "cvat skeleton": lambda f: lost_cvat(f, '<skeleton label="arm"><points label="1" points="5,5"/></skeleton>'),
    "labelme circle": lambda f: labelme(
        labelme(f, "a.jpg"), "b.jpg", shape(shape_type="circle", points=[[1, 1], [4, 4]]), name="b.json"
    ),
    "labelme ignored": lambda f: labelme(labelme(f, "a.jpg"), "b.jpg", shape(label="__ignore__"), name="b.json"),
    "studio ellipse": lambda f: lost_studio(f, region("ellipselabels", x=5, y=5)),
    "studio keypoint": lambda f: lost_studio(f, region("keypointlabels", x=5, y=5)),
    "studio empty brush": lambda f: lost_studio(
        f, region("brushlabels", format="rle", rle=encode_brush(np.zeros_like(FULL)))
    ),
    "voc": lambda f: voc(voc(f, "a.jpg"), "b.jpg", bndbox(0, 3, 0, 9), name="b.xml"),
    "yolo": lambda f: (yolo(f, "images/a.jpg", "labels/a.txt"), yolo(f, "images/b.jpg", "labels/b.txt", "0 0.1 0.1\n"))[
        0
    ],
}


def two_images(folder: Path, make: Callable[..., Path], *annotations: dict[str, Any]) -> Path:
    images = [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("ab", 1)]
    return make(folder, "", *annotations, images=images)


def lost_cvat(folder: Path, other: str) -> Path:
    cvat(folder, "a.jpg")
    text = (folder / "annotations.xml").read_text()
    write_text(
        folder / "annotations.xml", text.replace("</annotations>", f'<image name="b.jpg">{other}</image></annotations>')
    )
    return folder


def lost_studio(folder: Path, other: dict[str, Any]) -> Path:
    tasks = [
        {"data": {"image": f"{n}.jpg"}, "annotations": [{"result": [r]}]} for n, r in (("a", region()), ("b", other))
    ]
    write_text(folder / "export.json", json.dumps(tasks))
    return folder


@pytest.mark.parametrize("kind", LOST)
def test_a_picture_whose_labels_were_left_out_is_no_background(tmp_path: Path, kind: str) -> None:
    for number, name in enumerate("ab"):
        write_image(tmp_path / f"{'images/' if kind == 'yolo' else ''}{name}.jpg", seed=number)
    dataset = read_dataset(LOST[kind](tmp_path))
    assert [s.image.name for s in dataset.samples] == ["a.jpg"]
    assert any(w.startswith("1 x image all of whose labels were left out") and "b.jpg" in w for w in dataset.warnings)


def test_pictures_without_labels_are_counted(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        write_image(tmp_path / f"{name}.jpg", seed=number)
    dataset = read_dataset(two_images(tmp_path, coco, {"segmentation": [flat(BOX)]}))
    assert [s.labels for s in dataset.samples] == [("box",), ()]
    assert any(w.startswith("1 x image without any instance") for w in dataset.warnings)


# --- classes, depth, beside each other --------------------------------------------------------------------------------


def test_no_phantom_classes(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    labels = [
        ("box", "any", ""),
        ("arm", "skeleton", ""),
        ("1", "points", "arm"),
        ("2", "points", ""),
        ("night", "tag", ""),
    ]
    meta = "".join(
        f"<label><name>{n}</name><type>{t}</type>{f'<parent>{p}</parent>' if p else ''}</label>" for n, t, p in labels
    )
    assert read_dataset(cvat(tmp_path, "a.jpg", meta=f"<job><labels>{meta}</labels></job>")).classes == ("box",)
    write_image(tmp_path / "c/a.jpg")
    kinds = [
        {"id": 0, "name": "packages", "supercategory": "none"},
        {"id": 1, "name": "box", "supercategory": "packages"},
    ]
    assert read_dataset(coco(tmp_path / "c", "a.jpg", categories=kinds)).classes == ("box",)


@pytest.mark.parametrize("make", BY_NAME)
def test_no_depth_limit(tmp_path: Path, make: str) -> None:
    deep = tmp_path / "site/2024/05/cam1/x/y"
    write_image(deep / "a.jpg")
    BY_NAME[make](deep, "a.jpg")
    assert is_box(read_dataset(tmp_path))


@pytest.mark.parametrize("place", ["", "a/b/c/d/"])
def test_no_depth_limit_for_folders_of_files(tmp_path: Path, place: str) -> None:
    assert is_box(read_dataset(yolo(tmp_path / "y" / place, "images/a.jpg", "labels/a.txt").parents[3 if place else 0]))
    assert is_box(read_dataset(ids(tmp_path / "m" / place, "images/a.jpg", "masks/a.png")))


def test_files_of_coco_that_hold_no_instances_lie_beside(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    coco(tmp_path, "a.jpg", name="instances_val.json")
    coco(tmp_path, "a.jpg", {"caption": "a box"}, name="captions_val.json")
    coco(tmp_path, "a.jpg", {"segmentation": [flat(FAR)], "keypoints": [1, 1, 2]}, name="person_keypoints_val.json")
    dataset = read_dataset(tmp_path)
    assert is_box(dataset) and dataset.samples[0].split == "valid"
    assert sum("left out" in w for w in dataset.warnings) == 2


def test_captions_alone_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    with pytest.raises(DatasetError, match="holds captions and no instance"):
        read_dataset(coco(tmp_path, "a.jpg", {"caption": "a box", "category_id": None}))


# --- archives ---------------------------------------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return path


def test_archives_with_backslashes(tmp_path: Path) -> None:
    picture = write_image(tmp_path / "a.jpg").read_bytes()
    members = {
        "d\\train\\images\\a.jpg": picture,
        "d\\train\\labels\\a.txt": row(BOX).encode(),
        "d\\data.yaml": b"names: [box]",
    }
    unpack(zipped(tmp_path / "x.zip", members), tmp_path / "out")
    assert is_box(read_dataset(tmp_path / "out"))
    for evil in ("..\\a.jpg", "d\\..\\..\\a.jpg", "\\a.jpg", "C:\\a.jpg"):
        with pytest.raises(DatasetError, match="no path inside"):
            unpack(zipped(tmp_path / "evil.zip", {evil: picture}), tmp_path / "evil")


def test_archives_whose_names_are_utf8_without_saying_so(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"b_.txt": b"1"})
    path.write_bytes(path.read_bytes().replace(b"b_", "é".encode()))
    unpack(path, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["é.txt"]


def test_archives_of_chinese_windows(tmp_path: Path) -> None:
    name = "纸箱_1.jpg"
    path = zipped(tmp_path / "x.zip", {"b" * len(name.encode("gb2312")): b"1"})
    path.write_bytes(path.read_bytes().replace(b"b" * len(name.encode("gb2312")), name.encode("gb2312")))
    unpack(path, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [name]


def test_a_mask_of_unknown_alone_is_no_background(tmp_path: Path) -> None:
    for name in "ab":
        voc_masks(tmp_path, f"JPEGImages/{name}.jpg", name)
    unknown = np.where(FULL[..., None], np.array([0xE0, 0xE0, 0xC0]), 0).astype(np.uint8)
    for kind in ("Class", "Object"):
        png(tmp_path / f"Segmentation{kind}/b.png", unknown)
    write_text(tmp_path / "labelmap.txt", "background:0,0,0::\nbox:1,1,1::\n")
    colour = FULL[..., None].repeat(3, 2).astype(np.uint8)
    png(tmp_path / "SegmentationClass/a.png", colour)
    dataset = read_dataset(tmp_path)
    assert [s.name for s in dataset.samples] == ["a.jpg"]
    assert any('of the "unknown" colour' in warning for warning in dataset.warnings)
