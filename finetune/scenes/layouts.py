"""Environments: where packages stand, lie and lean, what stands around them, and from where a camera sees them.

Each `lay_*` function returns a `World`. Lengths in metres, z up, the floor or belt at z = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from finetune.scenes.camera import Array, Camera, look_at, rotation_matrix
from finetune.scenes.look import Look
from finetune.scenes.materials import (
    BoxSkins,
    box_colour,
    choose,
    grey,
    hue_colour,
    pick,
    round_skin,
    soft_outline,
    soft_skin,
)
from finetune.scenes.packages import Cuboid, Cylinder, Sheet, Thing, structure
from finetune.scenes.textures import TextureBank

STILL = np.eye(3)


@dataclass
class World:
    """Things, the camera that sees them, and groups of indices that share one sheet of shrink wrap."""

    things: list[Thing]
    camera: Camera
    wrapped: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class Maker:
    """What every layout needs: the generator of this scene, its look, the texture bank and the picture's size."""

    rng: np.random.Generator
    look: Look
    bank: TextureBank
    size: int

    def box(
        self, centre: Array, half: Array, rotation: Array, style: tuple[str, Array] | None = None
    ) -> Cuboid:
        """One package of class box; `style` fixes material and colour, so that a load can be of one kind."""
        material, colour = style or self.box_style()
        skins = BoxSkins(self.rng, self.look, self.bank, material, colour)
        return Cuboid(
            centre, half, rotation, colour, "box", skins.face, shadow=float(self.rng.uniform(0.15, 0.5))
        )

    def box_style(self) -> tuple[str, Array]:
        material = choose(self.rng, self.look.box_materials)
        return material, box_colour(self.rng, self.look, material)

    def fov(self) -> float:
        return float(self.rng.uniform(*self.look.wide))


def _frame_colours(make: Maker) -> tuple[Array, Array]:
    """Colours of posts and of beams: painted steel, as racks and machines have it."""

    def paint() -> Array:
        return (
            grey(make.rng, 40, 200)
            if make.rng.random() < 0.35
            else hue_colour(make.rng, make.look, (0.5, 1.0), (0.3, 0.95))
        )

    return paint(), paint()


def pallet(
    make: Maker, x: float, y: float, z: float, width: float, depth: float
) -> tuple[list[Thing], float]:
    """A wooden (or plastic) pallet centred at x, y standing at z; returns its parts and its top's height."""
    rng = make.rng
    wood = (
        np.array([196.0, 160.0, 112.0]) * rng.uniform(0.5, 1.15)
        if rng.random() < 0.85
        else grey(rng, 30, 130)
    )
    height, board = 0.145, 0.012
    parts: list[Thing] = [
        structure(np.array([x, y, z + height - board]), np.array([width / 2, depth / 2, board]), wood * 1.05),
        structure(np.array([x, y, z + board]), np.array([width / 2, depth / 2, board]), wood * 0.8),
    ]
    for column in (-1, 0, 1):
        centre = np.array([x + column * (width / 2 - 0.07), y, z + height / 2 - 0.01])
        parts.append(
            structure(
                centre, np.array([0.06, depth / 2, height / 2 - 2.2 * board]), wood * rng.uniform(0.7, 1.0)
            )
        )
    return parts, z + height


