"""Which size a cell's pictures have for the network, and trainings at sizes that are not the base's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from finetune.datasets import Sample
from finetune.errors import BaseModelError
from finetune.models.model import Architecture, new_base
from finetune.scenes import LABELS
from finetune.training import picture_sizes
from finetune.training.adapt import AdaptRecipe, adapt
from finetune.training.base import BaseRecipe, scene_examples, train_base
from finetune.training.examples import Example
from finetune.training.picture_sizes import chosen_size, source_side, suitable
from finetune.training.scene_examples import MixedSizes
from serving.inference.picture_sizes import MOST, PictureSizes
from serving.instances import Instances
from tests.finetune.training.test_training import TINY, scene_sources


def sample(side: int, *packages: int) -> Sample:
    """A square picture with square packages."""
    masks = np.zeros((len(packages), side, side), np.bool_)
    for mask, edge in zip(masks, packages, strict=True):
        mask[:edge, :edge] = True
    truth = Instances.from_masks(masks, ["box"] * len(packages), [1.0] * len(packages))
    return Sample(
        name="a", image=Path("a.jpg"), height=side, width=side, labels=truth.labels, masks=truth.masks, split=None
    )


@pytest.mark.parametrize(
    ("picture", "packages", "size"),
    [
        (640, (100, 120, 90, 80), 320),
        (640, (36, 36, 36, 36), 448),  # 18 pixels at 320, 25 at 448
        (640, (30, 30, 30, 30), 640),
        (1280, (20, 20, 20, 20), 640),  # still small, and no finer is served
        (320, (8, 8, 8, 8), 320),  # the pictures themselves show no more
        (500, (20, 20, 20, 20), 448),
        (640, (200, 200, 200, 20), 320),  # one small package does not decide
        (640, (), 320),
    ],
)
def test_small_packages_want_finer_pictures(picture, packages, size):
    assert suitable(PictureSizes(320, others=True), [sample(picture, *packages)] * 3) == size


@pytest.mark.parametrize(("count", "side", "size"), [(3, 960, 640), (400, 640, 448), (4000, 448, 320)])
def test_memory_has_room_for_what_is_chosen(count, side, size, monkeypatch):
    """Many masks of finer pictures are kept with less to spare, and in the end the pictures are no finer."""
    monkeypatch.setattr(picture_sizes, "MOST_BYTES", 3 * 15 * 960 * 960 * 40)
    samples = [sample(1280, *[30] * 12)] * count
    chosen = suitable(PictureSizes(320, others=True), samples)
    assert chosen == size
    kept = source_side(chosen, samples)
    assert chosen <= kept <= 1.5 * chosen
    assert kept == chosen or kept * kept * 15 * count <= picture_sizes.MOST_BYTES
    assert kept <= side


def test_a_base_of_one_size_keeps_it():
    assert suitable(PictureSizes(320), [sample(640, 10)]) == 320


def test_what_is_asked_for_is_what_the_base_takes():
    base = new_base(TINY, LABELS)
    assert chosen_size(base, [], 96) == 96
    for size in (50, MOST + 32):
        with pytest.raises(BaseModelError, match="image_size"):
            chosen_size(base, [], size)
    other = new_base(Architecture(family="eomt", image_size=64, hidden_size=32, layers=2, heads=2, blocks=1), LABELS)
    with pytest.raises(BaseModelError, match="64 pixels alone"):
        chosen_size(other, [], 96)


@pytest.mark.slow
def test_an_adapter_learns_at_another_size(tmp_path):
    """Gradients of a picture of 128 pixels reach the adapter of a base of 64, and the base stays as it was."""
    base = new_base(TINY, LABELS)
    before = base.position_embedding.detach().clone()
    recipe = AdaptRecipe(rank=2, max_steps=3, max_seconds=None, batch_size=2, workers=0, image_size=128)
    model = adapt(base, scene_sources(4), recipe, tmp_path, report=lambda _: None)
    moved = [p.abs().max() for name, p in model.named_parameters() if ".lora_B." in name]
    assert moved and all(one > 0 for one in moved)
    torch.testing.assert_close(base.position_embedding.detach(), before)


class _Sized(Dataset[Example]):
    def __init__(self, side: int) -> None:
        self.side = side

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> Example:
        return Example(np.full((self.side, self.side, 3), index % 256, np.uint8), np.zeros((0, 1, 1)), np.zeros(0))


def test_all_of_a_batch_are_of_one_size_and_batches_differ():
    mixed = MixedSizes([_Sized(64), _Sized(96), _Sized(128)], batch=8, seed=1)
    sides = [mixed[k].pixels.shape[0] for k in range(800)]
    batches = [set(sides[k : k + 8]) for k in range(0, 800, 8)]
    assert all(len(batch) == 1 for batch in batches)
    drawn = [batch.pop() for batch in batches]
    assert {side: drawn.count(side) > 20 for side in (64, 96, 128)} == {64: True, 96: True, 128: True}
    assert drawn != sorted(drawn)
    assert [mixed[k].pixels[0, 0, 0] for k in (3, 200)] == [3, 200]
    assert sides == [
        MixedSizes([_Sized(64), _Sized(96), _Sized(128)], batch=8, seed=1)[k].pixels.shape[0] for k in range(800)
    ]


def test_a_family_of_one_size_is_not_trained_at_several():
    recipe = BaseRecipe(architecture=Architecture(family="eomt", image_size=64), sizes=(64, 96))
    with pytest.raises(BaseModelError, match="64 pixels alone"):
        scene_examples(recipe)


@pytest.mark.slow
def test_a_base_learns_at_several_sizes(tmp_path):
    """From start to end, from random weights: what is fitted before the first step is of one size, steps of both."""
    recipe = BaseRecipe(architecture=TINY, sizes=(64, 96), max_steps=6, batch_size=2, workers=0, save_steps=100)
    sides = {scene_examples(recipe)[k].pixels.shape[0] for k in range(12)}
    assert sides == {64, 96}
    losses = []
    model = train_base(recipe, tmp_path, report=lambda tick: losses.append(tick.loss))
    assert losses and np.isfinite(losses[-1])
    with torch.inference_mode():
        for side in (64, 96):
            assert model.answer(torch.zeros(1, 3, side, side)).masks.shape[-1] == side // 4
