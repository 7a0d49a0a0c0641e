"""Distractors: what stands and lies about a warehouse and is no package. People, machines, cables, cones, marks."""

from __future__ import annotations

import numpy as np

from finetune.scenes.camera import Array, rotation_matrix
from finetune.scenes.materials import grey, pick
from finetune.scenes.physical import shapes
from finetune.scenes.physical.props import Block, Shop, block, built, plain
from finetune.scenes.physical.world import STILL, Prop, Surface


def clutter(
    shop: Shop, count: int, *, near: float, far: float, z: float, yaw: tuple[float, float] = (0, 2 * np.pi)
) -> list[Prop]:
    """`count` distractors on the floor at height z, between two distances from the origin and two directions."""
    rng = shop.rng
    props: list[Prop] = []
    for _ in range(count):
        away, turn = rng.uniform(near, far), rng.uniform(*yaw)
        at = np.array([away * np.cos(turn), away * np.sin(turn), z])
        if shop.assets and rng.random() < 0.5:
            props += _stood(shop, at)
            continue
        kind = rng.choice(7, p=[0.2, 0.2, 0.14, 0.14, 0.1, 0.12, 0.1])
        props += (_person, _machine, _drum, _pallets, _cone, _post, _trolley)[int(kind)](shop, at)
    return props


def _stood(shop: Shop, at: Array) -> list[Prop]:
    """One of the meshes read from files, turned at random."""
    thing = shop.assets[int(shop.rng.integers(len(shop.assets)))]
    turn = rotation_matrix(float(shop.rng.uniform(0, 2 * np.pi)))
    return [Prop(part.mesh.moved(turn, at), part.surface) for part in thing]


def _person(shop: Shop, at: Array) -> list[Prop]:
    """Someone in work clothes: legs, a vest with bands, arms, head, a helmet or cap."""
    rng = shop.rng
    tall = rng.uniform(1.6, 1.9)
    turn = rotation_matrix(rng.uniform(0, 2 * np.pi))
    skin = np.array([224.0, 180.0, 150.0]) * rng.uniform(0.35, 1.05)
    vest = np.array([[240.0, 120, 20], [200, 230, 40], [50, 70, 120], [60, 60, 65]])[int(rng.integers(4))]
    stride, lean = rng.uniform(0.05, 0.2), rng.uniform(0.1, 0.5)

    def limb(*points: tuple[float, float, float], radius: float) -> shapes.Mesh:
        path = np.array(points)
        fine = np.stack(
            [np.interp(np.linspace(0, len(path) - 1, 9), np.arange(len(path)), path[:, k]) for k in range(3)], 1
        )
        return shapes.tube(fine * tall, radius * tall, segments=10)

    ball = np.linspace(-np.pi / 2, np.pi / 2, 9)
    head = shapes.lathe(np.stack([np.cos(ball) * 0.055, np.sin(ball) * 0.07 + 0.93], 1) * tall, segments=14)
    hat = shapes.lathe(
        np.array([[0.075, 0.955], [0.062, 0.965], [0.055, 0.99], [0.03, 1.01], [0.002, 1.015]]) * tall, segments=14
    )
    body = shapes.lathe(
        np.array([[0.085, 0.46], [0.1, 0.5], [0.1, 0.66], [0.115, 0.78], [0.07, 0.83], [0.03, 0.86]]) * tall,
        segments=16,
    )
    legs = shapes.merge(
        [
            limb((s * 0.05, 0, 0.48), (s * 0.055, s * stride * 0.5, 0.26), (s * 0.06, s * stride, 0.02), radius=0.042)
            for s in (-1, 1)
        ]
    )
    arms = shapes.merge(
        [
            limb((s * 0.115, 0, 0.79), (s * 0.145, 0.02, 0.62), (s * 0.13, lean * 0.3, 0.5), radius=0.027)
            for s in (-1, 1)
        ]
    )
    stripes = np.full((64, 64, 3), vest, np.uint8)
    for row in (18, 40):
        stripes[row : row + 5] = 215
    parts = (
        (head, plain(skin, gloss=0.2)),
        (hat, plain(shop.paint(), gloss=0.6)),
        (body, Surface(stripes, gloss=0.05)),
        (legs, plain(grey(rng, 20, 80), gloss=0.02)),
        (arms, plain(vest * 0.9 if rng.random() < 0.6 else skin, gloss=0.05)),
    )
    return [Prop(mesh.moved(turn, at), surface) for mesh, surface in parts]


