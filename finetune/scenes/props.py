"""What stands, hangs and reaches about in warehouses and is no package: robots, people, cages, screens, furniture.

Each `make_*` function returns the parts of one thing around the origin, on the floor z = 0 (metres, z up), facing -y.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from finetune.scenes.camera import Array, cross, rotation_matrix
from finetune.scenes.materials import grey, hue_colour, pick, turned
from finetune.scenes.packages import SIDEWAYS, UPRIGHT, Cuboid, Cylinder, Sheet, Thing, structure
from finetune.scenes.parts import Maker, container, pallet
from finetune.scenes.strokes import Net, Shade, Tube
from finetune.scenes.textures import FACE, Image

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


def make_gripper(make: Maker, tip: Array) -> list[Thing]:
    """A tool that ends at `tip`, pointing down: suction cups, a foam pad or two fingers. Its flange is 0.25 m above."""
    rng = make.rng
    parts: list[Thing] = []
    body, kind = grey(rng, 20, 190), rng.random()
    flange = tip + (0, 0, 0.25)
    if kind < 0.5:  # a plate with rows of cups
        half = np.array([rng.uniform(0.06, 0.25), rng.uniform(0.05, 0.16), 0.015])
        parts.append(structure(tip + (0, 0, 0.1), half, body))
        cup = pick(rng, (grey(rng, 15, 50), np.array([200.0, 60, 40]), np.array([60.0, 90, 190]), grey(rng, 150, 220)))
        many = rng.integers(1, 5, 2)
        for x in np.linspace(-0.8, 0.8, int(many[0])) * half[0]:
            for y in np.linspace(-0.8, 0.8, int(many[1])) * half[1]:
                foot = tip + (x, y, 0.0)
                parts.append(rod(foot, foot + (0, 0, 0.09), 0.02, cup, banded(cup, cup * 0.7, 3)))
    elif kind < 0.75:  # a block of foam
        half = np.array([rng.uniform(0.08, 0.22), rng.uniform(0.06, 0.15), 0.05])
        parts.append(structure(tip + (0, 0, 0.02), half * (1, 1, 0.5), grey(rng, 15, 80)))
        parts.append(structure(tip + (0, 0, 0.09), half, body))
    else:  # two fingers
        wide = rng.uniform(0.05, 0.2)
        parts.append(structure(tip + (0, 0, 0.17), np.array([wide + 0.03, 0.04, 0.03]), body))
        for side in (-wide, wide):
            parts.append(structure(tip + (side, 0, 0.06), np.array([0.012, 0.03, 0.09]), grey(rng, 30, 200)))
    parts.append(rod(tip + (0, 0, 0.12), flange, rng.uniform(0.03, 0.06), grey(rng, 40, 200)))
    return parts


def make_arm(make: Maker, tip: Array, shoulder: Array) -> list[Thing]:
    """A jointed arm from `shoulder` to a tool at `tip`: links of two colours, joints across them, a hose along."""
    rng = make.rng
    parts = make_gripper(make, tip)
    flange = tip + (0, 0, 0.25)
    colour, joint = machine_colour(make), machine_colour(make)
    wrist = flange + (0, 0, rng.uniform(0.05, 0.3)) + rng.normal(0, 0.05, 3) * (1, 1, 0)
    reach = shoulder - wrist
    length = float(np.linalg.norm(reach))
    elbow = (
        wrist + reach * rng.uniform(0.35, 0.6) + np.array([*rng.normal(0, 0.12, 2), rng.uniform(0.05, 0.45)]) * length
    )
    radius = rng.uniform(0.035, 0.085) * max(0.7, min(1.5, length / 1.2))
    square = rng.random() < 0.4
    for start, end, thick in ((shoulder, elbow, 1.25), (elbow, wrist, 1.0), (wrist, flange, 0.7)):
        if square and thick > 0.8:
            parts.append(bar(start, end, radius * thick, radius * thick * rng.uniform(0.6, 1), colour))
        else:
            parts.append(rod(start, end, radius * thick, colour))
    side = cross(reach, UPRIGHT)
    side /= max(float(np.linalg.norm(side)), 1e-6)
    for place, thick in ((elbow, 1.5), (wrist, 1.15), (shoulder, 1.7)):
        parts.append(rod(place - side * radius * thick, place + side * radius * thick, radius * thick, joint))
    if rng.random() < 0.7:
        hung = [shoulder, (shoulder + elbow) / 2, elbow, (elbow + wrist) / 2, flange]
        bend = np.stack(hung) + side * radius * 1.5 + rng.normal(0, 0.4 * radius, (5, 3))
        parts.append(Tube(bend, rng.uniform(0.008, 0.02), grey(rng, 10, 60)))
    return parts


def make_mast(make: Maker, tip: Array) -> list[Thing]:
    """A gantry's mast from above with its tool, on a cross beam."""
    rng, colour = make.rng, machine_colour(make)
    parts = make_gripper(make, tip)
    high = tip + (0, 0, rng.uniform(0.9, 1.6))
    parts.append(bar(tip + (0, 0, 0.25), high, rng.uniform(0.03, 0.09), rng.uniform(0.03, 0.09), colour))
    way = np.array([*rng.normal(0, 1, 2), 0.0])
    way *= 2.5 / max(float(np.linalg.norm(way)), 1e-6)
    parts.append(bar(high - way, high + way, 0.06, 0.08, machine_colour(make)))
    return parts


