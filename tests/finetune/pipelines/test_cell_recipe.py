"""A milder training for cells that the base knows, found out on images that no judge sees."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.datasets import read_dataset
from finetune.datasets.deck import make_deck
from finetune.models.model import base_labels, new_base
from finetune.pipelines import cell_recipe
from finetune.pipelines.cell_recipe import KNOWN, LOOKED_AT, STRANGE, knowledge, milder, suited
from finetune.scenes import DEMO_CELL, LABELS, write_cell
from finetune.training.adapt import recipe_for
from serving.inference.segmenter import Segmenter
from serving.instances import Instances
from tests.finetune.training.test_training import TINY

RECIPE = recipe_for("lora", seconds=30.0)


def test_a_strange_cell_is_trained_as_ever():
    assert milder(RECIPE, 0.0) == milder(RECIPE, STRANGE) == RECIPE


def test_the_better_a_cell_is_known_the_milder():
    found = [milder(RECIPE, known) for known in np.linspace(STRANGE, KNOWN, 7)]
    rates = [one.learning_rate for one in found]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0.3 * RECIPE.learning_rate)
    shares = [one.rehearsal for one in found]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(0.3)
    assert milder(RECIPE, 1.0) == found[-1], "and no milder than that"


@pytest.fixture
def cell(tmp_path):
    return read_dataset(write_cell(tmp_path / "cell", DEMO_CELL, images=60, seed=3, size=64, valid_share=0.1))


def answers(monkeypatch, truths):
    """A segmenter that answers what it is told; returns the images that it was asked about."""
    asked = []

    def segment(self, images, *_, **__):
        asked.extend(images)
        return [truths(image) for image in images]

    monkeypatch.setattr(Segmenter, "segment", segment)
    return asked


@pytest.mark.parametrize(("knows", "rate"), [(True, 0.3), (False, 1.0)])
def test_the_base_is_asked_about_train_images_alone(knows, rate, cell, monkeypatch):
    base = new_base(TINY, LABELS)
    deck = make_deck(cell, base_labels=base_labels(base), images=None, seed=0)
    train, holdout = deck.select(cell)
    by_picture = {sample.read_image().tobytes(): sample.truth() for sample in [*train, *holdout]}

    def say(image):
        truth = by_picture[image.tobytes()]
        return truth if knows else Instances.from_masks(np.zeros((0, *image.shape[:2]), np.bool_), [], [])

    asked = answers(monkeypatch, say)
    recipe, known = suited(RECIPE, base, train, deck)
    assert known == pytest.approx(1.0 if knows else 0.0)
    assert recipe.learning_rate == pytest.approx(rate * RECIPE.learning_rate)
    assert bool(recipe.rehearsal) is knows
    assert len(asked) == LOOKED_AT
    held = {sample.read_image().tobytes() for sample in holdout}
    assert not held & {image.tobytes() for image in asked}


def test_a_base_that_never_saw_our_scenes_rehearses_none(cell, monkeypatch):
    monkeypatch.setattr(cell_recipe, "knowledge", lambda *_: 1.0)
    base = new_base(TINY, ("carton", *LABELS[1:]))
    deck = make_deck(cell, base_labels=base_labels(base), images=None, seed=0)
    train, _ = deck.select(cell)
    recipe, _ = suited(RECIPE, base, train, deck)
    assert recipe.rehearsal == 0 and recipe.learning_rate < RECIPE.learning_rate


def test_nobody_knows_images_without_packages(cell):
    base = new_base(TINY, LABELS)
    deck = make_deck(cell, base_labels=base_labels(base), images=None, seed=0)
    assert knowledge(base, [], deck, 64) == 0.0
