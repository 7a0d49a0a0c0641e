"""Environments: where packages stand, lie and lean, what stands around them, and from where a camera sees them.

Each `lay_*` function returns a `World`. Lengths in metres, z up, the floor or belt at z = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from finetune.scenes.camera import look_at, rotation_matrix
from finetune.scenes.dense import lay_cartons, lay_depalletise, lay_loads, lay_shelves
from finetune.scenes.environment import Maker, World, above, clutter, container, drop_pile, frame_colours, pallet, stack
from finetune.scenes.materials import grey, pick
from finetune.scenes.packages import Cylinder, Thing, structure


def lay_rack(make: Maker) -> World:
    """One to two bays of a pallet rack seen from the aisle, goods on pallets or on the deck."""
    rng = make.rng
    posts, beams = frame_colours(make)
    bay, depth = rng.uniform(1.4, 3.2), rng.uniform(0.8, 1.2)
    level = rng.uniform(0.9, 2.4)
    floors = int(rng.integers(1, 3))
    bottom = rng.uniform(-0.3, 0.6)
    things: list[Thing] = []
    wrapped: list[list[int]] = []
    thick = rng.uniform(0.04, 0.075)
    spans = (-1, 0, 1)
    for side in (-1.5, -0.5, 0.5, 1.5):
        for y in (0.0, depth):
            centre = np.array([side * (bay + 2 * thick), y, bottom + level * floors / 2])
            things.append(structure(centre, np.array([thick, 0.04, level * floors / 2 + 1.5]), posts))
            if rng.random() < 0.3 and y == 0.0:  # location labels on the post
                for k in range(4):
                    at = centre + (0, -0.045, rng.uniform(-level / 2, level / 2))
                    things.append(structure(at, np.array([thick * 0.8, 0.002, 0.03 + 0.02 * k]), grey(rng, 180, 250)))
    for floor in range(floors + 1):
        z = bottom + floor * level
        for span in spans:
            x = span * (bay + 2 * thick)
            for y in (0.0, depth):
                things.append(structure(np.array([x, y, z - 0.06]), np.array([bay / 2, 0.025, 0.06]), beams))
            if rng.random() < 0.5:  # wooden or wire deck
                things.append(
                    structure(
                        np.array([x, depth / 2, z - 0.01]),
                        np.array([bay / 2, depth / 2 - 0.03, 0.01]),
                        grey(rng, 70, 170),
                    )
                )
            if floor == floors and rng.random() < 0.5:
                continue
            places = int(rng.integers(1, 4))
            slot = bay / places
            for place in range(places):
                if rng.random() < 0.14:
                    continue
                centre_x = x - bay / 2 + slot * (place + 0.5)
                top = z
                wide = slot * rng.uniform(0.7, 0.95)
                if rng.random() < 0.8:
                    parts, top = pallet(make, centre_x, depth / 2, z, wide, depth * 0.95)
                    things += parts
                tall = (level - 0.25 - (top - z)) * rng.uniform(0.4, 0.98)
                inner = wide * rng.uniform(0.75, 1.0) / 2
                boxes = stack(
                    make,
                    np.array([centre_x - inner, 0.05 + rng.uniform(0, 0.15), top]),
                    np.array([centre_x + inner, depth * rng.uniform(0.6, 0.95), top + max(tall, 0.15)]),
                )
                if rng.random() < make.look.shrink_wrap:
                    wrapped.append(list(range(len(things), len(things) + len(boxes))))
                things += boxes
    if rng.random() < 0.6:  # something behind the rack
        colour = grey(rng, 10, 240)
        things.append(
            structure(
                np.array([0, depth + rng.uniform(0.5, 3), 0]),
                np.array([rng.uniform(1, 8), 0.01, rng.uniform(1, 5)]),
                colour,
            )
        )
    things += clutter(
        make,
        np.array([-3.0, depth + 0.2, 0.0]),
        np.array([3.0, depth + 2.5, 3.0]),
        int(rng.integers(*make.look.distractors)),
    )
    focus = np.array(
        [rng.uniform(-0.6, 0.6) * bay, depth / 2, bottom + level * rng.uniform(0.3, max(0.31, floors - 0.4))]
    )
    away = rng.uniform(0.6, 2.2)
    eye = focus + (rng.normal(0, 0.35) * away, -away - depth / 2, rng.normal(0.0, 0.2) * away)
    return World(things, look_at(eye, focus, fov_degrees=make.fov(), size=make.size, roll=rng.normal(0, 0.03)), wrapped)


def lay_pallet(make: Maker) -> World:
    """One to three loaded pallets on the floor, seen from standing height or from above."""
    rng = make.rng
    things: list[Thing] = []
    wrapped: list[list[int]] = []
    for k in range(int(rng.integers(1, 4))):
        x, y = (k - 0.8) * 1.35 + rng.normal(0, 0.1), rng.normal(0, 0.3)
        top = 0.0
        if rng.random() < 0.85:
            parts, top = pallet(make, x, y, 0.0, 1.2, 0.8)
            things += parts
        half_x, half_y, tall = rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.4), rng.uniform(0.2, 1.5)
        boxes = stack(
            make,
            np.array([x - half_x, y - half_y, top]),
            np.array([x + half_x, y + half_y, top + tall]),
            drop=0.4,
        )
        if rng.random() < make.look.shrink_wrap:
            wrapped.append(list(range(len(things), len(things) + len(boxes))))
        things += boxes
    things += clutter(
        make,
        np.array([-2.5, -0.5, 0.0]),
        np.array([2.5, 3.0, 1.2]),
        int(rng.integers(*make.look.distractors)),
    )
    focus = np.array([rng.normal(0, 0.3), 0.0, rng.uniform(0.2, 0.7)])
    away, yaw, lift = rng.uniform(0.9, 2.3), rng.normal(0, 0.7), rng.uniform(0.05, 1.2)
    eye = focus + away * np.array([np.sin(yaw) * np.cos(lift), -np.cos(yaw) * np.cos(lift), np.sin(lift)])
    return World(things, look_at(eye, focus, fov_degrees=make.fov(), size=make.size, roll=rng.normal(0, 0.03)), wrapped)


def lay_row(make: Maker) -> World:
    """Crates and big cartons side by side, upright as doors and appliances come, so near that one of them may be as
    high as the picture: on pallets, on a rack's beam or on the floor."""
    rng = make.rng
    posts, beams = frame_colours(make)
    tall, deep = rng.uniform(0.7, 2.4), rng.uniform(0.3, 0.8)
    width = tall * rng.uniform(0.25, 1.1)
    gap, on_pallets, alike = rng.uniform(0.01, 0.25), rng.random() < 0.7, rng.random() < 0.75
    style = make.box_style()
    count = int(rng.integers(2, 8))
    racked = rng.random() < 0.6
    things: list[Thing] = []
    wrapped: list[list[int]] = []
    x = -count * (width + gap) / 2
    for _ in range(count):
        wide = width * (1.0 if alike else rng.uniform(0.7, 1.4))
        high = tall * (rng.uniform(0.95, 1.0) if alike else rng.uniform(0.5, 1.0))
        y, top = rng.normal(0, 0.06), 0.0
        if on_pallets:
            parts, top = pallet(make, x + wide / 2, y, 0.0, wide * rng.uniform(0.9, 1.1), deep)
            things += parts
        # Seldom two on each other: what is drawn as one must mostly be one, whatever is printed on it.
        layers = 1 if rng.random() < 0.75 else int(rng.integers(2, 4))
        first = len(things)
        for _layer in range(layers):
            half = np.array([wide / 2 - 1e-3, deep / 2 * rng.uniform(0.8, 1.0), high / layers / 2])
            turn = rotation_matrix(rng.normal(0, 0.02))
            things.append(make.box(np.array([x + wide / 2, y, top + half[2]]), half, turn, style if alike else None))
            top += 2 * half[2] + 1e-3
        if rng.random() < make.look.shrink_wrap:
            wrapped.append(list(range(first, len(things))))
        x += wide + gap * rng.uniform(0.5, 1.5)
        if racked and rng.random() < 0.35:
            thick = rng.uniform(0.03, 0.07)
            things.append(structure(np.array([x + thick, -deep / 2, tall / 2]), np.array([thick, 0.04, 3.0]), posts))
            x += 2 * thick + gap
    length = abs(x) + 1.0
    if racked:
        for z in (-0.06, tall + rng.uniform(0.2, 0.6)):
            things.append(structure(np.array([0, -deep / 2 - 0.05, z]), np.array([length, 0.02, 0.06]), beams))
    else:
        things.append(structure(np.array([0, 0, -0.03]), np.array([length, 3.0, 0.02]), grey(rng, 50, 190, 20)))
    things += clutter(
        make,
        np.array([-length, deep, 0.0]),
        np.array([length, deep + 2.0, 2.5]),
        int(rng.integers(*make.look.distractors)),
    )
    fov = make.fov()
    focus = np.array([rng.normal(0, 0.5) * width, 0.0, tall * rng.uniform(0.35, 0.65)])
    away = deep / 2 + tall / 2 / np.tan(np.radians(fov) / 2) * rng.uniform(0.75, 2.0)
    eye = focus + (rng.normal(0, 0.25) * away, -away, rng.normal(0.0, 0.12) * away)
    return World(things, look_at(eye, focus, fov_degrees=fov, size=make.size, roll=rng.normal(0, 0.03)), wrapped)


