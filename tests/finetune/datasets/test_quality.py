"""Quality findings: each fault is found once, named, and of the right severity; good data gives none."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from finetune.datasets import Dataset, Sample
from finetune.datasets.quality import QualityReport, check_folder, check_quality
from serving.instances import encode_masks
from tests.finetune.folders import shared_data, write_text, yolo_folder

HEIGHT, WIDTH = 90, 120


def picture(path: Path, seed: int, *, quality: int = 95) -> Path:
    """Soft blobs, different for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    soft = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(path), soft, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


def disc(x: int, y: int, radius: int = 14) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def sample_of(image: Path, *masks: np.ndarray, split: str | None = "train", label: str = "box") -> Sample:
    return Sample(image, WIDTH, HEIGHT, (label,) * len(masks), encode_masks(np.array(masks)), split)


def dataset_of(folder: Path, count: int = 6) -> Dataset:
    """Nothing to complain about: two discs on each image."""
    samples = tuple(sample_of(picture(folder / f"{k}.jpg", k), disc(30, 30), disc(80, 50)) for k in range(count))
    return Dataset("cell", ("box",), samples)


def with_samples(dataset: Dataset, *more: Sample, classes: tuple[str, ...] = ("box",)) -> Dataset:
    return replace(dataset, samples=dataset.samples + more, classes=classes)


def checks(report: QualityReport) -> dict[str, str]:
    return {finding.check: finding.severity for finding in report.findings}