def stack(make: Maker, low: Array, high: Array, *, gap: float = 0.01, drop: float = 0.15) -> list[Cuboid]:
    """Fill the region between two corners with layers of boxes, some missing from the top; bottom layers first."""
    rng = make.rng
    width, depth, height = high - low
    style = make.box_style() if rng.random() < 0.8 else None
    columns = int(rng.integers(1, max(2, int(width / 0.22)) + 1))
    rows = int(rng.integers(1, max(2, int(depth / 0.45)) + 1))
    layers = int(rng.integers(1, max(2, int(height / 0.2)) + 1))
    columns, rows, layers = min(columns, 5), min(rows, 2), min(layers, 6)
    if rng.random() < 0.4:  # one or two big cartons, as appliances come
        columns, rows, layers = int(rng.integers(1, 3)), 1, int(rng.integers(1, 3))
    cell = np.array([width / columns, depth / rows, height / layers])
    jitter = rng.uniform(0, 0.02)
    boxes: list[Cuboid] = []
    for row in range(rows):
        for column in range(columns):
            count = layers - int(rng.integers(0, layers)) if rng.random() < drop else layers
            top = low[2]
            for layer in range(count):
                half = cell / 2 - gap * rng.uniform(0.1, 1.0, 3)
                half[2] = cell[2] / 2 * (rng.uniform(0.75, 1.0) if layer == count - 1 else 1.0)
                centre = (
                    low + cell * (np.array([column, row, layer]) + 0.5) + rng.normal(0, jitter, 3) * (1, 1, 0)
                )
                centre[2] = top + half[2]
                top += 2 * half[2]
                turn = rotation_matrix(rng.normal(0, 0.02)) if rng.random() < 0.5 else STILL
                boxes.append(make.box(centre, half - 1e-3, turn, style))
    return boxes


def clutter(make: Maker, low: Array, high: Array, count: int) -> list[Thing]:
    """Machines, buckets, posts and panels somewhere between two corners: things that are not packages."""
    rng = make.rng
    parts: list[Thing] = []
    for _ in range(count):
        centre = rng.uniform(low, high)
        kind = rng.random()
        colour = (
            grey(rng, 20, 220) if rng.random() < 0.5 else hue_colour(rng, make.look, (0.3, 1.0), (0.2, 0.95))
        )
        if kind < 0.35:  # posts, rails, cables
            half = np.full(3, rng.uniform(0.01, 0.05))
            half[int(rng.integers(3))] = rng.uniform(0.3, 1.5)
            parts.append(
                structure(centre, half, colour, rotation_matrix(rng.normal(0, 0.3), rng.normal(0, 0.1)))
            )
        elif kind < 0.75:  # panels, screens, machines
            half = rng.uniform(0.04, 0.4, 3)
            half[int(rng.integers(3))] *= 0.15
            parts.append(structure(centre, half, colour, rotation_matrix(rng.uniform(0, np.pi))))
        else:  # buckets and bins without a lid are cylinders of bare steel or plastic
            skin = np.full((8, 8, 3), colour, np.uint8)
            radius = rng.uniform(0.05, 0.2)
            parts.append(
                Cylinder(
                    centre, centre + (0, 0, radius * rng.uniform(1, 3)), radius, skin, colour * 0.4, None
                )
            )
    return parts


def lay_rack(make: Maker) -> World:
    """One to two bays of a pallet rack seen from the aisle, goods on pallets or on the deck."""
    rng = make.rng
    posts, beams = _frame_colours(make)
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
                    things.append(
                        structure(at, np.array([thick * 0.8, 0.002, 0.03 + 0.02 * k]), grey(rng, 180, 250))
                    )
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
    away = rng.uniform(0.8, 3.2)
    eye = focus + (rng.normal(0, 0.35) * away, -away - depth / 2, rng.normal(0.0, 0.2) * away)
    return World(
        things, look_at(eye, focus, fov_degrees=make.fov(), size=make.size, roll=rng.normal(0, 0.03)), wrapped
    )


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
    away, yaw, lift = rng.uniform(1.2, 3.2), rng.normal(0, 0.7), rng.uniform(0.05, 1.2)
    eye = focus + away * np.array([np.sin(yaw) * np.cos(lift), -np.cos(yaw) * np.cos(lift), np.sin(lift)])
    return World(
        things, look_at(eye, focus, fov_degrees=make.fov(), size=make.size, roll=rng.normal(0, 0.03)), wrapped
    )


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
        things += stack(
            make, np.array([x + 0.01, front, 0.0]), np.array([x + step - 0.01, depth, top]), drop=0.5
        )
        x += step
    things += drop_pile(
        make,
        np.array([-width / 2 + 0.2, -1.2]),
        np.array([width / 2 - 0.2, -0.2]),
        int(rng.integers(0, 5)),
        0.0,
    )
    focus = np.array([rng.normal(0, 0.15), depth / 2, rng.uniform(0.4, 1.1)])
    eye = focus + (rng.normal(0, 0.3), -rng.uniform(1.3, 2.4), rng.normal(0.2, 0.3))
    return World(
        things, look_at(eye, focus, fov_degrees=make.fov(), size=make.size, roll=rng.normal(0, 0.03))
    )


