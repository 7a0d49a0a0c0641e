"""A base goes on with finer pictures than it was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune.errors import BaseModelError
from finetune.models.model import Architecture, architecture_of, load_base, new_base, picture_size, resize, save_base
from finetune.models.seed import seed_base
from finetune.scenes import LABELS
from finetune.training.base import BaseRecipe, train_base
from serving.families.parcelseg import cell_middles
from serving.inference.segmenter import Segmenter
from tests.finetune.training.test_training import TINY, TINY_OF


def test_positions_between_the_learnt_ones_follow_the_picture():
    """Positions that are a plane over the picture are the same plane at the finer grid's places, borders aside."""
    model = new_base(TINY, LABELS)
    slope = torch.linspace(-1, 1, 2 * 32).view(2, 32)
    with torch.no_grad():
        model.position_embedding.copy_((cell_middles(4) @ slope)[None])
    resize(model, 128)
    assert picture_size(model) == 128
    inner = (slice(None), slice(2, 6), slice(2, 6))
    said = model.position_embedding.detach().view(1, 8, 8, 32)[inner]
    torch.testing.assert_close(said, (cell_middles(8) @ slope).view(1, 8, 8, 32)[inner], atol=0.05, rtol=0)


def test_the_same_size_changes_nothing():
    model = new_base(TINY, LABELS)
    before = model.position_embedding.detach().clone()
    resize(model, 64)
    model.resize(64)
    assert torch.equal(model.position_embedding, before)


def test_what_an_object_s_reach_means_stays_in_pixels():
    """The same object drawn on twice the canvas is told as half the share of it."""
    model = new_base(TINY, LABELS).eval()
    with torch.no_grad():  # attention sees all of the canvas; without it a cell sees pixels near it alone
        for parameter in model.widen8.parameters():
            parameter.zero_()
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 20:44, 20:44] = 1.0
    large = torch.zeros(1, 3, 128, 128)
    large[..., :64, :64] = picture
    with torch.inference_mode():
        small = model.dense(picture).boxes.view(8, 8, 4)[3, 3] * 64
        resize(model, 128)
        finer = model.dense(large).boxes.view(16, 16, 4)[3, 3] * 128
    torch.testing.assert_close(small, finer, atol=0.2, rtol=0)


@pytest.mark.slow
def test_a_base_is_trained_on_and_served_with_finer_pictures(tmp_path: Path):
    start = tmp_path / "start"
    save_base(new_base(TINY, LABELS), start, card="# start\n")
    recipe = BaseRecipe(
        architecture=replace(TINY, image_size=96), start=start, max_steps=3, batch_size=2, workers=0, save_steps=1000
    )
    model = train_base(recipe, tmp_path / "work", report=lambda _: None)
    assert picture_size(model) == 96
    save_base(model, tmp_path / "finer", card="# finer\n")
    again = load_base(tmp_path / "finer")
    assert again.position_embedding.shape == (1, 36, 32)
    answer = Segmenter.load(tmp_path / "finer", device="cpu").segment([torch.zeros(70, 50, 3).byte().numpy()])
    assert len(answer) == 1


def test_a_checkpoint_is_seeded_at_another_size(tmp_path: Path):
    save_base(new_base(TINY, LABELS), tmp_path / "start", card="# start\n")
    assert seed_base(tmp_path / "start", tmp_path / "base", image_size=96).image_size == 96
    assert picture_size(load_base(tmp_path / "base")) == 96
    with pytest.raises(BaseModelError, match="takes no 40 x 40 pictures: 40 pixels are no multiple of the patches' 16"):
        seed_base(tmp_path / "start", tmp_path / "base", image_size=40)


@pytest.mark.parametrize("family", [family for family in TINY_OF if family != "parcelseg"])
def test_other_families_keep_their_size(family: str):
    model = new_base(TINY_OF[family], LABELS)
    resize(model, 64)
    with pytest.raises(BaseModelError, match=rf"{model.config.model_type} goes on with .* 64 pixels a side, not 96"):
        resize(model, 96)


def test_a_base_says_itself_what_it_is():
    wide = replace(TINY, hidden_size=64, heads=4, layers=2, queries=9)
    assert architecture_of(new_base(wide, LABELS), Architecture(blocks=1, spare_labels=2)) == wide
