"""What cuts the faces of boxes: drawn inside of them, and never on looks that did not ask for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.scenes import BROAD, HELD_OUT, PHYSICAL_HELD_OUT, WAREHOUSE, SceneGenerator
from finetune.scenes.canvas import FILM, Canvas
from finetune.scenes.face_occluders import FaceCuts
from finetune.scenes.materials import BoxSkins
from finetune.scenes.packages import TOP, UNDERSIDE
from finetune.scenes.textures import FACE, texture_bank
from tests.scale import scaled

GROUND = (150, 120, 90)


def face_of(seed: int, face: int) -> np.ndarray:
    skin = np.full((FACE, FACE, 3), GROUND, np.uint8)
    cuts = FaceCuts(np.random.default_rng(seed), texture_bank(), np.array(GROUND, float))
    cuts.lay(skin, face)
    return skin


@settings(max_examples=scaled(15, 300), deadline=None)
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


@pytest.mark.parametrize("cuts", [0.0, 1.0])
def test_skins_of_boxes_are_laid_over_with_cuts(cuts: float, monkeypatch: pytest.MonkeyPatch) -> None:
    laid: list[int] = []
    monkeypatch.setattr(FaceCuts, "lay", lambda _self, skin, face: (laid.append(face), skin.fill(255)))
    skins = BoxSkins(
        np.random.default_rng(3), replace(BROAD, cuts=cuts), texture_bank(), "kraft", np.array(GROUND, float)
    )
    inner = np.stack([skins.face(face)[1:-1, 1:-1] for face in range(5)])  # within the box's own edges
    assert laid == (list(range(5)) if cuts else [])
    assert (inner == 255).all() == bool(cuts)


@pytest.mark.parametrize("cuts", [0.0, 1.0])
def test_film_that_stops_half_way_shows_its_edge(cuts: float, monkeypatch: pytest.MonkeyPatch) -> None:
    veils: list[float] = []
    monkeypatch.setattr(Canvas, "film", lambda *given: veils.append(given[-1]))
    look = replace(BROAD, environments={"row": 1.0}, cuts=cuts, shrink_wrap=1.0)
    for index in range(4):
        SceneGenerator(look, size=64, seed=2).scene(index)
    assert len(veils) > 4
    assert {veil > FILM for veil in veils} == {bool(cuts)}


def test_film_veils_and_keeps_to_its_members() -> None:
    square = np.array([[0, 0], [16, 0], [16, 16], [0, 16]], float)
    pictures = []
    for veil in (FILM, 0.3):
        canvas = Canvas(np.zeros((16, 16, 3), np.uint8), np.array([0.0, 0.0, 1.0]), 0.5)
        canvas.ids[:, 8:] = 1
        members = np.arange(256) == 1
        canvas.film(square, np.full((FACE, FACE), 0.9, np.float32), 1.0, members, veil)
        pictures.append(canvas.image.copy())
    assert (pictures[1][:, 8:] > pictures[0][:, 8:]).all()
    assert not any(picture[:, :8].any() for picture in pictures)


@pytest.mark.slow
def test_no_mask_of_a_box_is_cut() -> None:
    """The outline of a box with everything on it is one mask: as many boxes as without, of the same size at large."""
    look = replace(BROAD, environments={"row": 1.0}, cuts=0.0)
    areas = []
    for cuts in (0.0, 1.0):
        scenes = [SceneGenerator(replace(look, cuts=cuts), size=128, seed=4).scene(k) for k in range(60)]
        areas.append(np.concatenate([scene.masks().sum(axis=(1, 2)) for scene in scenes]))
    assert len(areas[1]) == pytest.approx(len(areas[0]), rel=0.25)
    assert np.median(areas[1]) == pytest.approx(np.median(areas[0]), rel=0.3)
