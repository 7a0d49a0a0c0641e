"""What a base learns from: scenes near and far, datasets on disk, and their mixture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import DatasetError
from finetune.models.model import Architecture, new_base
from finetune.scenes import BROAD, DEMO_CELL, LABELS, write_cell
from finetune.training.base import BaseRecipe, scene_examples
from finetune.training.examples import MASK_STRIDE, Example, collate
from finetune.training.learner import learner_for
from finetune.training.scene_examples import (
    Backgrounds,
    Mixture,
    SceneExamples,
    WrittenScenes,
    background_examples,
    cut,
    photograph_examples,
    written_examples,
)
from tests.finetune.folders import yolo_folder
from tests.finetune.training.test_training import TINY_OF

SIZE = 64


def same(one: Example, other: Example) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in ((one.pixels, other.pixels), (one.masks, other.masks), (one.classes, other.classes))
    )


@pytest.mark.slow
@pytest.mark.parametrize(("close_ups", "greys"), [(0.0, 0.0), (1.0, 0.0), (0.5, 0.5)])
def test_an_example_is_the_same_whenever_it_is_asked_for(close_ups: float, greys: float) -> None:
    one, other = (SceneExamples(BROAD, size=SIZE, seed=3, count=50, close_ups=close_ups, greys=greys) for _ in range(2))
    list(map(other.__getitem__, (9, 4)))  # whatever was asked for before
    for index in (0, 4, 9):
        assert same(one[index], other[index])
        assert one[index].pixels.shape == (SIZE, SIZE, 3)
        assert one[index].masks.shape == (len(one[index].classes), SIZE // MASK_STRIDE, SIZE // MASK_STRIDE)
        assert len(one[index].classes)


@pytest.mark.slow
def test_close_ups_show_larger_packages() -> None:
    look = replace(BROAD, empty=0.0)
    far, near = (SceneExamples(look, size=SIZE, seed=3, count=60, close_ups=share) for share in (0.0, 1.0))
    area = [np.mean([examples[k].masks.mean((1, 2)).mean() for k in range(30)]) for examples in (far, near)]
    assert area[1] > 1.3 * area[0]


def test_greys_have_no_colour() -> None:
    grey = SceneExamples(BROAD, size=SIZE, seed=3, count=5, greys=1.0)
    for k in range(5):
        assert np.ptp(grey[k].pixels.astype(int), axis=2).max() == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_a_cut_keeps_pixels_masks_and_classes_together(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 128, 128), np.bool_)
    pixels = np.zeros((128, 128, 3), np.uint8)
    for k in range(count):  # disjoint blocks, each painted with its own grey
        y, x = 40 * (k // 3), 40 * (k % 3)
        masks[k, y : y + 32, x : x + 32] = True
        pixels[masks[k]] = 40 * (k + 1)
    picture, parts, classes = cut(pixels, masks, np.arange(count), SIZE, rng)
    assert picture.shape == (SIZE, SIZE, 3)
    assert parts.shape == (len(classes), SIZE, SIZE)
    for part, kind in zip(parts, classes, strict=True):
        assert part.any()
        inner = part.copy()  # edges mix with the ground
        inner[1:] &= part[:-1]
        inner[:-1] &= part[1:]
        inner[:, 1:] &= part[:, :-1]
        inner[:, :-1] &= part[:, 1:]
        if inner.any():
            assert abs(np.median(picture[inner]) - 40 * (kind + 1)) <= 2


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cell") / "demo"
    yield write_cell(folder, DEMO_CELL, images=6, seed=4, size=96, valid_share=0.5)


def test_written_scenes_are_the_train_images(cell: Path) -> None:
    scenes = WrittenScenes([cell], side=SIZE)
    assert len(scenes) == 3
    for source in scenes:
        assert source.pixels.shape == (SIZE, SIZE, 3)
        assert source.masks.shape == (len(source.classes), SIZE, SIZE)
        assert set(source.classes) <= set(range(len(LABELS)))
    examples = written_examples([cell, cell], size=SIZE, count=10, seed=1)
    assert same(examples[7], examples[7])


def test_written_scenes_of_other_classes_are_refused(tmp_path: Path) -> None:
    folder = yolo_folder(tmp_path / "other", label="1 0.2 0.2 0.8 0.2 0.8 0.8 0.2 0.8\n")
    with pytest.raises(DatasetError, match="a base's classes are box"):
        WrittenScenes([folder], side=SIZE)


@pytest.mark.slow
def test_a_mixture_draws_its_share(cell: Path) -> None:
    scenes = SceneExamples(BROAD, size=SIZE, seed=3, count=40)
    written = written_examples([cell], size=SIZE, count=40, seed=1)
    mixture = Mixture(scenes, written, share=0.4, seed=1, count=40)
    drawn = [same(mixture[k], written[k]) for k in range(40)]
    assert all(other or same(mixture[k], scenes[k]) for k, other in enumerate(drawn))
    assert 6 <= sum(drawn) <= 26


@pytest.mark.parametrize("family", sorted(TINY_OF))
def test_every_family_learns_from_pictures_without_packages(family: str) -> None:
    bare = SceneExamples(replace(BROAD, environments={"pile": 1.0}, empty=1.0), size=64, seed=1, count=4)
    learner = learner_for(new_base(TINY_OF[family], LABELS, seed=1), scratch=True)
    learner.train()
    loss = torch.stack(list(learner(**collate([bare[0], bare[1]])).values())).sum()
    assert torch.isfinite(loss)
    loss.backward()
    grown = [p.grad for p in learner.parameters() if p.grad is not None]
    assert grown
    assert all(torch.isfinite(grad).all() for grad in grown)


def test_photographs_without_packages_come_altered_and_bare(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    folder = tmp_path / "halls" / "north"
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = rng.integers(0, 255, (90 + 10 * number, 160, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), pixels)
    (folder / "notes.txt").write_text("no photograph")
    found = background_examples(tmp_path / "halls", size=SIZE, count=20, seed=1)
    assert all(len(found[k].classes) == 0 and found[k].pixels.shape == (SIZE, SIZE, 3) for k in range(20))
    assert np.array_equal(found[4].pixels, found[4].pixels) and not np.array_equal(found[4].pixels, found[7].pixels)
    recipe = BaseRecipe(
        architecture=Architecture(image_size=SIZE), backgrounds=tmp_path / "halls", background_share=1.0, max_steps=2
    )
    assert len(scene_examples(recipe)[0].classes) == 0
    (folder / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"0\.jpg"):
        Backgrounds(tmp_path / "halls", side=SIZE)[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no photograph"):
        Backgrounds(tmp_path / "empty", side=SIZE)


def test_photographs_of_a_small_site_count_for_more_each(tmp_path: Path) -> None:
    """Two sites, 16 photographs and 4: drawn 2 to 1, not 4 to 1, so that no site decides what packages look like."""
    many = write_cell(tmp_path / "many", DEMO_CELL, images=16, seed=1, size=48)
    few = write_cell(tmp_path / "few", DEMO_CELL, images=4, seed=2, size=48)
    counts = WrittenScenes((many, few), side=SIZE).counts
    found = photograph_examples((many, few), size=SIZE, count=10, seed=1)
    drawn = found._share
    assert drawn[: counts[0]].sum() / drawn[counts[0] :].sum() == pytest.approx((counts[0] / counts[1]) ** 0.5)
    assert found[3].pixels.shape == (SIZE, SIZE, 3) and np.array_equal(found[3].pixels, found[3].pixels)
    recipe = BaseRecipe(
        architecture=Architecture(image_size=SIZE), photographs=(many, few), photograph_share=1.0, max_steps=2
    )
    assert np.array_equal(
        scene_examples(recipe)[5].pixels, photograph_examples((many, few), size=SIZE, count=32, seed=1)[5].pixels
    )
