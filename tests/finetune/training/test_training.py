"""The training loop on tiny models: schedules, augmentation, resume after a kill, divergence, what is trained
and what is not.
"""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import BaseModelError, DeckError, TrainingError
from finetune.models.model import CONFIGS, Architecture, base_labels, load_base, new_base, save_base
from finetune.scenes import LABELS, SceneGenerator
from finetune.training.adapt import AdaptRecipe, adapt
from finetune.training.augment import AugmentedExamples, Source, Strength, fit_source, mosaic, paste
from finetune.training.base import BaseRecipe, train_base
from finetune.training.examples import MASK_STRIDE, Example, collate
from finetune.training.loop import Budget, latest_checkpoint, warm_cosine
from serving.inference.preprocess import resize
from serving.inference.slot_layers import can_carry
from tests.scale import scaled

TINY = Architecture(
    image_size=64, patch_size=16, hidden_size=32, layers=3, heads=2, blocks=1, queries=12, spare_labels=2
)
TINY_OF = {family: replace(TINY, family=family) for family in CONFIGS}


def scene_sources(count: int = 4, size: int = 96) -> list[Source]:
    generator = SceneGenerator(size=size, seed=11)
    scenes = [scene for scene in (generator.scene(k) for k in range(4 * count)) if scene.labels][:count]
    return [Source(s.image, s.masks(), np.array([LABELS.index(n) for n in s.labels], np.int64)) for s in scenes]


@given(st.floats(0, 1))
def test_the_schedule_stays_in_its_bounds(progress):
    assert 0 < warm_cosine(progress) <= 1


def test_the_schedule_rises_then_falls():
    values = [warm_cosine(p) for p in np.linspace(0, 1, 101)]
    peak = int(np.argmax(values))
    assert values[peak] == pytest.approx(1, abs=0.01)
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert values[-1] == pytest.approx(0.01)


def test_a_budget_is_spent_by_whichever_comes_first():
    budget = Budget(max_steps=100, max_seconds=1000.0)
    budget.start(spent_before=500.0)
    assert budget.progress == pytest.approx(0.5, abs=0.01)
    budget.step = 80
    assert budget.progress == pytest.approx(0.8)


def test_collate_normalises_and_keeps_instances_apart():
    grey = Example(np.full((8, 8, 3), 255, np.uint8), np.ones((2, 4, 4), np.bool_), np.array([1, 0]))
    empty = Example(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4, 4), np.bool_), np.zeros(0, np.int64))
    batch = collate([grey, empty])
    assert batch["pixel_values"].shape == (2, 3, 8, 8)
    assert batch["pixel_values"][0, 0, 0, 0].item() == pytest.approx((1 - 0.485) / 0.229, abs=1e-4)
    assert [m.shape[0] for m in batch["mask_labels"]] == [2, 0]
    assert batch["mask_labels"][0].dtype == torch.float32


@settings(max_examples=scaled(10, 200), deadline=None)
@given(st.integers(0, 1000), st.integers(40, 130), st.integers(40, 130))
def test_fitting_keeps_aspect_and_masks(seed, height, width):
    rng = np.random.default_rng(seed)
    mask = np.zeros((1, height, width), np.bool_)
    mask[0, height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
    source = Source(rng.integers(0, 255, (height, width, 3), np.uint8), mask, np.zeros(1, np.int64))
    small = fit_source(source, 48)
    assert max(small.pixels.shape[:2]) == min(48, max(height, width))
    assert small.masks.shape[1:] == small.pixels.shape[:2]
    assert small.masks.mean() == pytest.approx(mask.mean(), abs=0.08)


def test_augmentation_is_seeded_and_well_formed():
    sources = scene_sources()
    make = lambda: AugmentedExamples(sources, size=64, count=50, seed=3)  # noqa: E731
    first, second = make(), make()
    for index in range(50):
        a, b = first[index], second[index]
        assert np.array_equal(a.pixels, b.pixels)
        assert np.array_equal(a.masks, b.masks)
        assert a.pixels.shape == (64, 64, 3)
        assert a.masks.shape == (len(a.classes), 64 // MASK_STRIDE, 64 // MASK_STRIDE)
    assert not np.array_equal(first[0].pixels, AugmentedExamples(sources, size=64, count=50, seed=4)[0].pixels)


@settings(max_examples=scaled(12, 200), deadline=None)
@given(st.lists(st.floats(1, 4), min_size=2, max_size=9), st.integers(0, 100))
def test_sources_come_up_as_often_as_they_weigh(weights, seed):
    source = Source(np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8), np.bool_), np.zeros(0, np.int64))
    rounds = 40
    examples = AugmentedExamples([source] * len(weights), size=8, count=999, seed=seed, weights=weights)
    drawn = np.bincount([examples._turn(k) for k in range(rounds * len(weights))], minlength=len(weights))
    wanted = np.array(weights) / sum(weights) * rounds * len(weights)
    assert np.abs(drawn - wanted).max() <= 12
    if len(set(weights)) == 1:
        assert (drawn == rounds).all()


