"""Loads of many equal cartons: layers and columns, bonds, gaps, slip sheets, and what has been taken away already.

Each carton is a package of its own. Cartons of a load share a few skins, and those that nobody can see are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.scenes.camera import Array, rotation_matrix
from finetune.scenes.canvas import Film
from finetune.scenes.environment import Maker
from finetune.scenes.materials import BoxSkins, grey
from finetune.scenes.packages import FACES, Cuboid, Thing, structure
from finetune.scenes.textures import FACE, Image

GRID = 0.02  # metres: the raster in which neighbours are found
VARIANTS = 3  # of each face's skin
# World directions -x, +x, -y, +y, +z, as rows.
WAYS = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, 1]], float)
NORMALS = np.array([axis for _, axis in FACES], float)


class SharedSkins:
    """The faces of one kind of carton, `VARIANTS` of each; `side` is how many pixels a face's texture has."""

    def __init__(self, make: Maker) -> None:
        material, colour = make.box_style()
        self.colour, self.side = colour, FACE
        self._boxes = [BoxSkins(make.rng, make.look, make.bank, material, colour)]
        if make.rng.random() < 0.25:  # some turned about, with other labels
            self._boxes.append(BoxSkins(make.rng, make.look, make.bank, material, colour))
        self._drawn: dict[tuple[int, int], Image] = {}

    def face(self, variant: int, face: int) -> Image:
        """Texture of a face (index into FACES); uint8 [side, side, 3]."""
        key = (variant, face)
        if key not in self._drawn:
            skin = self._boxes[variant % len(self._boxes)].face(face)
            if self.side < FACE:
                skin = np.asarray(cv2.resize(skin, (self.side, self.side), interpolation=cv2.INTER_AREA), np.uint8)
            self._drawn[key] = skin
        return self._drawn[key]


@dataclass(frozen=True)
class Kind:
    """A kind of carton: its sides along x, y and z (metres) and its skins."""

    size: Array
    skins: SharedSkins


