"""Names match as people see them, and declared splits are kept, in every format that has them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.datasets import read_dataset
from finetune.errors import DatasetError
from tests.finetune.exports import (
    BOX,
    BY_NAME,
    Make,
    coco,
    cvat,
    flat,
    ids,
    is_box,
    labelme,
    region,
    row,
    voc,
    voc_masks,
    yolo,
)
from tests.finetune.folders import write_image, write_text

# --- names match as people see them -----------------------------------------------------------------------------------

NFC, NFD = unicodedata.normalize("NFC", "Größe é.jpg"), unicodedata.normalize("NFD", "Größe é.jpg")
LOOSE = {
    "other case": ("IMG_1.jpg", "photos/IMG_1.JPG"),
    "no suffix": ("frame_000001", "photos/frame_000001.PNG"),
    "a dot in a stem": ("cam.0001", "photos/cam.0001.jpg"),
    "another suffix": ("a.png", "photos/a.jpg"),
    "composed": (NFC, f"photos/{NFD}"),
    "decomposed": (NFD, f"photos/{NFC}"),
    "percent": ("a%20b%C3%A9.jpg", "photos/a bé.jpg"),
    "prefix of 8": ("1a2b3c4d-a.jpg", "photos/a.jpg"),
    "prefix of 6": ("f78f75-IMG_7.jpg", "photos/IMG_7.jpg"),
    "prefix on the disk": ("a.jpg", "photos/1a2b3c4d-a.jpg"),
    "upload's characters": ("1a2b3c4d-My_photo_1.jpg", "photos/My photo (1).jpg"),
    "Windows": ("C:\\Users\\worker\\dock\\photos\\a.jpg", "photos/a.jpg"),
    "Windows folder": ("photos\\cam 1\\a.jpg", "photos/cam 1/a.jpg"),
    "another computer": ("/home/x/dock/photos/a.jpg", "photos/a.jpg"),
    "one folder too many": ("dock/photos/a.jpg", "photos/a.jpg"),
    "a URL": ("https://hub.example/x/a%20b.jpg?v=1", "photos/a b.jpg"),
}


@pytest.mark.parametrize("kind", LOOSE)
@pytest.mark.parametrize("make", BY_NAME)
def test_names_match_as_people_see_them(tmp_path: Path, make: str, kind: str) -> None:
    named, there = LOOSE[kind]
    write_image(tmp_path / there)
    dataset = read_dataset(BY_NAME[make](tmp_path, named))
    assert is_box(dataset)
    assert dataset.samples[0].image.name == Path(there).name


@pytest.mark.parametrize("make", BY_NAME)
def test_several_candidates_are_listed_and_none_is_taken(tmp_path: Path, make: str) -> None:
    for place in ("x/Cam.jpg", "y/CAM.jpg"):
        write_image(tmp_path / place)
    with pytest.raises(DatasetError, match=r"may be x/Cam\.jpg or y/CAM\.jpg") as caught:
        read_dataset(BY_NAME[make](tmp_path, "cam.jpg"))
    assert caught.value.path is not None


@pytest.mark.parametrize("make", BY_NAME)
def test_a_near_name_is_hinted_at(tmp_path: Path, make: str) -> None:
    write_image(tmp_path / "images/pallet_0001.jpg")
    with pytest.raises(DatasetError, match=r"is not in the folder; images/pallet_0001\.jpg is there"):
        read_dataset(BY_NAME[make](tmp_path, "palet_0001.jpg"))


@pytest.mark.parametrize("make", BY_NAME)
def test_of_two_uploads_of_one_name_the_other_is_not_taken(tmp_path: Path, make: str) -> None:
    write_image(tmp_path / "images/2222bbbb-a.jpg")
    with pytest.raises(DatasetError, match="is not in the folder"):
        read_dataset(BY_NAME[make](tmp_path, "1111aaaa-a.jpg"))


def test_the_file_s_own_folder_comes_first(tmp_path: Path) -> None:
    for task in ("task_1", "task_2"):
        write_image(tmp_path / task / "images/frame_0.png", seed=int(task[-1]))
        cvat(tmp_path / task, "frame_0")
    dataset = read_dataset(tmp_path)
    assert [s.name for s in dataset.samples] == ["task_1/images/frame_0.png", "task_2/images/frame_0.png"]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/Train/line3/images/cam/a.jpg", "labels/Train/line3/images/cam/a.txt"),
        ("photos/a.jpg", "labels/a.txt"),
        ("images/IMG_1.JPG", "labels/img_1.txt"),
        (f"images/{NFD}", f"labels/{Path(NFC).stem}.txt"),
        ("images/a.jpg", "labels/1f2e3d4c-a.txt"),
        ("images/cam1/a.jpg", "labels/a.txt"),
        ("data/a.jpg", "labels/a.txt"),
    ],
)
def test_yolo_labels_find_their_images(tmp_path: Path, image: str, label: str) -> None:
    assert is_box(read_dataset(yolo(tmp_path, image, label)))


@pytest.mark.parametrize(
    "make",
    [
        lambda f: yolo(f, "images/train/part.jpg", "labels/train/part.txt"),
        lambda f: ids(f, "images/train/part.jpg", "masks/train/part.png"),
        lambda f: voc_masks(f, "images/train/part.jpg", "train/part"),
    ],
)
def test_one_label_file_cannot_be_two_images(tmp_path: Path, make: Make) -> None:
    write_image(tmp_path / "images/train/part.png", seed=1)
    with pytest.raises(DatasetError, match=r"(?s)part\.jpg.*part\.png.*rename|may belong to"):
        read_dataset(make(tmp_path))


@pytest.mark.parametrize(
    "make",
    [
        lambda f, k: ids(f, f"images/{k}/0001.jpg", f"masks/{k}/0001.png"),
        lambda f, k: voc_masks(f, f"JPEGImages/{k}/0001.jpg", f"{k}/0001"),
    ],
)
def test_masks_of_equal_names_in_folders(tmp_path: Path, make: Callable[[Path, str], Path]) -> None:
    for camera in ("cam1", "cam2"):
        make(tmp_path, camera)
    dataset = read_dataset(tmp_path)
    assert sorted(s.image.parent.name for s in dataset.samples) == ["cam1", "cam2"]


# --- declared splits are kept -----------------------------------------------------------------------------------------


def two_yolo(folder: Path, config: str, a: str = "images/a.jpg", b: str = "images/b.jpg") -> Path:
    for image in (a, b):
        yolo(folder, image, image.replace("images", "labels", 1).replace(".jpg", ".txt"), config=config)
    write_image(folder / b, seed=1)
    return folder


def lists(folder: Path, train: str, test: str) -> None:
    write_text(folder / "train.txt", train)
    write_text(folder / "test.txt", test)


NAMES = "names: [box]\n"
SPLITS: dict[str, Make] = {
    "yaml lists": lambda f: (
        lists(f, "./images/a.jpg\n", "./images/b.jpg\n"),
        two_yolo(f, f"path: .\ntrain: train.txt\ntest: test.txt\n{NAMES}"),
    )[1],
    "yaml lists of Windows": lambda f: (
        lists(f, "C:\\d\\images\\a.jpg\r\n", "C:\\d\\images\\b.jpg\r\n"),
        two_yolo(f, f"path: C:\\d\ntrain: C:\\d\\train.txt\ntest: C:\\d\\test.txt\n{NAMES}"),
    )[1],
    "yaml lists of a server": lambda f: (
        lists(f, "/data/d/images/a.jpg\n", "/data/d/images/b.jpg\n"),
        two_yolo(f, f"path: /data/d\ntrain: train.txt\ntest: /data/d/test.txt\n{NAMES}"),
    )[1],
    "yaml folders of other names": lambda f: two_yolo(
        f, f"path: ../x\ntrain: images/day\ntest: images/night\n{NAMES}", "images/day/a.jpg", "images/night/b.jpg"
    ),
    "yaml absolute folders": lambda f: two_yolo(
        f,
        f"train: /home/me/x/images/day\ntest: D:\\x\\images\\night\n{NAMES}",
        "images/day/a.jpg",
        "images/night/b.jpg",
    ),
    "yaml quoted Windows folders": lambda f: two_yolo(
        f,
        f'path: "C:\\Users\\x"\ntrain: "images\\train_day"\ntest: "images\\test_night"\n{NAMES}',
        "images/train_day/a.jpg",
        "images/test_night/b.jpg",
    ),
    "yaml list of folders": lambda f: two_yolo(
        f, f"train: [images/x, images/day]\ntest:\n  - images/night\n{NAMES}", "images/day/a.jpg", "images/night/b.jpg"
    ),
    "yaml patterns": lambda f: two_yolo(f, f"train: images/a*.jpg\ntest: images/b*.jpg\n{NAMES}"),
    "yaml of Roboflow": lambda f: two_yolo(
        f, f"train: ../train/images\ntest: ../test/images\n{NAMES}", "train/images/a.jpg", "test/images/b.jpg"
    ),
    "folders with years": lambda f: two_yolo(f, NAMES, "images/train2017/a.jpg", "images/test2017/b.jpg"),
    "yaml two folders deep": lambda f: two_yolo(
        f / "x/y", f"path: .\ntrain: images/day\ntest: images/night\n{NAMES}", "images/day/a.jpg", "images/night/b.jpg"
    ),
    "lists nobody names": lambda f: (lists(f, "images/a.jpg\n", "images/b.jpg\n"), two_yolo(f, NAMES))[1],
    "coco field": lambda f: two_coco(f, ("a.jpg", {"split": "train"}), ("b.jpg", {"split": "test"})),
    "coco names": lambda f: two_coco(f, ("train/a.jpg", {}), ("test/b.jpg", {})),
    "coco lists": lambda f: (lists(f, "a\n", "b\n"), two_coco(f, ("a.jpg", {}), ("b.jpg", {})))[1],
    "cvat subset": lambda f: two_cvat(f, 'subset="Train"', 'subset="Test"'),
    "cvat tags": lambda f: two_cvat(f, "", "", tags=('<tag label="train"/>', '<tag label="test"/>')),
    "cvat tasks": lambda f: two_cvat(
        f,
        'task_id="3"',
        'task_id="4"',
        meta="<project><tasks><task><id>3</id><subset>Train</subset></task><task><id>4</id><subset>Test</subset></task></tasks></project>",
    ),
    "cvat lists": lambda f: (lists(f, "a\n", "b\n"), two_cvat(f, "", ""))[1],
    "labelme folders": lambda f: (
        [
            labelme(write_image(f / split / f"{n}.jpg").parent, f"{n}.jpg", name=f"{n}.json")
            for n, split in (("a", "train_images"), ("b", "test"))
        ][-1].parent
    ),
    "labelme paths": lambda f: [
        labelme(write_image(f / f"{n}.jpg").parent, f"..\\{split}\\{n}.jpg", name=f"{n}.json")
        for n, split in (("a", "train"), ("b", "test"))
    ][-1],
    "labelme lists": lambda f: (
        lists(f, "a.jpg\n", "b.jpg\n"),
        [labelme(write_image(f / f"{n}.jpg").parent, f"{n}.jpg", name=f"{n}.json") for n in "ab"][-1],
    )[1],
    "voc ImageSets": lambda f: two_voc(f, {"train": "sub/a\n", "test": "sub/b\n"}),
    "voc lists of a class": lambda f: two_voc(f, {"box_train": "a  1\n", "box_test": "b -1\n"}),
    "voc pairs": lambda f: two_voc(
        f, {"train": "JPEGImages/sub/a.jpg Annotations/a.xml\n", "test": "JPEGImages/sub/b.jpg Annotations/b.xml\n"}
    ),
    "voc folder": lambda f: two_voc(f, {}, folders=("train", "test")),
    "voc masks": lambda f: (
        write_text(f / "ImageSets/Segmentation/train.txt", "cam/a\n"),
        write_text(f / "ImageSets/Segmentation/test.txt", "cam/b\n"),
        voc_masks(f, "JPEGImages/cam/a.jpg", "cam/a"),
        voc_masks(f, "JPEGImages/cam/b.jpg", "cam/b"),
    )[2],
    "id masks": lambda f: (
        ids(f, "images/train2017/a.jpg", "masks/train2017/a.png"),
        ids(f, "images/test2017/b.jpg", "masks/test2017/b.png"),
    )[0],
    "id lists": lambda f: (
        lists(f, "a\n", "b\n"),
        ids(f, "images/a.jpg", "masks/a.png"),
        ids(f, "images/b.jpg", "masks/b.png"),
    )[1],
    "label studio field": lambda f: two_studio(
        f, ({"image": "a.jpg", "split": "train"}, {"image": "b.jpg", "split": "test"})
    ),
    "label studio folders": lambda f: two_studio(
        f, ({"image": "/data/local-files/?d=train/a.jpg"}, {"image": "/data/local-files/?d=test/b.jpg"})
    ),
    "darknet": lambda f: darknet(f),
}


def two_coco(folder: Path, *images: tuple[str, dict[str, Any]]) -> Path:
    for name, _ in images:
        write_image(folder / Path(name).name)
    listed = [{"id": n, "file_name": name} | extra for n, (name, extra) in enumerate(images)]
    annotations = [{"segmentation": [flat(BOX)], "image_id": n} for n in range(len(images))]
    return coco(folder, "", *annotations, images=listed)


def two_cvat(folder: Path, first: str, second: str, *, meta: str = "", tags: tuple[str, str] = ("", "")) -> Path:
    points = ";".join(f"{x},{y}" for x, y in BOX)
    text = ""
    for name, fields, tag in zip("ab", (first, second), tags, strict=True):
        write_image(folder / f"images/{name}.jpg")
        text += f'<image name="{name}.jpg" {fields}>{tag}<polygon label="box" points="{points}"/></image>'
    write_text(folder / "annotations.xml", f"<annotations><meta>{meta}</meta>{text}</annotations>")
    return folder


def two_voc(folder: Path, sets: dict[str, str], folders: tuple[str, str] = ("", "")) -> Path:
    for name, said in zip("ab", folders, strict=True):
        write_image(folder / f"JPEGImages/sub/{name}.jpg")
        voc(folder / "Annotations", f"{name}.jpg", extra=f"<folder>{said}</folder>", name=f"{name}.xml")
    for name, text in sets.items():
        write_text(folder / f"ImageSets/Main/{name}.txt", text)
    return folder


def two_studio(folder: Path, datas: tuple[dict[str, str], ...]) -> Path:
    for name in "ab":
        write_image(folder / f"{name}.jpg")
    tasks = [{"data": data, "annotations": [{"result": [region()]}]} for data in datas]
    write_text(folder / "export.json", json.dumps(tasks))
    return folder


def darknet(folder: Path) -> Path:
    """CVAT's "YOLO 1.1"."""
    for name, place in (("a", "obj_train_data"), ("b", "obj_Test_data")):
        write_image(folder / f"{place}/{name}.jpg")
        write_text(folder / f"{place}/{name}.txt", row(BOX))
    write_text(folder / "obj.names", "box\n")
    write_text(
        folder / "obj.data", "classes = 1\ntrain = data/train.txt\ntest = data/Test.txt\nnames = data/obj.names\n"
    )
    write_text(folder / "train.txt", "data/obj_train_data/a.jpg\n")
    write_text(folder / "Test.txt", "data/obj_Test_data/b.jpg\n")
    return folder


