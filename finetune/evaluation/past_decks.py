"""The holdouts of a cell's past decks, and two models beside each other on them: zero-shot bases, or two variants."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.datasets import Dataset, Sample, read_dataset
from finetune.datasets.deck import Deck
from finetune.errors import DatasetError, DeckError
from finetune.evaluation.evaluate import bootstrap, collect, interval, score
from finetune.growth_plan import VALUE_RESAMPLES, CellHistory
from registry.promotion.history import band_of
from serving.inference.segmenter import Segmenter
from serving.instances import Instances

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Slice:
    """The images of a past deck's holdout that may judge."""

    name: str
    deck: Deck
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """One of two that are compared: a variant of a segmenter, or its base (`variant` None)."""

    segmenter: Segmenter
    variant: str | None = None


def digest_of(sample: Sample) -> str:
    """SHA-256 of a sample's file."""
    with sample.image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PastDecks:
    """Reads them; each dataset once. `folders` are the datasets by (name, commit), `decks` documents by digest."""

    def __init__(self, folders: Mapping[tuple[str, str], Path], decks: Mapping[str, bytes]) -> None:
        self._folders, self._decks = folders, decks
        self._datasets: dict[tuple[str, str], Dataset] = {}

    def deck(self, digest: str) -> Deck:
        """Raises DeckError."""
        if digest not in self._decks:
            raise DeckError(f"the deck {digest[:12]} is not at hand")
        return Deck.from_json(self._decks[digest])

    def dataset(self, key: tuple[str, str]) -> Dataset:
        """Raises DatasetError."""
        if key not in self._datasets:
            self._datasets[key] = read_dataset(self._folders[key])
        return self._datasets[key]

    def slices(self, history: CellHistory, *, most: int, apart: Collection[str] = ()) -> list[Slice]:
        """A slice for each past deck, at most `most` images in each, none twice; without the files `apart` (SHA-256).

        What cannot be read any more is left out.
        """
        taken = set(apart)
        found = []
        for one in history.decks:
            try:
                deck, dataset = self.deck(one.deck), self.dataset((one.dataset, one.commit))
            except (DatasetError, DeckError, KeyError):
                continue
            named = {sample.name: sample for sample in dataset.samples}
            mine = {digest_of(named[name]): named[name] for name in deck.holdout if name in named}
            free = [sample for digest, sample in mine.items() if digest not in taken]
            taken |= set(mine)
            if free:
                step = max(1.0, len(free) / most)
                chosen = [free[int(k * step)] for k in range(min(most, len(free)))]
                found.append(Slice(one.variant, deck, tuple(chosen)))
        return found


def compare(
    one: Slice, deck: Deck, before: Model, after: Model, progress: Told
) -> tuple[dict[str, Any], npt.NDArray[np.float64]] | None:
    """(figures of the slice, float64 [R] differences in AP50 with images drawn in pairs); None where no image has a
    package of the deck's classes. The slice is judged in the classes of `deck`."""
    truths: list[Instances] = []
    said = []
    for title, model in (("before", before), ("after", after)):
        labels = deck.label_map if model.variant is None else {name: deck.answers[name] for name in deck.class_map}
        told = _predict(model, deck)
        try:
            truths, answers = collect(
                told,
                one.samples,
                deck.answered,
                label_map=labels,
                names=deck.answers,
                progress=partial(progress, f"{one.name}, {title}"),
            )
        except DatasetError:
            return None
        said.append(answers)
    names = [sample.name for sample in one.samples]
    old, new = (score(truths, each, deck.answered, names).ap50 for each in said)
    drawn = [bootstrap(truths, each, deck.answered, resamples=VALUE_RESAMPLES)[:, 1] for each in said]
    low, high = interval(drawn[1] - drawn[0])
    figures = {
        "name": one.name,
        "images": len(one.samples),
        "packages": sum(map(len, truths)),
        "ap50_before": old,
        "ap50_after": new,
        "difference": new - old,
        "low": low,
        "high": high,
        "band": band_of(low, high),
    }
    return figures, drawn[1] - drawn[0]


def _predict(model: Model, deck: Deck) -> Callable[..., Any]:
    classes = tuple(deck.label_map) if model.variant is None else ()
    return lambda images: model.segmenter.segment(images, [model.variant] * len(images), classes=classes)
