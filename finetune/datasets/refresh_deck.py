"""The deck of a refresh: the new images of a cell, what it knew before, and what judges both.

Replayed images keep the labels that they have: the trainer has no regions to ignore. Where an image was labelled again,
its newest labels count, so that a new kind is labelled on replayed images too; where it was not, a new kind that such
an image shows would count as background. The plan says for each new kind how many replayed images have a label of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from finetune.datasets.classes import answered_names, map_classes
from finetune.datasets.deck import MIN_TRAIN_IMAGES, Deck, deck_of, split, without_twins
from finetune.datasets.types import Dataset, Sample
from finetune.errors import DeckError
from finetune.refresh_plan import RefreshPlan

NEW_SHARE = 0.5
"""New images make up so much of what is drawn at least, however many are replayed."""
HOLDOUT = 0.25


def refresh_deck(
    dataset: Dataset, plan: RefreshPlan, *, base_labels: Sequence[str], seed: int = 0, dataset_ref: str | None = None
) -> Deck:
    """Deal the deck that a plan describes. The same arguments give the same deck, byte for byte.

    A quarter of each source's new images judges, beside the plan's own `judge`; no image that judges, in a slice of
    the history neither, trains. Raises DeckError if `dataset` lacks an image of the plan, or there is too little.
    """
    samples = {sample.name: sample for sample in dataset.samples}

    def named(names: Sequence[str]) -> list[Sample]:
        try:
            return [samples[name] for name in names]
        except KeyError as error:
            raise DeckError(f"the dataset {dataset.name!r} has no image {error.args[0]!r} of the refresh") from error

    fresh: list[Sample] = []
    holdout: list[Sample] = []
    for source in plan.new:
        mine, theirs = _split(named(source))
        fresh += mine
        holdout += theirs
    judged = {sample.name for sample in holdout}
    holdout += [sample for sample in named(plan.judge) if sample.name not in judged]
    kept = [name for each in plan.slices for name in each.files]
    apart = holdout + [sample for sample in named(kept) if sample.name not in {one.name for one in holdout}]
    away = {sample.name for sample in apart}
    fresh = without_twins([sample for sample in fresh if sample.name not in away], apart)
    away |= {sample.name for sample in fresh}
    replay = without_twins([sample for sample in named(plan.replay) if sample.name not in away], apart)
    train = fresh + replay
    if len(train) < MIN_TRAIN_IMAGES:
        raise DeckError(f"{len(train)} train images are too few; label at least {MIN_TRAIN_IMAGES}")
    shown = {label for sample in train for label in sample.labels}
    chosen = {name: label for name, label in plan.class_map.items() if name in dataset.classes}
    names, left_out = map_classes(dataset.classes, base_labels, shown=shown, chosen=chosen)
    if not any(label in names for sample in holdout for label in sample.labels):
        raise DeckError(f"none of the {len(holdout)} holdout images has an instance, so nothing can be measured")
    deck = deck_of(
        dataset_ref or dataset.name, train, holdout, names, left_out, answered_names(names, chosen), seed=seed
    )
    return replace(deck, weights=_weights(deck.weights, len(fresh)))


def _split(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Train and holdout of one source; a single image trains."""
    return split(samples, HOLDOUT) if len(samples) > 1 else (samples, [])


def _weights(weights: Sequence[float], fresh: int) -> tuple[float, ...]:
    """The first `fresh` weights raised until they are NEW_SHARE of all."""
    mine, others = sum(weights[:fresh]), sum(weights[fresh:])
    factor = max(1.0, NEW_SHARE / (1 - NEW_SHARE) * others / mine) if mine else 1.0
    return tuple(round(one * factor, 4) if k < fresh else one for k, one in enumerate(weights))
