"""What labelling tools write, read as they write it; and faults and attacks, named with their place."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from finetune.datasets import Dataset, read_dataset
from finetune.datasets.brush import decode_brush, encode_brush
from finetune.errors import DatasetError
from tests.finetune.folders import HEIGHT, WIDTH, coco_folder, coco_json, write_image, write_text, yolo_folder

TRIANGLE = [[2, 2], [20, 2], [20, 20]]
SQUARE = [[5, 5], [15, 5], [15, 15], [5, 15]]


def decoded(dataset: Dataset, sample: int = 0) -> np.ndarray:
    return dataset.samples[sample].truth().decode_masks()


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)  # three channels: blue first
    return path


# --- LabelMe ----------------------------------------------------------------------------------------------------------


def shape(**changes: Any) -> dict[str, Any]:
    return {"label": "box", "points": SQUARE, "shape_type": "polygon", "group_id": None, "flags": {}} | changes


def labelme(folder: Path, *shapes: Any, **changes: Any) -> Path:
    write_image(folder / "a.jpg")
    document = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None}
    write_text(folder / "a.json", json.dumps(document | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | changes))
    return folder


def test_labelme_groups_are_parts_and_flags_attributes(tmp_path: Path) -> None:
    far = [[25, 20], [35, 20], [35, 28], [25, 28]]
    dataset = read_dataset(
        labelme(
            tmp_path,
            shape(group_id=1, flags={"damaged": True}),
            shape(group_id=1, points=far),
            shape(group_id=1, label="bag", points=TRIANGLE),
            shape(shape_type="circle", points=[[1, 1], [5, 5]]),
        )
    )
    sample = dataset.samples[0]
    assert (dataset.classes, sample.labels) == (("box", "bag"), ("box", "bag"))
    assert sample.attributes[0] == (("damaged", True), ("group_id", 1))
    assert decoded(dataset)[0].sum() == 100 + 80
    assert "1 x circle that was left out" in dataset.warnings[0]


def test_labelme_finds_pictures_that_moved(tmp_path: Path) -> None:
    write_image(tmp_path / "pictures/a.jpg")
    labelme(tmp_path / "labels", shape(), imagePath="..\\pictures\\a.jpg")
    (tmp_path / "labels/a.jpg").unlink()
    assert read_dataset(tmp_path).samples[0].image.parent.name == "pictures"
    labelme(tmp_path / "labels", shape(), imagePath="C:\\else\\where.jpg")
    (tmp_path / "pictures/a.jpg").unlink()
    assert read_dataset(tmp_path).samples[0].image.parent.name == "labels"


# --- CVAT -------------------------------------------------------------------------------------------------------------

META = (
    "<meta><task><labels><label><name>box</name><attributes>"
    "<attribute><name>damaged</name><input_type>checkbox</input_type></attribute>"
    "<attribute><name>weight</name><input_type>number</input_type></attribute>"
    "</attributes></label><label><name>bag</name></label></labels></task></meta>"
)
POLYGON = '<polygon label="box" occluded="0" points="5,5;15,5;15,15;5,15" z_order="0"/>'


def cvat(folder: Path, shapes: str, *, head: str = "", image: str = 'name="a.jpg"', name: str = "a.jpg") -> Path:
    write_image(folder / "images" / name)
    text = f'<?xml version="1.0"?>\n{head}<annotations><version>1.1</version>{META}\n<image id="0" {image}>\n{shapes}\n'
    write_text(folder / "annotations.xml", text + "</image>\n</annotations>\n")
    return folder


def test_cvat_shapes_attributes_and_splits(tmp_path: Path) -> None:
    shapes = (
        '<tag label="val"/><tag label="blurry"/><ellipse label="box" cx="1" cy="1" rx="2" ry="2"/>'
        '<polygon label="box" occluded="1" group_id="7" points="5.0,5.0;15.0,5.0;15.0,15.0;5.0,15.0">'
        '<attribute name="damaged">true</attribute><attribute name="weight">2.5</attribute>'
        '<attribute name="note">007</attribute></polygon>'
        '<mask label="bag" rle="1, 2, 3" left="30" top="20" width="3" height="2"/>'
    )
    dataset = read_dataset(cvat(tmp_path, shapes, image=f'name="a.jpg" width="{WIDTH}" height="{HEIGHT}"'))
    sample = dataset.samples[0]
    assert (dataset.classes, sample.labels, sample.split) == (("box", "bag"), ("box", "bag"), "valid")
    expected = {"damaged": True, "weight": 2.5, "note": "007", "occluded": True, "group_id": 7}
    assert dict(sample.attributes[0]) == expected
    mask = decoded(dataset)[1]
    assert np.argwhere(mask).tolist() == [[20, 31], [20, 32]]
    assert {warning.split(" that")[0] for warning in dataset.warnings} == {
        "1 x tag 'blurry' of a whole image",
        "1 x ellipse",
    }


def test_cvat_subsets_have_folders(tmp_path: Path) -> None:
    dataset = read_dataset(cvat(tmp_path, POLYGON, image='name="a.jpg" subset="Train"', name="Train/a.jpg"))
    assert (dataset.samples[0].split, dataset.samples[0].labels) == ("train", ("box",))


# --- Label Studio -----------------------------------------------------------------------------------------------------


def region(**changes: Any) -> dict[str, Any]:
    percent = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in SQUARE]
    value = {"points": percent, "polygonlabels": ["box"], "closed": True}
    base = {"id": "r1", "type": "polygonlabels", "value": value, "from_name": "label", "to_name": "image"}
    return base | {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0} | changes


def brush(mask: np.ndarray, **changes: Any) -> dict[str, Any]:
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": ["box"]} | changes
    return region(type="brushlabels", value=value)


def task(*regions: Any, image: str = "/data/local-files/?d=cell%207/images/a.jpg", **changes: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(regions)}]} | changes


def studio(folder: Path, *tasks: Any) -> Path:
    write_image(folder / "images/a.jpg")
    write_text(folder / "export.json", json.dumps(list(tasks)))
    return folder


@pytest.mark.parametrize(
    "reference",
    [
        "/data/local-files/?d=cell%207/images/a.jpg",
        "/data/upload/3/0f3a11c2-a.jpg",
        "s3://bucket/x/a.jpg",
        "images/a.jpg",
    ],
)
def test_label_studio_references(tmp_path: Path, reference: str) -> None:
    assert decoded(read_dataset(studio(tmp_path, task(region(), image=reference))))[0].sum() == 100


def test_label_studio_takes_one_annotation_and_regions_of_it(tmp_path: Path) -> None:
    write_image(tmp_path / "images/b.jpg", seed=1)
    write_image(tmp_path / "images/c.jpg", seed=2)
    write_image(tmp_path / "images/d.jpg", seed=3)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:9, 4:20], mask[5, 6] = True, False
    choice = region(type="choices", from_name="state", value={"choices": ["wet"]})
    several = [
        {"result": [], "was_cancelled": True},
        {"result": []},
        {"result": [brush(mask), choice], "ground_truth": True},
    ]
    dataset = read_dataset(
        studio(
            tmp_path,
            task(annotations=several),
            task(image="b.jpg", annotations=[{"result": []}]),
            task(region(type="ellipselabels"), image="d.jpg"),
            task(image="c.jpg", annotations=[], predictions=[{"result": [region()]}]),
        )
    )
    assert [s.labels for s in dataset.samples] == [("box",), ()]
    assert np.array_equal(decoded(dataset)[0], mask)
    assert dataset.samples[0].attributes == ((("state", "wet"),),)
    text = "\n".join(dataset.warnings)
    for part in (
        "several annotations",
        "ellipselabels that was left out",
        "task without an annotation",
        "c.jpg",
        "no background (first: images/d.jpg",
    ):
        assert part in text


def test_brush_blocks_of_single_values_are_read() -> None:
    values = [7, 7, 7, 200, 0, 0, 0, 127, 1, 1, 1, 128]
    bits = f"{12:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += f"000{4:03b}" + "".join(f"{v:08b}" for v in values[:5])  # cut inside a pixel
    bits += f"001{6:04b}" + "".join(f"{v:08b}" for v in values[5:])
    data = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert decode_brush(data, 1, 3).tolist() == [[True, False, True]]


# --- masks ------------------------------------------------------------------------------------------------------------


def masks_folder(folder: Path, classes: np.ndarray, objects: np.ndarray, *, labelmap: bool = True) -> Path:
    write_image(folder / "JPEGImages/a.jpg")
    write_png(folder / "SegmentationClass/a.png", classes)
    write_png(folder / "SegmentationObject/a.png", objects)
    if labelmap:
        write_text(folder / "labelmap.txt", "# x\nbackground:0,0,0::\nbox:10,20,30::\nbag:128,0,0::\n")
    else:
        write_text(folder / "classes.txt", "box\nbag\n")
    return folder


def test_masks_in_plain_colours(tmp_path: Path) -> None:
    classes, objects = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    classes[2:8, 2:8], classes[10:20, 10:20], classes[2, 2:8] = (30, 20, 10), (0, 0, 128), (0xC0, 0xE0, 0xE0)
    objects[2:8, 2:8], objects[10:20, 10:20], objects[2, 2:8] = (1, 2, 3), (9, 9, 250), (0xC0, 0xE0, 0xE0)
    dataset = read_dataset(masks_folder(tmp_path, classes, objects))
    assert dict(zip(dataset.samples[0].labels, decoded(dataset).sum((1, 2)).tolist(), strict=True)) == {
        "box": 30,
        "bag": 100,
    }


def test_grey_masks_count_the_classes_from_one(tmp_path: Path) -> None:
    classes, objects = np.zeros((2, HEIGHT, WIDTH), np.uint16)
    classes[2:8, 2:8], classes[10:20] = 2, 1
    objects[2:8, 2:8], objects[10:20] = 700, 1
    write_text(tmp_path / "ImageSets/Segmentation/val.txt", "a\n")
    dataset = read_dataset(masks_folder(tmp_path, classes.astype(np.uint8), objects, labelmap=False))
    assert (dataset.samples[0].labels, dataset.samples[0].split) == (("box", "bag"), "valid")


def id_folder(folder: Path, ids: np.ndarray, name: str, text: str) -> Path:
    write_image(folder / "images/a.jpg")
    write_png(folder / "masks/a.png", ids)
    write_text(folder / name, text)
    return folder


@pytest.mark.parametrize(
    ("name", "text", "values", "labels"),
    [
        ("classes.txt", "box\n", (3, 70_000), ("box", "box")),
        ("classes.txt", "box\nbag\n", (1001, 2001), ("box", "bag")),
        ("labels.csv", "image,id,class,wet\na.jpg,1,box,true\na.jpg,2,bag,\n", (1, 2), ("box", "bag")),
        ("x.csv", 'file,instance_id,label\r\na.png,1,"box, big"\r\na.png,2,b\r\n', (1, 2), ("box, big", "b")),
    ],
)
def test_id_masks(tmp_path: Path, name: str, text: str, values: tuple[int, int], labels: tuple[str, str]) -> None:
    ids = np.zeros((HEIGHT, WIDTH), np.int64)
    ids[2:8, 2:8], ids[10:20] = values
    pixels = ids.astype(np.uint16)
    if max(values) > 65_535:
        pixels = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], -1).astype(np.uint8)
    dataset = read_dataset(id_folder(tmp_path, pixels, name, text))
    assert (dataset.format, dataset.samples[0].labels) == ("id-masks", labels)
    assert decoded(dataset).sum((1, 2)).tolist() == [36, 10 * WIDTH]
    if "wet" in text:
        assert dataset.samples[0].attributes == ((("wet", True),), ())


# --- faults and attacks -----------------------------------------------------------------------------------------------

GREY = np.full((HEIGHT, WIDTH), 1, np.uint8)
LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n'
TINY = np.zeros((4, 4), bool)
MASK_PNG = base64.b64encode(cv2.imencode(".png", np.ones((3, 3), np.uint8))[1].tobytes()).decode()


def listing(*entries: Any, **changes: Any) -> str:
    record = {"file": "masks/a.png", "image": "images/a.jpg", "instances": list(entries)} | changes
    return json.dumps({"classes": ["box"], "masks": [record]})


Make = Callable[[Path], Path]


def damaged(folder: Path, name: str, change: Callable[[bytes], bytes | str] | None) -> Path:
    """`folder` with one file changed, or gone."""
    path = folder / name
    if change is None:
        path.unlink()
        return folder
    data = change(path.read_bytes())
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def id_masks(folder: Path, text: str, name: str = "instances.json") -> Path:
    return id_folder(folder, GREY, name, text)


def grey_masks(folder: Path, classes: np.ndarray, objects: np.ndarray = GREY) -> Path:
    return masks_folder(folder, classes, objects, labelmap=False)


def mask_shape(points: list[list[int]], mask: str = MASK_PNG) -> dict[str, Any]:
    return shape(shape_type="mask", points=points, mask=mask)


def coco_text(folder: Path, text: str) -> Path:
    return damaged(coco_folder(folder, coco_json()), "annotations.json", instead(text))


def instead(text: str) -> Callable[[bytes], str]:
    return lambda _: text


JPEG = b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x1e\x00\x28" + bytes(20)
FAR = {"points": [[1, 1], [300, 1], [5, 5]], "labels": ["a"]}
FAULTS: list[tuple[str, Make, str, str]] = [
    ("laughs", lambda f: cvat(f, POLYGON, head=LAUGHS), "annotations.xml:2", "document type"),
    ("entity", lambda f: cvat(f, POLYGON, head=OUTSIDE), "annotations.xml:2", "document type"),
    ("deep", lambda f: cvat(f, "<a>" * 40 + "</a>" * 40), "annotations.xml:4", "nests more than"),
    ("cut xml", lambda f: cvat(f, "<mask"), "annotations.xml:5", "is not XML"),
    ("video", lambda f: cvat(f, '<track id="0"/>'), "annotations.xml:4", "for video"),
    ("escape", lambda f: cvat(f, POLYGON, image='name="../../z.jpg"'), "annotations.xml:3", "leads out"),
    ("twice", lambda f: cvat(f, POLYGON + '</image><image name="a.jpg">'), "annotations.xml:4", "a second time"),
    ("size", lambda f: cvat(f, POLYGON, image='name="a.jpg" width="7"'), "annotations.xml:3", "says 7x30"),
    ("side", lambda f: cvat(f, POLYGON, image='name="a.jpg" width="-7"'), "annotations.xml:3", "not a whole number"),
    ("nan", lambda f: cvat(f, POLYGON.replace("15,15", "nan,15")), "annotations.xml:4", "not a finite number"),
    ("word", lambda f: cvat(f, POLYGON.replace("15,15", "x,15")), "annotations.xml:4", "'x' is not a number"),
    ("pair", lambda f: cvat(f, POLYGON.replace("15,15", "15")), "annotations.xml:4", "written as x,y"),
    ("far", lambda f: cvat(f, POLYGON.replace("15,15", "150,15")), "annotations.xml:4", "outside the image"),
    ("no label", lambda f: cvat(f, POLYGON.replace("box", "")), "annotations.xml:4", "no label"),
    ("no rle", lambda f: cvat(f, '<mask label="box" left="0" top="0" width="1" height="1"/>'), "xml:4", "no 'rle'"),
    *(
        (f"mask {rle} {box}", lambda f, r=rle, b=box: cvat(f, f'<mask label="box" rle="{r}" {b}/>'), "xml:4", text)
        for rle, box, text in [
            ("1,2", 'left="0" top="0" width="2" height="2"', "covers 3 pixels"),
            ("1,-2,5", 'left="0" top="0" width="2" height="2"', "list of run lengths"),
            ("0,99999999999999999999", 'left="0" top="0" width="2" height="2"', "list of run lengths"),
            ("0,4", 'left="39" top="0" width="2" height="2"', "outside the image"),
            ("0,4", 'left="0" top="0" width="99999999" height="2"', "does not fit"),
        ]
    ),
    ("label", lambda f: labelme(f, shape(label=3)), "a.json [shapes[0].label]", "not text"),
    ("flat", lambda f: labelme(f, shape(points=[1, 2, 3])), "a.json [shapes[0]]", "list of [x, y]"),
    ("inf", lambda f: labelme(f, shape(points=[*SQUARE, [float("inf"), 1]])), "a.json [shapes[0]]", "finite"),
    ("group", lambda f: labelme(f, shape(group_id=[1])), "a.json [shapes[0].group_id]", "no group"),
    ("turned", lambda f: labelme(f, shape(), imageWidth=HEIGHT, imageHeight=WIDTH), "a.json", "EXIF"),
    ("shapes", lambda f: labelme(f, shapes={}), "a.json [shapes]", "not a list"),
    ("base64", lambda f: labelme(f, mask_shape([[0, 0], [2, 2]], "!")), "a.json [shapes[0]]", "base64"),
    ("mask size", lambda f: labelme(f, mask_shape([[0, 0], [9, 9]])), "a.json [shapes[0]]", "3x3"),
    ("mask out", lambda f: labelme(f, mask_shape([[-1, 0], [1, 2]])), "a.json [shapes[0]]", "lies outside"),
    ("inside", lambda f: damaged(labelme(f, imagePath="b.jpg", imageData="x"), "a.jpg", None), "a.json", "save it"),
    ("gone", lambda f: studio(f, task(region(), image="z.jpg")), "export.json [[0].data]", "not in the folder"),
    ("up", lambda f: studio(f, task(region(), image="/data/local-files/?d=../a.jpg")), "export.json", "leads out"),
    ("two tasks", lambda f: studio(f, task(region()), task(region())), "export.json [[1]]", "second task"),
    ("rotated", lambda f: studio(f, task(region(image_rotation=90))), "export.json [[0].result[0]]", "rotated"),
    ("other size", lambda f: studio(f, task(region(original_width=9))), "export.json", "says 9x30"),
    ("no labels", lambda f: studio(f, task(brush(TINY, brushlabels=[]))), "export.json", "has no label"),
    ("brush size", lambda f: studio(f, task(brush(TINY))), "export.json", "holds 64 values"),
    ("brush cut", lambda f: studio(f, task(brush(TINY, rle=[0, 0]))), "export.json", "cut short"),
    ("brush bytes", lambda f: studio(f, task(brush(TINY, rle=[0, 256]))), "export.json", "list of bytes"),
    ("percent", lambda f: studio(f, task(region(value=FAR))), "export.json", "outside the image"),
    ("no class", lambda f: grey_masks(f, GREY * 9), "SegmentationClass/a.png", "the value 9"),
    ("two classes", lambda f: grey_masks(f, np.triu(GREY) + 1), "SegmentationObject/a.png", "covers box, bag"),
    ("small mask", lambda f: grey_masks(f, GREY[:9]), "SegmentationClass/a.png", "is 40x9"),
    ("colours", lambda f: masks_folder(f, np.stack([GREY] * 3, -1), GREY), "SegmentationClass/a.png", "#010101"),
    ("no image", lambda f: damaged(grey_masks(f, GREY), "JPEGImages/a.jpg", None), "Object/a.png", "without its"),
    ("classes", lambda f: damaged(grey_masks(f, GREY), "classes.txt", instead("a\na\n")), "classes.txt", "once"),
    ("unlisted", lambda f: id_masks(f, listing()), "masks/a.png", "holds the id 1"),
    ("id 0", lambda f: id_masks(f, listing({"id": 0, "class": "box"})), "instances[0]", "above 0"),
    ("id twice", lambda f: id_masks(f, "image,id,class\na.jpg,1,b\na.jpg,1,b\n", "x.csv"), "x.csv:3", "twice"),
    ("fields", lambda f: id_masks(f, "image,id,class\na.jpg,1\n", "x.csv"), "x.csv:2", "2 fields"),
    ("mask gone", lambda f: id_masks(f, listing(file="masks/z.png")), "[masks[0]]", "no mask for"),
    ("split", lambda f: id_masks(f, listing(split="dev")), "[masks[0]]", "must be one of"),
    ("jpeg", lambda f: damaged(id_masks(f, "a\n", "classes.txt"), "masks/a.png", lambda _: JPEG), "a.png", "a JPEG"),
    ("cut mask", lambda f: damaged(id_masks(f, "a\n", "classes.txt"), "masks/a.png", lambda d: d[:-30]), "png", "deco"),
    ("nesting", lambda f: coco_text(f, '{"images":' + "[" * 9999), "annotations.json:1", "too deeply"),
    ("digits", lambda f: coco_text(f, '{"images":[' + "1" * 9999), "annotations.json:1", "not JSON"),
    ("key twice", lambda f: coco_text(f, '{"images":[],\n"images":[]}'), "annotations.json:2", "twice"),
    ("vertices", lambda f: yolo_folder(f, label="0" + " 0.5" * 200_002), "labels/0.txt:1", "the limit"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "place", "reason"), [pytest.param(*case[1:], id=case[0]) for case in FAULTS])
def test_faults_are_named_with_their_place(tmp_path: Path, make: Make, place: str, reason: str) -> None:
    folder = make(tmp_path / "cell")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder)
    headline = str(caught.value).splitlines()[0]
    assert place in headline
    assert reason in headline
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_damaged_file_among_labelme_files_is_no_background(tmp_path: Path) -> None:
    labelme(tmp_path, shape())
    write_image(tmp_path / "b.jpg", seed=1)
    write_text(tmp_path / "b.json", '{"shapes": [],\n "imagePath": ')
    with pytest.raises(DatasetError, match=r"^b\.json:2: is not JSON"):
        read_dataset(tmp_path)


def test_files_that_cannot_be_read_are_named_where_nothing_else_is_found(tmp_path: Path) -> None:
    write_text(tmp_path / "export.json", '[{"data": {},\n')
    write_text(tmp_path / "job.xml", "<annotations><x></annotations>")
    with pytest.raises(
        DatasetError, match=r"(?s)no dataset found.*export\.json:2: is not JSON.*job\.xml:1: is not XML"
    ):
        read_dataset(tmp_path)


def test_two_formats_are_both_named(tmp_path: Path) -> None:
    coco_folder(tmp_path, coco_json())
    cvat(tmp_path, POLYGON)
    with pytest.raises(DatasetError, match=r"COCO \(annotations\.json\) and CVAT XML \(annotations\.xml\)"):
        read_dataset(tmp_path)


def test_polygons_that_cross_themselves_are_warned_of(tmp_path: Path) -> None:
    bow = "0 0.1 0.1 0.9 0.9 0.9 0.1 0.1 0.9\n"
    dataset = read_dataset(yolo_folder(tmp_path, label=bow + "0 0.1 0.1 0.9 0.1 0.9 0.9\n"))
    assert dataset.warnings == ("3 x polygon that crosses itself (first: train/labels/0.txt:1)",)


def test_too_many_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.datasets.instances.MAX_INSTANCES", 2)
    moved = [shape(points=[[x + k, y] for x, y in SQUARE]) for k in range(5)]
    with pytest.raises(DatasetError, match="more than 2 instances in one image"):
        read_dataset(labelme(tmp_path, *moved))
