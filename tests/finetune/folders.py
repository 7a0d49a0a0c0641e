"""Small dataset folders that tests then damage."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SQUARE = "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"
WIDTH, HEIGHT = 40, 30


def write_image(path: Path, *, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Path:
    """A picture of noise: no two seeds give the same bytes, and it is long enough to be cut short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def yolo_folder(folder: Path, *, images: int = 3, label: str = f"0 {SQUARE}\n") -> Path:
    """train/{images,labels}/0.jpg, 1.jpg, ... with one square each, classes box and bag."""
    write_text(folder / "data.yaml", "nc: 2\nnames: [box, bag]\n")
    for k in range(images):
        write_image(folder / f"train/images/{k}.jpg", seed=k)
        write_text(folder / f"train/labels/{k}.txt", label)
    return folder


def coco_json(**changes: Any) -> dict[str, Any]:
    """A document with one image `a.jpg` and one triangle; `changes` replace top-level keys."""
    document: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "segmentation": [[2, 2, 20, 2, 20, 20]]}],
        "categories": [{"id": 5, "name": "box"}],
    }
    return document | changes


def coco_folder(folder: Path, document: dict[str, Any]) -> Path:
    """`images/a.jpg` and `annotations.json`."""
    write_image(folder / "images/a.jpg")
    write_text(folder / "annotations.json", json.dumps(document))
    return folder


def annotation(**changes: Any) -> dict[str, Any]:
    """The annotation of `coco_json` with changed fields."""
    return coco_json()["annotations"][0] | changes


def shared_data(name: str) -> Path:
    """A folder of real images beside the repository; the test is skipped where it is absent."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("PARCELHUB_SHARED_DATA", beside)) / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not on this machine")
    return folder
