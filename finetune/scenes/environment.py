"""What environments are built from: pallets, stacks, piles, containers, clutter, and cameras above them.

Lengths in metres, z up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from finetune.scenes.camera import Array, Camera, look_at, rotation_matrix
from finetune.scenes.canvas import Canvas, Film
from finetune.scenes.look import Look
from finetune.scenes.materials import (
    BoxSkins,
    box_colour,
    choose,
    grey,
    hue_colour,
    round_skin,
    soft_outline,
    soft_skin,
)
from finetune.scenes.packages import Cuboid, Cylinder, Sheet, Thing, structure
from finetune.scenes.textures import Image, TextureBank

STILL = np.eye(3)
CLEARANCE = 0.3


class Surroundings(Protocol):
    """What stands around a world and is painted before anything in it."""

    def paint(self, canvas: Canvas, camera: Camera) -> None:
        """Paint onto the canvas in place; its ids stay those of the background."""


@dataclass
class World:
    """Things, the camera that sees them, and groups of indices that share one sheet of shrink wrap.

    `behind` and `front` are things that are no packages, painted before and after all others; `floor` is the height of
    the ground (metres). `films` are groups of indices with a film of their own kind.
    """

    things: list[Thing]
    camera: Camera
    wrapped: list[list[int]] = field(default_factory=list)
    behind: list[Thing] = field(default_factory=list)
    front: list[Thing] = field(default_factory=list)
    films: list[tuple[list[int], Film]] = field(default_factory=list)
    floor: float = 0.0
    room: Surroundings | None = None


@dataclass(frozen=True)
class Maker:
    """What every layout needs: the generator of this scene, its look, the texture bank and the picture's size."""

    rng: np.random.Generator
    look: Look
    bank: TextureBank
    size: int

    def box(self, centre: Array, half: Array, rotation: Array, style: tuple[str, Array] | None = None) -> Cuboid:
        """One package of class box; `style` fixes material and colour, so that a load can be of one kind."""
        material, colour = style or self.box_style()
        skins = BoxSkins(self.rng, self.look, self.bank, material, colour)
        return Cuboid(centre, half, rotation, colour, "box", skins.face, shadow=float(self.rng.uniform(0.15, 0.5)))

    def box_style(self) -> tuple[str, Array]:
        """(material, colour [3] in 0-255) of a box, drawn from the look. Each call goes on with the generator."""
        material = choose(self.rng, self.look.box_materials)
        return material, box_colour(self.rng, self.look, material)

    def heap(self, low: int, high: int) -> int:
        """How many packages a heap has: at least `low` and less than `high`, unless the look says otherwise."""
        return int(self.rng.integers(*(self.look.heap or (low, high))))

    def fov(self) -> float:
        """A horizontal field of view in degrees, drawn from the look's range."""
        return float(self.rng.uniform(*self.look.wide))


def frame_colours(make: Maker) -> tuple[Array, Array]:
    """Colours of posts and of beams: painted steel, as racks and machines have it."""

    def paint() -> Array:
        return (
            grey(make.rng, 40, 200)
            if make.rng.random() < 0.35
            else hue_colour(make.rng, make.look, (0.5, 1.0), (0.3, 0.95))
        )

    return paint(), paint()


def pallet(make: Maker, x: float, y: float, z: float, width: float, depth: float) -> tuple[list[Thing], float]:
    """A wooden (or plastic) pallet centred at x, y standing at z; returns its parts and its top's height."""
    rng = make.rng
    wood = np.array([196.0, 160.0, 112.0]) * rng.uniform(0.5, 1.15) if rng.random() < 0.85 else grey(rng, 30, 130)
    height, board = 0.145, 0.012
    deck = _slats(make, wood)
    top = structure(np.array([x, y, z + height - board]), np.array([width / 2, depth / 2, board]), wood * 1.05)
    top.skin = lambda _face: deck
    parts: list[Thing] = [
        top,
        structure(np.array([x, y, z + board]), np.array([width / 2, depth / 2, board]), wood * 0.8),
    ]
    for column in (-1, 0, 1):
        centre = np.array([x + column * (width / 2 - 0.07), y, z + height / 2 - 0.01])
        parts.append(
            structure(centre, np.array([0.06, depth / 2, height / 2 - 2.2 * board]), wood * rng.uniform(0.7, 1.0))
        )
    return parts, z + height


def _slats(make: Maker, wood: Array) -> Image:
    """The deck of a pallet: boards with dark gaps between them and nails over the blocks; uint8 [64, 64, 3]."""
    rng = make.rng
    boards = int(rng.integers(5, 10))
    place = np.arange(64) * boards / 64
    gap = (place % 1) > rng.uniform(0.55, 0.85)
    tone = rng.uniform(0.8, 1.15, boards + 1)[place.astype(int)] * np.where(gap, 0.22, 1.0)
    deck = np.clip(wood * 1.05 * tone[:, None, None] * rng.uniform(0.94, 1.06, (64, 64, 1)), 0, 255).astype(np.uint8)
    for column in (4, 31, 58):
        deck[::2, column] = np.where(gap[::2, None], deck[::2, column], (wood * 0.5).clip(0, 255)).astype(np.uint8)
    return deck


