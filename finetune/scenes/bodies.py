"""Plain bodies that props are put together from: rods, beams, boxes with a picture on them; and how they are moved."""

from __future__ import annotations

import numpy as np

from finetune.scenes.camera import Array, cross, rotation_matrix
from finetune.scenes.environment import Maker
from finetune.scenes.materials import grey, hue_colour
from finetune.scenes.packages import SIDEWAYS, UPRIGHT, Cuboid, Cylinder, Sheet, Thing, structure
from finetune.scenes.strokes import Net, Shade, Tube
from finetune.scenes.textures import Image

ORANGE, YELLOW, BLACK = np.array([236.0, 108.0, 24.0]), np.array([240.0, 196.0, 30.0]), np.full(3, 28.0)


def placed(things: list[Thing], offset: Array, yaw: float = 0.0, scale: float = 1.0) -> list[Thing]:
    """Turn parts about z, scale them and move them by `offset` [3]; changes and returns them."""
    turn = rotation_matrix(yaw) * scale
    plain = rotation_matrix(yaw)
    for thing in things:
        if isinstance(thing, Cuboid):
            thing.centre, thing.rotation = turn @ thing.centre + offset, plain @ thing.rotation
            thing.half = thing.half * scale
        elif isinstance(thing, Cylinder):
            thing.start, thing.end = turn @ thing.start + offset, turn @ thing.end + offset
            thing.radius *= scale
        elif isinstance(thing, Tube | Shade):
            thing.points = thing.points @ turn.T + offset
        elif isinstance(thing, Net):
            thing.corner = turn @ thing.corner + offset
            thing.across, thing.along = turn @ thing.across, turn @ thing.along
        elif isinstance(thing, Sheet):
            thing.centre, thing.across, thing.along = (
                turn @ thing.centre + offset,
                turn @ thing.across,
                turn @ thing.along,
            )
    return things


def round_shaded(colour: Array) -> Image:
    """The side of a plain cylinder: darker to its edges; uint8 [4, 16, 3]."""
    across = np.linspace(-1, 1, 16)[None, :, None]
    return np.broadcast_to(np.clip(colour * (1.05 - 0.6 * across**2), 0, 255), (4, 16, 3)).astype(np.uint8)


def banded(first: Array, second: Array, bands: int) -> Image:
    """A cylinder's side in bands of two colours along its axis; uint8 [4 bands, 16, 3]."""
    rows = np.where((np.arange(4 * bands) // 4 % 2 == 0)[:, None, None], first, second)
    across = np.linspace(-1, 1, 16)[None, :, None]
    return np.clip(rows * (1.05 - 0.6 * across**2), 0, 255).astype(np.uint8)


def rod(start: Array, end: Array, radius: float, colour: Array, skin: Image | None = None) -> Cylinder:
    """A plain cylinder between two points."""
    return Cylinder(
        np.asarray(start, float), np.asarray(end, float), radius,
        round_shaded(colour) if skin is None else skin, colour * 0.8, None,
    )  # fmt: skip


def bar(start: Array, end: Array, wide: float, deep: float, colour: Array) -> Cuboid:
    """A beam of rectangular section between two points."""
    axis = end - start
    length = float(np.linalg.norm(axis))
    axis = axis / max(length, 1e-9)
    side = cross(axis, UPRIGHT if abs(axis[2]) < 0.9 else SIDEWAYS)
    side /= np.linalg.norm(side)
    turn = np.stack([side, axis, cross(side, axis)], axis=1)
    return structure((start + end) / 2, np.array([wide, length / 2, deep]), colour, turn)


def skinned(centre: Array, half: Array, picture: Image, colour: Array, rotation: Array | None = None) -> Cuboid:
    """A box-shaped thing that is no package, with one picture on each of its faces."""
    turn = np.eye(3) if rotation is None else rotation
    return Cuboid(np.asarray(centre, float), np.asarray(half, float), turn, colour, None, lambda _face: picture, 0.0)


def machine_colour(make: Maker) -> Array:
    """What robots and machines are painted with."""
    rng, kind = make.rng, make.rng.random()
    if kind < 0.22:
        return ORANGE * rng.uniform(0.75, 1.08)
    if kind < 0.42:
        return YELLOW * rng.uniform(0.75, 1.05)
    if kind < 0.56:
        return grey(rng, 18, 55)
    if kind < 0.72:
        return grey(rng, 200, 250)
    return grey(rng, 70, 180, 14) if kind < 0.88 else hue_colour(rng, make.look, (0.6, 1), (0.4, 0.9))
