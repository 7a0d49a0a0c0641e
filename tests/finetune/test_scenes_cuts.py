"""What cuts the faces of boxes: drawn inside of them, and never on looks that did not ask for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.scenes import BROAD, HELD_OUT, PHYSICAL_HELD_OUT, WAREHOUSE, SceneGenerator
from finetune.scenes.cuts import TOP, UNDERSIDE, FaceCuts
from finetune.scenes.textures import FACE, texture_bank

GROUND = (150, 120, 90)


def face_of(seed: int, face: int) -> np.ndarray:
    skin = np.full((FACE, FACE, 3), GROUND, np.uint8)
    cuts = FaceCuts(np.random.default_rng(seed), texture_bank(), np.array(GROUND, float))
    cuts.lay(skin, face)
    return skin


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), face=st.integers(0, 5))
def test_a_face_keeps_its_shape_and_the_underside_is_left_alone(seed: int, face: int) -> None:
    skin = face_of(seed, face)
    assert skin.shape == (FACE, FACE, 3)
    assert np.array_equal(skin, face_of(seed, face)), "the same draw, the same face"
    if face == UNDERSIDE:
        assert (skin == GROUND).all()
    if face == TOP:  # straps alone go over the top
        assert (skin == skin[:1]).all()


def test_every_cut_comes_up() -> None:
    sides = np.stack([face_of(seed, 0) for seed in range(300)]).astype(int)
    rows = (sides == sides[:, :, :1]).all(axis=(2, 3))  # rows of one colour from edge to edge
    changed = (sides != GROUND).any(axis=3)
    lids = (rows[:, 1] & changed[:, 1].all(axis=1)).mean()
    straps = (changed.mean(axis=1) > 0.95).any(axis=1).mean()
    bare = (~changed.any(axis=(1, 2))).mean()
    large = (changed.mean(axis=(1, 2)) > 0.3).mean()
    assert 0.1 < lids < 0.6
    assert 0.2 < straps < 0.9
    assert bare < 0.3
    assert large > 0.3


@pytest.mark.parametrize("look", [*HELD_OUT.values(), *PHYSICAL_HELD_OUT.values()])
def test_held_out_cells_are_as_they_were(look) -> None:
    assert look.cuts == 0
    assert min(BROAD.cuts, WAREHOUSE.cuts) > 0


def test_cuts_change_pictures_and_no_mask_of_a_box_is_cut_by_them() -> None:
    """The outline of a box with everything on it is one mask: as many boxes as without, of the same size at large."""
    look = replace(BROAD, environments={"row": 1.0}, cuts=0.0)
    areas = []
    for cuts in (0.0, 1.0):
        scenes = [SceneGenerator(replace(look, cuts=cuts), size=128, seed=4).scene(k) for k in range(60)]
        areas.append(np.concatenate([scene.masks().sum(axis=(1, 2)) for scene in scenes]))
    assert len(areas[1]) == pytest.approx(len(areas[0]), rel=0.25)
    assert np.median(areas[1]) == pytest.approx(np.median(areas[0]), rel=0.3)