@dataclass
class Layer:
    """Where the cartons of a layer lie: corners and sides [N, 2] in the load's own metres, and which are there."""

    corners: Array
    sides: Array
    there: NDArray[np.bool_]

    def occupied(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """A raster [X, Y] of what the layer covers."""
        raster = np.zeros(shape, np.bool_)
        for (x, y), (w, d) in zip(self.corners[self.there], self.sides[self.there], strict=True):
            raster[_span(x, w), _span(y, d)] = True
        return raster


def _span(start: float, long: float) -> slice:
    return slice(max(0, round(start / GRID)), max(0, round((start + long) / GRID)))


def layer_of(width: float, depth: float, size: Array, turned_rows: int, mirrored: bool) -> Layer:
    """A layer of a footprint [width, depth]: rows of cartons, the last `turned_rows` turned by a right angle."""
    corners, sides = [], []
    y = 0.0
    rows = max(1, int((depth + 1e-6) / size[1]))
    plain = max(0, rows - turned_rows)
    left = depth - plain * size[1]
    turned = int((left + 1e-6) / size[0]) if turned_rows else 0
    for along, wide, count in ((size[1], size[0], plain), (size[0], size[1], turned)):
        for _ in range(count):
            many = max(1, int((width + 1e-6) / wide))
            slack = (width - many * wide) / many
            for column in range(many):
                corners.append((column * (wide + slack) + slack / 2, y))
                sides.append((wide, along))
            y += along
    placed, sized = np.array(corners), np.array(sides)
    if mirrored:
        placed = np.array([width, y]) - placed - sized
    return Layer(placed, sized, np.ones(len(placed), np.bool_))


def bond(make: Maker, width: float, depth: float, size: Array, layers: int) -> list[Layer]:
    """Layers in columns, or bonded: mirrored or turned in turn."""
    rng = make.rng
    turned = int(rng.integers(0, 3)) if rng.random() < 0.55 else 0
    alternate = rng.random() < 0.6
    made = []
    for number in range(layers):
        odd = alternate and number % 2 == 1
        made.append(layer_of(width, depth, size, turned, odd))
    return made


def take_away(make: Maker, layers: list[Layer]) -> None:
    """Some of the top layer are gone: from one side as a robot takes them, or anywhere; seldom below as well."""
    rng = make.rng
    if rng.random() < 0.35:
        return
    top = layers[-1]
    count = len(top.there)
    gone = int(rng.integers(0, count))
    order = np.lexsort((top.corners[:, 0], top.corners[:, 1])) if rng.random() < 0.7 else rng.permutation(count)
    if rng.random() < 0.5:
        order = order[::-1]
    top.there[order[:gone]] = False
    if len(layers) > 2 and gone > count // 2 and rng.random() < 0.4:
        below = layers[-2]
        free = ~_covered(below, top)
        choice = np.flatnonzero(free)[: int(rng.integers(0, 3))]
        below.there[choice] = False


def _raster(layers: list[Layer]) -> tuple[int, int]:
    ends = np.max([(layer.corners + layer.sides).max(axis=0) for layer in layers], axis=0)
    return int(ends[0] / GRID) + 2, int(ends[1] / GRID) + 2


def _covered(layer: Layer, above: Layer) -> NDArray[np.bool_]:
    """Which cartons of `layer` have anything on them."""
    raster = above.occupied(_raster([layer, above]))
    pairs = zip(layer.corners, layer.sides, strict=True)
    return np.array([bool(raster[_span(x, w), _span(y, d)].any()) for (x, y), (w, d) in pairs])


def _full(part: NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(part) > 0.94 * part.size)


def build_load(
    make: Maker, kind: Kind, layers: list[Layer], centre: Array, base: float, *, yaw: float = 0.0
) -> list[Thing]:
    """The cartons of a load whose footprint is centred at `centre` [2] and stands at `base`, slip sheets between.

    A carton with neighbours on every side and on top is left out; faces against neighbours are marked as covered.
    """
    rng = make.rng
    shape = _raster(layers)
    rasters = [layer.occupied(shape) for layer in layers]
    origin = -np.max([(layer.corners + layer.sides).max(axis=0) for layer in layers], axis=0) / 2
    sheets, gap = rng.random() < 0.2, rng.uniform(0.0, 0.02) if rng.random() < 0.6 else 0.002
    jitter, sway = rng.uniform(0, 0.012), rng.uniform(0, 0.03) if rng.random() < 0.5 else 0.0
    flip = rng.random() < 0.5
    turn_all = rotation_matrix(yaw)
    things: list[Thing] = []
    z = base
    tall = float(kind.size[2])
    for number, layer in enumerate(layers):
        above = rasters[number + 1] if number + 1 < len(layers) else np.zeros(shape, np.bool_)
        for k in np.flatnonzero(layer.there):
            (x, y), (w, d) = layer.corners[k], layer.sides[k]
            across, along = _span(x, w), _span(y, d)
            shut = np.array(
                [
                    across.start > 0 and _full(rasters[number][across.start - 1, along]),
                    _full(rasters[number][min(across.stop, shape[0] - 1), along]),
                    along.start > 0 and _full(rasters[number][across, along.start - 1]),
                    _full(rasters[number][across, min(along.stop, shape[1] - 1)]),
                    _full(above[across, along]),
                ]
            )
            if shut.all():
                continue
            quarter = (0 if w >= d else 1) + (2 if flip and rng.random() < 0.5 else 0)
            local = np.array([max(w, d), min(w, d), tall]) if kind.size[0] >= kind.size[1] else np.array([w, d, tall])
            if kind.size[0] < kind.size[1]:
                quarter = 0
            own = rotation_matrix(quarter * np.pi / 2)
            facing = np.argmax((NORMALS @ own.T) @ WAYS.T, axis=0)
            covered = frozenset(int(face) for face, closed in zip(facing, shut, strict=True) if closed)
            place = np.array([x + w / 2, y + d / 2]) + origin + rng.normal(0, jitter, 2)
            at = turn_all @ np.array([*place, 0.0]) + (*centre, z + tall / 2)
            half = local / 2 - (gap / 2 + 5e-4, gap / 2 + 5e-4, 5e-4)
            turn = turn_all @ rotation_matrix(rng.normal(0, sway)) @ own
            variant = int(rng.integers(VARIANTS))
            carton = Cuboid(
                at,
                np.maximum(half, 0.01),
                turn,
                kind.skins.colour,
                "box",
                lambda face, variant=variant: kind.skins.face(variant, face),  # type: ignore[misc]
                shadow=0.0,
                covered=covered,
                tone=float(rng.normal(1.0, 0.05)),
            )
            things.append(carton)
        z += tall
        if sheets and number + 1 < len(layers):
            wide, deep = (-origin + rng.uniform(-0.02, 0.012)).tolist()
            tone = grey(rng, 150, 245) if rng.random() < 0.5 else np.array([186.0, 150, 108]) * rng.uniform(0.7, 1.15)
            things.append(structure(np.array([*centre, z + 0.002]), np.array([wide, deep, 0.002]), tone, turn_all))
            z += 0.004
    return things


def film_of(make: Maker) -> Film:
    """Stretch film round a load: clear, milky, black or coloured."""
    rng, kind = make.rng, make.rng.random()
    if kind < 0.5:
        return Film(float(rng.uniform(0.03, 0.2)), (232.0, 234.0, 236.0), float(rng.uniform(0.6, 2.4)))
    if kind < 0.65:
        return Film(float(rng.uniform(0.25, 0.5)), (225.0, 228.0, 230.0), float(rng.uniform(0.6, 1.6)))
    if kind < 0.92:
        return Film(float(rng.uniform(0.45, 0.8)), (18.0, 18.0, 20.0), float(rng.uniform(0.5, 1.8)))
    return Film(float(rng.uniform(0.2, 0.45)), (70.0, 120.0, 80.0), float(rng.uniform(0.6, 1.6)))


def carton_kind(make: Maker, width: float, depth: float, across: tuple[int, int], along: tuple[int, int]) -> Kind:
    """Cartons of which so many fit into a footprint [width, depth]."""
    rng = make.rng
    size = np.array([width / int(rng.integers(*across)), depth / int(rng.integers(*along))])
    tall = float(np.clip(size.mean() * rng.uniform(0.25, 1.15), 0.05, 0.6))
    return Kind(np.array([*size, tall]), SharedSkins(make))
