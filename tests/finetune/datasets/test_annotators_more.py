"""More exports as tools and scripts write them: read exactly, or refused with the file, the field and the next step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune.datasets import read_dataset
from finetune.errors import DatasetError
from tests.finetune.exports import (
    BOX,
    FAR,
    FULL,
    Make,
    bndbox,
    coco,
    cvat,
    damaged,
    flat,
    is_box,
    labelme,
    pictures,
    png,
    region,
    rle,
    row,
    shape,
    studio,
    text,
    voc,
    yolo,
)
from tests.finetune.folders import HEIGHT, WIDTH, write_text

A = "a.jpg"
GREY = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)


def sized(**changes: Any) -> Make:
    return lambda f: coco(pictures(f, A), A, {"segmentation": rle(FULL) | changes})


def listed(**image: Any) -> Make:
    return lambda f: coco(pictures(f, A), A, images=[{"id": 1, "width": WIDTH, "height": HEIGHT} | image])


def saved(mode: str) -> Make:
    def make(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY).convert(mode).save(folder / "a.png")
        return coco(folder, "a.png")

    return make


def turned(orientation: int, **image: Any) -> Make:
    def make(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        tag = Image.Exif()
        tag[0x112] = orientation
        Image.fromarray(GREY).save(folder / A, exif=tag)
        entry = {"id": 1, "file_name": A, "width": WIDTH, "height": HEIGHT} | image
        return coco(folder, A, images=[entry])

    return make


def moved(make: Make, old: str, new: str) -> Make:
    def made(folder: Path) -> Path:
        there = make(folder)
        (there / old).rename(there / new)
        return there

    return made


def bytes_of(make: Make, name: str, change: Callable[[str], bytes]) -> Make:
    def made(folder: Path) -> Path:
        there = make(folder)
        (there / name).write_bytes(change((there / name).read_text()))
        return there

    return made


def litter(folder: Path) -> Path:
    """What macOS, Windows and notebooks leave in folders."""
    yolo(folder, f"images/{A}", "labels/a.txt")
    for name in ("images/._a.jpg", "labels/._a.txt", "__MACOSX/images/._a.jpg", ".DS_Store", "images/Thumbs.db"):
        write_text(folder / name, "\0\5\x16\7")
    pictures(folder, "images/.ipynb_checkpoints/a-checkpoint.jpg")
    return folder


def linked(folder: Path, target: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "images" / A).symlink_to(target)
    return coco(folder, f"images/{A}")


SQUARE: dict[str, tuple[Make, str]] = {
    "coco points as objects": (
        lambda f: coco(pictures(f, A), A, {"segmentation": [[{"x": x, "y": y} for x, y in BOX]]}),
        "list of points",
    ),
    "coco RLE size in quotes": (sized(size=[str(HEIGHT), str(WIDTH)]), "not whole numbers"),
    "coco RLE size in floats": (sized(size=[float(HEIGHT), float(WIDTH)]), ""),
    "coco RLE runs in floats": (sized(counts=[float(run) for run in rle(FULL)["counts"]]), "not whole numbers"),
    "coco without file_name": (listed(coco_url="https://x.example/train/a.jpg?v=2"), "address's last part"),
    "coco address that is none": (listed(coco_url="http://[x/train/a.jpg?v=2"), "address's last part"),
    "coco area that is no number": (
        lambda f: damaged(
            coco(pictures(f, A), A, {"segmentation": [flat(BOX)], "area": 17.5}), "a.json", "17.5", "NaN"
        ),
        "",
    ),
    "coco one shape twice": (
        lambda f: coco(pictures(f, A), A, *({"segmentation": [flat(BOX)], "id": k} for k in (5, 6))),
        "repeats another",
    ),
    "coco box in text": (lambda f: coco(pictures(f, A), A, {"bbox": ["5", "5", "10", "10"]}), "a box and no mask"),
    "coco classes of one name": (
        lambda f: coco(pictures(f, A), A, categories=[{"id": 1, "name": "box"}, {"id": 9, "name": "box"}]),
        "",
    ),
    "coco from nought": (
        lambda f: coco(
            pictures(f, A), A, {"segmentation": [flat(BOX)], "category_id": 0}, categories=[{"id": 0, "name": "box"}]
        ),
        "",
    ),
    "yolo decimal comma": (
        lambda f: yolo(f, f"images/{A}", "labels/a.txt", row(BOX).replace(".", ",")),
        "comma for the decimal point",
    ),
    "yolo label file in capitals": (lambda f: yolo(f, f"images/{A}", "labels/a.TXT"), "by its name alone"),
    "yolo yaml in UTF-16": (
        bytes_of(
            lambda f: yolo(f, f"images/{A}", "labels/a.txt"),
            "data.yaml",
            lambda _: "names: [box, bag]".encode("utf-16"),
        ),
        "",
    ),
    "yolo in a littered folder": (litter, ""),
    "yolo spaces in names": (lambda f: yolo(f, f"images/{A}", "labels/a.txt", config="names: ['box ', ' bag']\n"), ""),
    "labelme line beside": (
        lambda f: labelme(pictures(f, A), A, shape(), shape(shape_type="linestrip", points=[[1, 1], [9, 9]])),
        "linestrip that was left out",
    ),
    "labelme group of no name": (lambda f: labelme(pictures(f, A), A, shape(group_id="")), ""),
    "labelme spaces round a label": (lambda f: labelme(pictures(f, A), A, shape(label=" box\t")), ""),
    "cvat Latin 1 that says so": (
        bytes_of(
            lambda f: cvat(pictures(f, "Kühl.jpg"), "Kühl.jpg"),
            "annotations.xml",
            lambda said: ('<?xml version="1.0" encoding="ISO-8859-1"?>\n' + said).encode("latin-1"),
        ),
        "",
    ),
    "cvat spaces between points": (
        lambda f: cvat(
            pictures(f, A), A, '<polygon label="box" points="5.00, 5.00; 15.0, 5.0; 15.0, 15.0; 5.0, 15.0"/>'
        ),
        "",
    ),
    "cvat box backwards": (
        lambda f: cvat(pictures(f, A), A, '<box label="box" xtl="15" ytl="15" xbr="5" ybr="5"/>'),
        "drawn backwards",
    ),
    "voc sides in another order": (
        lambda f: voc(pictures(f, A), A, "<bndbox><ymax>15</ymax><xmax>15</xmax><ymin>6</ymin><xmin>6</xmin></bndbox>"),
        "a box and no mask",
    ),
    "voc size nought": (
        lambda f: damaged(
            voc(pictures(f, A), A, bndbox(6, 6, 15, 15)),
            "a.xml",
            f"<width>{WIDTH}</width><height>{HEIGHT}</height>",
            "<width>0</width><height>0</height>",
        ),
        "a box and no mask",
    ),
    "studio box turned by a right angle": (
        lambda f: studio(
            pictures(f, A),
            A,
            region(
                "rectanglelabels", x=1500 / WIDTH, y=500 / HEIGHT, width=1000 / WIDTH, height=1000 / HEIGHT, rotation=90
            ),
        ),
        "a box and no mask",
    ),
    "studio relation beside": (
        lambda f: studio(pictures(f, A), A, region(), {"type": "relation", "from_id": "a", "to_id": "b"}),
        "",
    ),
    "studio two annotators": (
        lambda f: studio(pictures(f, A), A, annotations=[{"id": k, "result": [region()]} for k in (1, 2)]),
        "several annotations",
    ),
    "picture with transparency": (saved("LA"), ""),
    "picture of one bit": (saved("1"), ""),
    "picture of a palette": (saved("P"), ""),
    "picture of the wrong suffix": (moved(saved("RGB"), "a.png", "a.jpg"), "without its suffix, or with another"),
    "picture mirrored by its tag": (turned(2), "EXIF"),
    "picture linked within": (
        lambda f: linked(f, pictures(f, "store/a.jpg").resolve() / "store/a.jpg"),
        "no annotation file lists",
    ),
}


@pytest.mark.parametrize("kind", SQUARE)
def test_the_square_is_read(tmp_path: Path, kind: str) -> None:
    make, said = SQUARE[kind]
    dataset = read_dataset(make(tmp_path / "data"))
    assert len(dataset.samples) == 1 and is_box(dataset)
    told = " | ".join(dataset.warnings)
    assert said in told if said else not told


def files(**documents: object) -> Make:
    """A picture, and files of text or of JSON."""
    texts = {name: one if isinstance(one, str) else json.dumps(one) for name, one in documents.items()}
    return lambda f: text(pictures(f, A), **texts)


REFUSED: dict[str, tuple[Make, tuple[str, ...]]] = {
    "coco sides swapped in an RLE": (sized(size=[WIDTH, HEIGHT]), ("a.json", "[height, width]")),
    "coco image of no name": (listed(license=1), ("a.json", "images[0].file_name", "which picture")),
    "coco size nought": (listed(file_name=A, width=0, height=0), ("a.json", "images[0]", "[0, 0]")),
    "coco two versions of a file": (
        lambda f: coco(coco(pictures(f, A), A), A, {"segmentation": [flat(FAR)]}, name="a_v2.json"),
        ("a_v2.json", "a.json", "keep one"),
    ),
    "coco of the picture as it was turned": (turned(6, width=HEIGHT, height=WIDTH), ("a.json", "EXIF")),
    "coco link to outside": (
        lambda f: linked(f, pictures(f.parent / "elsewhere", A) / A),
        ("images/a.jpg", "copy the file"),
    ),
    "yolo predictions with their confidence": (
        lambda f: yolo(f, f"images/{A}", "labels/a.txt", "0 0.25 0.3 0.25 0.3 0.91\n"),
        ("labels/a.txt:1", "confidence"),
    ),
    "yolo pixels": (
        lambda f: yolo(f, f"images/{A}", "labels/a.txt", "0 " + " ".join(map(str, flat(BOX)))),
        ("labels/a.txt:1", "pixels"),
    ),
    "yolo one label file of two images": (
        lambda f: png(yolo(f, f"images/{A}", "labels/a.txt") / "images/a.png", GREY).parents[1],
        ("labels/a.txt", "a.jpg", "a.png"),
    ),
    "labelme label that is a number": (
        lambda f: labelme(pictures(f, A), A, shape(label=3)),
        ("a.json", "shapes[0].label", "3", "not text"),
    ),
    "labelme shape without a label": (
        lambda f: labelme(pictures(f, A), A, shape(label=None)),
        ("a.json", "shapes[0].label", "no label"),
    ),
    "labelme two files of one image": (
        lambda f: labelme(labelme(pictures(f, A), A), A, name="a copy.json"),
        ("a.json", "a copy.json", "one of them"),
    ),
    "voc in a code page that it does not say": (
        bytes_of(
            lambda f: voc(pictures(f, "Kühl.jpg"), "Kühl.jpg", name="x.xml"),
            "x.xml",
            lambda said: said.encode("cp1252"),
        ),
        ("x.xml", "UTF-8"),
    ),
    "studio picture inside the file": (
        lambda f: studio(pictures(f, A), "data:image/png;base64,iVBORw0KGgo="),
        ("export.json", "beside the file"),
    ),
    "darwin 1": (
        files(a_dot_json={"dataset": "d", "image": {"filename": A}, "annotations": []}),
        ("a.json", "Darwin", "COCO"),
    ),
    "vott export": (
        files(p_dot_json={"name": "p", "tags": [{"name": "box"}], "assets": {"x": {}}}),
        ("p.json", "VoTT", "Pascal VOC"),
    ),
    "via 3": (files(v_dot_json={"project": {}, "config": {}, "file": {}, "metadata": {}}), ("v.json", "VIA", "COCO")),
    "image folder with a table": (
        files(metadata_dot_csv="file_name,text\na.jpg,box\n"),
        ("metadata.csv", "image folder", "COCO"),
    ),
    "image folder with lines": (
        files(metadata_dot_jsonl='{"file_name": "a.jpg", "objects": {}}\n'),
        ("metadata.jsonl", "image folder", "COCO"),
    ),
    "makesense": (files(labels_dot_csv="box,5,5,10,10,a.jpg,40,30\n"), ("labels.csv", "table of boxes")),
    "masks of a contest": (
        files(train_dot_csv="id,annotation,width,height\na,1 5 40 5,40,30\n"),
        ("train.csv", "table of masks"),
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_file_field_and_next_step(tmp_path: Path, kind: str) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(DatasetError) as refusal:
        read_dataset(make(tmp_path / "data"))
    said = str(refusal.value)
    assert [word for word in words if word not in said] == [], said
    assert str(tmp_path) not in said


def test_a_row_for_each_kind_of_file(tmp_path: Path) -> None:
    """Classes that no annotation uses and that only head the list are none, whatever their number."""
    kinds = [
        {"id": 0, "name": "packages", "supercategory": "none"},
        {"id": 1, "name": "box", "supercategory": "packages"},
    ]
    dataset = read_dataset(coco(pictures(tmp_path, A), A, categories=kinds))
    assert dataset.classes == ("box",) and is_box(dataset)
