"""Is the shared base worth it? LoRA, full fine-tuning and training from scratch on the same few images for the
same time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from finetune.datasets import Dataset, Sample, read_dataset
from finetune.datasets.deck import Deck, make_deck
from finetune.errors import DeckError
from finetune.evaluation.evaluate import Evaluation, Predict, evaluate, nameless, score
from finetune.evaluation.weight_interpolation import Answers, Interpolation, best_of
from finetune.models.model import base_labels, load_base, picture_size
from finetune.pipelines.cell_recipe import suited
from finetune.pipelines.service import load_sources
from finetune.report.service import answers_on
from finetune.training.adapt import METHODS, AdaptRecipe, Method, adapt, recipe_for
from finetune.training.loop import Tick, core
from finetune.training.picture_sizes import source_side
from serving.families.load import family_of
from serving.families.types import InstanceModel
from serving.inference.preprocess import preprocessor_config
from serving.inference.segmenter import Segmenter


@dataclass(frozen=True, slots=True)
class FewShot:
    """One line of the comparison. `steps` and `seconds` are what training took. `own` is the same model on other
    pictures, in the base's own classes, where such were given: what it has not forgotten."""

    method: str
    seed: int
    steps: int
    seconds: float
    evaluation: Evaluation
    own: Evaluation | None = None


def parse_methods(text: str) -> tuple[Method, ...]:
    """Method names separated by commas. Raises DeckError naming the first that is none."""
    found: list[Method] = []
    for name in (part.strip() for part in text.split(",")):
        if name not in METHODS:
            raise DeckError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
        found.append(name)
    return tuple(found)


def zero_shot(
    base_dir: Path,
    dataset: Dataset,
    *,
    images: int | None,
    seed: int = 0,
    own: Dataset | None = None,
    resamples: int = 0,
) -> FewShot:
    """The base alone on the holdout of the deck that `train_and_measure` makes; `own`, `resamples` as there."""
    deck = make_deck(dataset, base_labels=base_labels(load_base(base_dir)), images=images, seed=seed)
    _, holdout = deck.select(dataset)
    segment = Segmenter.load(base_dir).segment
    told = partial(segment, classes=tuple(deck.label_map))
    found = evaluate(told, holdout, deck.answered, label_map=deck.label_map, names=deck.answers, resamples=resamples)
    return FewShot("zero-shot", seed, 0, 0.0, found, _kept(segment, own))


def train_and_measure(
    base_dir: Path,
    dataset: Dataset,
    recipe: AdaptRecipe,
    *,
    images: int | None,
    own: Dataset | None = None,
    resamples: int = 0,
    report: Callable[[Tick], None] = lambda _tick: None,
    suit: bool = False,
) -> FewShot:
    """Train by `recipe` on `images` of the dataset and evaluate on its holdout.

    `own`: pictures of the base's classes to evaluate on as well; `resamples` as of `evaluate`. With `suit`, LoRA is
    trained as a fine-tune trains it: milder where the base knows the images. Raises DeckError,
    BaseModelError and TrainingError as a fine-tune does.
    """
    base = load_base(base_dir)
    labels = base_labels(base)
    deck = make_deck(dataset, base_labels=labels, images=images, seed=recipe.seed)
    train, holdout = deck.select(dataset)
    if suit and recipe.method == "lora":
        recipe, _ = suited(recipe, base, train, deck, size=recipe.image_size)
    size = recipe.image_size or picture_size(base)
    sources = load_sources(train, deck, labels, source_side(size, train))
    last = 0

    def tick(t: Tick) -> None:
        nonlocal last
        last = t.step
        report(t)

    started = time.monotonic()
    way = Interpolation.from_here(base) if recipe.method == "full" else None
    with tempfile.TemporaryDirectory() as workspace:
        model = adapt(base, sources, recipe, Path(workspace), weights=deck.weights, report=tick)
    spent = time.monotonic() - started
    network, settings = cast("InstanceModel", core(model)), preprocessor_config(size)
    segmenter = Segmenter.from_model(network, settings, labels=deck.label_map)
    if recipe.method == "lora":
        way = Interpolation.of_adapter(model)
    found = _measured(segmenter, way, holdout, deck, resamples)
    kept = _kept(Segmenter.from_model(network, settings).segment, own)
    return FewShot(recipe.method, recipe.seed, last, spent, found, kept)


def _measured(
    segmenter: Segmenter, way: Interpolation | None, holdout: Sequence[Sample], deck: Deck, resamples: int
) -> Evaluation:
    """The model on the holdout as a fine-tune is measured, and left with as much of what it learnt as did best."""
    same = {team: team for team in deck.answered}
    truths, answers = answers_on(holdout, deck, segmenter.segment, same)
    if way is not None:

        def look(share: float) -> Answers:
            way.go(share)
            return answers_on(holdout, deck, segmenter.segment, same)[1]

        kept, answers = best_of(holdout, truths, deck.answered, answers, look)
        way.go(kept)
    agnostic = nameless(holdout, answers.said)
    return score(
        truths,
        answers.judged,
        deck.answered,
        [sample.name for sample in holdout],
        resamples=resamples,
        agnostic=agnostic,
    )


def _kept(segment: Predict, own: Dataset | None) -> Evaluation | None:
    if own is None:
        return None
    return evaluate(segment, own.samples, own.classes, label_map={name: name for name in own.classes})


def compare_methods(
    *,
    data: Path,
    base_dir: Path,
    images: int | None,
    seconds: float,
    methods: Sequence[Method] = ("lora", "full", "scratch"),
    seeds: Sequence[int] = (0,),
    report: Callable[[str, Tick], None] = lambda _method, _tick: None,
) -> list[FewShot]:
    """Train each method on the same deck for `seconds` and evaluate on the same holdout; the base zero-shot
    comes first.

    Raises DatasetError, DeckError, BaseModelError and TrainingError as a fine-tune does.
    """
    dataset = read_dataset(data)
    rows = [zero_shot(base_dir, dataset, images=images, seed=seeds[0])]
    for seed in seeds:
        for method in methods:
            told = partial(report, method)
            recipe = recipe_for(method, family_of(base_dir), seconds=seconds, seed=seed)
            row = train_and_measure(base_dir, dataset, recipe, images=images, report=told, suit=True)
            rows.append(row)
    return rows
