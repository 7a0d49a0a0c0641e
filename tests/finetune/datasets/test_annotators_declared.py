"""A split that an export declares is kept, wherever its tool puts it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.datasets import read_dataset
from tests.finetune.exports import (
    BOX,
    POINTS,
    Make,
    coco,
    flat,
    labelme,
    pictures,
    region,
    text,
    voc,
    yolo,
)
from tests.finetune.folders import write_image, write_text

A = "a.jpg"
NAMES = "names: [box, bag]\n"
# --- declared splits --------------------------------------------------------------------------------------------------


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
    "coco semicolons": lambda f: text(two_coco(f, {}, {}), list_dot_csv="split;image\r\nTrain;a.jpg\r\ntest;b.jpg\r\n"),
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
