"""Images that teams contributed, as examples of a base's training: balanced by where they come from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune.datasets import Dataset, Sample, read_dataset
from finetune.datasets.classes import map_classes
from finetune.errors import DatasetError, DeckError
from finetune.scenes import LABELS
from finetune.training.augment import AugmentedExamples, Source, Strength, fit_source

STRENGTH = Strength(plain=0.3, mosaic=0.15, paste=0.1)


@dataclass(frozen=True, slots=True)
class Contributed:
    """Images of a dataset's folder: `files` are their paths there. Those of one `group` share one turn."""

    folder: Path
    group: str
    files: tuple[str, ...]


class ContributedImages(Sequence[Source]):
    """Labelled images of contributions, read when they are asked for; classes that no base knows are left out.

    `weights` draws each group as often as another one, whatever their sizes. Raises DatasetError for a folder that
    cannot be read, and where no image shows a package that a base of `labels` knows.
    """

    def __init__(self, contributions: Sequence[Contributed], *, side: int, labels: Sequence[str] = LABELS) -> None:
        self._side = side
        self._at = {label: k for k, label in enumerate(labels)}
        self._samples: list[tuple[Sample, dict[str, str]]] = []
        groups: list[str] = []
        for one in contributions:
            dataset = read_dataset(one.folder)
            wanted = chosen_samples(dataset, one.files)
            names = known_classes(dataset, wanted, labels)
            mine = [sample for sample in wanted if any(label in names for label in sample.labels)]
            self._samples += [(sample, names) for sample in mine]
            groups += [one.group] * len(mine)
        if not self._samples:
            raise DatasetError("the contributions have no image with a package of the base's classes")
        counts = {group: groups.count(group) for group in set(groups)}
        self.weights = [1.0 / counts[group] for group in groups]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Source:  # type: ignore[override]  # slices are of no use here
        sample, names = self._samples[index]
        truth = sample.truth()
        kept = np.array([label in names for label in truth.labels], np.bool_)
        classes = np.array([self._at[names[label]] for label in truth.labels if label in names], np.int64)
        boxed = np.array(sample.box_only, np.bool_)[kept]
        source = Source(sample.read_image(), truth.decode_masks()[kept], classes, boxed if boxed.any() else None)
        return fit_source(source, self._side)


def chosen_samples(dataset: Dataset, files: Collection[str]) -> list[Sample]:
    """The samples of these paths: by their path in the dataset, or by their own name."""
    named = {name.removeprefix("images/") for name in files} | {name.rpartition("/")[2] for name in files}
    return [sample for sample in dataset.samples if sample.name in named]


def known_classes(dataset: Dataset, samples: Sequence[Sample], labels: Sequence[str]) -> dict[str, str]:
    """The dataset's classes that are the base's own, to its labels. A base grows no new label from a contribution.
    Raises DatasetError."""
    shown = {label for sample in samples for label in sample.labels}
    try:
        names, _ = map_classes(dataset.classes, list(labels), shown=(), chosen={})
    except DeckError as error:
        raise DatasetError(str(error)) from error
    return {own: label for own, label in names.items() if own in shown and label in labels}


def contributed_examples(
    contributions: Sequence[Contributed], *, size: int, count: int, seed: int
) -> AugmentedExamples:
    """Augmented examples of contributions. Raises DatasetError as ContributedImages does."""
    images = ContributedImages(contributions, side=int(1.5 * size))
    return AugmentedExamples(images, size=size, count=count, seed=seed, weights=images.weights, strength=STRENGTH)
