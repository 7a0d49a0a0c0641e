"""Every format in and out: the same pixels, classes, splits and attributes come back, or the loss is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finetune.datasets import FORMATS, SPLITS, Dataset, Sample, detect_format, export_dataset, read_dataset
from finetune.errors import DatasetError
from serving.instances import encode_masks
from tests.finetune.folders import HEIGHT, WIDTH, shared_data, write_image

CLASSES = ("bag", "box", "never seen", 'ä & <"box">')
DETECTED = {name: "coco" if name.startswith("coco") else name.split("-")[0] for name in FORMATS} | {
    "voc-masks": "voc-masks",
    "id-masks": "id-masks",
    "voc-boxes": "voc-boxes",
}

OUTLINES = [name for name, entry in FORMATS.items() if entry.outlines]
LOSSLESS = [name for name, entry in FORMATS.items() if entry.whole]
FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

NAMES = st.sampled_from(["damaged", "occluded", "group_id", "note", "weight"])
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=8),
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=3).map(lambda values: tuple(sorted(values.items())))


def owners(draw: st.DrawFn, height: int, width: int) -> np.ndarray:
    """One owner per pixel, 0 for none: coarse blocks and single pixels, so that parts, holes and corners occur."""
    fine = draw(hnp.arrays(np.int8, (height, width), elements=st.integers(0, 3)))
    coarse = draw(hnp.arrays(np.int8, (2, 3), elements=st.integers(0, 3)))
    blocks = np.kron(coarse, np.ones((-(-height // 2), -(-width // 3)), np.int8))[:height, :width]
    return np.where(draw(hnp.arrays(np.bool_, (height, width))), fine, blocks) if draw(st.booleans()) else blocks


@st.composite
def masks(draw: st.DrawFn, *, overlapping: bool = False) -> np.ndarray:
    """bool [N, HEIGHT, WIDTH], none empty, no two equal."""
    owner = owners(draw, HEIGHT, WIDTH)
    found = np.stack([owner == k for k in (1, 2, 3)])
    if overlapping:
        found |= draw(hnp.arrays(np.bool_, (3, HEIGHT, WIDTH), fill=st.just(False)))
    found = found[found.any((1, 2))]
    return np.unique(found, axis=0)


def dataset_of(folder: Path, found: np.ndarray, attributes: tuple = (), split: str | None = None) -> Dataset:
    labels = tuple(CLASSES[k % 2] if k < 2 else CLASSES[3] for k in range(len(found)))
    image = write_image(folder / "in/a.png")
    sample = Sample(image, WIDTH, HEIGHT, labels, encode_masks(found), split, attributes=attributes)
    return Dataset("in", CLASSES, (sample,))


def facts(dataset: Dataset) -> list[tuple[object, ...]]:
    return [(s.name, s.labels, s.masks, s.split, s.width, s.height) for s in dataset.samples]


# --- nothing is lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTLINES)
@FEW
@given(found=masks(), split=st.sampled_from([None, *SPLITS]))
def test_no_pixel_differs(
    name: str, found: np.ndarray, split: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not len(found):
        return
    folder = tmp_path_factory.mktemp("round")
    dataset = dataset_of(folder, found, split=split)
    lost = export_dataset(dataset, folder / "out", name)
    again = read_dataset(folder / "out")
    assert facts(again) == facts(dataset)
    assert (again.classes, again.format) == (CLASSES, DETECTED[name])
    assert detect_format(folder / "out").format == DETECTED[name]
    assert not lost or not FORMATS[name].whole
    assert again.samples[0].image.read_bytes() == dataset.samples[0].image.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OUTLINES if FORMATS[name].overlaps])
@FEW
@given(found=masks(overlapping=True))
def test_overlapping_masks_survive_where_there_is_room(
    name: str, found: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not len(found):
        return
    folder = tmp_path_factory.mktemp("round")
    dataset = dataset_of(folder, found)
    export_dataset(dataset, folder / "out", name)
    assert facts(read_dataset(folder / "out")) == facts(dataset)


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.attributes])
@FEW
@given(first=ATTRIBUTES, second=ATTRIBUTES)
def test_attributes_survive_where_there_is_room(
    name: str, first: tuple, second: tuple, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    found = np.zeros((2, HEIGHT, WIDTH), bool)
    found[0, 2:9, 2:9] = found[1, 12:20, 4:30] = True
    dataset = dataset_of(folder, found, (first, second))
    lost = export_dataset(dataset, folder / "out", name)
    again = read_dataset(folder / "out")
    assert again.samples[0].attributes == dataset.samples[0].attributes
    assert not lost


def ring_and_pieces() -> np.ndarray:
    """Three masks: one with a hole, one of two parts, one that is simple."""
    found = np.zeros((3, HEIGHT, WIDTH), bool)
    found[0, 2:14, 2:14] = True
    found[0, 5:8, 5:8] = False
    found[1, 2:6, 20:25] = found[1, 9:12, 30:36] = True
    found[2, 20:25, 5:30] = True
    return found


@pytest.mark.parametrize("name", OUTLINES)
def test_losses_are_counted(tmp_path: Path, name: str) -> None:
    entry = FORMATS[name]
    attributes = ((("damaged", True),), (), (("note", "wet"),))
    dataset = dataset_of(tmp_path, ring_and_pieces(), attributes)
    sample = dataset.samples[0]
    lost = "\n".join(
        export_dataset(
            Dataset("in", CLASSES, (Sample(*[getattr(sample, f) for f in FIELDS], "shift 1", "a.png", attributes),)),
            tmp_path / "out",
            name,
        )
    )
    assert ("1 x instance with holes" in lost) == (not entry.whole)
    assert ("1 x instance of several parts" in lost) == (not entry.whole and name != "coco-polygons")
    assert ("with attributes" in lost) == (not entry.attributes)
    assert ("known sequence" in lost) == (not entry.sequences)
    assert facts(read_dataset(tmp_path / "out")) == facts(dataset)


FIELDS = ("image", "width", "height", "labels", "masks", "split")


@pytest.mark.parametrize("name", ["voc-masks", "id-masks"])
def test_overlaps_go_to_the_smaller_and_are_counted(tmp_path: Path, name: str) -> None:
    found = np.zeros((3, HEIGHT, WIDTH), bool)
    found[0, :10, :10] = found[1, 2:4, 2:4] = True
    found[2] = found[1]
    found[2, 2, 2] = False
    lost = export_dataset(dataset_of(tmp_path, found), tmp_path / "out", name)
    assert {text.split(":")[0] for text in lost} == {"2 x instance overlapped by others"}
    found[0] &= ~found[1]
    found[1] &= ~found[2]
    assert read_dataset(tmp_path / "out").samples[0].masks == encode_masks(found)


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTLINES)
def test_equal_names_backgrounds_and_equal_bytes(tmp_path: Path, name: str) -> None:
    simple = encode_masks(ring_and_pieces()[2:])
    samples = [
        Sample(
            write_image(tmp_path / f"in/{k}/{file}", seed=k),
            WIDTH,
            HEIGHT,
            ("box",) * n,
            simple * n,
            split,
            name=file_name,
        )
        for k, (file, file_name, split, n) in enumerate(
            [
                ("a.jpg", "a.jpg", "train", 1),
                ("a.png", "a.png", "valid", 1),
                ("b.jpg", "train/b.jpg", "train", 1),
                ("b.jpg", "valid/B.jpg", None, 0),
            ]
        )
    ]
    dataset = Dataset("in", ("box",), tuple(samples))
    steps: list[tuple[int, int]] = []
    for out in ("one", "two"):
        export_dataset(dataset, tmp_path / out, name, progress=lambda done, total: steps.append((done, total)))
    one, two = (
        {p.relative_to(tmp_path / o): p.read_bytes() for p in (tmp_path / o).rglob("*") if p.is_file()}
        for o in ("one", "two")
    )
    assert one == two
    assert steps[-1] == (4, 4)
    again = read_dataset(tmp_path / "one")
    by_bytes = {s.image.read_bytes(): (s.labels, s.masks, s.split) for s in again.samples}
    assert by_bytes == {s.image.read_bytes(): (s.labels, s.masks, s.split) for s in samples}


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, ring_and_pieces())
    dataset.samples[0].image.unlink()
    for name in FORMATS:
        with pytest.raises(DatasetError, match="cannot be copied"):
            export_dataset(dataset, tmp_path / "out", name)
    with pytest.raises(DatasetError, match="there is no format 'xls'"):
        export_dataset(dataset, tmp_path / "out", "xls")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    with pytest.raises(DatasetError, match="not an empty folder"):
        export_dataset(dataset, tmp_path / "out", "coco")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo", "labelme", "cvat-polygons", "labelstudio"])
@pytest.mark.parametrize("source", ["rack-boxes", "pallet-faces"])
def test_real_datasets_survive(tmp_path: Path, source: str, name: str) -> None:
    dataset = read_dataset(shared_data(source), check_images=False)
    few = Dataset(source, dataset.classes, dataset.samples[::12])
    export_dataset(few, tmp_path / "out", name)
    again = read_dataset(tmp_path / "out", check_images=False)
    assert {s.name: (s.labels, s.masks, s.split) for s in again.samples} == {
        s.name: (s.labels, s.masks, s.split) for s in few.samples
    }
    assert again.classes == few.classes
