"""Quality of a dataset before anything is trained on it: what a careful colleague would point out at a first look.

Each finding has a severity: an `error` says that the dataset would mislead a training or its judgement, a `warning`
travels on with it. Files are named, so that somebody can go and repair them.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from finetune.datasets import Dataset, Sample, read_dataset
from finetune.datasets.tree import exif_orientation
from finetune.errors import DatasetError

Severity = Literal["error", "warning"]
Progress = Callable[[int, int], None]

SHOWN = 10
"""So many files are named in a finding; `count` says how many there are."""
TINY_PIXELS = 25
TINY_SHARE = 2e-5
"""An instance below either is more likely a slip of the mouse than a package."""
RECTANGLE_FILL = 0.995
OVERLAP = 0.25
TWICE = 0.85
SPECKS = 4
_NEAR_BITS = 6
_NEAR_GREY = 4.0
_NEAR_CELL = 16.0
_THUMB = 32
_ODD_SIZE = 1.5
_RARE = 10
DARK, BRIGHT = 40.0, 240.0
"""Grey levels: an image whose lightest 5 % lie below the first, or darkest 5 % above the second, shows nothing."""
FLAT = 25.0
"""Grey levels between the darkest and the lightest 1 % of an image that has hardly any contrast."""
_SMALL_SIDE = 512
_BLUR_SIDE = 320
_BLUR = 0.006
_BLUR_BESIDE = 0.12
_IMBALANCE = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of trouble. `files` are the first of `count` places, as `image` or `image: detail`."""

    severity: Severity
    check: str
    message: str
    count: int = 1
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What was looked at and what was found, errors first."""

    images: int
    instances: int
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether nothing stops a training."""
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one image's file says of itself."""

    fault: str = ""
    orientation: int = 0
    digest: str = ""
    hash: int = 0
    thumb: npt.NDArray[np.float32] | None = None
    levels: tuple[float, float, float, float] = (0.0, 0.0, 255.0, 255.0)
    """The grey levels below which 1, 5, 95 and 99 % of the pixels lie."""
    sharpness: float = 1.0
    """Variance of the Laplacian, over that of the image itself: a photograph in focus has 0.05 to 0.5."""


def check_folder(folder: Path, *, progress: Progress | None = None) -> QualityReport:
    """Read the dataset in `folder` and check it. A folder that cannot be read is a report with that one error."""
    try:
        dataset = read_dataset(folder, check_images=False)
    except DatasetError as error:
        return QualityReport(0, 0, (Finding("error", "unreadable", str(error)),))
    return check_quality(dataset, progress=progress)


def check_quality(dataset: Dataset, *, progress: Progress | None = None) -> QualityReport:
    """Decode every image once and look over images, masks and classes. Changes nothing, raises nothing for bad data."""
    looks = _look_at_all(dataset.samples, progress)
    findings = [
        *_broken_images(dataset, looks),
        *_exposure(dataset, looks),
        *_sizes(dataset),
        *_duplicates(dataset, looks),
        *_masks(dataset),
        *_classes(dataset),
        *(Finding("warning", "reader", text) for text in dataset.warnings if "EXIF" not in text),
    ]
    findings.sort(key=lambda finding: finding.severity)  # "error" sorts before "warning", and the sort is stable
    return QualityReport(len(dataset.samples), sum(len(s.masks) for s in dataset.samples), tuple(findings))


def _found(severity: Severity, check: str, message: str, places: Sequence[str]) -> Iterator[Finding]:
    """A finding if there is any place for it."""
    if places:
        yield Finding(severity, check, message, len(places), tuple(places[:SHOWN]))


# --- images -----------------------------------------------------------------------------------------------------------


def _look_at_all(samples: Sequence[Sample], progress: Progress | None) -> list[_Look]:
    looks = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for number, look in enumerate(pool.map(_look, samples), 1):
            looks.append(look)
            if progress is not None:
                progress(number, len(samples))
    return looks


