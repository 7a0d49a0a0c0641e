"""Rectangles of every tool are boxes without an outline: in, out, and in again; and masks that nobody named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.datasets import FORMATS, Dataset, Sample, detect_format, export_dataset, read_dataset
from finetune.datasets.coco import ONE_CLASS
from finetune.errors import DatasetError
from serving.instances import encode_masks
from tests.finetune.folders import HEIGHT, WIDTH, coco_folder, coco_json, write_image, write_text

BOXED = ("box_only", True)
KEEPS = [
    *("coco", "coco-uncompressed", "coco-polygons", "yolo", "labelme", "labelme-masks", "cvat", "cvat-polygons"),
    *("labelstudio", "labelstudio-polygons", "voc-boxes", "id-masks"),
]
FEW = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def cvat(folder: Path, shapes: str) -> Path:
    write_image(folder / "images/a.jpg")
    head = '<?xml version="1.0"?><annotations><version>1.1</version>'
    write_text(folder / "annotations.xml", f'{head}<image id="0" name="a.jpg">\n{shapes}\n</image></annotations>')
    return folder


def labelme(folder: Path, *shapes: dict[str, Any]) -> Path:
    write_image(folder / "a.jpg")
    document = {"shapes": [{"label": "box", "shape_type": "rectangle", **shape} for shape in shapes]}
    write_text(folder / "a.json", json.dumps(document | {"imagePath": "a.jpg"}))
    return folder


def studio(folder: Path, **value: Any) -> Path:
    write_image(folder / "images/a.jpg")
    region = {"id": "r", "type": "rectanglelabels", "from_name": "box", "value": {"rectanglelabels": ["box"]} | value}
    task = {"id": 1, "data": {"image": "images/a.jpg"}, "annotations": [{"result": [region]}]}
    write_text(folder / "tasks.json", json.dumps([task]))
    return folder


def voc(folder: Path, objects: str, *, filename: str = "a.jpg", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    write_image(folder / "JPEGImages/a.jpg")
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    text = f"<annotation><filename>{filename}</filename>{said}\n{objects}\n</annotation>"
    write_text(folder / "Annotations/a.xml", text)
    return folder


def bndbox(x0: object, y0: object, x1: object, y1: object, name: str = "box", more: str = "") -> str:
    sides = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{sides}</bndbox></object>"


def share(x: float, y: float, width: float, height: float, **more: float) -> dict[str, float]:
    across, down = 100 / WIDTH, 100 / HEIGHT
    return {"x": x * across, "y": y * down, "width": width * across, "height": height * down} | more


RECTANGLES: list[tuple[str, Callable[[Path], Path]]] = [
    ("cvat", lambda f: cvat(f, '<box label="box" xtl="4.2" ytl="2.9" xbr="16.0" ybr="12.0" rotation="0.0"/>')),
    (
        "cvat on its side",
        lambda f: cvat(f, '<box label="box" xtl="5.5" ytl="1.5" xbr="14.5" ybr="13.5" rotation="90"/>'),
    ),
    ("labelme", lambda f: labelme(f, {"points": [[16, 3], [4, 12]]})),
    ("labelme, four corners", lambda f: labelme(f, {"points": [[4, 3], [16, 3], [16, 12], [4, 12]]})),
    (
        "labelme, two of a group",
        lambda f: labelme(f, *({"points": p, "group_id": 3} for p in ([[4, 3], [9, 6]], [[8, 8], [16, 12]]))),
    ),
    ("label studio", lambda f: studio(f, **share(4, 3, 12, 9, rotation=0))),
    ("label studio on its side", lambda f: studio(f, **share(16, 3, 9, 12, rotation=90))),
    ("voc", lambda f: voc(f, bndbox(5, 4, 16, 12))),
    ("voc, moved", lambda f: voc(f, bndbox("5.0", 4, 16, 12), filename=r"C:\pictures\a.jpg", size=(0, 0))),
]


@pytest.mark.parametrize("make", [pytest.param(case[1], id=case[0]) for case in RECTANGLES])
def test_a_rectangle_is_a_box(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    dataset = read_dataset(make(tmp_path))
    (sample,) = dataset.samples
    assert (sample.labels, sample.box_only) == (("box",), (True,))
    assert sample.truth().boxes.tolist() == [[4, 3, 16, 12]]
    assert sample.truth().areas().tolist() == [12 * 9]
    assert any("instance with a box and no mask" in warning for warning in dataset.warnings)
    assert not any("turned" in warning for warning in dataset.warnings)


@pytest.mark.parametrize(
    "make",
    [
        lambda f: cvat(f, '<box label="box" xtl="0" ytl="5" xbr="20" ybr="10" rotation="30"/>'),
        lambda f: labelme(f, {"points": [[1, 8], [20, 3], [21, 8], [2, 13]]}),
        lambda f: studio(f, **share(10, 5, 9, 9, rotation=30)),
    ],
)
def test_a_turned_rectangle_is_the_box_around_it_and_says_so(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    dataset = read_dataset(make(tmp_path))
    assert dataset.samples[0].box_only == (True,)
    assert any("rectangle that is turned" in warning for warning in dataset.warnings)


def test_a_rectangle_in_the_group_of_an_outline_is_no_second_instance(tmp_path: Path) -> None:
    outline = {"points": [[4, 3], [16, 3], [10, 12]], "group_id": 1, "shape_type": "polygon"}
    dataset = read_dataset(labelme(tmp_path, {"points": [[4, 3], [16, 12]], "group_id": 1}, outline))
    assert dataset.samples[0].box_only == (False,)
    assert any("rectangle left out: its group has the outline" in warning for warning in dataset.warnings)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda f: cvat(f, '<box label="box" xtl="4" ytl="3" xbr="4" ybr="12"/>'), "no area"),
        (lambda f: cvat(f, '<box label="box" xtl="4" ytl="3" xbr="x" ybr="12"/>'), "'x' is not a number"),
        (lambda f: cvat(f, '<box label="box" xtl="4" ytl="3" xbr="nan" ybr="12"/>'), "not a number of pixels"),
        (lambda f: cvat(f, '<box label="box" xtl="4" ytl="3" xbr="9"/>'), "has no 'ybr'"),
        (lambda f: cvat(f, '<box label="box" xtl="4" ytl="3" xbr="900" ybr="12"/>'), "outside the image"),
        (lambda f: labelme(f, {"points": [[4, 3]]}), "two opposite corners"),
        (lambda f: labelme(f, {"points": [[4, "3"], [5, 6]]}), "two opposite corners"),
        (lambda f: studio(f, x=1, y=2, width=3), "in percent"),
        (lambda f: studio(f, x=1, y=2, width=3, height=0), "no area"),
        (lambda f: voc(f, bndbox(5, 4, 16, "")), "needs numbers"),
        (lambda f: voc(f, bndbox(0, 4, 0, 12)), "no area"),
        (lambda f: voc(f, bndbox(5, 4, 16, 12, name="")), "has no name"),
        (lambda f: voc(f, bndbox(5, 4, 16, 12), size=(99, 99)), "says 99x99 pixels"),
    ],
)
def test_what_is_no_rectangle_is_named(tmp_path: Path, make: Callable[[Path], Path], reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        read_dataset(make(tmp_path))


def test_voc_s_flags_and_lists_of_splits(tmp_path: Path) -> None:
    voc(tmp_path, bndbox(5, 4, 16, 12, more="<difficult>1</difficult><truncated>0</truncated>"))
    write_text(tmp_path / "ImageSets/Main/val.txt", "a\n")
    (sample,) = read_dataset(tmp_path).samples
    assert (sample.split, dict(sample.attributes[0])) == ("valid", {"difficult": True, "box_only": True})


def test_masks_beside_voc_s_boxes_are_what_is_read(tmp_path: Path) -> None:
    made = Dataset("in", ("box",), (sample_of(tmp_path / "in", [(4, 3, 16, 12)], [False]),))
    export_dataset(made, tmp_path / "out", "voc-masks")
    write_text(
        tmp_path / "out/Annotations/a.xml", f"<annotation><filename>a.png</filename>{bndbox(5, 4, 16, 12)}</annotation>"
    )
    assert detect_format(tmp_path / "out").format == "voc-masks"


# --- in, out and in again ---------------------------------------------------------------------------------------------


def sample_of(folder: Path, boxes: list[tuple[int, int, int, int]], boxed: list[bool]) -> Sample:
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), np.bool_)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    attributes = tuple((BOXED,) if one else () for one in boxed)
    return Sample(
        write_image(folder / "a.png"), WIDTH, HEIGHT, ("box",) * len(boxes), encode_masks(masks), attributes=attributes
    )


@st.composite
def boxes(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Boxes of one image that do not touch: the formats with one instance per pixel are among those tried."""
    found = []
    for column in range(0, WIDTH, 10):
        x0 = column + draw(st.integers(0, 4))
        y0 = draw(st.integers(0, HEIGHT - 2))
        found.append((x0, y0, x0 + draw(st.integers(1, 5)), draw(st.integers(y0 + 1, HEIGHT))))
    return found


