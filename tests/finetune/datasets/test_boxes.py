"""Boxes without masks, attributes and class maps: in, through the store's format, out, and into the deck."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finetune.datasets import export_dataset, read_dataset, write_dataset
from finetune.datasets.deck import Deck, make_deck
from finetune.errors import DatasetError
from hub.cli.dataset import read
from tests.finetune.folders import coco_folder, coco_json, yolo_folder

SHARED = Path(__file__).parents[4] / "shared" / "data" / "pallet-faces"


def boxes_folder(root: Path, segmentation: object = None) -> Path:
    first = coco_json()["annotations"][0]
    plain = {key: value for key, value in first.items() if key != "segmentation"}
    annotations = [
        first,
        plain | {"id": 90, "bbox": [3, 2, 7, 5], "attributes": {"damaged": True}},
        plain | {"id": 91, "bbox": [1.4, 1.6, 4.2, 3.9], "segmentation": segmentation},
    ]
    return coco_folder(root, coco_json(annotations=annotations))


@pytest.mark.parametrize("segmentation", [None, []])
def test_a_box_is_read_as_a_box(tmp_path: Path, segmentation: object) -> None:
    dataset = read_dataset(boxes_folder(tmp_path / "in", segmentation))
    sample = dataset.samples[0]
    assert sample.box_only == (False, True, True)
    assert dict(sample.attributes[1]) == {"damaged": True, "box_only": True}
    assert sample.truth().boxes[1:].tolist() == [[3, 2, 10, 7], [1, 2, 6, 6]]
    mask = sample.truth().decode_masks()[1]
    assert mask.sum() == 35 and mask[2:7, 3:10].all()
    assert any("2 x instance with a box and no mask" in warning for warning in dataset.warnings)


@pytest.mark.parametrize("name", ["coco", "coco-uncompressed", "coco-polygons", "yolo"])
def test_a_box_leaves_as_a_box(tmp_path: Path, name: str) -> None:
    dataset = read_dataset(boxes_folder(tmp_path / "in"))
    export_dataset(dataset, tmp_path / name, name)
    back = read_dataset(tmp_path / name).samples[0]
    assert back.masks == dataset.samples[0].masks
    assert back.box_only == (False, True, True)


def test_the_store_keeps_boxes_and_attributes(tmp_path: Path) -> None:
    dataset = read_dataset(boxes_folder(tmp_path / "in"))
    write_dataset(dataset, tmp_path / "out")
    text = (tmp_path / "out" / "annotations.json").read_text()
    assert text.count('"segmentation":[]') == 2, "nobody reads an outline of a box there"
    back = read_dataset(tmp_path / "out")
    assert [s.attributes for s in back.samples] == [s.attributes for s in dataset.samples]
    assert [s.masks for s in back.samples] == [s.masks for s in dataset.samples]


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([3, 2, 0, 5], "no area"),
        ([3, 2, 7], "x, y, width and height"),
        ("3 2 7 5", "x, y, width and height"),
        ([3, 2, True, 5], "x, y, width and height"),
        ([3, 2, 7000, 5], "outside the image"),
    ],
)
def test_what_is_no_box_is_named(tmp_path: Path, box: object, said: str) -> None:
    record = {key: value for key, value in coco_json()["annotations"][0].items() if key != "segmentation"}
    folder = coco_folder(tmp_path / "in", coco_json(annotations=[record | {"bbox": box}]))
    with pytest.raises(DatasetError, match=said):
        read_dataset(folder)


def test_the_deck_says_what_it_was_made_of(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dataset = read_dataset(yolo_folder(tmp_path / "in"))
    base = next(sample for sample in dataset.samples if sample.masks)
    samples, plain_samples = [], []
    for k in range(8):
        image = tmp_path / f"{k}.jpg"
        image.write_bytes(base.image.read_bytes() + bytes([k]))  # equal images would leave the deck
        plain = replace(base, image=image, name=image.name, split="valid" if k > 5 else "train")
        attributes = ((("box_only", True), ("damaged", bool(rng.integers(2)))),) * len(base.masks)
        plain_samples.append(plain)
        samples.append(replace(plain, attributes=attributes))
    several = type(dataset)("set", dataset.classes, tuple(samples))
    labels = ["box", "bag", "reserved_0", "reserved_1"]
    deck = make_deck(several, base_labels=labels, class_map={"box": "reserved_1"})
    assert deck.class_map["box"] == "reserved_1", "what the team says comes first"
    instances = 6 * len(base.masks)
    assert deck.box_only == instances > 0
    assert dict(deck.attributes) == {"damaged": instances}
    assert Deck.from_json(deck.to_json()) == deck
    without = make_deck(type(dataset)("set", dataset.classes, tuple(plain_samples)), base_labels=labels)
    assert b"box_only" not in without.to_json() and b"attributes" not in without.to_json(), (
        "older decks keep their names"
    )


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
def test_another_teams_faces_of_boxes() -> None:
    """Seven classes that the base does not know: they get spare labels, or what the team says."""
    dataset = read(SHARED)
    labels = ["box", "polybag", *(f"reserved_{k}" for k in range(10))]
    deck = make_deck(dataset, base_labels=labels)
    assert set(deck.class_map) | set(deck.left_out) == set(dataset.classes)
    first = dataset.classes[0]
    assert make_deck(dataset, base_labels=labels, class_map={first: "box"}).class_map[first] == "box"
