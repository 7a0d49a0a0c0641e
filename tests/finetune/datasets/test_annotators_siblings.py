"""Exports like those of public reports, one by one: what each says is read exactly, or refused in words to act on."""

from __future__ import annotations

import base64
import io
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune.datasets import read_dataset
from finetune.datasets.brush import encode_brush
from tests.finetune.exports import (
    BOX,
    FULL,
    POINTS,
    Make,
    bndbox,
    coco,
    cvat,
    damaged,
    flat,
    ids,
    is_box,
    labelme,
    mask_shape,
    pictures,
    png,
    region,
    rle,
    row,
    shape,
    studio,
    text,
    voc,
    voc_masks,
    yolo,
)

A = "a.jpg"
NAMES = "names: [box, bag]\n"


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
    "id masks of a spreadsheet": lambda f: text(
        without_list(ids(f, f"images/{A}", "masks/a.png")), m_dot_csv="\ufeffimage;id;class\r\na.jpg;1.0;box\r\n"
    ),
    "coco beside a table": lambda f: text(coco(pictures(f, A), A), m_dot_csv="image,id,class\na.jpg,17,pallet\n"),
    "cvat semicolon behind": lambda f: cvat(pictures(f, A), A, f'<polygon label="box" points="{POINTS["near"]};"/>'),
    "labelme shape of no type": lambda f: labelme(pictures(f, A), A, shape(shape_type=None)),
    "labelme absolute path": lambda f: labelme(pictures(f, f"s/{A}") / "s", "/home/x/y/a.jpg").parent,
    "studio another key": lambda f: studio(pictures(f, A), "", data={"id": 3, "photo": "/data/upload/1/a.jpg"}),
    "studio open polygon": lambda f: studio(pictures(f, A), A, open_polygon()),
    "studio old completions": lambda f: completions(studio(pictures(f, A), A)),
    "yolo quoted numbers": lambda f: yolo(f, f"images/{A}", "labels/a.txt", config='names: {"0": "box", "1": "bag"}\n'),
    "yolo names in a block": lambda f: yolo(
        f, f"images/{A}", "labels/a.txt", config="# classes\nnames:\n  - box  # brown\n  - bag\nnc: 2\n"
    ),
    "yolo yml": lambda f: renamed(yolo(f, f"images/{A}", "labels/a.txt"), "data.yaml", "dataset.yml"),
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


def without_list(folder: Path) -> Path:
    (folder / "classes.txt").unlink()
    return folder


def renamed(folder: Path, old: str, new: str) -> Path:
    (folder / old).rename(folder / new)
    return folder


def open_polygon() -> dict[str, Any]:
    found = region()
    return found | {"value": found["value"] | {"closed": False}}


def completions(folder: Path) -> Path:
    """As Label Studio before 1.0 called annotations."""
    return damaged(folder, "export.json", '"annotations"', '"completions"')


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