def cloth(make: Maker, colour: Array, stripe: Array | None = None) -> Image:
    """Folded cloth in round shading, with a reflecting stripe; uint8 [FACE, FACE, 3]."""
    rng = make.rng
    folds = turned(rng, pick(rng, make.bank.paper))[:, :, None]
    across = np.linspace(-1, 1, FACE)[None, :, None]
    skin = colour * np.clip(folds, 0.6, 1.4) * (1.05 - 0.55 * across**2)
    if stripe is not None:
        for row in (30, 60):
            skin[row : row + 9] = stripe * (1 - 0.3 * across**2)
    return np.clip(skin, 0, 255).astype(np.uint8)


def make_person(make: Maker) -> list[Thing]:
    """Somebody at work: shoes, legs, a vest, arms and a head or helmet."""
    rng = make.rng
    trousers = pick(rng, (grey(rng, 20, 70), np.array([40.0, 55, 95]), grey(rng, 90, 160), np.array([110.0, 95, 70])))
    vest = pick(
        rng, (ORANGE, np.array([205.0, 225, 40]), grey(rng, 20, 230), hue_colour(rng, make.look, (0.3, 1), (0.2, 0.9)))
    )
    skin_tone = np.array([224.0, 172, 138]) * rng.uniform(0.35, 1.05)
    shoe = pick(rng, (grey(rng, 10, 60), np.array([120.0, 80, 45]), grey(rng, 180, 245)))
    stride, wide = rng.normal(0, 0.16), rng.uniform(0.09, 0.14)
    legs = cloth(make, trousers)
    parts: list[Thing] = []
    for side in (-1, 1):
        step = stride * side
        ankle, knee, hip = (np.array([side * wide, step * k, h]) for k, h in ((1.0, 0.1), (0.3, 0.5), (0.0, 0.92)))
        toe = rotation_matrix(rng.normal(0, 0.3)) @ np.array([0, -0.13, 0])
        parts.append(bar(ankle - (0, 0, 0.055) - toe * 0.5, ankle - (0, 0, 0.055) + toe * 1.2, 0.048, 0.045, shoe))
        parts.append(Cylinder(ankle - (0, 0, 0.03), knee, 0.062, legs, trousers, None))
        parts.append(Cylinder(knee, hip, 0.08, legs, trousers, None))
        elbow = np.array([side * 0.3, rng.normal(-0.05, 0.12), 1.1])
        hand = elbow + np.array([rng.normal(-0.05 * side, 0.08), rng.normal(-0.18, 0.1), rng.normal(-0.02, 0.15)])
        shoulder = np.array([side * 0.2, 0.0, 1.4])
        sleeve = cloth(make, vest)
        parts.append(Cylinder(shoulder, elbow, 0.055, sleeve, vest, None))
        parts.append(
            Cylinder(elbow, hand, 0.042, sleeve if rng.random() < 0.5 else round_shaded(skin_tone), vest, None)
        )
        parts.append(rod(hand, hand + (hand - elbow) * 0.35, 0.04, skin_tone))
    stripe = grey(rng, 200, 240) if rng.random() < 0.5 else None
    parts.append(
        Cylinder(np.array([0, 0, 0.88]), np.array([0, 0, 1.45]), 0.18, cloth(make, vest, stripe), vest * 0.9, None)
    )
    parts.append(rod(np.array([0, -0.02, 1.47]), np.array([0, -0.02, 1.68]), 0.085, skin_tone))
    hat = pick(rng, (YELLOW, grey(rng, 220, 250), grey(rng, 10, 60), np.array([90.0, 60, 35])))
    parts.append(rod(np.array([0, 0, 1.62]), np.array([0, 0, 1.75]), 0.098, hat))
    return parts


def make_hand(make: Maker, tip: Array, elbow: Array) -> list[Thing]:
    """A forearm with a hand or glove that reaches to `tip`."""
    rng = make.rng
    tone = np.array([224.0, 172, 138]) * rng.uniform(0.35, 1.05) if rng.random() < 0.6 else grey(rng, 20, 230)
    sleeve = hue_colour(rng, make.look, (0.2, 1), (0.15, 0.9)) if rng.random() < 0.6 else grey(rng, 15, 220)
    way = tip - elbow
    wrist = tip - way * 0.16 / max(float(np.linalg.norm(way)), 0.16)
    parts: list[Thing] = [Cylinder(elbow, wrist, 0.045, cloth(make, sleeve), sleeve, None)]
    parts.append(bar(wrist, wrist + (tip - wrist) * 0.6, 0.045, 0.018, tone))
    side = cross(way, UPRIGHT)
    side /= max(float(np.linalg.norm(side)), 1e-6)
    for k in range(4):
        base = wrist + (tip - wrist) * 0.55 + side * (k - 1.5) * 0.021
        parts.append(rod(base, base + (tip - wrist) * rng.uniform(0.35, 0.55), 0.0095, tone))
    return parts


def make_bollard(make: Maker) -> list[Thing]:
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
    worn = make.rng.uniform(0.7, 1.05)
    parts: list[Thing] = [structure(np.array([0, 0, 0.015]), np.array([0.17, 0.17, 0.015]), ORANGE * 0.9 * worn)]
    for k in range(5):
        colour = ORANGE * worn if k % 2 == 0 else np.full(3, 235.0) * worn
        parts.append(rod(np.array([0, 0, 0.03 + 0.09 * k]), np.array([0, 0, 0.12 + 0.09 * k]), 0.12 - 0.02 * k, colour))
    return parts


def make_pillar(make: Maker) -> list[Thing]:
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
        board, top = pallet(make, *rng.normal(0, 0.012, 2), top, 1.2, 0.8)
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
