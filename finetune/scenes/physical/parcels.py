"""Packages as bodies: shape, skin, what of them collides, and how the soft ones bend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from finetune.scenes.camera import Array
from finetune.scenes.materials import box_colour, choose, grey, hue_colour
from finetune.scenes.physical import shapes, skins
from finetune.scenes.physical.look import PhysicalLook
from finetune.scenes.physical.world import Collider, Link, Parcel, Surface
from finetune.scenes.textures import TextureBank, smooth_noise

DENSITY = 120.0  # kg/m3 of a filled package


@dataclass(frozen=True, slots=True)
class Packer:
    """Makes the packages of one scene: its random numbers, its look and the texture bank."""

    rng: np.random.Generator
    look: PhysicalLook
    bank: TextureBank
    assets: tuple[Parcel, ...] = ()  # packages read from meshes, of size one metre

    def draw(self, scale: float, *, widest: float = 1.0) -> Parcel:
        """One package of the look's mix whose larger half-extent is about `scale` metres, at most `widest`."""
        label = choose(self.rng, self.look.classes)
        return self.make(label, min(scale * float(self.rng.uniform(0.6, 1.35)), widest))

    def make(self, label: str, reach: float) -> Parcel:
        """A package of this class; `reach` is its larger half-extent in metres."""
        return _MAKERS[label](self, reach)

    def style(self) -> tuple[str, Array]:
        """Material and colour of a box."""
        material = choose(self.rng, self.look.box_materials)
        return material, box_colour(self.rng, self.look, material)

    def box(self, half: Array, style: tuple[str, Array] | None = None) -> Parcel:
        """A carton with these half-extents [3]."""
        rng = self.rng
        if self.assets and style is None and rng.random() < 0.3:
            return _fitted(self.assets[int(rng.integers(len(self.assets)))], half)
        material, colour = style or self.style()
        atlas = skins.box_atlas(rng, self.look, self.bank, (material, colour), half)
        hard = material == "plywood"
        dents = np.concatenate(
            [rng.choice([-1.0, 1.0], (3, 3)) * rng.uniform(0.5, 1, (3, 3)), rng.uniform(0, 0.012, (3, 1))], 1
        )
        mesh = shapes.box(
            half,
            bulge=0.0 if hard else float(rng.normal(0.0, 0.02)),
            cells=1 if hard else 5,
            dents=None if hard or rng.random() < 0.5 else dents,
        )
        gloss = 0.05 if material in ("kraft", "plywood") else float(rng.uniform(0.05, 0.45))
        link = Link(Collider("box", tuple(float(v) for v in half)))
        return Parcel("box", mesh, Surface(atlas, gloss=gloss), (link,), 8 * float(np.prod(half)) * DENSITY, half)


def _carton(pack: Packer, reach: float) -> Parcel:
    rng = pack.rng
    half = reach * np.array([1.0, rng.uniform(0.4, 1.0), rng.uniform(0.18, 0.85)])
    return pack.box(np.maximum(half, 0.015))


def _cylinder(pack: Packer, reach: float) -> Parcel:
    """Mailing tubes, drums, rolls, tins and bottles: bodies that are turned."""
    rng = pack.rng
    kind = rng.random()
    if kind < 0.45:
        radius, length = reach * rng.uniform(0.14, 0.35), reach * rng.uniform(0.8, 1.3)
        profile = np.array([[1, -1], [1, 0], [1, 1]]) * (radius, length)
    elif kind < 0.8:
        radius, length = reach * rng.uniform(0.35, 0.7), reach * rng.uniform(0.35, 0.8)
        lip = rng.uniform(0.9, 0.97)
        profile = np.array([[lip, -1], [1, -0.94], [1, 0], [1, 0.94], [lip, 1]]) * (radius, length)
    else:
        radius, length = reach * rng.uniform(0.25, 0.4), reach
        neck = rng.uniform(0.3, 0.5)
        profile = np.array([[0.9, -1], [1, -0.9], [1, 0.3], [neck, 0.65], [neck, 0.95], [neck * 0.9, 1]])
        profile = profile * (radius, length)
    mesh = shapes.lathe(profile)
    surface = Surface(skins.lathe_texture(rng, pack.look, pack.bank), gloss=float(rng.uniform(0.05, 0.7)))
    link = Link(Collider("cylinder", (float(radius), float(length))))
    mass = 6 * radius**2 * length * DENSITY
    return Parcel("cylinder", mesh, surface, (link,), float(mass), np.array([radius, radius, length]))


