"""How much of what was learnt is kept: a choice by the holdout whose figures stay honest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.finetune.fewshot import train_and_measure
from finetune.datasets import Sample, read_dataset
from finetune.evaluation import weight_interpolation as keeping
from finetune.evaluation.weight_interpolation import (
    LEAST_IMAGES,
    SHARES,
    WEIGHTS,
    Answers,
    Interpolation,
    Worth,
    best_of,
    best_share,
    scale_adapter,
    values_of,
    worth,
)
from finetune.models.model import new_base, save_base
from finetune.scenes import DEMO_CELL, LABELS, write_cell
from finetune.training.adapt import AdaptRecipe, adapt
from serving.instances import Instances
from tests.finetune.training.test_training import TINY, scene_sources


@pytest.mark.parametrize(
    ("values", "share"),
    [
        ((0.1, 0.2, 0.3, 0.4, 0.5), 1.0),
        ((0.3, 0.4, 0.3, 0.2, 0.1), 0.25),
        ((0.411, 0.427, 0.441, 0.400, 0.365), 0.5),
        ((0.4, 0.3, 0.3, 0.4, 0.1), 0.75),
        ((0.5, 0.4, 0.3, 0.2, 0.1), 0.0),
        ((0.0, 0.0, 0.0, 0.0, 0.0), 1.0),
    ],
)
def test_the_share_is_the_one_that_does_best(values, share):
    assert best_share(dict(zip(SHARES, values, strict=True))) == share


@given(st.lists(st.floats(0, 1), min_size=len(SHARES), max_size=len(SHARES)))
def test_no_other_share_does_better(values):
    found = dict(zip(SHARES, values, strict=True))
    assert found[best_share(found)] == max(values)


def test_what_names_worse_than_none_of_it_is_not_kept():
    """A quarter finds most without names and would answer worse by name than the base: half of it is kept."""
    looks = {0.0: Worth(0.4, 0.4), 0.25: Worth(0.39, 0.9), 0.5: Worth(0.41, 0.45), 1.0: Worth(0.2, 0.8)}
    assert best_share(values_of(looks)) == 0.5
    assert best_share(values_of(looks | {0.5: Worth(0.3, 1.0)})) == 0.0


@pytest.mark.parametrize(("better", "share"), [("base", 0.0), ("variant", 1.0), ("neither", 1.0)])
def test_a_handful_of_images_can_refuse_a_training(better, share):
    """Fewer than are chosen by: the base's answers stay where they did better, and there is no half of it."""
    truths = [square(2, "box") for _ in range(LEAST_IMAGES - 1)]
    samples = [sample(k, truth) for k, truth in enumerate(truths)]
    right, wrong = (Answers((one,) * len(truths), (one,) * len(truths)) for one in (square(2, "box"), square(8, "box")))
    looked: list[float] = []

    def look(at: float) -> Answers:
        looked.append(at)
        return right if better == "base" else wrong

    kept, answers = best_of(samples, truths, ("box",), right if better == "variant" else wrong, look)
    assert (kept, looked) == (share, [0.0])
    assert answers is right or better == "neither"


def test_nothing_of_a_variant_is_looked_at_in_the_size_of_the_base(tmp_path):
    """Some of it in its own size."""
    for share, size in ((0.5, 448), (0.0, None)):
        save_file({"x.lora_B.weight": torch.ones(2, 2)}, tmp_path / WEIGHTS)
        (tmp_path / "variant.json").write_text('{"image_size": 448, "rank": 2}')
        scale_adapter(tmp_path, share)
        told = json.loads((tmp_path / "variant.json").read_text())
        assert (told.get("image_size"), told["rank"]) == (size, 2)


def square(at: int, label: str, score: float = 1.0) -> Instances:
    mask = np.zeros((1, 16, 16), np.bool_)
    mask[0, at : at + 8, at : at + 8] = True
    return Instances.from_masks(mask, [label], [score])