def lay_wall(make: Maker) -> World:
    """A wall of packages as in a container or truck, floor and side walls around it."""
    rng = make.rng
    width, depth = rng.uniform(1.0, 2.4), rng.uniform(0.4, 1.0)
    shell = grey(rng, 40, 230, 14)
    things: list[Thing] = [
        structure(np.array([-width / 2 - 0.06, 0, 1.0]), np.array([0.04, 2.5, 1.5]), shell * 0.9),
        structure(np.array([width / 2 + 0.06, 0, 1.0]), np.array([0.04, 2.5, 1.5]), shell),
        structure(np.array([0, depth + 0.2, 1.0]), np.array([width / 2, 0.02, 1.5]), shell * 0.7),
        structure(np.array([0, -1.0, -0.03]), np.array([width / 2, 3.0, 0.02]), grey(rng, 50, 190, 20)),
    ]
    x = -width / 2
    while x < width / 2 - 0.15:
        step = min(rng.uniform(0.25, 0.9), width / 2 - x)
        top = rng.uniform(0.3, 1.9)
        front = rng.uniform(0, 0.3)
        things += stack(make, np.array([x + 0.01, front, 0.0]), np.array([x + step - 0.01, depth, top]), drop=0.5)
        x += step
    things += drop_pile(
        make,
        np.array([-width / 2 + 0.2, -1.2]),
        np.array([width / 2 - 0.2, -0.2]),
        int(rng.integers(0, 5)),
        0.0,
    )
    focus = np.array([rng.normal(0, 0.15), depth / 2, rng.uniform(0.4, 1.1)])
    eye = focus + (rng.normal(0, 0.3), -rng.uniform(0.9, 1.9), rng.normal(0.2, 0.25))
    return World(things, look_at(eye, focus, fov_degrees=make.fov(), size=make.size, roll=rng.normal(0, 0.03)))