def test_without_augmentation_the_picture_is_serving_s_letterbox():
    source = scene_sources(1, size=128)[0]
    still = Strength(plain=1.0, brightness=0, contrast=0, saturation=0, hue=0, blur=0, noise=0)
    examples = AugmentedExamples([source], size=64, count=40, seed=0, strength=still)
    wanted = resize(source.pixels, 64, 64).numpy()
    same = sum(np.array_equal(examples[k].pixels, wanted) for k in range(40))
    assert same > 30, "all but the few that are turned grey"


def test_paste_and_mosaic_keep_instances_disjoint():
    rng = np.random.default_rng(0)
    sources = scene_sources(4)
    for _ in range(10):
        for mixed in (paste(sources[0], sources[1], rng), mosaic(sources, rng)):
            assert len(mixed.masks) == len(mixed.classes)
            assert mixed.masks.sum(axis=0).max(initial=0) <= 1


def test_a_base_survives_the_disk(tmp_path):
    model = new_base(TINY, LABELS)
    save_base(model, tmp_path, card="# tiny\n", dtype=torch.float32)
    again = load_base(tmp_path)
    assert base_labels(again) == (*LABELS, "reserved_0", "reserved_1")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json: missing"),
        (lambda f: (f / "config.json").write_text("{"), "not a JSON object"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "'bert'"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64), "model.safetensors"),
    ],
)
def test_a_bad_base_names_its_file(tmp_path, damage, words):
    save_base(new_base(TINY, LABELS), tmp_path, card="# tiny\n")
    damage(tmp_path)
    with pytest.raises(BaseModelError, match=words):
        load_base(tmp_path)


@pytest.mark.slow
def test_lora_moves_adapters_only_and_learns(tmp_path):
    torch.manual_seed(0)
    base = new_base(TINY, LABELS)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    ticks = []
    recipe = AdaptRecipe(rank=4, max_steps=30, max_seconds=None, batch_size=4, workers=0, save_steps=1000)
    model = adapt(base, scene_sources(), recipe, tmp_path, report=ticks.append)
    after = model.get_base_model().state_dict()
    for name, tensor in before.items():
        kept = after.get(name, after.get(f"{name.rpartition('.')[0]}.base_layer.{name.rpartition('.')[2]}"))
        assert torch.equal(tensor, kept), f"{name} is the base's and must not move"
    moved = [p for n, p in model.named_parameters() if "lora_B" in n]
    assert len(moved) == 6 + 2 + 2 + 4 + 5 + 3, "stem, embeddings, pyramid's and towers' convolutions, its rest, heads"
    assert all(p.abs().sum() > 0 for p in moved)
    assert ticks[-1].step == 30
    assert np.mean([t.loss for t in ticks[-2:]]) < np.mean([t.loss for t in ticks[:2]])