def sample(k: int, truth: Instances) -> Sample:
    return Sample(
        name=f"frame-{k}",
        image=Path(f"frame-{k}.jpg"),
        height=16,
        width=16,
        labels=truth.labels,
        masks=truth.masks,
        split=None,
    )


def test_names_and_outlines_count_alike():
    """Right outlines under another name are worth half; wrong ones nothing."""
    truths = [square(2, "box") for _ in range(4)]
    samples = [sample(k, truth) for k, truth in enumerate(truths)]

    def mean(*said: Instances) -> float:
        named = tuple(one.take([k for k, label in enumerate(one.labels) if label == "box"]) for one in said)
        return worth(samples, truths, ("box",), Answers(named, said)).mean

    right, misnamed, wrong = (square(*how, 0.9) for how in ((2, "box"), (2, "sack"), (8, "box")))
    assert mean(*[right] * 4) == pytest.approx(1.0)
    assert mean(*[misnamed] * 4) == pytest.approx(0.5)
    assert mean(*[wrong] * 4) == 0
    assert mean(right, right, misnamed, misnamed) > mean(right, right, wrong, wrong)


def test_a_way_is_walked_to_and_fro():
    layer = nn.Linear(3, 2)
    start = {name: p.detach().clone() for name, p in layer.named_parameters()}
    way = Interpolation.from_here(layer)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(2.0)
    for share in (0.25, 1.0, 0.0, 0.5):
        way.go(share)
        for name, p in layer.named_parameters():
            torch.testing.assert_close(p.detach(), start[name] + 2 * share)


@pytest.mark.slow
def test_half_an_adapter_moves_the_network_half_as_far(tmp_path):
    """In memory and on disk alike, by what the adapted layers compute."""
    recipe = AdaptRecipe(rank=2, max_steps=4, max_seconds=None, batch_size=2, workers=0, save_steps=100)
    model = adapt(new_base(TINY, LABELS), scene_sources(4), recipe, tmp_path / "work", report=lambda _: None)
    state = {name: p for name, p in model.state_dict().items() if "lora_" in name}
    model.save_pretrained(tmp_path / "variant", state_dict=state, safe_serialization=True)
    whole = load_file(tmp_path / "variant" / WEIGHTS)
    scale_adapter(tmp_path / "variant", 0.5)
    half = load_file(tmp_path / "variant" / WEIGHTS)
    Interpolation.of_adapter(model).go(0.5)
    for name, p in model.named_parameters():
        if "lora_" in name:
            stored = half[name.replace(".default", "")]
            torch.testing.assert_close(stored, p.detach())
            factor = 0.5 if "lora_B" in name else 1.0
            torch.testing.assert_close(stored, factor * whole[name.replace(".default", "")])
    products = [name for name in whole if ".lora_B." in name]
    assert products and all(whole[name].abs().max() > 0 for name in products)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_comparison_is_measured_with_what_is_kept(method, tmp_path, monkeypatch):
    """Every share is looked at, and the model is left at the one that is chosen."""
    save_base(new_base(TINY, LABELS), tmp_path / "base", card="", dtype=torch.float32)
    monkeypatch.setattr(keeping, "best_share", lambda values: 0.5)
    asked: list[float] = []
    walked = Interpolation.go
    monkeypatch.setattr(Interpolation, "go", lambda self, share: (asked.append(share), walked(self, share))[1])
    recipe = AdaptRecipe(rank=2, max_steps=2, max_seconds=None, batch_size=2, workers=0, save_steps=100, method=method)
    cell = write_cell(tmp_path / "cell", DEMO_CELL, images=12, seed=1, size=64, valid_share=8 / 12)
    row = train_and_measure(tmp_path / "base", read_dataset(cell), recipe, images=None)
    assert asked == [*SHARES[:-1], 0.5]
    assert row.evaluation.images == LEAST_IMAGES
