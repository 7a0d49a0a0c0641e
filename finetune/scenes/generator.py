"""From a seed and an index to a picture with exact instance masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.scenes import effects
from finetune.scenes.camera import Array, paint_order
from finetune.scenes.canvas import FILM, Canvas
from finetune.scenes.environment import Maker, World
from finetune.scenes.layouts import GROUND, LAYOUTS, backdrop_name
from finetune.scenes.look import BROAD, Look
from finetune.scenes.materials import choose, pick
from finetune.scenes.negatives import add_negatives
from finetune.scenes.packages import Thing, paint_all, structure
from finetune.scenes.room import hall
from finetune.scenes.textures import Image, TextureBank, texture_bank

VERSION = "6"
MAX_SIZE = 1023  # pixels; what the bank of sensor noise covers
LABELS = ("box", "padded_mailer", "poly_bag", "cylinder", "sack", "item")


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture uint8 [S, S, 3] RGB, its id map uint8 [S, S] (0 = no package) and the class of instance k at
    `labels[k - 1]`. Every instance in `labels` has at least `min_area` visible pixels. `bare` scenes have no package on
    purpose."""

    image: Image
    ids: NDArray[np.uint8]
    labels: tuple[str, ...]
    environment: str
    bare: bool = False

    def masks(self) -> NDArray[np.bool_]:
        """One mask per instance, bool [N, S, S]."""
        return self.ids[None] == np.arange(1, len(self.labels) + 1, dtype=np.uint8)[:, None, None]


class SceneGenerator:
    """Scenes of one look. `scene(index)` depends on `seed`, `index`, the look and the generator's version alone. Raises
    ValueError for a `size` that is too small or too large."""

    def __init__(self, look: Look = BROAD, *, size: int = 256, seed: int = 0) -> None:
        if not 16 <= size <= MAX_SIZE:
            raise ValueError(f"scenes have 16 to {MAX_SIZE} pixels a side, not {size}")
        self.look = look
        self.size = size
        self.seed = seed
        self.min_area = max(4, int(look.min_area_share * size * size))
        self._bank = texture_bank()

    def scene(self, index: int) -> Scene:
        """The scene number `index` (any non-negative integer)."""
        rng = np.random.default_rng((self.seed, index))
        make = Maker(rng, self.look, self._bank, self.size)
        environment = choose(rng, self.look.environments)
        backdrop = _cut(rng, pick(rng, self._bank.backdrop[backdrop_name(make, environment)]), self.size)
        light = np.array([rng.normal(0, 0.6), rng.normal(-0.5, 0.5), rng.uniform(0.4, 1.0)])
        canvas = Canvas(backdrop, light, float(rng.uniform(0.35, 0.75)))
        world = LAYOUTS[environment](make)
        bare = _surround(make, world, environment)
        labels = _paint(world, canvas, rng, self._bank, self.look)
        image, ids = effects.light_field(rng, canvas.image, self.look), canvas.ids
        if rng.random() < self.look.distortion:
            image, ids = effects.lens(rng, image, ids)
        image = effects.sensor(rng, image, self.look, self._bank)
        ids, kept = compact(ids, labels, self.min_area)
        return Scene(image, ids, kept, environment, bare)


def _cut(rng: np.random.Generator, backdrop: Image, size: int) -> Image:
    """A random window of the backdrop, mirrored at random and scaled to `size`."""
    side = int(rng.integers(backdrop.shape[0] // 3, backdrop.shape[0] + 1))
    x, y = rng.integers(0, backdrop.shape[0] - side + 1, 2)
    window = cv2.resize(backdrop[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
    return window[:, ::-1] if rng.random() < 0.5 else window


def _surround(make: Maker, world: World, environment: str) -> bool:
    """A hall around the world, things in it that are no packages, and now and then no package: then it is true."""
    rng, look = make.rng, make.look
    empty = bool(look.empty) and rng.random() < look.empty
    if empty:
        bare: list[Thing] = [thing for thing in world.things if thing.label is None]
        world.things = bare or [structure(world.camera.eye + (0, 0, 50.0), np.full(3, 0.01), np.zeros(3))]
        world.wrapped, world.films = [], []
    if look.rooms and rng.random() < look.rooms:
        world.floor = float(rng.uniform(*GROUND.get(environment, (0.0, 0.0))))
        world.room = hall(make, world.floor, max(float(thing.bounds()[1][1]) for thing in world.things) + 0.3)
    if look.negatives and (empty or rng.random() < look.negatives):
        add_negatives(make, world, int(rng.integers(*look.negative_count)) + (2 if empty else 0))
    return empty


def _painted(things: list[Thing], canvas: Canvas, world: World) -> dict[int, str]:
    """Paint things back to front; see `paint_all`."""
    bounds = [thing.bounds() for thing in things]
    order = paint_order(np.stack([b[0] for b in bounds]), np.stack([b[1] for b in bounds]), world.camera.eye)
    return paint_all(things, order, canvas, world.camera)


def _paint(world: World, canvas: Canvas, rng: np.random.Generator, bank: TextureBank, look: Look) -> dict[int, str]:
    if world.room is not None:
        world.room.paint(canvas, world.camera)
    if world.behind:
        _painted(world.behind, canvas, world)
    labels = _painted(world.things, canvas, world)
    # Film clings to whatever package shows inside its outline; neighbours behind it shine a little too.
    members = np.ones(256, np.bool_)
    members[0] = False
    for group in world.wrapped:
        corners = np.concatenate([np.stack(world.things[k].bounds()) for k in group])
        low, high = corners.min(axis=0), corners.max(axis=0)
        veil = FILM
        if look.cuts and rng.random() < look.cuts:  # film that stops half-way up the load shows its edge
            high[2] = low[2] + (high[2] - low[2]) * rng.uniform(0.25, 0.85)
            veil = float(rng.uniform(FILM, 0.35))
        outline, depth = world.camera.project(_corners(low, high))
        if depth.min() > 0.1:
            canvas.film(outline, pick(rng, bank.film), float(rng.uniform(0.6, 2.2)), members, veil)
    for group, film in world.films:
        corners = np.concatenate([np.stack(world.things[k].bounds()) for k in group])
        outline, depth = world.camera.project(_corners(corners.min(axis=0), corners.max(axis=0)))
        if depth.min() > 0.1:
            canvas.wrap(outline, pick(rng, bank.film), film, members)
    if world.front:
        _painted(world.front, canvas, world)
    return labels


def _corners(low: Array, high: Array) -> Array:
    return np.array([[a, b, c] for a in (low[0], high[0]) for b in (low[1], high[1]) for c in (low[2], high[2])])


def compact(ids: NDArray[np.uint8], labels: dict[int, str], min_area: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Drop instances with fewer than `min_area` visible pixels and number the rest 1, 2, ... without gaps."""
    area = np.bincount(ids.ravel(), minlength=256)
    table = np.zeros(256, np.uint8)
    kept: list[str] = []
    for instance, label in labels.items():
        if area[instance] >= min_area:
            kept.append(label)
            table[instance] = len(kept)
    return table[ids], tuple(kept)