@pytest.mark.slow
def test_scratch_owes_nothing_to_the_base(tmp_path):
    """Two bases with different weights, read from files as users' are: from scratch both end in the same model."""
    ends = []
    for seed in (1, 2):
        save_base(new_base(TINY, LABELS, seed=seed), tmp_path / f"base{seed}", card="")
        recipe = AdaptRecipe(method="scratch", max_steps=1, max_seconds=None, batch_size=2, workers=0)
        base = load_base(tmp_path / f"base{seed}")
        ends.append(adapt(base, scene_sources(2), recipe, tmp_path / f"work{seed}", report=lambda _: None))
    first, second = (model.state_dict() for model in ends)
    assert torch.allclose(first["layers.0.fc1.weight"], second["layers.0.fc1.weight"], atol=1e-2)
    loaded = load_base(tmp_path / "base1").state_dict()["layers.0.fc1.weight"]
    assert not torch.allclose(first["layers.0.fc1.weight"], loaded, atol=5e-2)


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_learns_and_survives_the_disk(family, tmp_path):
    """A few steps from scratch on scenes, with the loss and the start that its family has."""
    recipe = BaseRecipe(
        architecture=TINY_OF[family], max_steps=8, batch_size=4, workers=0, save_steps=1000, learning_rate=3e-3
    )
    model = train_base(recipe, tmp_path / "work", report=lambda _: None)
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all(), name
    save_base(model, tmp_path / "base", card="# tiny\n", dtype=torch.float32)
    again = load_base(tmp_path / "base")
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = model.answer(pixels), again.answer(pixels)
    torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=1e-4)
    assert one.masks.shape[0] == 2
    assert one.masks.shape[:2] == one.scores.shape[:2]
    assert one.scores.shape[2] == len(LABELS) + 2


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_every_family_adapts_its_targets_and_nothing_else(family, tmp_path):
    base = new_base(TINY_OF[family], LABELS)
    recipe = AdaptRecipe(rank=2, max_steps=3, max_seconds=None, batch_size=2, workers=0, save_steps=1000)
    if base.adapter_targets is None:
        with pytest.raises(BaseModelError, match=family):
            adapt(base, scene_sources(2), recipe, tmp_path, report=lambda _: None)
        return
    tuned = base.tuned_targets or base.adapter_targets
    targets = {n for n, m in base.named_modules() if can_carry(m) and re.fullmatch(tuned, n)}
    assert all(re.fullmatch(base.adapter_targets, n) for n in targets), "what is tuned can be served"
    model = adapt(base, scene_sources(2), recipe, tmp_path, report=lambda _: None)
    adapted = {
        n.removeprefix("base_model.model.").partition(".lora_B")[0]
        for n, _ in model.named_parameters()
        if "lora_B" in n
    }
    assert adapted == targets
    assert len(targets) > 4


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(DeckError):
        adapt(new_base(TINY, LABELS), [], AdaptRecipe(), tmp_path, report=lambda _: None)


@pytest.mark.slow
def test_a_diverged_run_stops_and_says_so(tmp_path):
    base = new_base(TINY, LABELS)
    with torch.no_grad():
        base.class_predictor.weight.fill_(math.nan)
    recipe = AdaptRecipe(max_steps=5, max_seconds=None, batch_size=2, workers=0)
    with pytest.raises(TrainingError, match="no longer finite"):
        adapt(base, scene_sources(2), recipe, tmp_path, report=lambda _: None)


CHILD = """
import sys
from pathlib import Path
from tests.finetune.training.test_training import TINY
from finetune.training import base
from finetune.training.base import BaseRecipe, train_base
base.WHITENING_SCENES = 24
recipe = BaseRecipe(architecture=TINY, max_steps=100000, batch_size=2, workers=0, save_steps=5)
train_base(recipe, Path(sys.argv[1]), report=lambda t: print("step", t.step, flush=True))
"""


@pytest.mark.slow
def test_a_killed_base_training_goes_on_from_its_checkpoint(tmp_path):
    root = Path(__file__).parents[3]
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], cwd=root, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 700
    while latest_checkpoint(tmp_path) is None and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    checkpoint = latest_checkpoint(tmp_path)
    assert checkpoint is not None
    reached = int(checkpoint.name.split("-")[1])
    seen = []
    recipe = BaseRecipe(architecture=TINY, max_steps=reached + 7, batch_size=2, workers=0, save_steps=1000)
    model = train_base(recipe, tmp_path, report=seen.append)
    assert seen[-1].step == reached + 7, "it counts on from the checkpoint"
    assert all(torch.isfinite(p).all() for p in model.parameters())
