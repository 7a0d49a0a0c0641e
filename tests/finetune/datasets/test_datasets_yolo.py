"""YOLO-seg folders: layouts that must be read, faults that must be named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetune.datasets import read_dataset
from finetune.errors import DatasetError
from tests.finetune.folders import HEIGHT, SQUARE, WIDTH, shared_data, write_image, write_text, yolo_folder


def test_masks_lie_where_the_polygon_says(tmp_path: Path) -> None:
    dataset = read_dataset(yolo_folder(tmp_path / "cell", label=f"1 {SQUARE}\n0 0 0 0.5 0 0 0.5\n"))
    assert (dataset.name, dataset.classes, dataset.warnings) == ("cell", ("box", "bag"), ())
    sample = dataset.samples[0]
    assert (sample.name, sample.split, sample.width, sample.height) == ("0.jpg", "train", WIDTH, HEIGHT)
    truth = sample.truth()
    assert truth.labels == ("bag", "box")
    assert truth.scores.tolist() == [1.0, 1.0]
    mask = truth.decode_masks()[0]
    assert mask[HEIGHT // 4 + 1 : HEIGHT * 3 // 4 - 1, WIDTH // 4 : WIDTH * 3 // 4].all()
    assert not mask[:, : WIDTH // 4 - 1].any()
    assert truth.boxes[0].tolist() == pytest.approx([10, 8, 30, 22], abs=1)
    assert dataset.counts() == {"box": 3, "bag": 3}


@pytest.mark.parametrize(
    ("image", "label", "split"),
    [
        ("train/images/a.jpg", "train/labels/a.txt", "train"),
        ("val/images/a.png", "val/labels/a.txt", "valid"),
        ("images/test/a.jpeg", "labels/test/a.txt", "test"),
        ("images/a.JPG", "labels/a.txt", None),
        ("valid/a.jpg", "valid/a.txt", "valid"),
        ("a.jpg", "a.txt", None),
    ],
)
def test_layouts(tmp_path: Path, image: str, label: str, split: str | None) -> None:
    write_text(tmp_path / "data.yaml", "names: {0: box, 1: bag}\ntrain: ../elsewhere\n")
    write_image(tmp_path / image)
    write_text(tmp_path / label, f"1 {SQUARE}")
    (sample,) = read_dataset(tmp_path).samples
    assert (sample.labels, sample.split) == (("bag",), split)


def test_equal_file_names_in_two_splits_keep_their_paths(tmp_path: Path) -> None:
    yolo_folder(tmp_path, images=1)
    shutil.copytree(tmp_path / "train", tmp_path / "valid")
    write_image(tmp_path / "valid/images/0.jpg", seed=9)
    assert [s.name for s in read_dataset(tmp_path).samples] == ["train/images/0.jpg", "valid/images/0.jpg"]


Damage = Callable[[Path], object]


def label_text(text: str) -> Damage:
    return lambda folder: write_text(folder / "train/labels/1.txt", text)


def cut_short(folder: Path) -> None:
    image = folder / "train/images/1.jpg"
    image.write_bytes(image.read_bytes()[:-200])


def huge_header(folder: Path) -> None:
    image = folder / "train/images/1.jpg"
    data = bytearray(image.read_bytes())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    image.write_bytes(data)


def link_out(folder: Path) -> None:
    outside = write_image(folder.parent / "outside.jpg")
    (folder / "train/images/9.jpg").symlink_to(outside)


def link_folder(folder: Path) -> None:
    (folder / "valid").symlink_to(folder / "train")


def two_deeper(folder: Path) -> None:
    """Two files of an export in a folder of its own, neither of which is called data.yaml."""
    (folder / "export").mkdir()
    for name in ("a", "b"):
        write_text(folder / f"export/{name}.yaml", (folder / "data.yaml").read_text() + f"train: {name}\n")
    (folder / "data.yaml").unlink()


BAD = [
    ("odd", label_text(f"0 {SQUARE}\n0 0.1 0.1 0.2 0.2 0.3 0.3 0.4\n"), "labels/1.txt:2", "odd number"),
    ("word", label_text("0 0.1 x 0.2 0.2 0.3 0.3\n"), "labels/1.txt:1", "'x' is not a number"),
    ("nan", label_text("0 0.1 nan 0.2 0.2 0.3 0.3\n"), "labels/1.txt:1", "not a finite number"),
    ("outside", label_text("\n0 0.1 0.1 1.05 0.2 0.3 0.3\n"), "labels/1.txt:2", "outside the image"),
    ("pixels", label_text("0 10 10 30 10 30 30\n"), "labels/1.txt:1", "outside the image"),
    ("class", label_text(f"2 {SQUARE}\n"), "labels/1.txt:1", "out of range"),
    ("negative", label_text(f"-1 {SQUARE}\n"), "labels/1.txt:1", "out of range"),
    ("half class", label_text(f"0.5 {SQUARE}\n"), "labels/1.txt:1", "not a whole number"),
    ("binary", lambda f: (f / "train/labels/1.txt").write_bytes(b"\xff\xfe\x00"), "labels/1.txt", "as text"),
    ("orphan", lambda f: write_text(f / "train/labels/7.txt", ""), "labels/7.txt", "without its image"),
    ("truncated", cut_short, "images/1.jpg", "cannot be decoded"),
    ("empty file", lambda f: (f / "train/images/1.jpg").write_bytes(b""), "images/1.jpg", "empty"),
    ("not an image", lambda f: write_text(f / "train/images/1.jpg", "hello"), "images/1.jpg", "not a JPEG"),
    ("oversize", huge_header, "images/1.jpg", "65535x65535"),
    ("format", lambda f: write_text(f / "train/images/2.webp", "x"), "images/2.webp", "neither JPEG nor PNG"),
    ("link out", link_out, "images/9.jpg", "link to outside"),
    ("link to folder", link_folder, "valid", "link to a folder"),
    ("no yaml", lambda f: (f / "data.yaml").unlink(), "", "no data.yaml"),
    ("no names", lambda f: write_text(f / "data.yaml", "nc: 2\n"), "data.yaml [names]", "must name"),
    ("gap", lambda f: write_text(f / "data.yaml", "names: {0: a, 2: b}"), "data.yaml [names]", "without gaps"),
    ("bare no", lambda f: write_text(f / "data.yaml", "names: [no, b]"), "data.yaml [names]", "put it in quotes"),
    ("twice", lambda f: write_text(f / "data.yaml", "names: [a, a]"), "data.yaml [names]", "occurs twice"),
    ("nc", lambda f: write_text(f / "data.yaml", "nc: 3\nnames: [a]"), "data.yaml [nc]", "names 1"),
    ("yaml", lambda f: write_text(f / "data.yaml", "names: [a\nb: ]"), "data.yaml:2", "is not YAML"),
    ("two lists", lambda f: write_text(f / "old.yaml", "names: [b, a]"), "data.yaml [names]", "other classes than old"),
    ("two deeper", two_deeper, "export/a.yaml", "several files name classes (export/a.yaml, export/b.yaml)"),
    ("no images", lambda f: shutil.rmtree(f / "train"), "", "has no image"),
    ("empty labels", lambda f: [label_text("")(f), shutil.rmtree(f / "train/labels")], "", "has an instance"),
    ("both formats", lambda f: write_text(f / "a.json", '{"images": [], "annotations": []}'), "", "COCO"),
]


@pytest.mark.parametrize(
    "beside", ["names: {0: box, 1: bag}", "model: seg.pt\nepochs: 3", "names: [box, bag]\nnc: 2", "[a"]
)
def test_a_second_yaml_that_says_nothing_else_is_no_problem(tmp_path: Path, beside: str) -> None:
    folder = yolo_folder(tmp_path / "cell")
    names = read_dataset(folder).classes
    write_text(folder / "args.yaml", beside)
    assert read_dataset(folder).classes == names


@pytest.mark.parametrize(("damage", "place", "reason"), [pytest.param(*case[1:], id=case[0]) for case in BAD])
def test_faults_are_named_with_their_place(tmp_path: Path, damage: Damage, place: str, reason: str) -> None:
    folder = yolo_folder(tmp_path / "cell")
    damage(folder)
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder)
    headline = str(caught.value).splitlines()[0]
    assert place in headline
    assert reason in headline


def test_headers_alone_do_not_find_a_truncated_image(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path / "cell")
    cut_short(folder)
    assert len(read_dataset(folder, check_images=False).samples) == 3


def test_all_problems_are_listed_up_to_twenty(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path / "cell", label="7 0 0 1 0 1 1\n" * 13)
    with pytest.raises(DatasetError) as caught:
        read_dataset(folder)
    error, text = caught.value, str(caught.value)
    assert (error.path, error.line) == (Path("train/labels/0.txt"), 1)
    assert text.count("out of range") == 20
    assert "38 more" in text
    assert "and 19 that are not listed" in text


def test_survivable_faults_are_warnings(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path / "cell")
    write_image(folder / "train/images/background.jpg", seed=8)
    write_text(folder / "train/labels/1.txt", f"0 {SQUARE}\n0 {SQUARE}\n1 0.1 0.1 0.1 0.1 0.1 0.1\n")
    write_image(folder / "train/images/skipped.jpg", seed=9)
    write_text(folder / "train/labels/skipped.txt", "0 0.1 0.1\n0 0.5 0.5 0 0.2\n")
    write_text(folder / "train/labels/2.txt", "0 -0.01 0 1.019 0 0.5 0.5\n")
    dataset = read_dataset(folder)
    assert [sample.labels for sample in dataset.samples] == [("box",), ("box",), ("box",), ()]
    text = "\n".join(dataset.warnings)
    for part in (
        "1 x image without a label file",
        "repeats another",
        "covers no pixel",
        "1 x polygon reaches",
        "at least 3",
        "no area",
    ):
        assert part in text
    assert "train/labels/2.txt:1" in text


def test_nothing_recognisable_says_what_was_looked_for(tmp_path: Path) -> None:
    write_text(tmp_path / "outer/inner/a.xml", "<x/>")
    with pytest.raises(DatasetError, match=r"Looked for COCO .*\(data\.yaml .* 1 \.xml; no image .*'outer'"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        read_dataset(tmp_path / "absent")


def test_read_image_and_real_photographs() -> None:
    dataset = read_dataset(shared_data("rack-boxes"))
    assert dataset.classes == ("box",)
    assert {sample.split for sample in dataset.samples} == {"train", "valid"}
    assert len(dataset.samples) == 109
    sample = dataset.samples[0]
    pixels = sample.read_image()
    assert (pixels.shape, pixels.dtype) == ((sample.height, sample.width, 3), np.uint8)
    assert len(sample.truth()) == len(sample.labels)
