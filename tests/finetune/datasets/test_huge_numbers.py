"""Numbers of thousands of digits in text files: refused in words, with the file, and never an error of Python's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetune.datasets import read_dataset
from finetune.datasets.limits import decimal
from finetune.errors import DatasetError
from tests.finetune.exports import FULL, ids, png, yolo
from tests.finetune.folders import write_image, write_text

HUGE = "7" * 5000


def labelmap(folder: Path) -> Path:
    write_image(folder / "JPEGImages/a.jpg")
    for kind in ("Class", "Object"):
        png(folder / f"Segmentation{kind}/a.png", FULL.astype(np.uint8))
    write_text(folder / "labelmap.txt", f"background:0,0,0::\nbox:1,{HUGE},1::\n")
    return folder


def table(folder: Path) -> Path:
    ids(folder, "images/a.jpg", "masks/a.png")
    (folder / "classes.txt").unlink()
    write_text(folder / "instances.csv", f"mask,id,class\na.png,{HUGE},box\n")
    return folder


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (labelmap, "labelmap.txt"),
        (table, "instances.csv"),
        (lambda f: yolo(f, "images/a.jpg", "labels/a.txt", config=f"names: {{'{HUGE}': box}}\n"), "data.yaml"),
        (lambda f: yolo(f, "images/a.jpg", "labels/a.txt", config=f"names: {{{HUGE}: box}}\n"), "data.yaml"),
        (lambda f: yolo(f, "images/a.jpg", "labels/a.txt", f"{HUGE} 0.1 0.1 0.5 0.1 0.5 0.5\n"), "labels/a.txt"),
    ],
    ids=["Pascal's colours", "a table of ids", "YOLO's quoted names", "YOLO's names", "YOLO's labels"],
)
def test_huge_numbers_are_refused_in_words(write: Callable[[Path], Path], named: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_dataset(write(tmp_path))
    said = str(caught.value)
    assert named in said and "set_int_max_str_digits" not in said


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), (" 007 ", 7), ("", None), ("-7", None), ("7.0", None), ("²", None), (HUGE, None)]
)
def test_decimal(text: str, number: int | None) -> None:
    assert decimal(text) == number


def test_an_encoding_that_nobody_knows_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg")
    write_text(tmp_path / "annotations.xml", '<?xml version="1.0" encoding="uth-8"?><annotations></annotations>')
    with pytest.raises(DatasetError, match="uth-8"):
        read_dataset(tmp_path)