def _item(pack: Packer, reach: float) -> Parcel:
    """Goods without packaging: rounded blocks, balls, rings, cones and bent shapes."""
    rng = pack.rng
    reach *= 0.7
    kind = rng.random()
    if kind < 0.25:
        bend = rng.uniform(0.25, 0.45)
        angle = np.linspace(0, 2 * np.pi, 13)
        ring = np.stack([np.cos(angle), np.sin(angle)], 1) * reach * (1 - bend)
        path = np.concatenate([ring, np.zeros((13, 1))], 1)
        mesh = _ring(path, reach * bend)
    elif kind < 0.5:
        rows = int(rng.integers(5, 9))
        radii = np.clip(rng.uniform(0.3, 1.0, rows), 0.15, 1) * reach * 0.6
        profile = np.stack([radii, np.linspace(-reach, reach, rows)], 1)
        fine = np.linspace(0, rows - 1, 4 * rows)
        mesh = shapes.lathe(np.stack([np.interp(fine, np.arange(rows), profile[:, k]) for k in (0, 1)], 1))
    else:
        half = reach * np.array([1.0, rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.9)])
        relief = np.stack([0.05 * smooth_noise(rng, 13, 3) for _ in range(2)]).astype(float)
        mesh = shapes.pillow(half, relief, squareness=float(rng.uniform(2, 8)), rim=float(rng.uniform(0.6, 4)))
    texture = skins.soft_texture(rng, pack.look, pack.bank, "item")
    surface = Surface(texture, gloss=float(rng.uniform(0.1, 0.9)), metal=rng.random() < 0.12)
    points = mesh.vertices.astype(float)
    half = (points.max(axis=0) - points.min(axis=0)) / 2
    chosen = points[np.unique(np.argmax(points @ _directions(26).T, axis=0))]
    link = Link(Collider("hull", points=chosen))
    return Parcel("item", mesh, surface, (link,), float(4 * np.prod(half) * DENSITY), half)


def _ring(path: Array, radius: float) -> shapes.Mesh:
    """A closed ring around z. Its seam's tangents come from both neighbours, so that the ends meet."""
    angle = np.linspace(0, 2 * np.pi, len(path))
    around = np.linspace(0, 2 * np.pi, 11)
    reach = float(np.linalg.norm(path[0]))
    big = reach + radius * np.cos(around)[None, :]
    place = np.stack(
        [
            big * np.cos(angle)[:, None],
            big * np.sin(angle)[:, None],
            np.broadcast_to(radius * np.sin(around), (len(path), 11)),
        ],
        -1,
    )
    uv = np.stack(np.meshgrid(angle / (2 * np.pi), around / (2 * np.pi), indexing="ij"), -1).reshape(-1, 2)
    faces = shapes.grid_faces(len(path) - 1, 10)[:, ::-1]
    return shapes.smooth(place.reshape(-1, 3), faces, uv)


