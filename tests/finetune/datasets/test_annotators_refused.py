"""What cannot be read is refused in words to act on; no label that is left out makes background; any picture is RGB."""

from __future__ import annotations

import json
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
    damaged,
    flat,
    ids,
    labelme,
    pictures,
    region,
    rle,
    shape,
    studio,
    text,
    voc,
    yolo,
)
from tests.finetune.folders import HEIGHT, WIDTH, write_text

A = "a.jpg"
NAMES = "names: [box, bag]\n"
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
    "CamVid": (
        lambda f: text(pictures(f, A), label_colors_dot_txt="0 0 0 background\n"),
        ("label_colors.txt", "CamVid"),
    ),
    "smoothed masks": (lambda f: smoothed(ids(f, f"images/{A}", "masks/a.png")), ("masks/a.png", "smoothed")),
    "half a character": (
        lambda f: damaged(labelme(pictures(f, A), A, shape(label="bZZ")), "a.json", "ZZ", "\\ud800"),
        ("class name", "is no text"),
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


def smoothed(folder: Path) -> Path:
    image = Image.fromarray((FULL * 255).astype(np.uint8)).rotate(17, Image.Resampling.BICUBIC, center=(10, 10))
    image.save(folder / "masks/a.png")
    return folder


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
