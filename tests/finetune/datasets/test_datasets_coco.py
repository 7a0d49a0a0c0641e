"""COCO in and out: what must be read, faults that must be named, and that no pixel changes on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from finetune.datasets import Dataset, Sample, dataset_card, read_dataset, write_dataset
from finetune.datasets.rle import canonical, parse_counts
from finetune.errors import DatasetError
from serving.instances import Instances
from tests.finetune.folders import (
    HEIGHT,
    WIDTH,
    annotation,
    coco_folder,
    coco_json,
    shared_data,
    write_image,
    write_text,
    yolo_folder,
)
from tests.scale import scaled

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 3), st.just(HEIGHT), st.just(WIDTH)))
RUNS = st.lists(st.integers(0, 60), min_size=1, max_size=60)


def uncompressed(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[0], mask.ravel(order="F"), [0]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


# --- reading ----------------------------------------------------------------------------------------------------------


def test_polygons_with_many_parts_are_one_instance(tmp_path: Path) -> None:
    parts = [[0, 0, 10, 0, 10, 10, 0, 10], [20, 20, 30, 20, 30, 30, 20, 30]]
    (sample,) = read_dataset(coco_folder(tmp_path, coco_json(annotations=[annotation(segmentation=parts)]))).samples
    mask = sample.truth().decode_masks()[0]
    assert mask.sum() == pytest.approx(200, rel=0.15)
    assert mask[5, 5] and mask[25, 25] and not mask[15, 15]
    assert sample.truth().boxes.tolist() == [[0, 0, 30, 30]]


@pytest.mark.parametrize("compressed", [True, False])
def test_rle_keeps_holes(tmp_path: Path, compressed: bool) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:25, 5:25], mask[10:15, 10:15] = True, False
    counts: Any = uncompressed(mask)
    if compressed:
        counts = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))["counts"].decode()
    segmentation = {"size": [HEIGHT, WIDTH], "counts": counts}
    (sample,) = read_dataset(
        coco_folder(tmp_path, coco_json(annotations=[annotation(segmentation=segmentation)]))
    ).samples
    assert np.array_equal(sample.truth().decode_masks()[0], mask)


@pytest.mark.parametrize(
    ("document", "image", "split"),
    [
        ("annotations.json", "images/a.jpg", None),
        ("export.json", "a.jpg", None),
        ("train/_annotations.coco.json", "train/a.jpg", "train"),
        ("valid/_annotations.coco.json", "valid/a.jpg", "valid"),
        ("annotations/instances_val2017.json", "val2017/a.jpg", "valid"),
        ("annotations/instances_train.json", "images/train/a.jpg", "train"),
    ],
)
def test_layouts(tmp_path: Path, document: str, image: str, split: str | None) -> None:
    write_image(tmp_path / image)
    write_text(tmp_path / document, json.dumps(coco_json()))
    (sample,) = read_dataset(tmp_path).samples
    assert (sample.labels, sample.split) == (("box",), split)


def test_one_class_over_several_documents(tmp_path: Path) -> None:
    for split, number in (("train", 1), ("valid", 4)):
        write_image(tmp_path / split / f"{split}.jpg")
        document = coco_json(
            images=[{"id": 1, "file_name": f"{split}.jpg"}],
            annotations=[annotation(category_id=number)],
            categories=[{"id": 0, "name": "things"}, {"id": number, "name": "box"}],
        )
        write_text(tmp_path / split / "_annotations.coco.json", json.dumps(document))
    dataset = read_dataset(tmp_path)
    assert dataset.classes == ("box",), "Roboflow's first category is the project"
    assert [(s.labels, s.split) for s in dataset.samples] == [(("box",), "train"), (("box",), "valid")]


def test_survivable_faults_are_warnings(tmp_path: Path) -> None:
    annotations = [
        annotation(),
        annotation(id=2, iscrowd=1),
        annotation(id=3, segmentation=[[1, 1, 1, 1, 1, 1]]),
        annotation(id=4, segmentation=[[-0.5, 3, 20, 3, 20, 25]]),
    ]
    write_image(tmp_path / "images/other.jpg")
    dataset = read_dataset(coco_folder(tmp_path, coco_json(annotations=annotations)))
    assert dataset.counts() == {"box": 2}
    text = "\n".join(dataset.warnings)
    for part in ("iscrowd=1", "covers no pixel", "annotations[3]", "no annotation file lists", "images/other.jpg"):
        assert part in text


def rle(size: Any = None, counts: Any = None) -> dict[str, Any]:
    full = [0, HEIGHT * WIDTH]
    return {"size": size or [HEIGHT, WIDTH], "counts": full if counts is None else counts}


IMAGE = coco_json()["images"][0]
BAD_SEGMENTATIONS = [
    ("none", None, "neither a mask nor a box"),
    ("empty", [], "neither a mask nor a box"),
    ("no list", "1 1 5 1 5 5", "list of polygons"),
    ("mixed", [[1, 1, 5, 1, 5, 5], 3], "list of polygons"),
    ("odd", [[1, 1, 5, 1, 5, 5, 3]], "odd number"),
    ("text", [[1, 1, 5, 1, 5, "five"]], "'five' is not a finite number"),
    ("huge", [[1, 1, 5, 1, 5, 10**400]], "is not a finite number"),
    ("infinite", [[1, 1, 5, 1, 5, float("inf")]], "inf is not a finite number"),
    ("outside", [[1, 1, WIDTH * 1.1, 1, 5, 5]], "outside the image"),
    ("swapped", rle(size=[WIDTH, HEIGHT]), "order is [height, width]"),
    ("other size", rle(size=[7, 7]), "is not the image's"),
    ("too short", rle(counts=[10, 10]), "covers 20 pixels"),
    ("negative", rle(counts=[-1, HEIGHT * WIDTH + 1]), "neither a string nor a list"),
    ("cut", rle(counts="P"), "cut short"),
    ("not RLE", rle(counts="é"), "does not use"),
    ("too long", rle(counts="o" * 9 + "0"), "too long"),
    ("no counts", rle(counts={}), "neither a string nor a list"),
]
BAD_DOCUMENTS = [
    ("image id", {"images": [IMAGE | {"id": [1]}]}, "[images[0].id]", "[1] is not a whole number"),
    ("image twice", {"images": [IMAGE, IMAGE | {"file_name": "b.jpg"}]}, "[images[1].id]", "used twice"),
    ("file twice", {"images": [IMAGE, IMAGE | {"id": 2}]}, "[images[1]]", "a second time"),
    ("escape", {"images": [IMAGE | {"file_name": "../z.jpg"}]}, "[images[0].file_name]", "leads out"),
    ("absolute", {"images": [IMAGE | {"file_name": "/etc/z.jpg"}]}, "[images[0].file_name]", "leads out"),
    ("drive", {"images": [IMAGE | {"file_name": "C:\\z.jpg"}]}, "[images[0].file_name]", "leads out"),
    ("folder", {"images": [IMAGE | {"file_name": "."}]}, "[images[0].file_name]", "is not in the folder"),
    ("absent", {"images": [IMAGE | {"file_name": "z.jpg"}]}, "[images[0].file_name]", "is not in the folder"),
    ("no name", {"images": [IMAGE | {"file_name": None}]}, "[images[0].file_name]", "is not a file name"),
    ("size", {"images": [IMAGE | {"width": 50}]}, "[images[0]]", "says 50x30 pixels"),
    ("turned", {"images": [IMAGE | {"width": HEIGHT, "height": WIDTH}]}, "[images[0]]", "EXIF"),
    ("zero", {"images": [IMAGE | {"width": 0}]}, "[images[0]]", "above 0"),
    ("split", {"images": [IMAGE | {"split": "dev"}]}, "[images[0].split]", "must be one of"),
    ("sequence", {"images": [IMAGE | {"sequence": 3}]}, "[images[0].sequence]", "not text"),
    ("not an object", {"images": [3]}, "[images[0]]", "is not an object"),
    ("not a list", {"images": {}}, "[images]", "is not a list"),
    ("annotation twice", {"annotations": [annotation(), annotation()]}, "[annotations[1].id]", "used twice"),
    ("unknown image", {"annotations": [annotation(image_id=9)]}, "[annotations[0].image_id]", "id 9"),
    ("unknown category", {"annotations": [annotation(category_id=1)]}, "[annotations[0].category_id]", "id 1"),
    ("category id", {"categories": [{"id": None, "name": "box"}]}, "[categories[0].id]", "not a whole number"),
    ("category name", {"categories": [{"id": 5, "name": 5}]}, "[categories[0].name]", "not text"),
]


@pytest.mark.parametrize(
    ("segmentation", "reason"), [pytest.param(*case[1:], id=case[0]) for case in BAD_SEGMENTATIONS]
)
def test_bad_segmentations_are_named(tmp_path: Path, segmentation: Any, reason: str) -> None:
    document = coco_json(annotations=[annotation(), annotation(id=2, segmentation=segmentation)])
    with pytest.raises(DatasetError) as caught:
        read_dataset(coco_folder(tmp_path, document))
    assert str(caught.value).startswith("annotations.json [annotations[1].segmentation]: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "place", "reason"), [pytest.param(*case[1:], id=case[0]) for case in BAD_DOCUMENTS]
)
def test_bad_documents_are_named(tmp_path: Path, changes: dict[str, Any], place: str, reason: str) -> None:
    write_image(tmp_path / "images/b.jpg")
    with pytest.raises(DatasetError) as caught:
        read_dataset(coco_folder(tmp_path, coco_json(**changes)))
    headline = str(caught.value).splitlines()[0]
    assert headline.startswith(f"annotations.json {place}: ")
    assert reason in headline


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, coco_json())
    write_text(folder / "annotations.json", '{"images": [\n{]')
    with pytest.raises(DatasetError, match=r"annotations\.json:2: is not JSON"):
        read_dataset(folder)


def test_only_crowds_is_no_dataset_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"(?s)none of its 1 images.*iscrowd=1"):
        read_dataset(coco_folder(tmp_path, coco_json(annotations=[annotation(iscrowd=1)])))


# --- run lengths ------------------------------------------------------------------------------------------------------


@given(MASKS)
def test_parsed_runs_and_canonical_form_are_pycocotools_own(masks: np.ndarray) -> None:
    for mask in masks:
        reference = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))["counts"]
        runs = parse_counts(reference)
        assert runs.tolist() in (uncompressed(mask), uncompressed(mask)[:-1])
        assert canonical(runs, HEIGHT, WIDTH) == (reference, mask.sum())


@given(RUNS)
def test_empty_runs_vanish_without_changing_a_pixel(runs: list[int]) -> None:
    height = 4
    runs = [*runs, -sum(runs) % height or height]
    width = sum(runs) // height
    loose = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    pixels = coco_mask.decode(loose)
    counts, area = canonical(np.array(runs), height, width)
    assert counts == coco_mask.encode(np.asfortranarray(pixels))["counts"]
    assert area == pixels.sum()


# --- writing ----------------------------------------------------------------------------------------------------------


@settings(max_examples=scaled(10, 200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(masks=MASKS)
def test_written_and_read_again_no_pixel_differs(masks: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("round")
    # A corner pixel of its own makes every mask distinct and not empty.
    masks[:, 0, :3] = np.eye(3, dtype=bool)[: len(masks)]
    labels = ["box", "bag", "box"][: len(masks)]
    truth = Instances.from_masks(masks, labels)
    image = write_image(folder / "a.png")
    sample = Sample(image, WIDTH, HEIGHT, truth.labels, truth.masks, "valid", "shift 1")
    write_dataset(Dataset("cell", ("bag", "box", "never"), (sample,)), folder / "out")
    dataset = read_dataset(folder / "out")
    (again,) = dataset.samples
    assert np.array_equal(again.truth().decode_masks(), masks)
    assert again.truth() == truth
    assert (dataset.classes, again.split, again.sequence) == (("bag", "box", "never"), "valid", "shift 1")
    assert again.image.read_bytes() == image.read_bytes()


def test_polygons_become_the_same_rle_on_the_second_reading(tmp_path: Path) -> None:
    dataset = read_dataset(yolo_folder(tmp_path / "cell", label="0 0.1 0.1 0.93 0.2 0.5 0.87 0.2 0.6\n"))
    write_dataset(dataset, tmp_path / "out/cell")
    again = read_dataset(tmp_path / "out/cell")
    assert [(s.name, s.labels, s.masks, s.split) for s in again.samples] == [
        (s.name, s.labels, s.masks, s.split) for s in dataset.samples
    ]


def test_equal_datasets_give_equal_bytes(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path / "cell")
    (folder / "valid").mkdir()
    (folder / "valid/images").symlink_to("nowhere")  # dangling, but inside: neither a file nor a way out
    for name in ("one/cell", "two/cell"):
        write_dataset(read_dataset(folder), tmp_path / name, licence="cc-by-4.0")
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    dataset = read_dataset(yolo_folder(tmp_path / "cell"))
    dataset.samples[2].image.unlink()
    with pytest.raises(DatasetError, match=r"2\.jpg: cannot be copied"):
        write_dataset(dataset, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cell"]
    write_text(tmp_path / "full/file", "x")
    with pytest.raises(DatasetError, match="not an empty folder"):
        write_dataset(dataset, tmp_path / "full")


def test_file_names_never_collide(tmp_path: Path) -> None:
    names = ("a/b.jpg", "c/b.jpg", "a-b.jpg", "A-B.JPG")
    samples = tuple(
        Sample(write_image(tmp_path / "in" / name, seed=k), WIDTH, HEIGHT, ("box",), (b"[PT1",), name=name)
        for k, name in enumerate(names)
    )
    write_dataset(Dataset("cell", ("box",), samples), tmp_path / "out")
    written = {path.read_bytes() for path in (tmp_path / "out/images").iterdir()}
    assert written == {sample.image.read_bytes() for sample in samples}
    assert len({path.name.lower() for path in (tmp_path / "out/images").iterdir()}) == 4


def test_card_counts_and_front_matter(tmp_path: Path) -> None:
    dataset = read_dataset(yolo_folder(tmp_path / "dock|7"))
    card = dataset_card(dataset, "Boxes at dock 7.", "cc-by-4.0")
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    for part in ("Boxes at dock 7.", "| box | 3 | 3 | 3 |", "| bag | 0 | 0 | 0 |", "3 images with 3 instances"):
        assert part in card
    own = "---\nlicense: mit\n---\nours\n"
    write_dataset(dataset, tmp_path / "out", card=own)
    assert (tmp_path / "out/README.md").read_text() == own


@pytest.mark.slow
def test_real_faces_survive_the_round_trip(tmp_path: Path) -> None:
    dataset = read_dataset(shared_data("pallet-faces"), check_images=False)
    write_dataset(dataset, tmp_path / "pallet-faces")
    again = read_dataset(tmp_path / "pallet-faces", check_images=False)
    assert again.classes == dataset.classes
    assert [(s.name, s.labels, s.masks) for s in again.samples] == [
        (s.name, s.labels, s.masks) for s in dataset.samples
    ]