def _directions(count: int) -> Array:
    """About evenly spread unit vectors [count, 3]."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], 1)


def _mailer(pack: Packer, reach: float) -> Parcel:
    """A padded mailer: flat, three boards that fold a little against each other."""
    rng = pack.rng
    half = np.array([reach, reach * rng.uniform(0.5, 0.9), reach * rng.uniform(0.05, 0.14)])
    half[2] = max(half[2], 0.008)
    relief = _wrinkled(rng, 17, 0.22)
    mesh = shapes.pillow(half, relief, squareness=9.0, rim=float(rng.uniform(1.2, 3.0)), seam=0.06)
    texture = skins.soft_texture(rng, pack.look, pack.bank, "padded_mailer")
    third = float(half[0]) / 3
    size = (third, float(half[1]) * 0.96, float(half[2]) * 0.75)
    stiffness = float(rng.uniform(0.05, 0.5)) * reach
    links = (
        Link(Collider("box", size)),
        Link(Collider("box", size, offset=(third, 0, 0)), (third, 0, 0), (0, 1, 0), stiffness, 0.5),
        Link(Collider("box", size, offset=(-third, 0, 0)), (-third, 0, 0), (0, 1, 0), stiffness, 0.5),
    )
    x = mesh.vertices[:, 0].astype(float) / third
    right, left = _rise(x - 0.4), _rise(-x - 0.4)
    weights = np.stack([1 - right - left, right, left], 1).astype(np.float32)
    surface = Surface(texture, gloss=float(rng.uniform(0.05, 0.5)))
    return Parcel("padded_mailer", mesh, surface, links, float(4 * np.prod(half) * DENSITY), half, weights)


def _rise(x: Array) -> Array:
    """0 below 0, 1 above 1.2, smooth in between."""
    t = np.clip(x / 1.2, 0, 1)
    return t * t * (3 - 2 * t)


def _wrinkled(rng: np.random.Generator, cells: int, strength: float) -> Array:
    """Relief [2, cells, cells] of two sheets: ridged noise at several scales."""
    field = np.zeros((2, cells, cells))
    for sheet in range(2):
        for features, weight in ((2, 0.5), (4, 0.6), (8, 0.45)):
            field[sheet] += weight * (np.abs(smooth_noise(rng, cells, features)) - 0.6)
    return strength * field


def _bag(pack: Packer, reach: float) -> Parcel:
    """A poly bag: crumpled film around what is in it; white, black, clear or coloured."""
    rng = pack.rng
    kind = choose(rng, pack.look.bags)
    half = reach * np.array([1.0, rng.uniform(0.55, 1.0), rng.uniform(0.16, 0.4)])
    mesh = shapes.pillow(
        half,
        _wrinkled(rng, 25, 0.5),
        squareness=float(rng.uniform(4.0, 8.0)),
        rim=float(rng.uniform(0.8, 1.6)),
        seam=float(rng.uniform(0.06, 0.16)),
    )
    ground = {
        "white": lambda: grey(rng, 205, 248),
        "black": lambda: grey(rng, 8, 26, 4),
        "clear": lambda: grey(rng, 215, 250),
    }.get(kind, lambda: hue_colour(rng, pack.look, (0.3, 0.95), (0.35, 0.95)))()
    texture = skins.soft_texture(rng, pack.look, pack.bank, "poly_bag", ground=ground)
    surface = Surface(texture, gloss=float(rng.uniform(0.5, 1.0)), clear=0.6 if kind == "clear" else 0.0)
    inside = None
    if kind == "clear":
        goods = skins.soft_texture(rng, pack.look, pack.bank, "item")
        core = shapes.pillow(
            half * (0.72, 0.72, 0.7), _wrinkled(rng, 13, 0.1), squareness=float(rng.uniform(2.5, 9)), rim=2.0
        )
        inside = (core, Surface(goods, gloss=0.2))
    return _sagging("poly_bag", mesh, surface, half, float(rng.uniform(0.1, 0.6)) * reach, inside)


def _sack(pack: Packer, reach: float) -> Parcel:
    """A heavy, plump sack of paper or woven plastic."""
    rng = pack.rng
    half = reach * np.array([1.0, rng.uniform(0.5, 0.75), rng.uniform(0.26, 0.42)])
    mesh = shapes.pillow(
        half,
        _wrinkled(rng, 19, 0.2),
        squareness=float(rng.uniform(3.0, 6.0)),
        rim=float(rng.uniform(0.7, 1.1)),
        seam=float(rng.uniform(0.02, 0.07)),
    )
    texture = skins.soft_texture(rng, pack.look, pack.bank, "sack")
    weave = 1 + 0.06 * np.sign(np.sin(np.arange(skins.SOFT) * 2.1))
    texture = cv2.multiply(texture, np.repeat((weave[:, None] * weave[None, :])[:, :, None], 3, 2), dtype=cv2.CV_8U)
    return _sagging("sack", mesh, Surface(texture, gloss=float(rng.uniform(0.02, 0.3))), half, 0.8 * reach, None)


def _sagging(
    label: str,
    mesh: shapes.Mesh,
    surface: Surface,
    half: Array,
    stiffness: float,
    inside: tuple[shapes.Mesh, Surface] | None,
) -> Parcel:
    """A body of five lobes, the outer four hinged to the middle one, that its skin follows."""
    a, b, c = (float(v) for v in half)
    links = [Link(Collider("ellipsoid", (0.62 * a, 0.62 * b, 0.82 * c)))]
    for sign in (1.0, -1.0):
        size = (0.42 * a, 0.78 * b, 0.62 * c)
        links.append(
            Link(
                Collider("ellipsoid", size, offset=(sign * 0.28 * a, 0, 0)),
                (sign * 0.28 * a, 0, 0),
                (0, 1, 0),
                stiffness,
            )
        )
    for sign in (1.0, -1.0):
        size = (0.7 * a, 0.42 * b, 0.62 * c)
        links.append(
            Link(
                Collider("ellipsoid", size, offset=(0, sign * 0.28 * b, 0)),
                (0, sign * 0.28 * b, 0),
                (1, 0, 0),
                stiffness,
            )
        )
    x, y = mesh.vertices[:, 0].astype(float) / a, mesh.vertices[:, 1].astype(float) / b
    ends = [_rise((s * x - 0.2) * 1.2) for s in (1, -1)]
    sides = [_rise((s * y - 0.2) * 1.2) for s in (1, -1)]
    outer = np.stack(ends + sides, 1)
    total = outer.sum(axis=1, keepdims=True)
    outer = outer / np.maximum(total, 1.0)
    weights = np.concatenate([1 - outer.sum(axis=1, keepdims=True), outer], 1).astype(np.float32)
    mass = 4 * float(np.prod(half)) * DENSITY * (2.5 if label == "sack" else 1.0)
    return Parcel(label, mesh, surface, tuple(links), mass, half, weights, inside)


def _fitted(parcel: Parcel, half: Array) -> Parcel:
    """A package read from a mesh at the size of a carton: its proportions stay, its largest half-extent is the
    carton's."""
    factor = float(half.max() / parcel.half.max())
    size = parcel.half * factor
    link = Link(Collider("box", tuple(float(v) for v in size)))
    mass = 8 * float(np.prod(size)) * DENSITY
    return Parcel(parcel.label, parcel.mesh.scaled(factor), parcel.surface, (link,), mass, size)


_MAKERS: dict[str, Callable[[Packer, float], Parcel]] = {
    "box": _carton,
    "cylinder": _cylinder,
    "item": _item,
    "padded_mailer": _mailer,
    "poly_bag": _bag,
    "sack": _sack,
}
