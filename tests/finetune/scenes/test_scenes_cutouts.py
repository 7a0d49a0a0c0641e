"""Copy-paste scenes: exact masks with occlusion, seeded; folders that cannot be used are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from finetune.errors import SceneToolError
from finetune.report.cards import base_card
from finetune.scenes import BROAD
from finetune.scenes.canvas import Canvas
from finetune.scenes.cutouts import LARGEST, PasteGenerator, Place, arranged, paste, read_cutouts
from finetune.training.base import BaseRecipe, scene_examples
from finetune.training.scene_examples import SceneExamples

LOOK = replace(BROAD, environments={"pile": 1.0}, negatives=0.0)


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """Two boxes on transparent ground: a red and a green one, each with a rim of the photograph's background."""
    folder = tmp_path / "assets" / "box-cutouts"
    folder.mkdir(parents=True)
    for name, colour in (("one", (0, 0, 220)), ("two", (0, 220, 0))):
        picture = np.zeros((120, 160, 4), np.uint8)
        picture[8:112, 18:142] = (255, 255, 255, 255)  # the rim
        picture[10:110, 20:140, :3] = colour
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    return folder.parent


def test_cutouts_are_cropped_and_lose_their_rim(assets: Path) -> None:
    red, green = read_cutouts(assets)
    assert red.shape == green.shape == (104, 124, 4)
    assert max(red.shape) <= LARGEST
    solid = red[:, :, 3] >= 128
    assert (red[solid][:, 0] == 220).all()
    assert (red[solid][:, 1:3] == 0).all()
    assert read_cutouts(assets / "box-cutouts")[0].shape == red.shape


def test_folders_and_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneToolError, match="0 cutouts"):
        read_cutouts(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(SceneToolError, match="no picture with an alpha"):
        read_cutouts(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(SceneToolError, match="no picture with an alpha"):
        read_cutouts(tmp_path)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 4), np.uint8))
    with pytest.raises(SceneToolError, match="nothing in it is solid"):
        read_cutouts(tmp_path)


def test_a_mask_is_where_the_cutout_shows_and_later_ones_hide_earlier_ones(assets: Path) -> None:
    red, green = read_cutouts(assets)
    canvas = Canvas(np.full((128, 128, 3), 90, np.uint8), np.array([0.0, -1.0, 1.0]), 0.6)
    assert paste(canvas, red, Place(0.4, 0.5, 0.4, 10.0, 0), np.ones(3), 1)
    alone = (canvas.ids == 1).sum()
    assert paste(canvas, green, Place(0.6, 0.5, 0.4, -5.0, 1), np.ones(3), 2)
    assert 0 < (canvas.ids == 1).sum() < alone
    inside = cv2.erode((canvas.ids == 2).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert (canvas.image[inside][:, 1] > 200).all()
    assert (canvas.image[inside][:, 0] < 20).all()
    assert not paste(canvas, red, Place(3.0, 0.5, 0.2, 0.0, 0), np.ones(3), 3)
    assert set(np.unique(canvas.ids)) == {0, 1, 2}


def test_arrangements_have_one_to_forty() -> None:
    counts = [len(arranged(np.random.default_rng(seed), 5)) for seed in range(200)]
    assert max(counts) <= 40
    assert max(counts) > 25
    assert np.mean([count > 0 for count in counts]) > 0.95


def test_pasted_scenes_are_exact_and_seeded(assets: Path) -> None:
    cutouts = read_cutouts(assets)
    one, other = (PasteGenerator(LOOK, cutouts, size=96, seed=4) for _ in range(2))
    other.scene(2)
    found = 0
    for index in range(6):
        scene, again = one.scene(index), other.scene(index)
        assert np.array_equal(scene.image, again.image)
        assert np.array_equal(scene.ids, again.ids)
        assert set(scene.labels) <= {"box"}
        assert set(np.unique(scene.ids)) - {0} == set(range(1, len(scene.labels) + 1))
        assert scene.masks().sum(axis=0).max(initial=0) <= 1
        found += len(scene.labels)
    assert found > 6


def test_pasted_examples_come_up_only_with_assets(assets: Path) -> None:
    plain = SceneExamples(LOOK, size=64, seed=3, count=20)
    without = SceneExamples(LOOK, size=64, seed=3, count=20, pasted=1.0)
    pasted = SceneExamples(LOOK, size=64, seed=3, count=20, pasted=1.0, assets=assets)
    assert np.array_equal(plain[2].pixels, without[2].pixels)
    assert not np.array_equal(plain[2].pixels, pasted[2].pixels)
    assert np.array_equal(pasted[2].pixels, pasted[2].pixels)


def test_a_recipe_takes_assets_and_its_card_says_so(assets: Path, tmp_path: Path) -> None:
    recipe = BaseRecipe(assets=assets, pasted=0.2, close_ups=0.5)
    assert "10% of them photographs of boxes" in base_card(recipe, ("box",), [], steps=1, seconds=1)
    assert "no photograph among them" in base_card(BaseRecipe(), ("box",), [], steps=1, seconds=1)
    with pytest.raises(SceneToolError):
        scene_examples(BaseRecipe(assets=tmp_path / "nothing"))