def test_good_data_gives_no_finding(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check_quality(dataset_of(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert (report.images, report.instances, report.findings, report.usable) == (6, 12, (), True)
    assert seen[-1] == (6, 6)


def test_damaged_images_stop(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    path = dataset.samples[2].image
    path.write_bytes(path.read_bytes()[:-100])
    dataset.samples[3].image.unlink()
    report = check_quality(dataset)
    (finding,) = report.findings
    assert (finding.check, finding.severity, finding.count, report.usable) == ("damaged-image", "error", 2, False)
    assert finding.files[0].startswith("2.jpg: ") and finding.files[1].startswith("3.jpg: ")


def test_exif_rotation_and_odd_sizes(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    with Image.open(dataset.samples[1].image) as image:
        exif = image.getexif()
        exif[274] = 6
        image.save(dataset.samples[1].image, exif=exif)
    large = replace(sample_of(tmp_path / "l.png", disc(30, 30)), width=400, height=300, labels=(), masks=())
    assert cv2.imwrite(str(large.image), np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
    report = check_quality(with_samples(dataset, large))
    assert checks(report) == {"exif-rotation": "warning", "odd-size": "warning"}
    assert [finding.files for finding in report.findings] == [("1.jpg",), ("l.png: 400x300",)]


@pytest.mark.parametrize(("split", "exact"), [("valid", True), ("valid", False), ("train", True), ("train", False)])
def test_duplicates_and_leaks(tmp_path: Path, split: str, exact: bool) -> None:
    dataset = dataset_of(tmp_path)
    copy = tmp_path / "copy.jpg"
    if exact:
        shutil.copyfile(dataset.samples[0].image, copy)
    else:
        picture(copy, 0, quality=70)
    report = check_quality(with_samples(dataset, sample_of(copy, disc(30, 30), disc(80, 50), split=split)))
    kind = f"{'exact' if exact else 'near'}-{'leak' if split == 'valid' else 'duplicate'}"
    assert checks(report) == {kind: "error" if kind == "exact-leak" else "warning"}
    assert "0.jpg" in report.findings[0].files[0] and "copy.jpg" in report.findings[0].files[0]


def test_flat_images_are_only_alike_if_they_are(tmp_path: Path) -> None:
    samples = []
    for k in range(4):
        path = tmp_path / f"flat{k}.png"
        assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 40 * k + 20, np.uint8))
        samples.append(sample_of(path, disc(30, 30), disc(80, 50)))
    report = check_quality(with_samples(dataset_of(tmp_path), *samples))
    assert set(checks(report)) == {"dark-image", "low-contrast"}, "and no pair of them is called alike"


def test_a_fixed_camera_sees_another_load(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    scene = cv2.imread(str(dataset.samples[0].image))
    scene[40:62, 50:75] = 255 - scene[40:62, 50:75]
    assert cv2.imwrite(str(tmp_path / "load.png"), scene)
    other = sample_of(tmp_path / "load.png", disc(30, 30), disc(80, 50), split="valid")
    assert check_quality(with_samples(dataset, other)).findings == ()


def test_odd_masks(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    dotted = np.zeros((HEIGHT, WIDTH), bool)
    dotted[10:60:10, 10:60:10] = dotted[11:61:10, 10:60:10] = True
    square = np.zeros((HEIGHT, WIDTH), bool)
    square[20:60, 20:60] = True
    odd = [
        sample_of(picture(tmp_path / "tiny.jpg", 20), disc(30, 30, 2)),
        sample_of(picture(tmp_path / "twice.jpg", 21), disc(30, 30), disc(31, 30)),
        sample_of(picture(tmp_path / "over.jpg", 22), disc(30, 30), disc(40, 30)),
        sample_of(picture(tmp_path / "dots.jpg", 23), dotted),
        *(sample_of(picture(tmp_path / f"s{k}.jpg", 30 + k), square, label="bag") for k in range(12)),
    ]
    report = check_quality(with_samples(dataset, *odd, classes=("box", "bag")))
    found = {finding.check: finding.files for finding in report.findings}
    assert set(found) == {"tiny-instance", "labelled-twice", "overlap", "many-pieces", "boxes-as-masks"}
    assert found["tiny-instance"] == ("tiny.jpg: 13 pixels of box",)
    assert found["labelled-twice"][0].startswith("twice.jpg: box and box")
    assert found["overlap"][0].startswith("over.jpg: box and box")
    assert found["many-pieces"] == ("dots.jpg: box in 25 pieces",)
    assert found["boxes-as-masks"] == ("bag: 12 of 12",)
    assert report.usable


def test_classes(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, 60)
    rare = sample_of(picture(tmp_path / "bag.jpg", 99), disc(60, 40), split="valid", label="bag")
    report = check_quality(with_samples(dataset, rare, classes=("box", "bag", "tube")))
    assert {finding.check: finding.files for finding in report.findings} == {
        "unused-class": ("tube",),
        "rare-class": ("bag: 1",),
        "imbalance": ("bag: 1 of at most 120",),
        "class-not-trained": ("bag",),
        "class-not-judged": ("box",),
    }


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path / "cell")
    write_text(folder / "train/labels/1.txt", "0 0.1\n")
    (finding,) = check_folder(folder).findings
    assert (finding.severity, finding.check) == ("error", "unreadable")
    assert "labels/1.txt:1" in finding.message


@pytest.mark.slow
def test_real_photographs_are_usable() -> None:
    report = check_folder(shared_data("rack-boxes"))
    assert report.usable
    assert report.images == 109


def test_images_on_which_little_is_seen_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    sharp = rng.integers(0, 256, (9, 12)).astype(np.uint8)
    sharp = cv2.resize(sharp, (480, 360), interpolation=cv2.INTER_NEAREST)
    pictures = {
        "dark.png": sharp // 10,
        "bright.png": 245 + sharp // 30,
        "flat.png": 120 + sharp // 16,
        "blurred.png": cv2.GaussianBlur(sharp, (0, 0), 9),
        "good.png": sharp,
        "good2.png": sharp[::-1],
    }
    mask = np.zeros((360, 480), bool)
    mask[30:90, 40:140] = True
    samples = []
    for name, pixels in pictures.items():
        assert cv2.imwrite(str(tmp_path / name), pixels)
        samples.append(Sample(tmp_path / name, 480, 360, ("box",), encode_masks(mask[None])))
    report = check_quality(Dataset("cell", ("box",), tuple(samples)))
    found = {f.check: [text.split(":")[0] for text in f.files] for f in report.findings if f.check.endswith(_SEEN)}
    assert found == {
        "dark-image": ["dark.png"],
        "bright-image": ["bright.png"],
        "low-contrast": ["flat.png"],
        "blurred-image": ["blurred.png"],
    }


_SEEN = ("-image", "-contrast")


def test_photographs_in_focus_are_not_called_blurred() -> None:
    report = check_folder(shared_data("rack-boxes"))
    assert not {f.check for f in report.findings} & {"dark-image", "bright-image", "low-contrast", "blurred-image"}
