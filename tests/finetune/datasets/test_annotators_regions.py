"""The file says what a region is: groups, brush masks, bitmasks, turned boxes, several images of a task."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune.datasets import export_dataset, read_dataset
from finetune.errors import DatasetError
from tests.finetune.exports import (
    BOX,
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
    yolo,
)
from tests.finetune.folders import HEIGHT, WIDTH, write_image, write_text

# --- the file says what a region is -----------------------------------------------------------------------------------


def test_brush_masks_that_a_tool_marks_as_crowds_are_instances(tmp_path: Path) -> None:
    crowd = {"segmentation": rle(FULL), "iscrowd": 1}
    for number, changes in enumerate([{}, {"attributes": {"occluded": False}}]):
        folder = tmp_path / str(number)
        write_image(folder / "a.jpg")
        others = [] if not changes else [{"segmentation": [flat(FAR)], "category_id": 2}]
        dataset = read_dataset(coco(folder, "a.jpg", crowd | changes, *others))
        assert dataset.samples[0].labels[0] == "box" and any("iscrowd=1, as CVAT" in w for w in dataset.warnings)


def test_coco_s_own_crowds_are_left_out_and_their_image_is_no_background(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2)]
    for n in (1, 2):
        write_image(tmp_path / f"{n}.jpg", seed=n)
    listed = [{"segmentation": [flat(BOX)]}, {"segmentation": rle(FULL), "iscrowd": 1, "image_id": 2}]
    dataset = read_dataset(coco(tmp_path, "", *listed, images=images))
    assert [s.name for s in dataset.samples] == ["1.jpg"]
    assert any("left out too, since it is no background (first: 2.jpg" in w for w in dataset.warnings)


GROUPS: dict[str, Make] = {
    "cvat polygons": lambda f: cvat(
        f, "a.jpg", "".join(f'<polygon label="box" points="{p}" group_id="4"/>' for p in POINTS.values())
    ),
    "cvat polygon and mask": lambda f: cvat(
        f,
        "a.jpg",
        f'<polygon label="box" points="{POINTS["far"]}" group_id="4"/>'
        f'<mask label="box" group_id="4" rle="{RUNS}" left="5" top="5" width="10" height="10"/>',
    ),
    "labelme polygons": lambda f: labelme(f, "a.jpg", shape(group_id=4), shape(group_id=4, points=FAR)),
    "labelme polygon and mask": lambda f: labelme(f, "a.jpg", shape(group_id=4, points=FAR), mask_shape(group_id=4)),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_a_group_is_one_hidden_instance(tmp_path: Path, kind: str) -> None:
    write_image(tmp_path / "a.jpg")
    sample = read_dataset(GROUPS[kind](tmp_path)).samples[0]
    assert sample.labels == ("box",)
    assert int(sample.truth().areas()[0]) == 100 + 225


def test_cvat_boxes_of_a_group_stay_boxes_and_yield_to_an_outline(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    boxes = [f'<box label="box" group_id="2" xtl="{x}" ytl="5" xbr="{x + 9}" ybr="15"/>' for x in (5, 25)]
    assert read_dataset(cvat(tmp_path, "a.jpg", "".join(boxes))).samples[0].box_only == (True, True)
    outline = f'<polygon label="box" group_id="2" points="{POINTS["near"]}"/>'
    dataset = read_dataset(cvat(tmp_path, "a.jpg", boxes[0] + outline))
    assert is_box(dataset) and dataset.samples[0].box_only == (False,)


def test_several_images_of_a_task(tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / f"{name}.jpg")
    first, second = region() | {"item_index": 0}, region(label="bag") | {"item_index": 1}
    dataset = read_dataset(studio(tmp_path, ["/data/upload/1/a.jpg", "/data/upload/1/b.jpg"], first, second))
    assert [(s.name, s.labels) for s in dataset.samples] == [("a.jpg", ("box",)), ("b.jpg", ("bag",))]
    with pytest.raises(DatasetError, match=r"export\.json \[\[0\]\.data\]: region r1 does not say which"):
        read_dataset(studio(tmp_path, ["a.jpg", "b.jpg"], region()))
    views = [region() | {"to_name": "left"}, region(label="bag") | {"to_name": "right"}]
    data = {"data": {"one": "a.jpg", "two": "b.jpg"}}
    with pytest.raises(DatasetError, match="labelling configuration"):
        read_dataset(studio(tmp_path, "", *views, **data))
    write_text(tmp_path / "c.xml", '<View><Image name="left" value="$one"/><Image name="right" value="$two"/></View>')
    dataset = read_dataset(studio(tmp_path, "", *views, **data))
    assert [(s.name, s.labels) for s in dataset.samples] == [("a.jpg", ("box",)), ("b.jpg", ("bag",))]


@pytest.mark.parametrize("alpha", [False, True])
def test_label_studio_bitmasks(tmp_path: Path, alpha: bool) -> None:
    data = io.BytesIO()
    pixels = np.stack([FULL * 200, FULL * 0, FULL * 90, FULL * 255], -1).astype(np.uint8)
    Image.fromarray(pixels if alpha else pixels[..., 0]).save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    write_image(tmp_path / "a.jpg")
    assert is_box(read_dataset(studio(tmp_path, "a.jpg", region("bitmasklabels", imageDataURL=url))))


@pytest.mark.parametrize("row_text", ["0 0.25 0.333333 0.25 0.333333 0.5 0.5 2 0.6 0.6 1\n"])
def test_yolo_pose_is_a_box_and_points(tmp_path: Path, row_text: str) -> None:
    config = "names: [box]\nkpt_shape: [2, 3]\n"
    dataset = read_dataset(yolo(tmp_path, "images/a.jpg", "labels/a.txt", row_text, config=config))
    assert is_box(dataset) and dataset.samples[0].box_only == (True,)


def test_rows_of_turned_rectangles_are_told(tmp_path: Path) -> None:
    turned = [[20, 5], [30, 15], [20, 25], [10, 15]]
    dataset = read_dataset(yolo(tmp_path, "images/a.jpg", "labels/a.txt", row(turned)))
    assert any("YOLO-OBB" in w for w in dataset.warnings)
    quads = [[20, 5], [34, 9], [19, 27], [10, 15]]
    dataset = read_dataset(yolo(tmp_path, "images/a.jpg", "labels/a.txt", row(turned) + row(quads)))
    assert not any("YOLO-OBB" in w for w in dataset.warnings), "an outline among them: these are outlines"


def test_voc_objects_with_more_than_a_box(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    ring = "".join(f"<x{n}>{x}</x{n}><y{n}>{y}</y{n}>" for n, (x, y) in enumerate(BOX, 1))
    dataset = read_dataset(voc(tmp_path, "a.jpg", bndbox(6, 6, 15, 15) + f"<polygon>{ring}</polygon>"))
    assert is_box(dataset) and dataset.samples[0].box_only == (False,)
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in BOX)
    assert is_box(read_dataset(voc(tmp_path, "a.jpg", f"<polygon>{points}</polygon>")))
    turned = "<robndbox><cx>10</cx><cy>10</cy><w>10</w><h>10</h><angle>1.570796</angle></robndbox>"
    assert is_box(read_dataset(voc(tmp_path, "a.jpg", turned)))


def test_coco_boxes_are_turned_as_cvat_says(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    box = {"segmentation": [[]], "bbox": [0, 8, 20, 4], "attributes": {"rotation": 90}}
    sample = read_dataset(coco(tmp_path, "a.jpg", box)).samples[0]
    assert sample.truth().boxes.tolist() == [[8, 0, 12, 20]]
    assert dict(sample.attributes[0]) == {"box_only": True}


@pytest.mark.parametrize("value", [255, 1])
def test_masks_of_two_values_do_not_pass_in_silence(tmp_path: Path, value: int) -> None:
    folder = ids(tmp_path, "images/a.jpg", "masks/a.png")
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[2:10, 2:10] = pixels[2:10, 20:30] = value
    png(folder / "masks/a.png", pixels)
    if value == 255:
        with pytest.raises(DatasetError, match=r"masks/a\.png: the mask has two values alone"):
            read_dataset(folder)
    else:
        assert any("covers several pieces" in w for w in read_dataset(folder).warnings)


def test_a_quadrilateral_is_an_outline(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    dataset = read_dataset(labelme(tmp_path, "a.jpg", shape(shape_type="quadrilateral")))
    assert is_box(dataset) and dataset.samples[0].box_only == (False,)


@pytest.mark.parametrize("name", ["cvat", "cvat-polygons", "labelme"])
def test_a_group_of_several_instances_does_not_become_one(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "in/a.jpg")
    rings = [{"segmentation": [flat(points)], "attributes": {"group_id": 3}} for points in (BOX, FAR)]
    dataset = read_dataset(coco(tmp_path / "in", "a.jpg", *rings))
    lost = export_dataset(dataset, tmp_path / "out", name)
    assert any("group_id left out" in loss for loss in lost)
    assert read_dataset(tmp_path / "out").samples[0].masks == dataset.samples[0].masks