@pytest.mark.parametrize("kind", SPLITS)
def test_declared_splits_are_kept(tmp_path: Path, kind: str) -> None:
    SPLITS[kind](tmp_path)
    found = {s.image.name: s.split for s in read_dataset(tmp_path).samples}
    assert found == {"a.jpg": "train", "b.jpg": "test"}


def test_a_list_that_is_not_there_is_no_silent_loss(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data\.yaml \[test\]: says that test is 'test\.txt'.*lose their split"):
        read_dataset(two_yolo(tmp_path, f"train: images/a*.jpg\ntest: test.txt\n{NAMES}"))


def test_an_image_in_two_lists_is_an_error(tmp_path: Path) -> None:
    lists(tmp_path, "a\nb\n", "b\n")
    with pytest.raises(DatasetError, match=r"is in (train|test) too"):
        read_dataset(two_coco(tmp_path, ("a.jpg", {}), ("b.jpg", {})))
    lists(tmp_path / "y", "images/a.jpg\nimages/b.jpg\n", "images/b.jpg\n")
    with pytest.raises(DatasetError, match=r"puts 1 images into \w+ and into \w+, images/b\.jpg among them"):
        read_dataset(two_yolo(tmp_path / "y", f"train: train.txt\ntest: test.txt\n{NAMES}"))


def test_a_place_is_no_split(tmp_path: Path) -> None:
    write_image(tmp_path / "test_station_3/a.jpg")
    assert read_dataset(coco(tmp_path, "test_station_3/a.jpg")).samples[0].split is None


def test_a_column_of_a_table_may_say_the_split(tmp_path: Path) -> None:
    for name in "ab":
        ids(tmp_path, f"images/{name}.jpg", f"masks/{name}.png")
    write_text(tmp_path / "list.csv", "image,id,class,split\na.jpg,1,box,train\nb.jpg,1,box,test\n")
    samples = read_dataset(tmp_path).samples
    assert [(s.name, s.split, s.attributes) for s in samples] == [("a.jpg", "train", ()), ("b.jpg", "test", ())]


@pytest.mark.parametrize("make", BY_NAME)
def test_labels_without_their_images_say_so(tmp_path: Path, make: str) -> None:
    with pytest.raises(DatasetError, match="no other is: export the labels with their images"):
        read_dataset(BY_NAME[make](tmp_path, "a.jpg"))


def test_folders_in_capitals(tmp_path: Path) -> None:
    assert is_box(read_dataset(yolo(tmp_path, "Images/a.jpg", "Labels/a.txt")))
