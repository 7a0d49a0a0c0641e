"""Scenes: seeded, exact, varied; the painter's order against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.datasets import read_dataset
from finetune.scenes import BROAD, DEMO_CELL, HELD_OUT, LABELS, ROBIN, Look, SceneGenerator, write_cell
from finetune.scenes.camera import look_at, paint_order, rotation_matrix
from finetune.scenes.canvas import Canvas
from finetune.scenes.environment import CLEARANCE, Maker
from finetune.scenes.layouts import LAYOUTS
from finetune.scenes.packages import Cuboid, paint_all, structure
from finetune.scenes.textures import texture_bank
from tests.scale import scaled


def one_environment(name: str) -> Look:
    return Look(environments={name: 1.0})


def test_a_scene_depends_on_seed_and_index_alone():
    first, second = SceneGenerator(size=128, seed=5), SceneGenerator(size=128, seed=5)
    second.scene(3)  # drawing another scene in between changes nothing
    a, b = first.scene(8), second.scene(8)
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.ids, b.ids)
    assert a.labels == b.labels
    other = SceneGenerator(size=128, seed=6).scene(8)
    assert not np.array_equal(a.image, other.image)


@pytest.mark.parametrize("environment", sorted(LAYOUTS))
def test_every_environment_makes_valid_scenes(environment):
    generator = SceneGenerator(one_environment(environment), size=128, seed=2)
    instances = 0
    for index in range(12):
        scene = generator.scene(index)
        assert scene.image.shape == (128, 128, 3)
        assert scene.image.dtype == np.uint8
        assert scene.environment == environment
        assert set(scene.labels) <= set(LABELS)
        assert set(np.unique(scene.ids)) - {0} == set(range(1, len(scene.labels) + 1))
        masks = scene.masks()
        assert masks.shape == (len(scene.labels), 128, 128)
        assert masks.sum(axis=0).max(initial=0) <= 1, "instances never share a pixel"
        assert (masks.sum(axis=(1, 2)) >= generator.min_area).all()
        instances += len(scene.labels)
    assert instances > 12


@pytest.mark.slow
def test_all_classes_come_up():
    generator = SceneGenerator(size=128, seed=0)
    seen = {label for index in range(80) for label in generator.scene(index).labels}
    assert seen == set(LABELS)


def test_the_demo_cell_is_outside_the_broad_look():
    for low, high in DEMO_CELL.hues:
        assert all(high <= a or low >= b for a, b in BROAD.hues)
    assert not set(DEMO_CELL.backgrounds) & set(BROAD.backgrounds)
    assert "hexagons" in DEMO_CELL.prints
    assert "hexagons" not in BROAD.prints


def test_a_mask_is_where_the_package_was_painted():
    """A lone box of a colour nothing else has: mask and colour agree on every pixel."""
    canvas = Canvas(np.zeros((96, 96, 3), np.uint8), np.array([0.0, -1.0, 1.0]), 1.0)
    camera = look_at(np.array([0.5, -3.0, 1.0]), np.zeros(3), fov_degrees=40, size=96)
    box = Cuboid(
        np.zeros(3), np.array([0.4, 0.3, 0.5]), rotation_matrix(0.4), np.array([200.0, 10, 10]), "box", shadow=0
    )
    labels = paint_all([box], [0], canvas, camera)
    assert labels == {1: "box"}
    assert np.array_equal(canvas.image[:, :, 0] > 0, canvas.ids == 1)
    assert 400 < (canvas.ids == 1).sum() < 3000


def test_structures_hide_packages_and_carry_no_id():
    canvas = Canvas(np.zeros((64, 64, 3), np.uint8), np.array([0.0, -1.0, 1.0]), 1.0)
    camera = look_at(np.array([0.0, -3.0, 0.0]), np.zeros(3), fov_degrees=40, size=64)
    box = Cuboid(np.zeros(3), np.full(3, 0.3), np.eye(3), np.array([200.0, 0, 0]), "box", shadow=0)
    beam = structure(np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.02, 0.05]), np.array([0.0, 200, 0]))
    bounds = [box.bounds(), beam.bounds()]
    order = paint_order(np.stack([b[0] for b in bounds]), np.stack([b[1] for b in bounds]), camera.eye)
    paint_all([box, beam], order, canvas, camera)
    assert order == [0, 1]
    assert canvas.ids[32, 32] == 0
    assert canvas.ids[20, 32] == 0 or canvas.ids[27, 32] == 1
    assert (canvas.ids == 1).any()


@settings(max_examples=scaled(15, 300), deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_paint_order_agrees_with_rays(seed, count):
    """Along random rays from the eye, a nearer box of a disjoint set is always painted later."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(27)[:count]  # disjoint boxes in a 3 x 3 x 3 lattice
    low = np.stack([cells % 3, cells // 3 % 3, cells // 9], 1).astype(float) + rng.uniform(0.0, 0.3, (count, 3))
    high = low + rng.uniform(0.2, 0.65, (count, 3))
    eye = rng.uniform(-4, 7, 3)
    if np.all(eye > -0.2) and np.all(eye < 3.2):
        eye[1] = -3.0
    order = paint_order(low, high, eye)
    assert sorted(order) == list(range(count))
    rank = {index: place for place, index in enumerate(order)}
    for _ in range(200):
        direction = rng.uniform(0, 3, 3) - eye
        with np.errstate(divide="ignore"):
            t0, t1 = (low - eye) / direction, (high - eye) / direction
        enter, leave = np.minimum(t0, t1).max(axis=1), np.maximum(t0, t1).min(axis=1)
        hit = [(enter[k], k) for k in range(count) if enter[k] < leave[k] and leave[k] > 0]
        for (_, near), (_, far) in zip(sorted(hit)[:-1], sorted(hit)[1:], strict=True):
            assert rank[near] > rank[far]


def test_a_cell_on_disk_reads_back_pixel_for_pixel(tmp_path):
    folder = write_cell(tmp_path / "cell", DEMO_CELL, images=6, seed=7, size=96)
    dataset = read_dataset(folder)
    assert [s.split for s in dataset.samples].count("valid") == 2
    generator = SceneGenerator(DEMO_CELL, size=96, seed=7)
    for sample in dataset.samples:
        scene = generator.scene(int(sample.image.stem.split("-")[1]))
        assert sample.labels == scene.labels
        assert np.array_equal(sample.truth().decode_masks(), scene.masks())


def test_a_cell_is_written_the_same_every_time(tmp_path):
    first, second = (write_cell(tmp_path / n, DEMO_CELL, images=3, seed=1, size=64) for n in "ab")
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(files) == 6, "three pictures, two lists, the card"
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


@pytest.mark.parametrize("size", [8, 2000])
def test_absurd_sizes_are_refused(size):
    with pytest.raises(ValueError, match="pixels a side"):
        SceneGenerator(size=size)


HEAPS = [name for name in LAYOUTS if name in ("pile", "tote", "conveyor")]


@pytest.mark.parametrize("environment", HEAPS)
@pytest.mark.parametrize("look", HELD_OUT.values(), ids=HELD_OUT.keys())
def test_no_camera_is_inside_its_heap(environment, look):
    for seed in range(30):
        world = LAYOUTS[environment](Maker(np.random.default_rng(seed), look, texture_bank(), 96))
        top = max(thing.bounds()[1][2] for thing in world.things)
        assert world.camera.eye[2] >= top + CLEARANCE - 1e-9


def test_what_lies_in_a_tote_fits_between_its_walls():
    for seed in range(40):
        world = LAYOUTS["tote"](Maker(np.random.default_rng(seed), BROAD, texture_bank(), 96))
        reach = max(abs(edge) for thing in world.things if not thing.label for b in thing.bounds() for edge in b[:2])
        for thing in world.things:
            if thing.label:
                assert max(abs(edge) for b in thing.bounds() for edge in b[:2]) <= reach * 1.25


def test_crates_in_a_row_come_tall_and_close():
    """Appliances and doors: whole packages that are most of a picture's height, several times as high as wide."""
    generator = SceneGenerator(one_environment("row"), size=96, seed=4)
    heights, slender = [], 0
    for index in range(60):
        for mask in generator.scene(index).masks():
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            whole = rows[0] > 0 and rows[-1] < 95 and columns[0] > 0 and columns[-1] < 95
            high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
            if whole:
                heights.append(high / 96)
                slender += high > 1.8 * wide
    assert sum(high > 0.6 for high in heights) > 10
    assert slender > 10


def test_the_examples_look_as_they_say():
    assert ROBIN.steep[0] > 1.45, "straight down"
    assert set(ROBIN.classes) == set(LABELS), "every package type"
    for look in HELD_OUT.values():
        assert all(high <= a or low >= b for low, high in look.hues for a, b in BROAD.hues)
        assert "hexagons" in look.prints
        assert "plate" in look.backgrounds
