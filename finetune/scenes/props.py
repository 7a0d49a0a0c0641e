"""What stands about in warehouses and is no package: cages, screens, furniture, trucks, empty pallets and totes.

Each `make_*` function returns the parts of one thing around the origin, on the floor z = 0 (metres, z up), facing -y.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from finetune.scenes.bodies import (
    BLACK,
    ORANGE,
    YELLOW,
    banded,
    bar,
    machine_colour,
    placed,
    rod,
    round_shaded,
    skinned,
)
from finetune.scenes.camera import rotation_matrix
from finetune.scenes.environment import Maker, container, pallet
from finetune.scenes.materials import grey, hue_colour
from finetune.scenes.packages import Cuboid, Cylinder, Thing, structure
from finetune.scenes.reaching import make_person
from finetune.scenes.strokes import Net, Tube


def make_bollard(make: Maker) -> list[Thing]:
    """A post on a plate at the origin, banded or plain, 0.5 to 1.2 m high."""
    rng = make.rng
    colour = YELLOW if rng.random() < 0.7 else np.array([205.0, 45, 35])
    dark = BLACK if colour is YELLOW else np.full(3, 235.0)
    high, radius = rng.uniform(0.5, 1.2), rng.uniform(0.045, 0.09)
    skin = banded(colour, dark, int(rng.integers(2, 8))) if rng.random() < 0.6 else round_shaded(colour)
    return [
        rod(np.zeros(3), np.array([0, 0, high]), radius, colour, skin),
        structure(np.array([0, 0, 0.01]), np.array([0.12, 0.12, 0.01]), dark),
    ]


def make_cone(make: Maker) -> list[Thing]:
    """A traffic cone at the origin, 0.48 m high, more or less worn."""
    worn = make.rng.uniform(0.7, 1.05)
    parts: list[Thing] = [structure(np.array([0, 0, 0.015]), np.array([0.17, 0.17, 0.015]), ORANGE * 0.9 * worn)]
    for k in range(5):
        colour = ORANGE * worn if k % 2 == 0 else np.full(3, 235.0) * worn
        parts.append(rod(np.array([0, 0, 0.03 + 0.09 * k]), np.array([0, 0, 0.12 + 0.09 * k]), 0.12 - 0.02 * k, colour))
    return parts


def make_pillar(make: Maker) -> list[Thing]:
    """A pillar 5 m high at the origin; half of them have hazard tape around them."""
    rng = make.rng
    half = np.array([*rng.uniform(0.08, 0.3, 2), 2.5])
    parts: list[Thing] = [structure(np.array([0, 0, 2.5]), half, grey(rng, 60, 230, 14))]
    if rng.random() < 0.5:
        yy, xx = np.mgrid[0:48, 0:48]
        tape = np.where(((xx + yy) // 8 % 2 == 0)[:, :, None], YELLOW, BLACK).astype(np.uint8)
        parts.append(skinned(np.array([0, 0, 0.6]), np.array([half[0] + 0.01, half[1] + 0.01, 0.6]), tape, YELLOW))
    return parts


def make_screen(make: Maker) -> list[Thing]:
    """A monitor or panel on a post, with something on it."""
    rng = make.rng
    picture = np.full((48, 64, 3), grey(rng, 5, 240), np.uint8)
    for _ in range(int(rng.integers(2, 9))):
        (x, y), (w, h) = rng.integers(3, 40, 2), rng.integers(3, 26, 2)
        picture[y : y + h, x : x + w] = (
            hue_colour(rng, make.look, (0.2, 1), (0.3, 1)) if rng.random() < 0.6 else grey(rng, 10, 250)
        )
    frame = grey(rng, 10, 70)
    picture[:2], picture[-2:], picture[:, :2], picture[:, -2:] = (frame.astype(np.uint8),) * 4
    high, half = rng.uniform(0.6, 1.6), np.array([rng.uniform(0.12, 0.4), 0.02, rng.uniform(0.1, 0.26)])
    lean = rotation_matrix(0.0, rng.normal(0, 0.15))
    return [
        rod(np.zeros(3), np.array([0, 0.03, high]), 0.02, frame),
        skinned(np.array([0, 0, high]), half, picture, frame, lean),
        structure(np.array([0, 0.03, 0.015]), np.array([0.18, 0.14, 0.015]), frame),
    ]  # fmt: skip


def make_chair(make: Maker) -> list[Thing]:
    """An office chair at the origin: seat, back and five feet, about 1 m high."""
    rng = make.rng
    cover, metal = (
        (grey(rng, 15, 90) if rng.random() < 0.5 else hue_colour(rng, make.look, (0.3, 1), (0.2, 0.8))),
        grey(rng, 30, 200),
    )
    parts: list[Thing] = [
        structure(np.array([0, 0, 0.48]), np.array([0.22, 0.21, 0.035]), cover),
        structure(np.array([0, 0.21, 0.8]), np.array([0.2, 0.025, 0.2]), cover),
    ]
    parts.append(rod(np.array([0, 0, 0.08]), np.array([0, 0, 0.45]), 0.025, metal))
    for angle in np.arange(5) * 2 * np.pi / 5:
        way = np.array([np.cos(angle), np.sin(angle), 0]) * 0.28
        parts.append(bar(np.array([0, 0, 0.08]), way + (0, 0, 0.04), 0.02, 0.015, metal))
    return parts


def make_table(make: Maker) -> list[Thing]:
    """A work bench or steel table with tools on it."""
    rng = make.rng
    half, high = np.array([rng.uniform(0.4, 1.0), rng.uniform(0.25, 0.45)]), rng.uniform(0.6, 0.95)
    top = grey(rng, 60, 220) if rng.random() < 0.6 else np.array([190.0, 150, 100]) * rng.uniform(0.6, 1.2)
    parts: list[Thing] = [structure(np.array([0, 0, high]), np.array([*half, 0.02]), top)]
    for x in (-0.92, 0.92):
        for y in (-0.9, 0.9):
            foot = np.array([x * half[0], y * half[1], 0.0])
            parts.append(bar(foot, foot + (0, 0, high - 0.02), 0.02, 0.02, grey(rng, 30, 200)))
    for _ in range(int(rng.integers(0, 4))):
        at = np.array([*(rng.uniform(-0.8, 0.8, 2) * half), high + 0.02])
        parts += placed(make_tool(make), at, rng.uniform(0, 6.3))
    return parts


def make_tool(make: Maker) -> list[Thing]:
    """A tape dispenser, hammer, scanner or cutter that lies about."""
    rng = make.rng
    colour = hue_colour(rng, make.look, (0.6, 1), (0.4, 0.95)) if rng.random() < 0.7 else grey(rng, 15, 70)
    handle = bar(np.array([-0.1, 0, 0.02]), np.array([0.06, 0, 0.02]), 0.016, 0.014, colour)
    head = structure(np.array([0.08, 0, 0.025]), np.array([0.03, rng.uniform(0.02, 0.07), 0.022]), grey(rng, 20, 200))
    return [handle, head]


def make_forks(make: Maker) -> list[Thing]:
    """The forks, mast and chains of a truck, from its load's side."""
    rng, steel, paint = make.rng, grey(make.rng, 25, 80), machine_colour(make)
    lift = rng.uniform(0.03, 1.2)
    parts: list[Thing] = []
    for x in (-0.27, 0.27):
        parts.append(structure(np.array([x, -0.55, lift]), np.array([0.06, 0.58, 0.02]), steel))
        parts.append(structure(np.array([x, 0.05, lift + 0.25]), np.array([0.06, 0.02, 0.27]), steel))
        parts.append(structure(np.array([x * 1.4, 0.14, 1.1]), np.array([0.04, 0.06, 1.1]), paint))
    for z in (0.1, 0.42):
        parts.append(structure(np.array([0, 0.08, lift + z]), np.array([0.45, 0.015, 0.04]), steel))
    parts.append(structure(np.array([0, 0.7, 0.6]), np.array([0.5, 0.4, 0.5]), paint))
    return parts


