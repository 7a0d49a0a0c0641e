"""What is no package: never an instance, wherever it is; and scenes without any package."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from finetune.datasets import read_dataset
from finetune.scenes import BROAD, HELD_OUT, Look, SceneGenerator, write_cell
from finetune.scenes import generator as generator_module
from finetune.scenes.bodies import placed
from finetune.scenes.camera import look_at
from finetune.scenes.canvas import Canvas
from finetune.scenes.environment import Maker, World
from finetune.scenes.layouts import LAYOUTS
from finetune.scenes.negatives import View, add_negatives
from finetune.scenes.packages import structure
from finetune.scenes.props import STANDING
from finetune.scenes.reaching import make_arm, make_hand, make_mast
from finetune.scenes.room import hall
from finetune.scenes.strokes import Net, Shade, Tube
from finetune.scenes.textures import texture_bank
from finetune.training.scene_examples import SceneExamples

LIVELY = replace(BROAD, rooms=1.0, negatives=1.0, negative_count=(4, 9), empty=0.0)


def maker(seed: int, look: Look = LIVELY, size: int = 96) -> Maker:
    return Maker(np.random.default_rng(seed), look, texture_bank(), size)


def canvas_and_camera(size: int = 96):
    canvas = Canvas(np.full((size, size, 3), 90, np.uint8), np.array([0.2, -1.0, 1.0]), 0.6)
    return canvas, look_at(np.array([0.3, -4.0, 1.6]), np.array([0.0, 0.0, 0.6]), fov_degrees=50, size=size)


@pytest.mark.parametrize("name", sorted(STANDING))
def test_everything_that_stands_is_seen_and_is_no_package(name: str) -> None:
    seen = 0
    for seed in range(6):
        canvas, camera = canvas_and_camera()
        before = canvas.image.copy()
        things = placed(STANDING[name][0](maker(seed)), np.array([0.2, 0.1, 0.0]), 0.4, 1.1)
        canvas.ids[:] = 7
        for thing in things:
            assert thing.label is None
            low, high = thing.bounds()
            assert (low <= high).all()
            thing.paint(canvas, camera, 0)
        changed = (canvas.image != before).any(axis=2)
        seen += bool(changed.any())
        assert set(np.unique(canvas.ids)) <= {0, 7}
        assert changed[canvas.ids == 0].mean() > 0.5, "what took a package's pixels shows there"
    assert seen >= 5


@pytest.mark.parametrize("seed", range(8))
def test_what_reaches_in_hides_packages_and_takes_no_id(seed: int) -> None:
    canvas, camera = canvas_and_camera()
    canvas.ids[:] = 7
    make, tip = maker(seed), np.array([0.0, 0.0, 0.5])
    for things in (
        make_arm(make, tip, np.array([1.2, 0.5, 1.6])),
        make_mast(make, tip),
        make_hand(make, tip, tip + 0.4),
    ):
        assert all(thing.label is None for thing in things)
        for thing in things:
            thing.paint(canvas, camera, 0)
    assert set(np.unique(canvas.ids)) == {0, 7}


def test_shadows_darken_and_hide_nothing() -> None:
    canvas, camera = canvas_and_camera()
    canvas.ids[:] = 7
    square = np.array([[-0.3, 0, 0.3], [0.3, 0, 0.3], [0.3, 0, 0.9], [-0.3, 0, 0.9]])
    Shade(square, 0.5).paint(canvas, camera, 0)
    assert canvas.image.min() < 70
    assert (canvas.ids == 7).all()


@pytest.mark.parametrize("thing", [
    Tube(np.array([[-1.0, 0, 0.5], [0, 0, 0.7], [1, 0, 0.5]]), 0.03, np.array([200.0, 30, 30])),
    Net(np.array([-0.5, 0, 0.2]), np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), 8, 8, 0.004, np.full(3, 220.0)),
])  # fmt: skip
def test_thin_things_take_exactly_the_pixels_they_show_on(thing) -> None:
    canvas, camera = canvas_and_camera()
    before = canvas.image.copy()
    canvas.ids[:] = 7
    thing.paint(canvas, camera, 0)
    assert np.array_equal((canvas.image != before).any(axis=2), canvas.ids == 0)
    assert 20 < (canvas.ids == 0).sum() < 4000


def test_a_hall_has_its_floor_below_the_horizon_and_walls_behind() -> None:
    for seed in range(10):
        make = maker(seed)
        canvas, camera = canvas_and_camera()
        canvas.image[:] = (255, 0, 255)  # nothing in a hall has this colour from edge to edge
        room = hall(make, 0.0, 1.0)
        room.paint(canvas, camera)
        assert not canvas.ids.any()
        gone = (canvas.image != (255, 0, 255)).any(axis=2)
        assert gone[-8:].all(), "the floor at one's feet"
        floor = room.planes[0]
        assert abs(floor.normal()[2]) == pytest.approx(1.0)
        assert all(abs(plane.normal()[2]) < 1e-9 for plane in room.planes[1:])


def test_standing_things_keep_clear_of_packages() -> None:
    for seed in range(12):
        make = maker(seed)
        world = LAYOUTS["loads"](make)
        view, packages = View(world), [thing for thing in world.things if thing.label]
        before = len(world.things)
        add_negatives(make, world, 6)
        assert len([thing for thing in world.things if thing.label]) == len(packages)
        assert not any(thing.label for thing in [*world.front, *world.behind])
        for thing in world.things[before:]:
            assert view.free([thing])


@pytest.mark.parametrize("environment", sorted(LAYOUTS))
def test_scenes_with_negatives_are_exact(environment: str) -> None:
    look = replace(LIVELY, environments={environment: 1.0})
    one, other = SceneGenerator(look, size=96, seed=3), SceneGenerator(look, size=96, seed=3)
    for index in range(4):
        scene = one.scene(index)
        again = other.scene(index)
        assert np.array_equal(scene.image, again.image)
        assert np.array_equal(scene.ids, again.ids)
        assert set(np.unique(scene.ids)) - {0} == set(range(1, len(scene.labels) + 1))
        masks = scene.masks()
        assert masks.sum(axis=0).max(initial=0) <= 1
        assert (masks.sum(axis=(1, 2)) >= one.min_area).all()


@pytest.mark.parametrize("environment", sorted(LAYOUTS))
def test_bare_scenes_have_no_package_and_are_not_blank(environment: str) -> None:
    generator = SceneGenerator(replace(LIVELY, environments={environment: 1.0}, empty=1.0), size=96, seed=5)
    for index in range(3):
        scene = generator.scene(index)
        assert scene.bare
        assert not scene.ids.any()
        assert scene.labels == ()
        assert scene.masks().shape == (0, 96, 96)


def test_the_share_of_bare_scenes_is_the_looks() -> None:
    look = replace(BROAD, environments={"tote": 1.0}, heap=(1, 2), rooms=0.0, negatives=0.0, empty=0.5)
    generator = SceneGenerator(look, size=32, seed=1)
    assert 0.25 < np.mean([generator.scene(k).bare for k in range(40)]) < 0.75
    assert 0.05 <= BROAD.empty <= 0.15


def test_bare_scenes_are_examples_without_instances() -> None:
    look = replace(BROAD, empty=1.0)
    for close in (0.0, 1.0):
        example = SceneExamples(look, size=64, seed=2, count=4, close_ups=close)[1]
        assert example.classes.shape == (0,)
        assert example.masks.shape == (0, 32, 32)


def test_bare_scenes_are_written_and_read(tmp_path) -> None:
    look = replace(BROAD, environments={"pile": 1.0}, empty=0.5)
    bare = [SceneGenerator(look, size=64, seed=1).scene(k).bare for k in range(6)]
    dataset = read_dataset(write_cell(tmp_path / "bare", look, images=6, seed=1, size=64))
    assert len(dataset.samples) == 6
    assert 0 < sum(bare) < 6
    assert [not sample.labels for sample in dataset.samples] == bare


@pytest.mark.parametrize("look", HELD_OUT.values(), ids=HELD_OUT.keys())
def test_held_out_cells_have_none_of_it(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (look.rooms, look.negatives, look.empty) == (0.0, 0.0, 0.0)
    assert look.min_area_share == Look().min_area_share == 0.0012

    def refuse(*_given: object) -> None:
        raise AssertionError("drawn for a held-out cell")

    monkeypatch.setattr(generator_module, "hall", refuse)
    monkeypatch.setattr(generator_module, "add_negatives", refuse)
    for index in range(6):
        assert not SceneGenerator(look, size=64, seed=1).scene(index).bare


def test_an_empty_world_can_be_looked_into() -> None:
    camera = look_at(np.array([0.0, -3.0, 1.0]), np.zeros(3), fov_degrees=50, size=64)
    world = World([structure(np.zeros(3), np.full(3, 0.2), np.full(3, 100.0))], camera)
    add_negatives(maker(3), world, 8)
    assert len(world.things) + len(world.front) + len(world.behind) > 1
