"""Damaged exports: whatever is in the files, what leaves the reader is a dataset with labels or a DatasetError."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.datasets import Dataset, read_dataset
from finetune.datasets.archive import unpack
from finetune.errors import DatasetError
from tests.finetune.exports import coco, cvat, ids, labelme, studio, voc, yolo
from tests.finetune.folders import write_image, write_text
from tests.finetune.mutations import damage, originals

ROUNDS = 20
"""For each of the fifteen exports; a long run is these seeds and more."""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return originals(tmp_path_factory.mktemp("exports"))


def read_or_refused(folder: Path) -> Dataset | None:
    """The dataset, whose every mask can be decoded and which has at least one; None where it is refused in words."""
    try:
        dataset = read_dataset(folder)
    except DatasetError as error:
        assert str(error).strip() and str(folder.parent) not in str(error)
        return None
    assert any(sample.labels for sample in dataset.samples)
    assert {label for sample in dataset.samples for label in sample.labels} <= set(dataset.classes)
    for sample in dataset.samples:
        masks = sample.truth().decode_masks()
        assert len(masks) == len(sample.labels) and all(mask.any() for mask in masks)
        assert sample.image.resolve().is_relative_to(folder.resolve())
    return dataset


@pytest.mark.parametrize("which", range(15))
def test_damaged_exports(tmp_path: Path, exports: list[Path], which: int) -> None:
    original = exports[which]
    answers = [read_or_refused(damage(original, tmp_path / str(seed), seed)) for seed in range(ROUNDS)]
    assert any(answers) and not all(answers), "the damage is neither always seen nor never"


def bombs(folder: Path) -> Iterator[Path]:
    """Small files that ask for much."""
    deep = "[" * 100_000
    yield write_text(write_image(folder / "0/a.jpg").parent / "annotations.json", deep).parent
    yield write_text(write_image(folder / "1/a.jpg").parent / "x.json", '{"shapes": ' + deep).parent
    laughs = "a: &a [x, x]\n" + "".join(
        f"{c}: &{c} [{f'*{p}, ' * 9}*{p}]\n" for p, c in zip("abcdefghi", "bcdefghij", strict=True)
    )
    yield yolo(folder / "2", "images/a.jpg", "labels/a.txt", config=f"{laughs}names: [*j]\nnc: *j\n")
    yield yolo(folder / "3", "images/a.jpg", "labels/a.txt", config=f"{laughs}names: [box, bag]\nnc: *j\n")
    entity = '<!DOCTYPE a [<!ENTITY x "yyyyyyyyyy"><!ENTITY z "&x;&x;&x;">]><annotations>&z;</annotations>'
    yield write_text(write_image(folder / "4/a.jpg").parent / "annotations.xml", entity).parent
    yield coco(
        write_image(folder / "5/a.jpg").parent, "a.jpg", {"segmentation": {"size": [10**9, 10**9], "counts": [10**18]}}
    )
    huge = '<mask label="box" rle="0,1" left="0" top="0" width="999999999" height="999999999"/>'
    yield cvat(write_image(folder / "6/a.jpg").parent, "a.jpg", huge)
    yield labelme(write_image(folder / "7/a.jpg").parent, "a.jpg", imageWidth=10**300)
    yield studio(
        write_image(folder / "8/a.jpg").parent,
        "a.jpg",
        {"type": "brushlabels", "value": {"rle": [255] * 40, "format": "rle", "brushlabels": ["box"]}},
    )
    yield voc(
        write_image(folder / "9/a.jpg").parent,
        "a.jpg",
        "<bndbox><xmin>1e400</xmin><ymin>1</ymin><xmax>2</xmax><ymax>3</ymax></bndbox>",
    )
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (2**31 - 1).to_bytes(4) * 2 + b"\x10\0\0\0\0" + b"\0" * 40
    ids(folder / "10", "images/a.jpg", "masks/a.png")
    (folder / "10/masks/a.png").write_bytes(head)
    yield folder / "10"


def test_small_files_that_ask_for_much_are_refused(tmp_path: Path) -> None:
    for folder in bombs(tmp_path):
        assert read_or_refused(folder) is None, folder.name


def test_damaged_archives(tmp_path: Path, exports: list[Path]) -> None:
    chance = random.Random(7)
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(exports[0].rglob("*")):
            archive.write(path, path.relative_to(exports[0]))
    refused = 0
    for number in range(60):
        data = bytearray(whole.read_bytes())
        for _ in range(chance.choice((1, 4, 40))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        broken = tmp_path / "broken.zip"
        broken.write_bytes(data[: chance.randrange(len(data))] if chance.random() < 0.2 else data)
        try:
            unpack(broken, tmp_path / f"out{number}")
        except DatasetError:
            refused += 1
            assert not (tmp_path / f"out{number}").exists(), "whole or not at all"
        else:
            read_or_refused(tmp_path / f"out{number}")
    assert 0 < refused < 60
