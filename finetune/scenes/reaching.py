"""What reaches into a frame: robot arms with their tools, gantries, people and their hands. None of it is a package."""

from __future__ import annotations

import numpy as np

from finetune.scenes.bodies import ORANGE, YELLOW, banded, bar, machine_colour, rod, round_shaded
from finetune.scenes.camera import Array, cross, rotation_matrix
from finetune.scenes.environment import Maker
from finetune.scenes.materials import grey, hue_colour, pick, turned
from finetune.scenes.packages import UPRIGHT, Cylinder, Thing, structure
from finetune.scenes.strokes import Tube
from finetune.scenes.textures import FACE, Image


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