@pytest.mark.parametrize("name", KEEPS)
@FEW
@given(places=boxes())
def test_boxes_come_back_as_boxes(
    name: str, places: list[tuple[int, int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    boxed = [FORMATS[name].outlines is False or k % 2 == 0 for k in range(len(places))]
    sample = sample_of(folder / "in", places, boxed)
    dataset = Dataset("in", ("box",), (sample,))
    lost = export_dataset(dataset, folder / "out", name)
    (again,) = read_dataset(folder / "out").samples
    assert (again.labels, again.masks, again.attributes) == (sample.labels, sample.masks, sample.attributes)
    assert not lost


def test_a_format_without_room_counts_what_it_loses(tmp_path: Path) -> None:
    sample = sample_of(tmp_path / "in", [(4, 3, 16, 12), (20, 3, 30, 12)], [True, False])
    dataset = Dataset("in", ("box",), (sample,))
    (lost,) = export_dataset(dataset, tmp_path / "masks", "voc-masks")
    assert "1 x box without an outline, written as a filled mask" in lost
    (lost,) = export_dataset(dataset, tmp_path / "boxes", "voc-boxes")
    assert "1 x instance with an outline, of which the box alone is written" in lost


# --- masks of no class ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", [None, 1, 77, "x"])
def test_masks_that_nobody_named_are_one_class(tmp_path: Path, category: object) -> None:
    document = coco_json()
    del document["categories"]
    document["annotations"][0]["category_id"] = category
    dataset = read_dataset(coco_folder(tmp_path, document))
    assert (dataset.classes, dataset.samples[0].labels) == ((ONE_CLASS,), (ONE_CLASS,))
    assert any("file without `categories`" in warning for warning in dataset.warnings)


def test_a_file_that_lost_its_categories_beside_others_is_an_error(tmp_path: Path) -> None:
    coco_folder(tmp_path, coco_json())
    write_image(tmp_path / "images/b.jpg", seed=1)
    second = coco_json(images=[{"id": 1, "file_name": "b.jpg"}], categories=[])
    write_text(tmp_path / "annotations_b.json", json.dumps(second))
    with pytest.raises(DatasetError, match="must name the classes"):
        read_dataset(tmp_path)
