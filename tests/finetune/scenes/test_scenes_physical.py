"""The physical tiers: worlds at rest, exact ids, the same picture every time, and a tracer that agrees to the pixel."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from finetune.errors import SceneToolError
from finetune.scenes import BROAD, HELD_OUT, LABELS, PHYSICAL_HELD_OUT, WAREHOUSE
from finetune.scenes.camera import look_at
from finetune.scenes.physical import backend, shapes
from finetune.scenes.physical.assets import digest_of, read_assets
from finetune.scenes.physical.world import Lamp, Lighting, Piece, Shot, Surface

needs_mujoco = pytest.mark.skipif(not backend.has("mujoco"), reason="mujoco is not installed")
needs_mitsuba = pytest.mark.skipif(not backend.has("mitsuba"), reason="mitsuba is not installed")
needs_collada = pytest.mark.skipif(not backend.has("collada"), reason="pycollada is not installed")

ENVIRONMENTS = (*WAREHOUSE.environments, "deep_tote", "dock")


def generator(environment, **rest):
    from finetune.scenes.physical.generator import PhysicalGenerator

    look = replace(WAREHOUSE, environments={environment: 1.0}, **rest.pop("look", {}))
    return PhysicalGenerator(look, **{"size": 96, "seed": 3} | rest)


@pytest.mark.slow
@needs_mujoco
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_makes_valid_scenes(environment):
    made = generator(environment)
    instances = 0
    for index in range(2):
        scene = made.scene(index)
        assert scene.image.shape == (96, 96, 3)
        assert scene.image.dtype == np.uint8
        assert scene.image.std() > 4, "a picture of something"
        assert scene.environment == environment
        assert set(scene.labels) <= set(LABELS)
        masks = scene.masks()
        assert masks.shape == (len(scene.labels), 96, 96)
        assert masks.sum(axis=0).max(initial=0) <= 1, "instances never share a pixel"
        assert (masks.sum(axis=(1, 2)) >= made.min_area).all()
        assert set(np.unique(scene.ids)) - {0} == set(range(1, len(scene.labels) + 1))
        instances += len(scene.labels)
    made.close()
    assert instances > 1


@pytest.mark.slow
@needs_mujoco
def test_packages_are_at_rest_and_go_on_resting():
    from finetune.scenes.physical.parcels import Packer
    from finetune.scenes.physical.props import Shop
    from finetune.scenes.physical.settle import FLYING, _Physics
    from finetune.scenes.physical.stages import set_stage
    from finetune.scenes.textures import texture_bank

    moved = []
    for seed, environment in enumerate(("tote", "pallet", "conveyor")):
        rng = np.random.default_rng(seed)
        bank = texture_bank()
        stage = set_stage(environment, Packer(rng, WAREHOUSE, bank), Shop(rng, WAREHOUSE, bank))
        physics = _Physics(stage)
        physics.run()
        assert physics.sound()
        kept = physics.inside()
        assert kept
        assert np.median(physics.speeds()[kept]) < 0.1 < FLYING
        before = physics.data.xpos[physics._roots].copy()
        backend.mujoco().mj_step(physics.model, physics.data, 60)  # another 0.3 s
        moved += np.linalg.norm(physics.data.xpos[physics._roots] - before, axis=1)[kept].tolist()
    assert np.median(moved) < 0.01
    assert np.quantile(moved, 0.9) < 0.05, "metres"


@pytest.mark.slow
@needs_mujoco
def test_a_scene_depends_on_seed_and_index_alone():
    first, second = generator("conveyor"), generator("conveyor")
    second.scene(4)  # drawing another scene in between changes nothing
    a, b, other = first.scene(1), second.scene(1), first.scene(2)
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.ids, b.ids)
    assert a.labels == b.labels
    assert not np.array_equal(a.image, other.image)


def card(colour, corners, instance=0, *, ghost=False, clear=0.0):
    mesh = shapes.quad(np.array(corners, float))
    return Piece(mesh, Surface(None, colour, gloss=0.0, clear=clear), instance, ghost)


def wall_shot(*pieces):
    """Cards in the plane y = const before a camera at y = -3 that looks along y; 64 pixels span 3.46 m at y = 0."""
    camera = look_at(np.array([0.0, -3.0, 0.0]), np.zeros(3), fov_degrees=60, size=64)
    lamp = Lamp("lamp", np.array([0.0, -3.0, 1.0]), np.zeros(3), np.full(3, 0.6), 0.5)
    return Shot(pieces, ("box",), camera, Lighting((lamp,), np.full(3, 0.3)), "wall", 0.0)


def square(x, z, half, y):
    return [(x - half, y, z + half), (x + half, y, z + half), (x + half, y, z - half), (x - half, y, z - half)]


@needs_mujoco
def test_ids_are_what_can_be_seen_and_distractors_have_none():
    from finetune.scenes.physical.raster import Raster

    package = card((1, 0, 0), square(0, 0, 0.8, 0.0), 1)
    beam = card((0, 0, 1), [(-2, -0.5, 0.1), (2, -0.5, 0.1), (2, -0.5, -0.1), (-2, -0.5, -0.1)])
    film = card((1, 1, 1), square(0, 0, 1.2, -1.0), ghost=True, clear=0.9)
    with Raster(64) as raster:
        image, ids = raster.draw(wall_shot(package, beam, film))
    assert set(np.unique(ids)) == {0, 1}
    assert (ids[31:33] == 0).all(), "the beam hides the package and is nothing"
    expected = 2 * 0.8 / (2 * 3 * np.tan(np.radians(30))) * 64
    assert abs((ids[20] == 1).sum() - expected) <= 1, "film hides nothing"
    red = image[:, :, 0].astype(int) - image[:, :, 2]
    assert ((red > 40) != (ids == 1))[8:56, 8:56].mean() < 0.03, "picture and ids differ on smoothed edges at most"


@needs_mujoco
def test_a_texture_lies_the_right_way_round_in_both_tiers():
    from finetune.scenes.physical.raster import Raster

    texture = np.full((64, 64, 3), 120, np.uint8)
    texture[:20, :20], texture[:20, -20:], texture[-20:, :20] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    piece = Piece(shapes.quad(np.array(square(0, 0, 1.0, 0.0))), Surface(texture), 1)
    with Raster(64) as raster:
        pictures = [raster.draw(wall_shot(piece))[0]]
    if backend.has("mitsuba"):
        from finetune.scenes.physical.trace import trace

        pictures.append(trace(wall_shot(piece), 64, samples=4))
    for picture in pictures:
        assert [int(picture[y, x].argmax()) for y, x in ((18, 18), (18, 45), (45, 18))] == [0, 1, 2]


@needs_mujoco
@needs_mitsuba
@pytest.mark.slow
@pytest.mark.parametrize("environment", ["pallet", "tote"])
def test_the_traced_picture_lies_on_the_ids_to_a_pixel(environment):
    from finetune.scenes.physical.trace import shape_ids

    made = generator(environment, size=128)
    shot = made.shot(1)
    raster, traced = made._raster.ids(shot), shape_ids(shot, 128)
    assert set(np.unique(raster)) - {0}
    ring = np.ones((3, 3), np.uint8)
    for instance in range(1, len(shot.labels) + 1):
        a, b = ((ids == instance).astype(np.uint8) for ids in (raster, traced))
        stray = (a & (1 - cv2.dilate(b, ring))).sum() + (b & (1 - cv2.dilate(a, ring))).sum()
        assert stray <= 0.002 * a.sum() + 2, "beyond one pixel of each other"
    assert (raster != traced).mean() < 0.01


@needs_mujoco
@needs_mitsuba
@pytest.mark.slow
def test_a_traced_scene_is_the_physical_one_and_the_same_every_time():
    physical = generator("conveyor", size=64)
    traced = [generator("conveyor", size=64, path_samples=2) for _ in range(2)]
    a, b, c = (made.scene(0) for made in (*traced, physical))
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.ids, c.ids)
    assert a.labels == c.labels
    assert not np.array_equal(a.image, c.image)


@needs_mujoco
def test_shrink_wrap_goes_round_what_is_on_the_pallet():
    from finetune.scenes.physical.film import shrink_wrap

    load = shapes.box(np.array([0.4, 0.3, 0.2])).moved(np.eye(3), np.array([0, 0, 0.4]))
    fallen = shapes.box(np.array([0.1, 0.1, 0.1])).moved(np.eye(3), np.array([2.0, 0, 0.1]))
    film, *creases = shrink_wrap(np.random.default_rng(0), [load, load, fallen])
    low, high = film.mesh.bounds()
    assert film.ghost
    assert all(piece.ghost and piece.instance == 0 for piece in creases)
    assert 0.4 < high[0] < 0.45, "around the load, not around what fell off"
    assert low[2] >= 0.19
    assert shrink_wrap(np.random.default_rng(0), []) == []


@pytest.mark.parametrize("name", sorted(PHYSICAL_HELD_OUT))
def test_the_held_out_cells_share_nothing_that_marks_them(name):
    look = PHYSICAL_HELD_OUT[name]
    for trained in (BROAD, WAREHOUSE):
        assert all(high <= a or low >= b for low, high in look.hues for a, b in trained.hues)
        assert not set(look.backgrounds) & set(trained.backgrounds)
        assert not set(look.environments) & set(trained.environments)
    assert not set(look.rigs) & set(WAREHOUSE.rigs)
    assert name not in HELD_OUT


@pytest.mark.slow
@needs_mujoco
def test_gantry_is_black_bags_from_straight_above():
    from finetune.scenes.physical.generator import PhysicalGenerator

    made = PhysicalGenerator(PHYSICAL_HELD_OUT["gantry"], size=64, seed=1)
    shots = [made.shot(k) for k in range(3)]
    made.close()
    assert all(shot.camera.rotation[2][2] < -0.98 for shot in shots)
    bags = [piece for shot in shots for piece in shot.pieces if piece.instance and piece.surface.gloss >= 0.5]
    dark = [p for p in bags if p.surface.texture is not None and np.median(p.surface.texture) < 60]
    assert len(dark) >= 3


SQUARE = """<?xml version="1.0"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset><unit name="centimeter" meter="0.01"/><up_axis>Y_UP</up_axis></asset>
<library_geometries><geometry id="g"><mesh>
<source id="p"><float_array id="pa" count="12">0 0 0 200 0 0 200 100 0 0 100 0</float_array><technique_common>
<accessor source="#pa" count="4" stride="3"><param name="X" type="float"/><param name="Y" type="float"/>
<param name="Z" type="float"/></accessor></technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
<triangles count="2"><input semantic="VERTEX" source="#v" offset="0"/><p>0 1 2 0 2 3</p></triangles>
</mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="s"><node><instance_geometry url="#g"/></node></visual_scene>
</library_visual_scenes>
<scene><instance_visual_scene url="#s"/></scene></COLLADA>
"""


@needs_collada
def test_meshes_stand_upright_in_metres(tmp_path):
    (tmp_path / "door").mkdir()
    (tmp_path / "door" / "door.dae").write_text(SQUARE)
    (tmp_path / "door" / "clutter.dae").write_text(SQUARE)
    (tmp_path / "door" / "cardboard_box.dae").write_text(SQUARE)
    found = read_assets(tmp_path)
    assert len(found.props) == 1, "heaps of goods are left out"
    low, high = found.props[0][0].mesh.bounds()
    assert np.allclose(high - low, (2.0, 0.0, 1.0), atol=1e-5), "two metres wide, one high"
    assert low[2] == pytest.approx(0.0)
    assert len(found.packages) == 1
    assert found.packages[0].half.max() == pytest.approx(0.5)
    before = digest_of(tmp_path)
    (tmp_path / "door" / "door.dae").write_text(SQUARE + " ")
    assert digest_of(tmp_path) != before


@needs_collada
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not xml at all", "cannot be read"),
        ('<!DOCTYPE x [<!ENTITY e "e">]>' + SQUARE, "entities"),
        (SQUARE.replace("200 100 0", "1e999 100 0"), "finite"),
    ],
)
def test_damaged_meshes_are_named(tmp_path, text, reason):
    (tmp_path / "thing.dae").write_text(text)
    with pytest.raises(SceneToolError, match=rf"thing\.dae.*{reason}"):
        read_assets(tmp_path)


@needs_collada
def test_a_folder_without_meshes_is_named(tmp_path):
    with pytest.raises(SceneToolError, match="no COLLADA mesh"):
        read_assets(tmp_path)


def test_a_missing_package_names_its_extra():
    with pytest.raises(SceneToolError, match=r"parcelhub\[physical\]"):
        backend._load("no_such_module_at_all", "physical")


@pytest.mark.slow
@needs_mujoco
def test_missing_graphics_are_named_and_judges_do_without(tmp_path):
    """In a process of its own: the module reads its backend when it is imported."""
    code = "from finetune.pipelines.base_service import *\nprint(left_out())\nprint(len(judges()) - len(JUDGES))"
    environment = {**os.environ, "MUJOCO_GL": "disable"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    said, added = done.stdout.strip().splitlines()[-2:]
    assert "`dock`" in said
    assert "libegl1" in said
    assert added == "0"


def test_only_a_new_enough_llvm_is_used(tmp_path):
    for name in ("libLLVM-14.so.1", "libLLVM-15.so.1"):
        (tmp_path / name).touch()
    assert backend.find_llvm((str(tmp_path),)) is None
    for name in ("libLLVM-16.so.1", "libLLVM.so.19.1"):
        (tmp_path / name).touch()
    assert backend.find_llvm((str(tmp_path),)) == tmp_path / "libLLVM.so.19.1"