def lay_pile(make: Maker) -> World:
    """A heap on the floor, a table or a wide belt, straight down to oblique."""
    rng = make.rng
    half = rng.uniform(0.25, 0.6, 2)
    things = drop_pile(make, -half, half, make.heap(2, 20), 0.0)
    things += clutter(
        make,
        np.array([-1.2, -1.2, 0.0]),
        np.array([1.2, 1.2, 0.1]),
        int(rng.integers(*make.look.distractors)) // 2,
    )
    return World(things, above(make, float(half.max()), things, steep=(0.7, 1.57)))


def lay_tote(make: Maker) -> World:
    """A tote, cart or bin, nearly empty to full."""
    rng = make.rng
    half = rng.uniform(0.2, 0.45, 2)
    wall = rng.uniform(0.1, 0.4)
    things = container(make, half, wall)
    things += drop_pile(make, -half, half, make.heap(1, 13), 0.0, walled=True)
    return World(things, above(make, float(half.max()) * 1.15, things, steep=(0.95, 1.57)))


def lay_conveyor(make: Maker) -> World:
    """A belt or roller track with side guards, sparse to singulated."""
    rng = make.rng
    width, length = rng.uniform(0.25, 0.6), 2.2
    steel, guard = grey(rng, 60, 210), frame_colours(make)[0]
    things: list[Thing] = []
    if rng.random() < 0.5:
        pitch = rng.uniform(0.06, 0.14)
        across = np.linspace(-1, 1, 9)[None, :, None]
        skin = np.broadcast_to(steel * (1 - 0.6 * across**2), (4, 9, 3)).astype(np.uint8)
        for y in np.arange(-length / 2, length / 2, pitch):
            radius = pitch * 0.36
            depth = radius + 0.06  # clear of what leans on the track, so that the painter's order is exact
            things.append(
                Cylinder(np.array([-width, y, -depth]), np.array([width, y, -depth]), radius, skin, steel, None)
            )
    else:
        things.append(structure(np.array([0, 0, -0.02]), np.array([width, length / 2, 0.015]), grey(rng, 15, 110)))
    for sign in (-1, 1):
        things.append(
            structure(
                np.array([sign * (width + 0.03), 0, 0.02]),
                np.array([0.03, length / 2, rng.uniform(0.02, 0.12)]),
                guard,
            )
        )
    things += drop_pile(make, np.array([-width * 0.8, -0.7]), np.array([width * 0.8, 0.7]), make.heap(1, 12), 0.0)
    things += clutter(
        make,
        np.array([-1.4, -1.0, -0.5]),
        np.array([1.4, 1.0, 0.0]),
        int(rng.integers(*make.look.distractors)) // 2,
    )
    return World(things, above(make, max(width, 0.5), things, steep=(0.5, 1.57)))


