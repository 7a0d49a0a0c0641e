"""How a cell is to be trained, by what the base knows of it already.

A cell that is new to the base wants all the change that it can get in the time. One that the base knows well is made
worse by the same steps: what they teach of a few pictures is less than what they undo. There the steps are smaller, and
scenes as the base learnt them are among the pictures. How well the base knows it, the train images say: the holdout is
left for the judge.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from finetune.contract import FinetuneRequest, Start
from finetune.datasets import Sample
from finetune.datasets.deck import Deck
from finetune.errors import BaseModelError
from finetune.evaluation.evaluate import evaluate
from finetune.models.model import base_labels, picture_size
from finetune.scenes import LABELS
from finetune.training.adapt import AdaptRecipe
from finetune.training.picture_sizes import chosen_size, sizes_of
from serving.families.types import InstanceModel
from serving.inference.adapter_files import VARIANT
from serving.inference.preprocess import preprocessor_config
from serving.inference.segmenter import Segmenter

LOOKED_AT = 24
"""Train images that say how well the base knows a cell."""
STRANGE, KNOWN = 0.44, 0.54
"""`knowledge` of a cell that is new to the base, or less; and of one that it knows, or more."""
MILD_RATE = 0.3
"""Of the learning rate, in a cell that the base knows."""
MILD_REHEARSAL = 0.3


def knowledge(model: InstanceModel, samples: Sequence[Sample], deck: Deck, size: int) -> float:
    """What a base in memory is worth on some of `samples`, evenly spread, when it is told the classes: the mean of mask
    AP with names and without, as variants are chosen by. 0.0 where none of them has an instance.

    A cell whose packages are found but misnamed has much to learn, and so has one whose outlines are poor. `size` is
    the side of the base's pictures in pixels.
    """
    seen = [sample for sample in samples if any(label in deck.answers for label in sample.labels)]
    if not seen:
        return 0.0
    places = np.linspace(0, len(seen) - 1, min(LOOKED_AT, len(seen))).round().astype(int)
    segmenter = Segmenter.from_model(model, preprocessor_config(size), labels=deck.label_map)
    same = {team: team for team in deck.answered}
    chosen = [seen[int(k)] for k in dict.fromkeys(places.tolist())]
    found = evaluate(segmenter.segment, chosen, deck.answered, label_map=same, names=deck.answers)
    return (found.ap + found.agnostic_ap) / 2


def milder(recipe: AdaptRecipe, known: float) -> AdaptRecipe:
    """The recipe for a cell of which the base's `knowledge` is `known`: as it is for a strange one, mild for a known
    one, and between the two in between."""
    share = float(np.clip((known - STRANGE) / (KNOWN - STRANGE), 0.0, 1.0))
    return replace(
        recipe,
        learning_rate=recipe.learning_rate * MILD_RATE**share,
        rehearsal=max(recipe.rehearsal, round(MILD_REHEARSAL * share, 3)),
    )


def suited(
    recipe: AdaptRecipe, model: InstanceModel, samples: Sequence[Sample], deck: Deck, *, size: int | None = None
) -> tuple[AdaptRecipe, float]:
    """The recipe with pictures of `size` (the base's own by default), mild where the base knows the train images; and
    how well it knows them (`knowledge`)."""
    side = size or picture_size(model)
    known = round(knowledge(model, samples, deck, side), 4)
    fit = milder(replace(recipe, image_size=side), known)
    if base_labels(model)[: len(LABELS)] != LABELS:  # a base from elsewhere never saw our scenes
        fit = replace(fit, rehearsal=recipe.rehearsal)
    return fit, known


def size_for(model: InstanceModel, request: FinetuneRequest, train: Sequence[Sample], start: Start | None) -> int:
    """Pixels a side of the pictures to train on: those of the variant that training goes on from, or what is asked for,
    or what suits the labels. Raises BaseModelError."""
    asked = request.image_size
    if asked is None and start is not None:
        try:
            began = json.loads((start.folder / VARIANT).read_text(encoding="utf-8"))
            asked = sizes_of(model).of(began)
        except (OSError, ValueError, TypeError) as error:
            raise BaseModelError(f"the adapter to go on from is none of this base: {error}") from error
    return chosen_size(model, train, asked)