def stack(make: Maker, low: Array, high: Array, *, gap: float = 0.01, drop: float = 0.15) -> list[Cuboid]:
    """Fill the region between two corners with layers of boxes, some missing from the top; bottom layers first."""
    rng = make.rng
    width, depth, height = high - low
    style = make.box_style() if rng.random() < 0.8 else None
    columns = int(rng.integers(1, max(2, int(width / 0.22)) + 1))
    rows = int(rng.integers(1, max(2, int(depth / 0.45)) + 1))
    layers = int(rng.integers(1, max(2, int(height / 0.2)) + 1))
    columns, rows, layers = min(columns, 4), min(rows, 2), min(layers, 4)
    if rng.random() < 0.5:  # one or two big cartons, as appliances come
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
                centre = low + cell * (np.array([column, row, layer]) + 0.5) + rng.normal(0, jitter, 3) * (1, 1, 0)
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
        colour = grey(rng, 20, 220) if rng.random() < 0.5 else hue_colour(rng, make.look, (0.3, 1.0), (0.2, 0.95))
        if kind < 0.35:  # posts, rails, cables
            half = np.full(3, rng.uniform(0.01, 0.05))
            half[int(rng.integers(3))] = rng.uniform(0.3, 1.5)
            parts.append(structure(centre, half, colour, rotation_matrix(rng.normal(0, 0.3), rng.normal(0, 0.1))))
        elif kind < 0.75:  # panels, screens, machines
            half = rng.uniform(0.04, 0.4, 3)
            half[int(rng.integers(3))] *= 0.15
            parts.append(structure(centre, half, colour, rotation_matrix(rng.uniform(0, np.pi))))
        else:  # buckets and bins without a lid are cylinders of bare steel or plastic
            skin = np.full((8, 8, 3), colour, np.uint8)
            radius = rng.uniform(0.05, 0.2)
            parts.append(
                Cylinder(centre, centre + (0, 0, radius * rng.uniform(1, 3)), radius, skin, colour * 0.4, None)
            )
    return parts


def drop_pile(make: Maker, low: Array, high: Array, count: int, floor: float, *, walled: bool = False) -> list[Thing]:
    """Drop `count` packages of the look's mix into a rectangle (corners [2]); each lands on what lies there already.

    They hang over the rectangle's edge a little; with walls around it, they fit between them.
    """
    rng = make.rng
    cells = 24
    heights = np.full((cells, cells), floor)
    span = np.maximum(high - low, 1e-6)
    things: list[Thing] = []
    scale = rng.uniform(0.7, 1.3)
    for _ in range(count):
        label = choose(rng, make.look.classes)
        reach = scale * rng.uniform(0.06, 0.2) * (0.6 if label == "item" else 1.0)
        if walled:
            reach = min(reach, 0.4 * float(span.min()))
        ratio = rng.uniform(0.35, 1.0)
        margin = reach if walled else 0.3 * reach
        at = rng.uniform(low + margin, np.maximum(high - margin, low + margin + 1e-3))
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
            length = min(length, reach) if walled else length
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
                Sheet(np.array([*at, base + thick]), across, along, soft_outline(rng, label), skin, label, thick)
            )
        patch[:] = np.maximum(patch, base + 0.8 * tall)
    return things


def container(make: Maker, half: Array, wall: float) -> list[Thing]:
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


def above(make: Maker, spread: float, things: Sequence[Thing], *, steep: tuple[float, float]) -> Camera:
    """A camera over the origin that looks down between two elevations (radians; pi/2 is straight down).

    It keeps `CLEARANCE` metres above the highest of `things`: no cell has a camera inside its heap.
    """
    rng = make.rng
    fov = make.fov()
    away = spread / np.tan(np.radians(fov) / 2) * rng.uniform(0.55, 1.15)
    lift, yaw = rng.uniform(*(make.look.steep or steep)), rng.uniform(0, 2 * np.pi)
    focus = np.array([*(rng.normal(0, 0.15, 2) * spread), rng.uniform(0, 0.15)])
    way = np.array([np.sin(yaw) * np.cos(lift), -np.cos(yaw) * np.cos(lift), np.sin(lift)])
    top = max(float(thing.bounds()[1][2]) for thing in things)
    eye = focus + max(away, (top + CLEARANCE - focus[2]) / way[2]) * way
    return look_at(eye, focus, fov_degrees=fov, size=make.size, roll=rng.uniform(0, 2 * np.pi) if lift > 1.4 else 0.0)
