"""What a physical scene is made of before and after it has settled: parcels, props, lamps and the finished shot.

Lengths in metres, z up, colours linear from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from finetune.scenes.camera import Array, Camera
from finetune.scenes.physical.shapes import Float, Mesh
from finetune.scenes.textures import Image

STILL = np.eye(3)


@dataclass(frozen=True, slots=True)
class Surface:
    """How a mesh looks. `texture` uint8 [H, W, 3] is multiplied by `colour` [3]; `gloss` 0 is card, 1 is foil;
    `clear` is the share of light that passes (film); `glow` is emission."""

    texture: Image | None = None
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gloss: float = 0.1
    metal: bool = False
    clear: float = 0.0
    glow: float = 0.0


@dataclass(frozen=True, slots=True)
class Collider:
    """What the physics touches: a primitive (`size` as half-extents, (radius, half-length) or radii) or the hull of
    `points` [N, 3], at `offset` in its link."""

    kind: Literal["box", "cylinder", "ellipsoid", "hull"]
    size: tuple[float, ...] = ()
    points: Array | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: Array = field(default_factory=lambda: STILL)


@dataclass(frozen=True, slots=True)
class Link:
    """A part of a soft parcel, hinged to its first link at `anchor` about `axis` (both in the parcel's frame) by a
    spring; its frame lies at `anchor`. The first link of a parcel has no axis."""

    collider: Collider
    anchor: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axis: tuple[float, float, float] | None = None
    stiffness: float = 0.0
    limit: float = 0.9  # radians


@dataclass(frozen=True, slots=True)
class Parcel:
    """A package at rest in its own frame. `weights` float32 [V, links] say which links a vertex follows (None: it is
    rigid). `inside` shows through a clear film."""

    label: str
    mesh: Mesh
    surface: Surface
    links: tuple[Link, ...]
    mass: float
    half: Array  # half-extents [3] of the whole
    weights: Float | None = None
    inside: tuple[Mesh, Surface] | None = None


@dataclass(frozen=True, slots=True)
class Prop:
    """A thing that is not a package and does not move: a mesh in the world, and what of it can be touched."""

    mesh: Mesh
    surface: Surface
    colliders: tuple[Collider, ...] = ()
    ghost: bool = False  # seen through: shrink wrap, dust; hides nothing


@dataclass(frozen=True, slots=True)
class Placed:
    """A parcel where it starts: centre [3], rotation [3, 3], and the push it gets (metres a second, [3])."""

    parcel: Parcel
    centre: Array
    rotation: Array
    push: Array = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True, slots=True)
class Lamp:
    """`kind` sun: parallel light from `place`'s direction; lamp: a square panel of `size` metres at `place` that shines
    towards `target`. `colour` [3] is its strength on a surface that faces it at the middle of the scene."""

    kind: Literal["sun", "lamp"]
    place: Array
    target: Array
    colour: Array
    size: float
    shadow: bool = True


@dataclass(frozen=True, slots=True)
class Lighting:
    """The lamps, and the light [3] that comes from everywhere."""

    lamps: tuple[Lamp, ...]
    ambient: Array


@dataclass
class Stage:
    """A world before it settles. `reach` bounds where parcels may end: (low [3], high [3]); `wrap` is the share of the
    parcels' heap that shrink wrap covers (None: no wrap)."""

    placed: list[Placed]
    props: list[Prop]
    camera: Camera
    lighting: Lighting
    reach: tuple[Array, Array]
    wrapped: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Piece:
    """A mesh in the world with its surface. `instance` 0 is no package."""

    mesh: Mesh
    surface: Surface
    instance: int = 0
    ghost: bool = False


@dataclass(frozen=True, slots=True)
class Shot:
    """A settled world, ready for any renderer: instance k has the class `labels[k - 1]`. `speed` is that of the
    fastest parcel when the physics stopped (metres a second)."""

    pieces: tuple[Piece, ...]
    labels: tuple[str, ...]
    camera: Camera
    lighting: Lighting
    environment: str
    speed: float