LAYOUTS: dict[str, Callable[[Maker], World]] = {
    "rack": lay_rack,
    "pallet": lay_pallet,
    "row": lay_row,
    "wall": lay_wall,
    "pile": lay_pile,
    "tote": lay_tote,
    "conveyor": lay_conveyor,
    "loads": lay_loads,
    "depalletise": lay_depalletise,
    "shelves": lay_shelves,
    "cartons": lay_cartons,
}

# Where the ground of a hall is under each environment (metres, low and high).
GROUND: dict[str, tuple[float, float]] = {
    "rack": (-1.2, -0.3),
    "row": (-0.2, -0.05),
    "wall": (-0.02, -0.02),
    "pile": (-0.9, -0.002),
    "tote": (-0.9, -0.05),
    "conveyor": (-0.9, -0.3),
    "shelves": (-0.02, -0.02),
}


def backdrop_name(make: Maker, environment: str) -> str:
    """Which backdrop stands behind this environment, from those the look allows."""
    allowed = make.look.backgrounds
    fitting = {
        "rack": ("dark", "clutter", "wall"),
        "row": ("dark", "clutter", "wall"),
        "wall": ("dark", "wall"),
        "conveyor": ("belt", "concrete", "steel", "clutter"),
        "shelves": ("dark", "clutter", "wall"),
        "cartons": ("dark", "clutter", "wall"),
    }
    names = tuple(n for n in fitting.get(environment, allowed) if n in allowed) or allowed
    return pick(make.rng, names)
