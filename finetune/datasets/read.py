"""`read_dataset`: any supported folder to a `Dataset`, the format found out by content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from finetune.datasets.attributes import is_broken
from finetune.datasets.detect import Detected, detect, open_source
from finetune.datasets.findings import Findings
from finetune.datasets.splits import split_lists
from finetune.datasets.tree import OTHER_IMAGE_SUFFIXES, measure, scan
from finetune.datasets.types import Dataset, Sample
from finetune.errors import DatasetError

Progress = Callable[[int, int], None]
"""Told of work as (done, of how many)."""


def detect_format(folder: Path) -> Detected:
    """The format of a folder. Raises DatasetError that names what was seen where that is none or more than one."""
    findings = Findings()
    return detect(scan(folder, findings))


def read_dataset(
    folder: Path, *, check_images: bool = True, leave_out_damaged: bool = False, progress: Progress | None = None
) -> Dataset:
    """Read a folder in any of the formats that `detect_format` knows; the dataset is named after it.

    With `check_images` every image is decoded once, so that a truncated file is found now and not in the middle of
    training; without, only headers are read. `leave_out_damaged`: images that cannot be decoded are left out and
    counted among the warnings, as long as they are the smaller part. Raises one DatasetError that lists up to 20
    problems, with paths relative to `folder`.
    """
    findings = Findings()
    tree = scan(folder, findings)
    detected = detect(tree)
    source = open_source(tree, detected, findings)
    for name in tree.with_suffix(*OTHER_IMAGE_SUFFIXES):
        findings.problem("is neither JPEG nor PNG; convert it", name)
    images = source.images
    report = progress or _silent
    # Each image counts twice: once it is measured, and once its annotations are read.
    sizes = measure(
        tree,
        images,
        findings,
        decode=check_images,
        leave_out=leave_out_damaged,
        progress=lambda done: report(done, 2 * len(images)),
    )
    splits = split_lists(tree, images, findings) if source.split_lists else {}
    samples = []
    for sample in source.samples(sizes, findings):
        samples.append(_listed_split(sample, splits.get(sample.name), findings))
        report(len(images) + len(samples), 2 * len(images))
    for name in source.classes:
        if is_broken(name) or "\0" in name:
            findings.problem(f"the class name {name!r:.60} is no text", tree.root.name)
    findings.raise_problems()
    if not images:
        raise DatasetError("has no image (JPEG or PNG)", path=Path(tree.root.name))
    if not any(sample.labels for sample in samples):
        raise DatasetError(
            f"none of its {len(images)} images has an instance with a mask" + _listed(findings),
            path=Path(tree.root.name),
        )
    return Dataset(
        tree.root.name, source.classes, tuple(_with_short_names(samples)), findings.warnings(), detected.format
    )


def _listed_split(sample: Sample, split: str | None, findings: Findings) -> Sample:
    """The sample in the split that a list names, if one does: lists are made on purpose, folders may be older."""
    if split is None or split == sample.split:
        return sample
    if sample.split is not None:
        findings.warn("image that a list puts into another split than its folder or file: the list counts", sample.name)
    return replace(sample, split=split)


def _silent(_done: int, _total: int) -> None:
    pass


def _listed(findings: Findings) -> str:
    return "".join(f"\n  {warning}" for warning in findings.warnings())


def _with_short_names(samples: list[Sample]) -> Iterator[Sample]:
    """Names become the files' own where these are unique; the others keep their path, as in `valid/images/1.jpg`."""
    times = Counter(sample.image.name for sample in samples)
    for sample in samples:
        yield replace(sample, name=sample.image.name) if times[sample.image.name] == 1 else sample
