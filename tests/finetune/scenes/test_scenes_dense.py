"""Dense regular stacks: every carton one instance, small, many, and none of them hidden inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.scenes import BROAD, SceneGenerator
from finetune.scenes.canvas import Canvas, Film
from finetune.scenes.environment import Maker
from finetune.scenes.loads import Kind, SharedSkins, bond, build_load, layer_of, take_away
from finetune.scenes.packages import Cuboid
from finetune.scenes.textures import texture_bank
from tests.scale import scaled

DENSE = ("cartons", "depalletise", "loads", "shelves")
PLAIN = replace(BROAD, rooms=0.0, negatives=0.0, empty=0.0, distortion=0.0)


def maker(seed: int) -> Maker:
    return Maker(np.random.default_rng(seed), BROAD, texture_bank(), 96)


@settings(max_examples=scaled(12, 200), deadline=None)
@given(
    width=st.floats(0.6, 1.3), depth=st.floats(0.5, 1.2), long=st.floats(0.12, 0.5), wide=st.floats(0.1, 0.4),
    turned=st.integers(0, 2), mirrored=st.booleans(),
)  # fmt: skip
def test_a_layers_cartons_do_not_overlap(width, depth, long, wide, turned, mirrored) -> None:
    layer = layer_of(width, depth, np.array([long, wide, 0.2]), turned, mirrored)
    low, high = layer.corners, layer.corners + layer.sides
    for k in range(len(low)):
        over = (np.minimum(high[k], high) - np.maximum(low[k], low)).min(axis=1)
        over[k] = -1
        assert over.max(initial=-1) < 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_a_load_leaves_out_what_nobody_sees_and_nothing_else(seed: int) -> None:
    """A full block of 5 x 4 x 4 cartons: all but the 3 x 2 x 3 inside are there."""
    make = maker(seed)
    kind = Kind(np.array([0.24, 0.2, 0.2]), SharedSkins(make))
    layers = [layer_of(1.2, 0.8, kind.size, 0, False) for _ in range(4)]
    cartons = [t for t in build_load(make, kind, layers, np.zeros(2), 0.1) if t.label]
    assert len(cartons) == 5 * 4 * 4 - 3 * 2 * 3
    assert all(isinstance(t, Cuboid) and t.label == "box" for t in cartons)
    lowest = min(t.bounds()[0][2] for t in cartons)
    assert lowest == pytest.approx(0.1, abs=0.01)


def test_cartons_are_taken_from_the_top() -> None:
    gone = []
    for seed in range(30):
        make = maker(seed)
        layers = bond(make, 1.2, 0.8, np.array([0.3, 0.2, 0.2]), 3)
        take_away(make, layers)
        assert layers[0].there.all()
        gone.append((~layers[-1].there).sum())
        assert layers[-1].there.any()
    assert np.count_nonzero(gone) > 10


@pytest.mark.parametrize("environment", DENSE)
def test_dense_scenes_have_many_small_cartons(environment: str) -> None:
    generator = SceneGenerator(replace(PLAIN, environments={environment: 1.0}), size=320, seed=2)
    counts, sides = [], []
    for index in range(8):
        scene = generator.scene(index)
        assert set(scene.labels) <= {"box"}
        assert len(scene.labels) <= 250
        counts.append(len(scene.labels))
        sides += [float(np.sqrt(mask.sum())) for mask in scene.masks()]
    assert max(counts) >= 10
    assert 6 < np.median(sides) < 90


def test_a_stack_is_not_a_box() -> None:
    """Side by side in a full wall, cartons touch, and each keeps its own id."""
    generator = SceneGenerator(replace(PLAIN, environments={"cartons": 1.0}), size=160, seed=6)
    touching = 0
    for index in range(6):
        ids = generator.scene(index).ids.astype(int)
        near = (ids[:, 1:] != ids[:, :-1]) & (ids[:, 1:] > 0) & (ids[:, :-1] > 0)
        touching += int(near.sum())
    assert touching > 200


def test_black_film_darkens_its_members_alone() -> None:
    square = np.array([[0, 0], [16, 0], [16, 16], [0, 16]], float)
    canvas = Canvas(np.full((16, 16, 3), 180, np.uint8), np.array([0.0, 0.0, 1.0]), 0.5)
    canvas.ids[:, 8:] = 1
    canvas.wrap(square, np.full((96, 96), 0.9, np.float32), Film(0.6, (18.0, 18.0, 20.0), 1.0), np.arange(256) == 1)
    assert (canvas.image[:, 8:] < 100).all()
    assert (canvas.image[:, :8] == 180).all()
    assert set(np.unique(canvas.ids)) == {0, 1}