def _machine(shop: Shop, at: Array) -> list[Prop]:
    """A cabinet with a panel, buttons, vents and a cable to the floor."""
    rng = shop.rng
    half = rng.uniform((0.15, 0.15, 0.3), (0.5, 0.5, 0.9))
    turn = rotation_matrix(rng.uniform(0, 2 * np.pi))

    def put(parts: list[Block], surface: Surface, metres: float = 1.0) -> Prop:
        moved = [Block(turn @ p.centre + at, p.half, turn @ p.rotation) for p in parts]
        return built(moved, surface, metres=metres, solid=False)

    front = -half[1] - 0.006
    level = half[2] * 2
    vents = [block(0, front, level * (0.12 + 0.03 * k), half[0] * 0.6, 0.006, 0.008) for k in range(5)]
    lamps = [block(half[0] * (-0.5 + 0.25 * k), front - 0.01, level * 0.88, 0.018, 0.015, 0.018) for k in range(4)]
    path = np.array(
        [
            [half[0], 0, level * 0.4],
            [half[0] + 0.15, 0.1, 0.1],
            [half[0] + 0.3, 0.5, 0.015],
            [half[0] + 0.9, 0.6, 0.015],
        ]
    )
    fine = np.stack([np.interp(np.linspace(0, 3, 16), np.arange(4), path[:, k]) for k in range(3)], 1)
    cable = shapes.tube(fine, 0.014).moved(turn, at)
    return [
        put([block(0, 0, half[2], *half)], shop.grimy(shop.paint(), gloss=0.4)),
        put(
            [block(0, front, level * 0.68, half[0] * 0.7, 0.008, level * 0.1)],
            Surface(pick(rng, shop.bank.label), glow=0.3),
            0.2,
        ),
        put(vents, plain(grey(rng, 8, 30))),
        put(lamps, plain(shop.paint(), glow=0.4)),
        Prop(cable, plain(grey(rng, 8, 40), gloss=0.3)),
    ]


def _drum(shop: Shop, at: Array) -> list[Prop]:
    """An open bucket or bin."""
    rng = shop.rng
    r, h = rng.uniform(0.12, 0.28), rng.uniform(0.25, 0.6)
    profile = np.array(
        [
            [0.001, 0.012],
            [0.72 * r, 0.0],
            [0.8 * r, 0.02],
            [r, h],
            [1.06 * r, h],
            [0.95 * r, h - 0.01],
            [0.7 * r, 0.03],
            [0.001, 0.03],
        ]
    )
    return [Prop(shapes.lathe(profile, caps=False).moved(STILL, at), shop.grimy(shop.paint(), gloss=0.5))]


def _pallets(shop: Shop, at: Array) -> list[Prop]:
    """A few empty pallets on top of each other."""
    rng = shop.rng
    props: list[Prop] = []
    z, yaw = float(at[2]), rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(1, 6))):
        made, z = shop.pallet(float(at[0]), float(at[1]), z, 1.2, 0.8, yaw + rng.normal(0, 0.04))
        props += [Prop(p.mesh, p.surface) for p in made]
    return props


def _cone(shop: Shop, at: Array) -> list[Prop]:
    """A traffic cone."""
    orange = np.array([235.0, 90, 20]) * shop.rng.uniform(0.6, 1.05)
    stripes = np.full((64, 64, 3), orange.clip(0, 255), np.uint8)
    stripes[16:30] = stripes[40:50] = 235
    cone = shapes.lathe(np.array([[0.15, 0.02], [0.12, 0.04], [0.02, 0.55], [0.001, 0.56]]), caps=False)
    foot = built([Block(at + (0, 0, 0.012), np.array([0.18, 0.18, 0.012]), STILL)], plain(orange * 0.95), solid=False)
    return [Prop(cone.moved(STILL, at), Surface(stripes, gloss=0.2)), foot]


