"""`read_dataset`: any supported folder to a `Dataset`, the format found out by content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from finetune.datasets.coco import find_coco
from finetune.datasets.findings import Findings
from finetune.datasets.tree import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES, Size, Tree, measure, scan, suffix_of
from finetune.datasets.types import Dataset, Sample
from finetune.datasets.yolo import find_yolo
from finetune.errors import DatasetError


class Source(Protocol):
    """A dataset in one format: its files are found and its class names read, its masks are not."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def images(self) -> tuple[str, ...]: ...
    def samples(self, sizes: Mapping[str, Size], findings: Findings) -> Iterator[Sample]: ...


def read_dataset(folder: Path, *, check_images: bool = True) -> Dataset:
    """Read a YOLO-seg or COCO folder; the dataset is named after it.

    With `check_images` every image is decoded once, so that a truncated file is found now and not in the middle of
    training; without, only headers are read. Raises one DatasetError that lists up to 20 problems, with paths
    relative to `folder`.
    """
    findings = Findings()
    tree = scan(folder, findings)
    source = _detect(tree, findings)
    for name in tree.with_suffix(*OTHER_IMAGE_SUFFIXES):
        findings.problem("is neither JPEG nor PNG; convert it", name)
    sizes = measure(tree, source.images, findings, decode=check_images)
    samples = list(source.samples(sizes, findings))
    findings.raise_problems()
    if not samples:
        raise DatasetError("has no image (JPEG or PNG)", path=Path(tree.root.name))
    if not any(sample.labels for sample in samples):
        raise DatasetError(
            f"none of its {len(samples)} images has an instance with a mask" + _listed(findings),
            path=Path(tree.root.name),
        )
    return Dataset(tree.root.name, source.classes, tuple(_with_short_names(samples)), findings.warnings())


def _detect(tree: Tree, findings: Findings) -> Source:
    coco, yolo = find_coco(tree, findings), find_yolo(tree, findings)
    if coco is not None and yolo is not None:
        raise DatasetError(
            "holds a COCO annotation file and a YOLO data.yaml; keep the one that is right", path=Path(tree.root.name)
        )
    source = coco if coco is not None else yolo
    if source is None:
        raise DatasetError(_nothing_found(tree), path=Path(tree.root.name))
    return source


def _nothing_found(tree: Tree) -> str:
    kinds = Counter(suffix_of(name) or "no suffix" for name in tree.files)
    there = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5)) or "nothing"
    text = (
        "no dataset found. Looked for COCO (a .json file with `images`, `annotations` and `categories`, at the top or "
        f"one per split) and YOLO segmentation (data.yaml with `names`, and images/ with labels/). There is: {there}"
    )
    if not any(kinds[suffix] for suffix in IMAGE_SUFFIXES):
        text += "; no image among them"
    tops = {PurePosixPath(name).parts[0] for name in tree.files}
    if len(tops) == 1 and all("/" in name for name in tree.files):
        text += f". Everything is in the folder '{tops.pop()}': is that the dataset?"
    elif kinds[".xml"]:
        text += ". XML files hold boxes or CVAT's own format: export COCO from the labelling tool"
    return text


def _listed(findings: Findings) -> str:
    return "".join(f"\n  {warning}" for warning in findings.warnings())


def _with_short_names(samples: list[Sample]) -> Iterator[Sample]:
    """Names become the files' own where these are unique; the others keep their path, as in `valid/images/1.jpg`."""
    times = Counter(sample.image.name for sample in samples)
    for sample in samples:
        yield replace(sample, name=sample.image.name) if times[sample.image.name] == 1 else sample