def _look(sample: Sample) -> _Look:
    try:
        pixels = sample.read_image()
        with sample.image.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        orientation = exif_orientation(sample.image)
    except DatasetError as error:
        return _Look(error.reason)
    except OSError as error:
        return _Look(f"cannot be read: {error.strerror}")
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    thumb = cv2.resize(grey, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    # The signs of the low frequencies against their median: unmoved by brightness, contrast and compression.
    low = cv2.dct(thumb)[:8, :8].ravel()[1:]
    bits = low > np.median(low)
    packed = int("".join("1" if bit else "0" for bit in bits), 2)
    scale = _SMALL_SIDE / max(grey.shape)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    one, five, most, nearly = (float(level) for level in np.percentile(small, (1, 5, 95, 99)))
    # Where there is little to see, or few pixels, there are no edges to judge.
    judged = max(grey.shape) >= _BLUR_SIDE and nearly - one > FLAT
    sharpness = 1.0
    if judged:
        edges = float(cv2.Laplacian(small, cv2.CV_32F).var())
        sharpness = edges / max(float(small.astype(np.float32).var()), 1.0)
    return _Look("", orientation, digest, packed, thumb, (one, five, most, nearly), sharpness)


def _broken_images(dataset: Dataset, looks: Sequence[_Look]) -> Iterator[Finding]:
    pairs = list(zip(dataset.samples, looks, strict=True))
    broken = [f"{sample.name}: {look.fault}" for sample, look in pairs if look.fault]
    yield from _found("error", "damaged-image", "images that cannot be decoded", broken)
    turned = [sample.name for sample, look in pairs if look.orientation > 1]
    yield from _found(
        "warning",
        "exif-rotation",
        "images that carry an EXIF rotation, which robots ignore: were the labels drawn on the rotated picture?",
        turned,
    )


def _exposure(dataset: Dataset, looks: Sequence[_Look]) -> Iterator[Finding]:
    """Images on which people and models see little: too dark, too bright, without contrast, out of focus."""
    dark, bright, flat, blurred = [], [], [], []
    seen = [look.sharpness for look in looks if not look.fault and look.sharpness < 1.0]
    usual = float(np.median(seen)) if seen else 1.0
    for sample, look in zip(dataset.samples, looks, strict=True):
        if look.fault:
            continue
        one, five, most, nearly = look.levels
        if most < DARK:
            dark.append(f"{sample.name}: 95 % of it below grey level {most:.0f} of 255")
        elif five > BRIGHT:
            bright.append(f"{sample.name}: 95 % of it above grey level {five:.0f} of 255")
        elif nearly - one < FLAT:
            flat.append(f"{sample.name}: grey levels {one:.0f} to {nearly:.0f} of 255")
        if look.sharpness < max(_BLUR, min(_BLUR_BESIDE * usual, 5 * _BLUR)):
            blurred.append(f"{sample.name}: sharpness {look.sharpness:.4f}, usual here {usual:.4f}")
    yield from _found("warning", "dark-image", "images that are almost black: light, exposure, or more bits?", dark)
    yield from _found("warning", "bright-image", "images that are almost white: overexposed?", bright)
    yield from _found("warning", "low-contrast", "images with hardly any contrast", flat)
    yield from _found("warning", "blurred-image", "images that are out of focus or blurred by motion", blurred)


def _sizes(dataset: Dataset) -> Iterator[Finding]:
    sides = np.array([(s.width, s.height) for s in dataset.samples], np.float64)
    ratio = sides / np.median(sides, axis=0)
    odd = np.maximum(ratio, 1 / ratio).max(axis=1) > _ODD_SIZE
    usual = "x".join(f"{value:g}" for value in np.median(sides, axis=0))
    places = [
        f"{s.name}: {s.width}x{s.height}" for s, is_odd in zip(dataset.samples, odd.tolist(), strict=True) if is_odd
    ]
    if len(places) <= len(dataset.samples) // 2:
        yield from _found("warning", "odd-size", f"images of quite another size than most ({usual})", places)


# --- duplicates -------------------------------------------------------------------------------------------------------


def _duplicates(dataset: Dataset, looks: Sequence[_Look]) -> Iterator[Finding]:
    same: dict[str, list[int]] = defaultdict(list)
    for index, look in enumerate(looks):
        if look.digest:
            same[look.digest].append(index)
    exact = [(group[0], other) for group in same.values() for other in group[1:]]
    near = [pair for pair in _near(looks) if looks[pair[0]].digest != looks[pair[1]].digest]
    kinds: tuple[tuple[str, str, list[tuple[int, int]]], ...] = (
        ("exact", "equal", exact),
        ("near", "almost equal", near),
    )
    for kind, word, pairs in kinds:
        inside: list[str] = []
        across: list[str] = []
        for first, second in pairs:
            a, b = dataset.samples[first], dataset.samples[second]
            leak = a.split is not None and b.split is not None and a.split != b.split
            (across if leak else inside).append(
                f"{a.name} ({a.split}) = {b.name} ({b.split})" if leak else f"{a.name} = {b.name}"
            )
        severity: Severity = "error" if kind == "exact" else "warning"
        leaks = f"pairs of {word} images in different splits: what is measured on them is memory, not skill"
        yield from _found(severity, f"{kind}-leak", leaks, across)
        yield from _found("warning", f"{kind}-duplicate", f"pairs of {word} images", inside)


def _near(looks: Sequence[_Look]) -> list[tuple[int, int]]:
    """Pairs whose perceptual hashes and thumbnails are both close; each image is paired with the first like it.

    Flat images have hashes of noise, and scenes of one fixed camera have close ones: the thumbnails decide.
    """
    index = [i for i, look in enumerate(looks) if look.thumb is not None]
    hashes = np.array([looks[i].hash for i in index], np.uint64)
    found = []
    for row in range(1, len(index)):
        close = np.flatnonzero(np.bitwise_count(hashes[:row] ^ hashes[row]) <= _NEAR_BITS)
        for column in close.tolist():
            a, b = looks[index[column]].thumb, looks[index[row]].thumb
            if a is not None and b is not None and _alike(a, b):
                found.append((index[column], index[row]))
                break
    return found


def _alike(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> bool:
    """Whether two thumbnails show the same, object for object: a package that moved changes more than 1 % of them."""
    difference = np.abs(first - second)
    return bool(difference.mean() <= _NEAR_GREY and np.quantile(difference, 0.99) <= _NEAR_CELL)


# --- masks ------------------------------------------------------------------------------------------------------------


def _masks(dataset: Dataset) -> Iterator[Finding]:
    tiny: list[str] = []
    overlapping: list[str] = []
    twice: list[str] = []
    specks: list[str] = []
    rectangles: Counter[str] = Counter()
    unlabelled = [sample.name for sample in dataset.samples if not sample.masks]
    for sample in dataset.samples:
        if not sample.masks:
            continue
        truth = sample.truth()
        areas = truth.areas()
        sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
        least = max(TINY_PIXELS, TINY_SHARE * sample.width * sample.height)
        tiny += [f"{sample.name}: {areas[k]} pixels of {truth.labels[k]}" for k in np.flatnonzero(areas < least)]
        # A box seen from the front may fill its rectangle by chance; small ones do so by rounding.
        full = (areas >= RECTANGLE_FILL * sides.prod(1)) & (sides.min(1) >= 12)
        rectangles.update(truth.labels[k] for k in np.flatnonzero(full))
        for first, second, share, iou in _overlaps(truth.rles(), areas):
            text = f"{sample.name}: {truth.labels[first]} and {truth.labels[second]}, {share:.0%} of the smaller"
            (twice if iou >= TWICE else overlapping).append(text)
        specks += [
            f"{sample.name}: {truth.labels[k]} in {parts} pieces"
            for k, parts in enumerate(map(_pieces, sample.masks, _repeat(sample)))
            if parts > SPECKS
        ]
    yield from _found("warning", "tiny-instance", "instances of a few pixels", tiny)
    yield from _found("warning", "labelled-twice", "pairs of instances that cover each other almost whole", twice)
    yield from _found("warning", "overlap", "pairs of instances that overlap: masks are of visible pixels", overlapping)
    yield from _found(
        "warning", "many-pieces", f"instances in more than {SPECKS} pieces: specks, or a crossed polygon", specks
    )
    counts = dataset.counts()
    boxy = [f"{name}: {count} of {counts[name]}" for name, count in rectangles.items() if count > 0.5 * counts[name]]
    yield from _found(
        "warning", "boxes-as-masks", "classes most of whose masks are upright rectangles: boxes, not outlines?", boxy
    )
    if len(unlabelled) > len(dataset.samples) // 2:
        yield from _found("warning", "unlabelled", "most images have no instance: is labelling finished?", unlabelled)


def _repeat(sample: Sample) -> Iterable[tuple[int, int]]:
    return [(sample.height, sample.width)] * len(sample.masks)


def _pieces(counts: bytes, size: tuple[int, int]) -> int:
    """Number of separate pieces of a mask; corners connect."""
    rle = {"size": list(size), "counts": counts}
    x, y, w, h = (int(value) for value in coco_mask.toBbox(rle))
    window = np.ascontiguousarray(coco_mask.decode(rle)[y : y + h, x : x + w])
    return int(cv2.connectedComponents(window, connectivity=8)[0]) - 1


def _overlaps(rles: list[dict[str, object]], areas: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, float, float]]:
    """(first, second, share of the smaller one, intersection over union) of the pairs that overlap too much."""
    if len(rles) < 2:
        return
    iou = np.asarray(coco_mask.iou(rles, rles, [0] * len(rles)))
    for first, second in np.argwhere(np.triu(iou, 1) > 0).tolist():
        value = float(iou[first, second])
        share = value / (1 + value) * float(areas[first] + areas[second]) / float(min(areas[first], areas[second]))
        if share >= OVERLAP:
            yield first, second, share, value


# --- classes ----------------------------------------------------------------------------------------------------------


def _classes(dataset: Dataset) -> Iterator[Finding]:
    counts = dataset.counts()
    shown = {name: count for name, count in counts.items() if count}
    yield from _found("warning", "unused-class", "classes without an instance", [n for n in counts if n not in shown])
    rare = [f"{name}: {count}" for name, count in shown.items() if count < _RARE]
    yield from _found("warning", "rare-class", f"classes with fewer than {_RARE} instances", rare)
    most = max(shown.values(), default=0)
    uneven = [f"{name}: {count} of at most {most}" for name, count in shown.items() if count * _IMBALANCE < most]
    yield from _found("warning", "imbalance", f"classes {_IMBALANCE} times rarer than the commonest", uneven)
    splits: dict[str | None, set[str]] = defaultdict(set)
    for sample in dataset.samples:
        splits[sample.split].update(sample.labels)
    for split in ("valid", "test"):
        if split in splits and "train" in splits:
            yield from _found(
                "warning",
                "class-not-trained",
                f"classes in {split} that no training image shows",
                sorted(splits[split] - splits["train"]),
            )
            yield from _found(
                "warning",
                "class-not-judged",
                f"classes that {split} does not show",
                sorted(splits["train"] - splits[split]),
            )