def _post(shop: Shop, at: Array) -> list[Prop]:
    """A column, a guard rail, or a beam on posts."""
    rng = shop.rng
    turn = rotation_matrix(rng.uniform(0, np.pi))
    wide = rng.uniform(0.03, 0.15)
    if rng.random() < 0.5:
        parts = [Block(at + (0, 0, 1.5), np.array([wide, wide, 1.5]), turn)]
    else:
        parts = [Block(at + (0, 0, h), np.array([0.9, 0.03, 0.05]), turn) for h in (0.25, 0.5)]
        parts += [Block(at + turn @ np.array([s * 0.8, 0, 0.3]), np.array([0.05, 0.05, 0.3]), turn) for s in (-1, 1)]
    colour = np.array([235.0, 190, 30]) * rng.uniform(0.7, 1.0) if rng.random() < 0.5 else shop.paint()
    return [built(parts, shop.grimy(colour), metres=0.7, solid=False)]


def _trolley(shop: Shop, at: Array) -> list[Prop]:
    """A hand truck or pallet jack: forks, a handle, wheels."""
    rng = shop.rng
    turn = rotation_matrix(rng.uniform(0, 2 * np.pi))
    parts = [block(s * 0.17, 0.55, 0.07, 0.08, 0.55, 0.03) for s in (-1, 1)] + [block(0, -0.08, 0.2, 0.27, 0.09, 0.16)]
    moved = [Block(turn @ p.centre + at, p.half, turn) for p in parts]
    handle = np.array([[0, -0.1, 0.3], [0, -0.25, 0.8], [0, -0.38, 1.2]])
    grip = np.array([[-0.15, -0.38, 1.2], [0, -0.4, 1.22], [0.15, -0.38, 1.2]])
    bars = shapes.merge([shapes.tube(handle, 0.02), shapes.tube(grip, 0.02)]).moved(turn, at)
    colour = shop.grimy(shop.paint(), gloss=0.4)
    return [built(moved, colour, solid=False), Prop(bars, plain(grey(rng, 10, 60), gloss=0.3))]


def floor_marks(shop: Shop, z: float) -> list[Prop]:
    """Painted lanes, hatched fields and arrows on the floor."""
    rng = shop.rng
    marks: list[Block] = []
    turn = rotation_matrix(rng.uniform(0, np.pi))
    for _ in range(int(rng.integers(1, 4))):
        off = rng.uniform(-2.5, 2.5)
        centre = turn @ np.array([0, off, 0]) + (0, 0, z + 0.001)
        marks.append(Block(centre, np.array([6.0, rng.uniform(0.03, 0.07), 0.001]), turn))
    if rng.random() < 0.4:
        at = rng.uniform(-2, 2, 2)
        slant = turn @ rotation_matrix(0.8)
        for k in range(7):
            centre = turn @ np.array([at[0] + 0.16 * k, at[1], 0]) + (0, 0, z + 0.001)
            marks.append(Block(centre, np.array([0.35, 0.04, 0.001]), slant))
    colours = np.array([[240.0, 200, 30], [235, 235, 230], [200, 40, 35], [60, 130, 220]])
    return [built(marks, shop.grimy(colours[int(rng.integers(4))], gloss=0.2), solid=False)]


def cables(shop: Shop, low: Array, high: Array, count: int) -> list[Prop]:
    """Cables and hoses that lie or hang between two corners of a region [3]."""
    rng = shop.rng
    props = []
    for _ in range(count):
        knots = rng.uniform(low, high, (5, 3))
        t = np.linspace(0, 4, 40)
        path = np.stack([np.interp(t, np.arange(5), knots[:, k]) for k in range(3)], 1)
        kernel = np.ones(9) / 9
        soft = np.stack([np.convolve(np.pad(path[:, k], 4, mode="edge"), kernel, "valid") for k in range(3)], 1)
        colour = grey(rng, 8, 50) if rng.random() < 0.7 else shop.paint()
        props.append(Prop(shapes.tube(soft, float(rng.uniform(0.004, 0.016))), plain(colour, gloss=0.3)))
    return props
