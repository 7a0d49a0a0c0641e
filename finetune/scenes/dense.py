"""Dense regular stacks at small scale: loaded pallets, a depalletiser's view, shelves and walls of equal cartons."""

from __future__ import annotations

import numpy as np

from finetune.scenes.camera import Array, look_at
from finetune.scenes.environment import Maker, World, clutter, frame_colours, pallet
from finetune.scenes.loads import Kind, SharedSkins, bond, build_load, carton_kind, film_of, layer_of, take_away
from finetune.scenes.materials import grey
from finetune.scenes.packages import Thing, structure
from finetune.scenes.textures import FACE

SMALLEST, LARGEST = 12.0, 60.0  # pixels of a carton's longer side in a picture of 320
MOST = 230  # cartons: ids are bytes


def _apparent(make: Maker) -> float:
    """How much of the picture's side a carton takes: log-uniform, so that small ones are as usual as large ones."""
    return float(np.exp(make.rng.uniform(np.log(SMALLEST), np.log(LARGEST)))) / 320


def _distance(make: Maker, carton: float, fov: float) -> float:
    """From where a carton of this many metres takes its share of the picture."""
    return carton / (2 * np.tan(np.radians(fov) / 2) * _apparent(make))


def _fit_skins(world: World, kinds: list[Kind]) -> None:
    """Draw skins about as large as they will be seen, which neither flickers nor wastes time."""
    depth = float(np.linalg.norm(world.camera.eye - world.things[len(world.things) // 2].bounds()[0]))
    for kind in kinds:
        seen = world.camera.focal * float(kind.size.max()) / max(depth, 0.2)
        kind.skins.side = int(np.clip(1.4 * seen, 12, FACE))


def _one_load(
    make: Maker, at: Array, *, pallets: float, tallest: float, yaw: float
) -> tuple[list[Thing], list[Thing], Kind]:
    """A pallet (or none) and the cartons on it."""
    rng = make.rng
    width, depth = (1.2, 0.8) if rng.random() < 0.7 else rng.uniform(0.8, 1.2, 2)
    under: list[Thing] = []
    top = 0.0
    if rng.random() < pallets:
        under, top = pallet(make, at[0], at[1], 0.0, width, depth)
    share = rng.uniform(0.85, 1.0)
    kind = carton_kind(make, width * share, depth * share, (2, 6), (2, 5))
    layers = bond(
        make, width * share, depth * share, kind.size, int(np.clip(rng.uniform(0.15, tallest) / kind.size[2], 1, 9))
    )
    take_away(make, layers)
    return under, build_load(make, kind, layers, at, top, yaw=yaw), kind


def _wrap(make: Maker, world: World, first: int, last: int) -> None:
    if last > first and make.rng.random() < make.look.shrink_wrap:
        world.films.append((list(range(first, last)), film_of(make)))


def lay_loads(make: Maker) -> World:
    """One to eight palletised loads of equal cartons on the floor, oblique, from near and far."""
    rng = make.rng
    things: list[Thing] = []
    kinds: list[Kind] = []
    spans: list[tuple[int, int]] = []
    pallets, tallest = (0.9, 1.9) if rng.random() < 0.8 else (0.0, 1.2)
    columns, rows = int(rng.integers(1, 6)), int(rng.integers(1, 3))
    pitch = np.array([1.2, 0.8]) + rng.uniform(0.1, 0.9, 2)
    count = 0
    for row in range(rows):
        for column in range(columns):
            at = (np.array([column, row]) - np.array([columns - 1, 0]) / 2) * pitch + rng.normal(0, 0.05, 2)
            if (things and rng.random() < 0.12) or count > MOST - 110:
                continue
            # Turned loads have no exact painter's order among each other; few of them are turned by much.
            under, cartons, kind = _one_load(make, at, pallets=pallets, tallest=tallest, yaw=rng.normal(0, 0.02))
            things += under
            spans.append((len(things), len(things) + len(cartons)))
            things += cartons[: MOST - count]
            count += len(cartons)
            kinds.append(kind)
    things += clutter(
        make, np.array([-3.0, -0.5, 0.0]), np.array([3.0, 4.0, 1.2]), int(rng.integers(*make.look.distractors)) // 2
    )
    fov, yaw, lift = make.fov(), rng.normal(0, 0.6), rng.uniform(0.05, 1.25)
    focus = np.array([*rng.normal(0, 0.4, 2), rng.uniform(0.2, 0.8)]) + (0, pitch[1] * (rows - 1) / 2, 0)
    span = max(columns * pitch[0], 1.6) / (2 * np.tan(np.radians(fov) / 2))
    away = float(
        np.clip(_distance(make, float(kinds[0].size[:2].max()), fov), 1.4, max(1.6, span * rng.uniform(0.7, 1.5)))
    )
    eye = focus + away * np.array([np.sin(yaw) * np.cos(lift), -np.cos(yaw) * np.cos(lift), np.sin(lift)])
    world = World(things, look_at(eye, focus, fov_degrees=fov, size=make.size, roll=rng.normal(0, 0.04)))
    for first, last in spans:
        _wrap(make, world, first, min(last, len(things)))
    _fit_skins(world, kinds)
    return world


def lay_depalletise(make: Maker) -> World:
    """A load from straight above, as a depalletiser's camera sees it: the top layer, parts of lower ones, the floor."""
    rng = make.rng
    things: list[Thing] = []
    spans: list[tuple[int, int]] = []
    kinds: list[Kind] = []
    for number in range(1 if rng.random() < 0.7 else 2):
        at = np.array([number * rng.uniform(1.3, 1.9), rng.normal(0, 0.1)])
        under, cartons, kind = _one_load(make, at, pallets=0.95, tallest=1.3, yaw=rng.normal(0, 0.04))
        things += under
        spans.append((len(things), len(things) + len(cartons)))
        things += cartons
        kinds.append(kind)
    top = max(thing.bounds()[1][2] for thing in things)
    fov = make.fov()
    spread = rng.uniform(0.55, 1.5)  # metres: half of what the picture spans at the top layer
    lift, yaw = np.pi / 2 - abs(rng.normal(0, 0.16)), rng.uniform(0, 2 * np.pi)
    focus = np.array([*rng.normal(0, 0.15, 2), top])
    away = spread / np.tan(np.radians(fov) / 2)
    eye = focus + away * np.array([np.sin(yaw) * np.cos(lift), -np.cos(yaw) * np.cos(lift), np.sin(lift)])
    roll = rng.uniform(0, 2 * np.pi) if rng.random() < 0.3 else float(rng.integers(4)) * np.pi / 2 + rng.normal(0, 0.05)
    world = World(things, look_at(eye, focus, fov_degrees=fov, size=make.size, roll=roll))
    for first, last in spans:
        _wrap(make, world, first, last)
    _fit_skins(world, kinds)
    return world


def lay_shelves(make: Maker) -> World:
    """Shelving with small cartons in rows and stacks on every board, one kind a slot."""
    rng = make.rng
    posts, boards = frame_colours(make)
    bay, depth, level = rng.uniform(0.9, 2.0), rng.uniform(0.35, 0.7), rng.uniform(0.35, 0.75)
    bays, levels = int(rng.integers(2, 4)), int(rng.integers(3, 6))
    things: list[Thing] = []
    kinds: list[Kind] = []
    count = 0
    for b in range(bays + 1):
        x = (b - bays / 2) * bay
        for y in (0.0, depth):
            things.append(
                structure(np.array([x, y, levels * level / 2]), np.array([0.02, 0.02, levels * level / 2 + 0.2]), posts)
            )
    for floor in range(levels):
        z = 0.08 + floor * level
        things.append(
            structure(np.array([0, depth / 2, z - 0.02]), np.array([bays * bay / 2, depth / 2, 0.018]), boards)
        )
        for b in range(bays):
            slots = int(rng.integers(1, 4))
            for slot in range(slots):
                if rng.random() < 0.15 or count > MOST - 40:
                    continue
                wide = (bay - 0.08) / slots - 0.02
                left = (b - bays / 2) * bay + 0.05 + slot * (wide + 0.02)
                across = int(rng.integers(1, 5))
                size = np.array([wide / across, depth * rng.uniform(0.35, 0.9), 0.0])
                tall = (level - 0.1) * rng.uniform(0.6, 0.95)
                high = int(rng.integers(1, 4))
                size[2] = max(0.04, tall / high)
                kind = Kind(size, SharedSkins(make))
                layers = [layer_of(wide, float(size[1]), size, 0, False) for _ in range(high)]
                take_away(make, layers)
                at = np.array([left + wide / 2, size[1] / 2 + rng.uniform(0, 0.06)])
                cartons = build_load(make, kind, layers, at, z)
                things += cartons
                count += len(cartons)
                kinds.append(kind)
    if rng.random() < 0.5:  # a closed back
        things.append(
            structure(
                np.array([0, depth + 0.04, levels * level / 2]),
                np.array([bays * bay / 2, 0.01, levels * level / 2]),
                grey(rng, 30, 220),
            )
        )
    fov = make.fov()
    focus = np.array([rng.normal(0, 0.3), 0.0, levels * level * rng.uniform(0.3, 0.7)])
    fills = bays * bay / (2 * np.tan(np.radians(fov) / 2)) * rng.uniform(0.4, 1.3)
    away = float(np.clip(_distance(make, 0.2, fov), 0.8, max(0.9, fills)))
    eye = focus + np.array([rng.normal(0, 0.4) * away, -away, rng.normal(0.05, 0.25) * away])
    world = World(things, look_at(eye, focus, fov_degrees=fov, size=make.size, roll=rng.normal(0, 0.03)))
    _fit_skins(world, kinds)
    return world


def lay_cartons(make: Maker) -> World:
    """A wall of cartons that fills the frame, columns of a few kinds, some pushed in and some missing."""
    rng = make.rng
    things: list[Thing] = []
    kinds: list[Kind] = []
    spans: list[tuple[int, int]] = []
    x, count = 0.0, 0
    high = rng.uniform(1.2, 2.6)
    for _ in range(int(rng.integers(1, 5))):
        wide = rng.uniform(0.15, 0.55)
        columns = int(rng.integers(2, 8))
        size = np.array([wide, rng.uniform(0.25, 0.6), wide * rng.uniform(0.4, 1.3)])
        rows = int(np.clip(high * rng.uniform(0.7, 1.0) / size[2], 1, 12))
        if count + columns * rows > MOST:
            continue
        kind = Kind(size, SharedSkins(make))
        layers = [layer_of(wide * columns, float(size[1]), size, 0, False) for _ in range(rows)]
        take_away(make, layers)
        cartons = build_load(
            make, kind, layers, np.array([x + wide * columns / 2, size[1] / 2 + rng.normal(0, 0.02)]), 0.0
        )
        spans.append((len(things), len(things) + len(cartons)))
        things += cartons
        count += len(cartons)
        kinds.append(kind)
        x += wide * columns + rng.uniform(0.0, 0.05)
    if rng.random() < 0.5:  # another row behind, seen where cartons are missing
        things.append(
            structure(np.array([x / 2, 0.75, high / 2]), np.array([x / 2, 0.02, high / 2]), grey(rng, 10, 160, 20))
        )
    fov = make.fov()
    focus = np.array([x * rng.uniform(0.25, 0.75), 0.0, high * rng.uniform(0.25, 0.65)])
    fills = min(x, high) / (2 * np.tan(np.radians(fov) / 2)) * rng.uniform(0.5, 1.5)
    away = float(np.clip(_distance(make, float(kinds[0].size[0]), fov), 0.7, max(0.8, fills)))
    eye = focus + np.array([rng.normal(0, 0.45) * away, -away, rng.normal(0.1, 0.3) * away])
    eye[2] = max(eye[2], 0.15)
    world = World(things, look_at(eye, focus, fov_degrees=fov, size=make.size, roll=rng.normal(0, 0.03)))
    for first, last in spans:
        _wrap(make, world, first, last)
    _fit_skins(world, kinds)
    return world