def make_cage(make: Maker) -> list[Thing]:
    """An empty roll cage, or a length of machine fence."""
    rng, colour = make.rng, grey(make.rng, 40, 220)
    if rng.random() < 0.4:
        colour = YELLOW * rng.uniform(0.7, 1.0) if rng.random() < 0.6 else BLACK
    fence = rng.random() < 0.45
    w, d, h = (
        (rng.uniform(1.0, 2.4), 0.03, rng.uniform(1.2, 2.2))
        if fence
        else (*rng.uniform(0.3, 0.5, 2), rng.uniform(1.0, 1.7))
    )
    parts: list[Thing] = []
    for x, y in ((-w, -d), (w, -d), (-w, d), (w, d)):
        parts.append(bar(np.array([x, y, 0.1]), np.array([x, y, h]), 0.015, 0.015, colour))
    pitch = rng.uniform(0.04, 0.13)
    sides = ((0, d),) if fence else ((0, d), (-w, 0), (w, 0))
    for x, y in sides:
        across, corner = (
            (np.array([2 * w, 0, 0]), np.array([-w, y, 0.15]))
            if x == 0
            else (np.array([0, 2 * d, 0]), np.array([x, -d, 0.15]))
        )
        many = max(2, int(np.linalg.norm(across) / pitch))
        parts.append(
            Net(
                corner,
                across,
                np.array([0, 0, h - 0.2]),
                many,
                max(2, int(h / pitch / rng.uniform(1, 3))),
                0.003,
                colour,
            )
        )
    if not fence:
        parts.append(structure(np.array([0, 0, 0.13]), np.array([w, d, 0.015]), colour * 0.8))
        for x, y in ((-w, -d), (w, -d), (-w, d), (w, d)):
            parts.append(rod(np.array([x - 0.015, y, 0.05]), np.array([x + 0.015, y, 0.05]), 0.05, grey(rng, 20, 80)))
    return parts


