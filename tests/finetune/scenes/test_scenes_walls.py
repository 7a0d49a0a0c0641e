"""Walls of photographed fronts: exact masks, one box on both sides of a corner, and only where cutouts are fronts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.scenes import BROAD
from finetune.scenes.canvas import Canvas
from finetune.scenes.cutouts import PasteGenerator
from finetune.scenes.textures import Image
from finetune.scenes.walls import build_wall, faces_of

GROUND = 20


def front(colour: tuple[int, int, int], high: int = 40, wide: int = 60) -> Image:
    """A carton's front, RGBA, with the transparent rim that reading leaves."""
    picture = np.zeros((high, wide, 4), np.uint8)
    picture[2:-2, 2:-2] = (*colour, 255)
    return picture


def box() -> Image:
    """A box seen from above: a hexagon, which fills three quarters of its bounding box."""
    picture = np.zeros((60, 60, 4), np.uint8)
    corners = np.array([[30, 2], [57, 15], [57, 45], [30, 58], [2, 45], [2, 15]], np.int32)
    cv2.fillPoly(picture, [corners], (150, 120, 90, 255))
    return picture


def canvas(size: int = 128) -> Canvas:
    return Canvas(np.full((size, size, 3), GROUND, np.uint8), np.array([0.0, -1.0, 1.0]), 0.6)


def test_only_fronts_are_faces() -> None:
    (face,) = faces_of((front((200, 150, 100)), box(), np.zeros((20, 20, 4), np.uint8)))
    assert face.shape == (36, 56, 3)
    assert (face == (200, 150, 100)).all(), "without its rim"


@given(seed=st.integers(0, 10_000))
def test_a_wall_s_masks_are_where_its_fronts_show(seed: int) -> None:
    found = canvas()
    labels = build_wall(np.random.default_rng(seed), found, (np.full((36, 56, 3), 250, np.uint8),))
    assert set(labels) == set(np.unique(found.ids).tolist()) - {0}
    assert set(labels.values()) <= {"box"}
    # Fronts are far lighter than the ground and the joints: away from edges every pixel of a mask is a front's.
    inside = cv2.erode((found.ids > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    same = cv2.erode(found.ids, np.ones((5, 5))) == cv2.dilate(found.ids, np.ones((5, 5)))
    where = inside & same
    assert (found.image[where].min(axis=-1) > GROUND).all()


def test_walls_are_dense_ragged_and_turn_corners() -> None:
    counts, corners = [], 0
    for seed in range(120):
        found = canvas()
        faces = (np.full((36, 56, 3), 250, np.uint8),)
        counts.append(len(build_wall(np.random.default_rng(seed), found, faces)))
        for instance in np.unique(found.ids)[1:]:
            tones = found.image[cv2.erode((found.ids == instance).astype(np.uint8), np.ones((3, 3))) > 0]
            corners += bool(len(tones) > 20 and np.ptp(tones.astype(int)[:, 0]) > 60)  # two sides in two lights
    assert max(counts) > 50
    assert min(counts) < 8
    assert corners > 20


@pytest.mark.parametrize(("cutouts", "walls"), [(4, 1.0), (0, 0.0)])
def test_walls_come_as_often_as_fronts_are_among_the_cutouts(cutouts: int, walls: float) -> None:
    pictures = (front((220, 30, 30)),) * cutouts + (() if cutouts else (box(), box()))
    scenes = PasteGenerator(BROAD, pictures, size=96, seed=3)
    seen = [scenes.scene(k) for k in range(5)]
    again = PasteGenerator(BROAD, pictures, size=96, seed=3).scene(4)
    assert np.array_equal(seen[4].image, again.image) and np.array_equal(seen[4].ids, again.ids)
    for scene in seen:
        assert set(np.unique(scene.ids)) - {0} == set(range(1, len(scene.labels) + 1))
    assert PasteGenerator(BROAD, pictures, size=96, seed=3)._walls == walls