def drop_pile(make: Maker, low: Array, high: Array, count: int, floor: float) -> list[Thing]:
    """Drop `count` packages of the look's mix into a rectangle (corners [2]); each lands on what lies there already."""
    rng = make.rng
    cells = 24
    heights = np.full((cells, cells), floor)
    span = np.maximum(high - low, 1e-6)
    things: list[Thing] = []
    scale = rng.uniform(0.7, 1.3)
    for _ in range(count):
        label = choose(rng, make.look.classes)
        reach = scale * rng.uniform(0.06, 0.2) * (0.6 if label == "item" else 1.0)
        ratio = rng.uniform(0.35, 1.0)
        at = rng.uniform(low + 0.3 * reach, np.maximum(high - 0.3 * reach, low + 0.3 * reach + 1e-3))
        first = np.clip(((at - 0.7 * reach - low) / span * cells).astype(int), 0, cells - 1)
        last = np.clip(((at + 0.7 * reach - low) / span * cells).astype(int), 0, cells - 1)
        patch = heights[first[0] : last[0] + 1, first[1] : last[1] + 1]
        base = float(np.quantile(patch, 0.7))
        yaw, lean = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.16 if base > floor else 0.03)
        turn = rotation_matrix(yaw, lean, rng.normal(0, 0.1) if base > floor else 0.0)
        if label == "box":
            half = np.array([reach, reach * ratio, reach * rng.uniform(0.15, 0.9)])
            tall = 2 * half[2]
            things.append(make.box(np.array([*at, base + half[2]]), half, turn))
        elif label == "cylinder":
            radius, length = reach * rng.uniform(0.18, 0.5), reach * rng.uniform(0.7, 1.7)
            skin, cap = round_skin(rng, make.look, make.bank)
            axis = turn @ np.array([length, 0.0, 0.0])
            centre = np.array([*at, base + radius])
            if rng.random() < 0.2:
                axis, centre = np.array([0, 0, length * 0.7]), np.array([*at, base + length * 0.7])
            tall = 2 * radius
            things.append(Cylinder(centre - axis, centre + axis, radius, skin, cap, label))
        else:
            thick = reach * {"padded_mailer": 0.12, "poly_bag": 0.3, "sack": 0.6}.get(label, 0.5)
            tall = thick
            skin = soft_skin(rng, make.look, make.bank, label)
            across, along = turn @ np.array([reach, 0, 0]), turn @ np.array([0, reach * max(ratio, 0.5), 0])
            things.append(
                Sheet(
                    np.array([*at, base + thick]), across, along, soft_outline(rng, label), skin, label, thick
                )
            )
        patch[:] = np.maximum(patch, base + 0.8 * tall)
    return things


def _container(make: Maker, half: Array, wall: float) -> list[Thing]:
    """Four walls and a bottom of a tote, cart or bin with inner half-extents [2] and wall height, metres."""
    rng = make.rng
    colour = grey(rng, 20, 200) if rng.random() < 0.5 else hue_colour(rng, make.look, (0.4, 1.0), (0.25, 0.9))
    thick = 0.012
    parts: list[Thing] = [structure(np.array([0, 0, -0.01]), np.array([*half, 0.01]), colour * 0.7)]
    for sign in (-1, 1):
        parts.append(
            structure(
                np.array([sign * (half[0] + thick), 0, wall / 2]),
                np.array([thick, half[1] + 2 * thick, wall / 2]),
                colour,
            )
        )
        parts.append(
            structure(
                np.array([0, sign * (half[1] + thick), wall / 2]),
                np.array([half[0], thick, wall / 2]),
                colour * 0.9,
            )
        )
    return parts


