"""Stations and halls: floors, walls, pallets, totes, belts, carts and racks. None of it is a package.

Lengths in metres, z up. Every function returns props at their place in the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from finetune.scenes.camera import Array, rotation_matrix
from finetune.scenes.materials import grey, hue_colour, pick
from finetune.scenes.physical import shapes
from finetune.scenes.physical.look import PhysicalLook
from finetune.scenes.physical.world import STILL, Collider, Prop, Surface
from finetune.scenes.textures import Image, TextureBank, smooth_noise

FLOORS = ("concrete", "plate", "planks", "steel")
WALLS = ("wall", "clutter", "plate", "steel", "concrete")
GRIME = 256  # pixels: side of a grime texture


@dataclass(frozen=True, slots=True)
class Block:
    """A box-shaped part of a prop: centre [3], half-extents [3], rotation [3, 3]."""

    centre: Array
    half: Array
    rotation: Array


def block(x: float, y: float, z: float, a: float, b: float, c: float, rotation: Array = STILL) -> Block:
    """A block at (x, y, z) with half-sides (a, b, c) of at least 1 mm, all in metres."""
    return Block(np.array([x, y, z]), np.maximum(np.array([a, b, c]), 1e-3), rotation)


def built(blocks: Sequence[Block], surface: Surface, *, metres: float = 1.0, solid: bool = True) -> Prop:
    """Blocks of one surface as one prop; with `solid`, parcels can lie on them."""
    meshes = [shapes.slab(b.half, metres=metres).moved(b.rotation, b.centre) for b in blocks]
    colliders = tuple(
        Collider(
            "box",
            tuple(float(v) for v in b.half),
            None,
            (float(b.centre[0]), float(b.centre[1]), float(b.centre[2])),
            b.rotation,
        )
        for b in blocks
    )
    return Prop(shapes.merge(meshes), surface, colliders if solid else ())


def plain(colour: Array, **rest: float | bool) -> Surface:
    """A surface of one colour [3] (0-255)."""
    r, g, b = (float(v) / 255 for v in np.clip(colour, 0, 255))
    return Surface(None, (r, g, b), **rest)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Shop:
    """Builds what stands around the packages of one scene."""

    rng: np.random.Generator
    look: PhysicalLook
    bank: TextureBank
    assets: tuple[tuple[Prop, ...], ...] = ()  # things read from files, their parts standing at the origin

    def paint(self) -> Array:
        """A colour of painted steel or plastic [3]."""
        if self.rng.random() < 0.4:
            return grey(self.rng, 30, 210)
        return hue_colour(self.rng, self.look, (0.4, 1.0), (0.25, 0.9))

    def grimy(self, colour: Array, *, gloss: float = 0.25, metal: bool = False, wear: float = 1.0) -> Surface:
        """A painted surface with stains, scratches and worn edges instead of one flat colour."""
        rng = self.rng
        level = 1 + wear * (
            0.05 * smooth_noise(rng, GRIME, 4)
            + 0.04 * smooth_noise(rng, GRIME, 24)
            + 0.02 * smooth_noise(rng, GRIME, 110)
        )
        picture = np.clip(level[:, :, None] * colour.astype(np.float32), 0, 255).astype(np.uint8)
        for _ in range(int(rng.integers(2, 14) * wear)):
            p = rng.integers(0, GRIME, 2)
            q = p + rng.normal(0, 30, 2).astype(int)
            tone = tuple(int(v) for v in np.clip(colour * rng.uniform(0.5, 1.5), 0, 255))
            cv2.line(picture, p.tolist(), q.tolist(), tone, 1, cv2.LINE_AA)
        return Surface(picture, gloss=gloss, metal=metal)

    def backdrop(self, kinds: Sequence[str], *, gloss: float = 0.1) -> Surface:
        """One of the bank's backdrops that the look allows among `kinds`, else of any kind the look allows."""
        names = [k for k in kinds if k in self.look.backgrounds] or list(self.look.backgrounds)
        return Surface(pick(self.rng, self.bank.backdrop[names[int(self.rng.integers(len(names)))]]), gloss=gloss)

    def wood(self) -> Surface:
        """Boards: raw, weathered or dyed; the grain runs along u."""
        rng = self.rng
        colour = np.array([198.0, 164.0, 118.0]) * rng.uniform(0.5, 1.1) + rng.uniform(-10, 10, 3)
        if rng.random() < 0.12:
            colour = self.paint()
        lines = smooth_noise(rng, GRIME, 60)[:, :1] * 0.08 + smooth_noise(rng, GRIME, 10) * 0.06
        picture = np.clip((1 + lines)[:, :, None] * colour.astype(np.float32), 0, 255).astype(np.uint8)
        for _ in range(int(rng.integers(2, 8))):  # knots
            at = rng.integers(0, GRIME, 2).tolist()
            cv2.ellipse(picture, at, (7, 3), 0, 0, 360, (colour * 0.55).tolist(), -1, cv2.LINE_AA)
        return Surface(picture, gloss=0.03)

    def floor(self, z: float, *, reach: float = 7.0, metres: float = 2.5) -> Prop:
        """The ground, its top at height z."""
        surface = self.backdrop(FLOORS, gloss=float(self.rng.uniform(0.0, 0.4)))
        return built(
            [block(0, 0, z - 0.1, reach, reach, 0.1)], surface, metres=float(metres * self.rng.uniform(0.6, 1.4))
        )

    def walls(self, z: float, *, away: float) -> list[Prop]:
        """Three walls of the hall around the origin (none behind the camera), the nearest `away` metres off."""
        rng = self.rng
        props = []
        for x, y, a, b in ((0, 1, 8, 0.1), (-1, 0.2, 0.1, 8), (1, 0.2, 0.1, 8)):
            off = away * rng.uniform(1.0, 1.5)
            props.append(
                built(
                    [block(x * off * 1.3, y * off, z + 3.5, a, b, 3.5)],
                    self.backdrop(WALLS),
                    metres=float(rng.uniform(2, 5)),
                    solid=False,
                )
            )
        return props

    def pallet(
        self, x: float, y: float, z: float, width: float, depth: float, yaw: float = 0.0
    ) -> tuple[list[Prop], float]:
        """A pallet of boards and blocks standing at z; returns the height of its deck too."""
        rng = self.rng
        board, height = 0.011, 0.144
        turn = rotation_matrix(yaw)
        count = int(rng.integers(5, 8))
        blocks: list[Block] = []
        pitch = depth / count
        for k in range(count):
            slat = pitch * rng.uniform(0.36, 0.45)
            at = np.array([0, -depth / 2 + pitch * (k + 0.5), height - board])
            blocks.append(Block(at, np.array([width / 2, slat, board]), STILL))
        for column in (-1, 0, 1):
            middle = column * (width / 2 - 0.06)
            blocks.append(block(middle, 0, height - 3 * board, 0.05, depth / 2, board))
            blocks.append(block(middle, 0, board, 0.05, depth / 2, board))
            for row in (-1, 0, 1):
                blocks.append(
                    block(middle, row * (depth / 2 - 0.06), height / 2 - board, 0.05, 0.06, height / 2 - 3 * board)
                )
        origin = np.array([x, y, z])
        moved = [Block(turn @ b.centre + origin, b.half, turn) for b in blocks]
        deck = Collider("box", (width / 2, depth / 2, height / 2), None, (x, y, z + height / 2), turn)
        made = built(moved, self.wood(), metres=0.8, solid=False)
        return [Prop(made.mesh, made.surface, (deck,))], z + height

    def tote(self, half: Array, wall: float, z: float) -> list[Prop]:
        """A tote with inner half-extents [2], walls `wall` high, its inner bottom at z: rim, ribs, grips."""
        rng = self.rng
        surface = self.grimy(self.paint(), gloss=float(rng.uniform(0.15, 0.6)), wear=0.7)
        t = 0.008
        blocks = [block(0, 0, z - 0.01, half[0] + t, half[1] + t, 0.01)]
        for s in (-1, 1):
            blocks.append(block(s * (half[0] + t), 0, z + wall / 2, t, half[1] + 2 * t, wall / 2))
            blocks.append(block(0, s * (half[1] + t), z + wall / 2, half[0], t, wall / 2))
            blocks.append(block(s * (half[0] + 2 * t), 0, z + wall, 2 * t, half[1] + 4 * t, 0.008))
            blocks.append(block(0, s * (half[1] + 2 * t), z + wall, half[0] + 4 * t, 2 * t, 0.008))
        trim: list[Block] = []
        ribs = int(rng.integers(2, 6))
        for k in range(ribs):
            share = (k + 1) / (ribs + 1) * 2 - 1
            for s in (-1, 1):
                trim.append(block(share * half[0], s * (half[1] + 3 * t), z + wall / 2, 0.006, t, wall / 2))
                trim.append(block(s * (half[0] + 3 * t), share * half[1], z + wall / 2, t, 0.006, wall / 2))
        props = [built(blocks, surface, metres=0.7), built(trim, surface, metres=0.7, solid=False)]
        if rng.random() < 0.5:  # a card or bar code on the outer wall
            card = block(half[0] * rng.uniform(-0.5, 0.5), -(half[1] + 2.4 * t), z + wall * 0.6, 0.05, 0.001, 0.03)
            props.append(built([card], Surface(pick(rng, self.bank.label)), metres=0.1, solid=False))
        return props

    def belt(self, width: float, length: float, z: float) -> list[Prop]:
        """A conveyor along y, its top at z: belt or rollers between guards, on legs. `width` is a half-extent."""
        rng = self.rng
        guard = self.grimy(self.paint(), gloss=0.35)
        steel = self.grimy(grey(rng, 110, 200, 5), gloss=0.5, metal=True)
        props: list[Prop] = []
        if rng.random() < 0.5:
            pitch = rng.uniform(0.06, 0.12)
            radius = pitch * rng.uniform(0.32, 0.46)
            side = shapes.lathe(np.array([[radius, -width], [radius, width]]), segments=12)
            lying = side.moved(rotation_matrix(0, 0, np.pi / 2), np.zeros(3))
            rows = np.arange(-length / 2, length / 2, pitch)
            mesh = shapes.merge([lying.moved(STILL, np.array([0, y, z - radius])) for y in rows])
            track = Collider("box", (width, length / 2, 0.03), None, (0, 0, z - 0.03))
            props.append(Prop(mesh, steel, (track,)))
            props.append(
                built([block(0, 0, z - 2.6 * radius, width, length / 2, 0.01)], plain(grey(rng, 10, 40)), solid=False)
            )
        else:
            band = self.backdrop(("belt", "plate", "dark"), gloss=float(rng.uniform(0.05, 0.3)))
            props.append(
                built([block(0, 0, z - 0.02, width, length / 2, 0.02)], band, metres=float(rng.uniform(0.8, 2)))
            )
        rise = rng.uniform(0.02, 0.12)
        sides = [
            block(s * (width + 0.025), 0, z - 0.05 + rise / 2, 0.022, length / 2, 0.05 + rise / 2) for s in (-1, 1)
        ]
        props.append(built(sides, guard, metres=1.0))
        legs = [
            block(s * (width + 0.02), y, z / 2 - 0.45, 0.03, 0.03, max(z / 2 + 0.4, 0.1))
            for s in (-1, 1)
            for y in np.linspace(-length / 2, length / 2, 4)
        ]
        props.append(built(legs, guard, solid=False))
        if rng.random() < 0.4:  # a light barrier or scanner beside the belt
            s = rng.choice([-1, 1])
            y = rng.uniform(-0.4, 0.4)
            bodies = [
                block(s * (width + 0.06), y, z + 0.12, 0.03, 0.03, 0.12),
                block(s * (width + 0.02), y, z + 0.22, 0.05, 0.04, 0.03),
            ]
            props.append(built(bodies, self.grimy(self.paint()), metres=0.5, solid=False))
        return props

    def cart(self, half: Array, height: float, z: float) -> list[Prop]:
        """A roll cage: a base on castors and three sides of bars, open towards -y."""
        rng = self.rng
        steel = self.grimy(grey(rng, 110, 210, 4) if rng.random() < 0.7 else self.paint(), gloss=0.6, metal=True)
        r = 0.006
        bars: list[Block] = []
        across, up = int(rng.integers(6, 14)), int(rng.integers(3, 8))
        for k in range(across + 1):
            share = k / across * 2 - 1
            bars.append(block(share * half[0], half[1], z + height / 2, r, r, height / 2))
            for s in (-1, 1):
                bars.append(block(s * half[0], share * half[1], z + height / 2, r, r, height / 2))
        for k in range(up + 1):
            level = z + height * k / up
            bars.append(block(0, half[1], level, half[0], r, r))
            for s in (-1, 1):
                bars.append(block(s * half[0], 0, level, r, half[1], r))
        for x in (-1, 1):
            for y in (-1, 1):
                bars.append(block(x * half[0], y * half[1], z + height / 2, 0.016, 0.016, height / 2 + 0.02))
        shown = built(bars, steel, metres=0.5, solid=False)
        stop = (
            Collider("box", (half[0], 0.01, height), None, (0, half[1] + 0.005, z + height)),
            Collider("box", (0.01, half[1], height), None, (half[0] + 0.005, 0, z + height)),
            Collider("box", (0.01, half[1], height), None, (-half[0] - 0.005, 0, z + height)),
            # A strap that shows as one bar keeps the load in at the open side.
            Collider("box", (half[0], 0.01, height), None, (0, -half[1] - 0.005, z + height)),
        )
        strap = [block(0, -half[1], z + height * rng.uniform(0.12, 0.3), half[0], r, 0.02)]
        base = built([block(0, 0, z - 0.02, half[0], half[1], 0.02)], self.grimy(self.paint()), metres=0.6)
        return [Prop(shown.mesh, steel, stop), base, built(strap, self.grimy(self.paint()), solid=False)]

    def rack(self, bay: float, depth: float, level: float, floors: int, z: float) -> list[Prop]:
        """Posts, beams and decks of three bays along x, the middle one at the origin; floor k at z + k * level."""
        rng = self.rng
        posts, beams = self.grimy(self.paint(), gloss=0.3), self.grimy(self.paint(), gloss=0.3)
        thick = rng.uniform(0.035, 0.06)
        uprights: list[Block] = []
        for side in (-1.5, -0.5, 0.5, 1.5):
            for y in (0.0, depth):
                uprights.append(
                    block(side * (bay + 2 * thick), y, z + level * floors / 2, thick, 0.04, level * floors / 2 + 1.2)
                )
        rails: list[Block] = []
        decks: list[Block] = []
        for floor in range(floors + 1):
            for span in (-1, 0, 1):
                x, top = span * (bay + 2 * thick), z + floor * level
                rails += [block(x, y, top - 0.055, bay / 2 + thick, 0.022, 0.05) for y in (0.0, depth)]
                decks.append(block(x, depth / 2, top - 0.008, bay / 2, depth / 2, 0.008))
        props = [built(uprights, posts), built(rails, beams, metres=0.8)]
        props.append(built(decks, self.wood() if rng.random() < 0.6 else self.grimy(grey(rng, 90, 180)), metres=1.0))
        cards = [
            block(
                float(rng.uniform(-bay, bay)),
                -0.024,
                z + level * int(rng.integers(0, floors + 1)) - 0.055,
                0.05,
                0.001,
                0.03,
            )
            for _ in range(int(rng.integers(2, 9)))
        ]
        props.append(built(cards, Surface(self._card()), metres=0.1, solid=False))
        return props

    def _card(self) -> Image:
        return pick(self.rng, self.bank.label)