def make_pallets(make: Maker) -> list[Thing]:
    """Empty pallets, one to eight on each other."""
    rng, top = make.rng, 0.0
    parts: list[Thing] = []
    for _ in range(int(rng.integers(1, 9)) if rng.random() < 0.6 else 1):
        x, y = rng.normal(0, 0.012, 2).tolist()
        board, top = pallet(make, x, y, top, 1.2, 0.8)
        parts += board
    return parts


def make_totes(make: Maker) -> list[Thing]:
    """An empty tote or crate; one sees into it from above, and its ribs from the side."""
    rng = make.rng
    half, wall = np.array([rng.uniform(0.15, 0.32), rng.uniform(0.12, 0.22)]), rng.uniform(0.1, 0.3)
    parts = container(make, half, wall)
    colour = parts[-1].colour if isinstance(parts[-1], Cuboid) else grey(rng, 40, 200)
    for z in (wall * 0.35, wall * 0.96):
        for sign in (-1, 1):
            parts.append(
                structure(
                    np.array([0, sign * (half[1] + 0.028), z]), np.array([half[0] + 0.03, 0.006, 0.012]), colour * 0.8
                )
            )
            parts.append(
                structure(
                    np.array([sign * (half[0] + 0.028), 0, z]), np.array([0.006, half[1] + 0.03, 0.012]), colour * 0.85
                )
            )
    grip = structure(np.array([half[0] + 0.036, 0, wall * 0.7]), np.array([0.002, half[1] * 0.35, 0.02]), BLACK)
    return [*parts, grip]


def make_track(make: Maker) -> list[Thing]:
    """A stretch of empty conveyor on legs: rollers or a belt."""
    rng = make.rng
    high, wide, long = rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.45), rng.uniform(0.7, 1.8)
    guard, steel = machine_colour(make), grey(rng, 90, 220)
    parts: list[Thing] = []
    if rng.random() < 0.6:
        pitch = rng.uniform(0.07, 0.16)
        for y in np.arange(-long, long, pitch):
            parts.append(rod(np.array([-wide, y, high]), np.array([wide, y, high]), pitch * 0.33, steel))
    else:
        parts.append(structure(np.array([0, 0, high]), np.array([wide, long, 0.03]), grey(rng, 15, 90)))
    for x in (-wide - 0.03, wide + 0.03):
        parts.append(structure(np.array([x, 0, high]), np.array([0.02, long, rng.uniform(0.04, 0.09)]), guard))
        for y in (-0.85 * long, 0.85 * long):
            parts.append(bar(np.array([x, y, 0.0]), np.array([x, y, high - 0.05]), 0.02, 0.02, guard * 0.8))
    return parts


def make_cabinet(make: Maker) -> list[Thing]:
    """A machine, cabinet or bin: a big box that is no package, with vents, lamps and a handle on it."""
    rng, colour = make.rng, machine_colour(make) * 0.9
    picture = np.full((64, 64, 3), np.clip(colour, 0, 255), np.uint8)
    for row in range(8, int(rng.integers(10, 40)), 4):
        picture[row, 8 : int(rng.integers(20, 56))] = 30
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.integers(6, 58, 2)
        picture[y : y + 3, x : x + 3] = hue_colour(rng, make.look, (0.7, 1), (0.6, 1)).astype(np.uint8)
    picture[26:40, 50:53] = 25
    half = rng.uniform((0.25, 0.2, 0.4), (0.7, 0.5, 1.0))
    return [skinned(np.array([0, 0, half[2]]), half, picture, colour)]


def make_bucket(make: Maker) -> list[Thing]:
    """An open bucket with a handle at the origin, 0.25 to 0.6 m high."""
    rng = make.rng
    colour = hue_colour(rng, make.look, (0.4, 1), (0.3, 0.95)) if rng.random() < 0.5 else grey(rng, 30, 210)
    radius, high = rng.uniform(0.12, 0.25), rng.uniform(0.25, 0.6)
    can = Cylinder(np.zeros(3), np.array([0, 0, high]), radius, round_shaded(colour), colour * 0.25, None)
    return [
        can,
        Tube(np.array([[-radius, 0, high], [0, -radius, high * 0.6], [radius, 0, high]]), 0.006, grey(rng, 40, 200)),
    ]


STANDING: dict[str, tuple[Callable[[Maker], list[Thing]], float]] = {
    "person": (make_person, 1.6),
    "bollard": (make_bollard, 0.7),
    "cone": (make_cone, 0.5),
    "pillar": (make_pillar, 0.7),
    "screen": (make_screen, 1.0),
    "chair": (make_chair, 0.6),
    "table": (make_table, 0.8),
    "tool": (make_tool, 0.6),
    "forks": (make_forks, 0.8),
    "cage": (make_cage, 1.1),
    "pallets": (make_pallets, 1.4),
    "totes": (make_totes, 1.0),
    "track": (make_track, 1.0),
    "cabinet": (make_cabinet, 1.0),
    "bucket": (make_bucket, 0.5),
}
"""What stands on floors: how it is made and how often it comes up relative to the others."""