def _above(make: Maker, spread: float, *, steep: tuple[float, float]) -> Camera:
    """A camera over the origin that looks down between two elevations (radians; pi/2 is straight down)."""
    rng = make.rng
    fov = make.fov()
    away = spread / np.tan(np.radians(fov) / 2) * rng.uniform(0.8, 1.5)
    lift, yaw = rng.uniform(*steep), rng.uniform(0, 2 * np.pi)
    focus = np.array([*(rng.normal(0, 0.15, 2) * spread), rng.uniform(0, 0.15)])
    eye = focus + away * np.array([np.sin(yaw) * np.cos(lift), -np.cos(yaw) * np.cos(lift), np.sin(lift)])
    return look_at(
        eye, focus, fov_degrees=fov, size=make.size, roll=rng.uniform(0, 2 * np.pi) if lift > 1.4 else 0.0
    )


def lay_pile(make: Maker) -> World:
    """A heap on the floor, a table or a wide belt, straight down to oblique."""
    rng = make.rng
    half = rng.uniform(0.25, 0.6, 2)
    things = drop_pile(make, -half, half, int(rng.integers(3, 32)), 0.0)
    things += clutter(
        make,
        np.array([-1.2, -1.2, 0.0]),
        np.array([1.2, 1.2, 0.1]),
        int(rng.integers(*make.look.distractors)) // 2,
    )
    return World(things, _above(make, float(half.max()), steep=(0.7, 1.57)))


def lay_tote(make: Maker) -> World:
    """A tote, cart or bin, nearly empty to full."""
    rng = make.rng
    half = rng.uniform(0.2, 0.45, 2)
    wall = rng.uniform(0.1, 0.4)
    things = _container(make, half, wall)
    things += drop_pile(make, -half * 0.9, half * 0.9, int(rng.integers(1, 20)), 0.0)
    return World(things, _above(make, float(half.max()) * 1.15, steep=(0.95, 1.57)))


def lay_conveyor(make: Maker) -> World:
    """A belt or roller track with side guards, sparse to singulated."""
    rng = make.rng
    width, length = rng.uniform(0.25, 0.6), 2.2
    steel, guard = grey(rng, 60, 210), _frame_colours(make)[0]
    things: list[Thing] = []
    if rng.random() < 0.5:
        pitch = rng.uniform(0.06, 0.14)
        skin = np.full((4, 9, 3), steel, np.uint8) * np.array([5, 8, 10, 8, 5, 4, 3, 3, 3]).reshape(
            1, 9, 1
        ).astype(np.uint8).clip(1, 1)
        for y in np.arange(-length / 2, length / 2, pitch):
            radius = pitch * 0.36
            things.append(
                Cylinder(
                    np.array([-width, y, -radius]), np.array([width, y, -radius]), radius, skin, steel, None
                )
            )
    else:
        things.append(
            structure(np.array([0, 0, -0.02]), np.array([width, length / 2, 0.015]), grey(rng, 15, 110))
        )
    for sign in (-1, 1):
        things.append(
            structure(
                np.array([sign * (width + 0.03), 0, 0.02]),
                np.array([0.03, length / 2, rng.uniform(0.02, 0.12)]),
                guard,
            )
        )
    things += drop_pile(
        make, np.array([-width * 0.8, -0.7]), np.array([width * 0.8, 0.7]), int(rng.integers(1, 12)), 0.0
    )
    things += clutter(
        make,
        np.array([-1.4, -1.0, -0.5]),
        np.array([1.4, 1.0, 0.0]),
        int(rng.integers(*make.look.distractors)) // 2,
    )
    return World(things, _above(make, max(width, 0.5), steep=(0.5, 1.57)))


LAYOUTS: dict[str, Callable[[Maker], World]] = {
    "rack": lay_rack,
    "pallet": lay_pallet,
    "wall": lay_wall,
    "pile": lay_pile,
    "tote": lay_tote,
    "conveyor": lay_conveyor,
}


def backdrop_name(make: Maker, environment: str) -> str:
    """Which backdrop stands behind this environment, from those the look allows."""
    allowed = make.look.backgrounds
    fitting = {
        "rack": ("dark", "clutter", "wall"),
        "wall": ("dark", "wall"),
        "conveyor": ("belt", "concrete", "steel", "clutter"),
    }
    names = tuple(n for n in fitting.get(environment, allowed) if n in allowed) or allowed
    return pick(make.rng, names)
