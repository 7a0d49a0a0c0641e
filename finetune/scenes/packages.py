"""Things in the world: packages of every class and structures that are not packages, each able to paint itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from finetune.scenes.camera import NEAR, Array, Camera, cross
from finetune.scenes.canvas import STRUCTURE, Canvas
from finetune.scenes.textures import Image

# Corner k of a box has signs (bit 0: x, bit 1: y, bit 2: z). Faces list corners so that texture "up" is world up where
# there is one: top-left, top-right, bottom-right, bottom-left as seen from outside.
SIGNS = np.array([[1 if k >> b & 1 else -1 for b in range(3)] for k in range(8)], float)
FACES: tuple[tuple[tuple[int, int, int, int], tuple[int, int, int]], ...] = (
    ((4, 5, 1, 0), (0, -1, 0)),  # front (towards -y)
    ((7, 6, 2, 3), (0, 1, 0)),
    ((6, 4, 0, 2), (-1, 0, 0)),
    ((5, 7, 3, 1), (1, 0, 0)),
    ((6, 7, 5, 4), (0, 0, 1)),  # top
    ((0, 1, 3, 2), (0, 0, -1)),
)
TOP, UNDERSIDE = 4, 5  # of FACES
RINGS = tuple(np.array(ring) for ring, _ in FACES)
AXES = tuple((int(np.flatnonzero(axis)[0]), float(sum(axis))) for _, axis in FACES)  # which axis, and its sign
UPRIGHT, SIDEWAYS = np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])
AROUND = np.linspace(0, 2 * np.pi, 24, endpoint=False)[:, None]
COSINES, SINES = np.cos(AROUND), np.sin(AROUND)
GAP = 0.4  # brightness of a face that lies against its neighbour


class Thing(Protocol):
    """Anything in a scene. `label` is a package class, or None for a structure."""

    @property
    def label(self) -> str | None:
        """The package class; None for a structure, which is never an instance."""

    def bounds(self) -> tuple[Array, Array]:
        """Axis-aligned corners (low, high), metres."""
        ...

    def paint(self, canvas: Canvas, camera: Camera, instance: int) -> Array | None:
        """Paint and return the outline [N, 2] in pixels, or None when nothing of it can be seen."""
        ...


@dataclass
class Cuboid:
    """A box-shaped thing. `skin` draws the texture of a face; without it faces take the plain `colour`.

    Faces in `covered` lie against a neighbour: all that shows of them is a dark gap. `tone` is how bright the skin is.
    """

    centre: Array
    half: Array
    rotation: Array
    colour: Array
    label: str | None = None
    skin: Callable[[int], Image] | None = None
    shadow: float = 0.35
    covered: frozenset[int] = frozenset()
    tone: float = 1.0

    def corners(self) -> Array:
        """The eight corners, metres [8, 3]."""
        return self.centre + (SIGNS * self.half) @ self.rotation.T

    def bounds(self) -> tuple[Array, Array]:
        """Axis-aligned corners (low [3], high [3]), metres."""
        corners = self.corners()
        return corners.min(axis=0), corners.max(axis=0)

    def paint(self, canvas: Canvas, camera: Camera, instance: int) -> Array | None:
        """Paint the faces that look at the camera; the outline [N, 2] in pixels, None when nothing can be seen."""
        corners = self.corners()
        pixels, depth = camera.project(corners)
        if depth.min() < NEAR:
            return None
        hull = cv2.convexHull(pixels.astype(np.float32))[:, 0].astype(float)
        if canvas.window(hull, 0) is None:
            return None
        if self.shadow and self.label is not None:
            reach = max(2.0, 0.06 * float(np.ptp(hull, axis=0).max()))
            canvas.shadow(hull + (0.3 * reach, 0.6 * reach), self.shadow, min(reach, 10.0))
        towards = camera.eye - self.centre
        for index, (axis, sign) in enumerate(AXES):
            normal = self.rotation[:, axis] * sign
            if normal @ (towards - normal * self.half[axis]) <= 0:
                continue
            quad, shade = pixels[RINGS[index]], canvas.shade(normal) * self.tone
            if index in self.covered:
                canvas.fill(quad, self.colour * shade * GAP, instance)
            elif self.skin is None or index == UNDERSIDE:
                canvas.fill(quad, self.colour * shade, instance)
            elif canvas.window(quad, 0) is not None:
                canvas.texture(quad, cv2.convertScaleAbs(self.skin(index), alpha=shade), instance)
        return hull


@dataclass
class Sheet:
    """A soft flat package (mailer, bag, sack): an outline in a plane, with its relief baked into the skin.

    `across` and `along` are half-extents as vectors (metres); `outline` is [N, 2] in their units (-1 to 1).
    """

    centre: Array
    across: Array
    along: Array
    outline: Array
    skin: Image
    label: str | None
    thickness: float

    def bounds(self) -> tuple[Array, Array]:
        """Axis-aligned corners (low [3], high [3]), metres; its thickness counts upwards and downwards."""
        reach = np.abs(self.across) + np.abs(self.along)
        # A soft thing lies on what is under it: however it leans, it does not reach below its own thickness.
        below = np.array([reach[0], reach[1], self.thickness])
        return self.centre - below, self.centre + reach + (0, 0, self.thickness)

    def paint(self, canvas: Canvas, camera: Camera, instance: int) -> Array | None:
        """Paint shadow and skin; the outline [N, 2] in pixels, None when nothing of it can be seen."""
        square = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]], float)
        quad, depth = camera.project(self.centre + square[:, :1] * self.across + square[:, 1:] * self.along)
        outline, _ = camera.project(self.centre + self.outline[:, :1] * self.across + self.outline[:, 1:] * self.along)
        if depth.min() < NEAR or canvas.window(outline, 0) is None:
            return None
        hull = cv2.convexHull(outline.astype(np.float32))[:, 0].astype(float)
        reach = float(np.clip(0.05 * np.ptp(hull, axis=0).max(), 1.5, 8))
        canvas.shadow(hull + (0.3 * reach, 0.6 * reach), 0.4, reach)
        normal = cross(self.across, self.along)
        normal /= max(float(np.linalg.norm(normal)), 1e-9)
        shade = canvas.shade(normal if normal @ (camera.eye - self.centre) > 0 else -normal)
        canvas.texture(quad, cv2.convertScaleAbs(self.skin, alpha=shade), instance, outline)
        return outline


@dataclass
class Cylinder:
    """A tube, roll, drum or bottle: a straight axis from `start` to `end` (metres) and one radius."""

    start: Array
    end: Array
    radius: float
    skin: Image
    cap: Array
    label: str | None

    def bounds(self) -> tuple[Array, Array]:
        """Axis-aligned corners (low [3], high [3]), metres, as if the ends were round."""
        ends = np.stack([self.start, self.end])
        return ends.min(axis=0) - self.radius, ends.max(axis=0) + self.radius

    def paint(self, canvas: Canvas, camera: Camera, instance: int) -> Array | None:
        """Paint shadow, side and end; the outline [N, 2] in pixels, None when nothing of it can be seen."""
        axis = self.end - self.start
        axis = axis / np.linalg.norm(axis)
        side = cross(axis, UPRIGHT if abs(axis[2]) < 0.9 else SIDEWAYS)
        side /= np.linalg.norm(side)
        ring = self.radius * (COSINES * side + SINES * cross(axis, side))
        first, depth_a = camera.project(self.start + ring)
        last, depth_b = camera.project(self.end + ring)
        if min(depth_a.min(), depth_b.min()) < NEAR:
            return None
        hull = cv2.convexHull(np.concatenate([first, last]).astype(np.float32))[:, 0].astype(float)
        if canvas.window(hull, 0) is None:
            return None
        reach = float(np.clip(0.06 * np.ptp(hull, axis=0).max(), 1.5, 9))
        canvas.shadow(hull + (0.3 * reach, 0.6 * reach), 0.4, reach)
        run = last.mean(axis=0) - first.mean(axis=0)
        length = float(np.linalg.norm(run))
        if length > 1e-3:
            normal = np.array([-run[1], run[0]]) / length
            wide_a, wide_b = (np.abs((e - e.mean(axis=0)) @ normal).max() for e in (first, last))
            a, b = first.mean(axis=0), last.mean(axis=0)
            stretch = run / length * max(float(np.abs((first - a) @ run).max() / length), 0.5)
            quad = np.stack(
                [
                    a - stretch - normal * wide_a,
                    a - stretch + normal * wide_a,
                    b + stretch + normal * wide_b,
                    b + stretch - normal * wide_b,
                ]
            )
            upward = canvas.shade(np.array([0.0, -0.5, 0.85]))
            canvas.texture(quad, cv2.convertScaleAbs(self.skin, alpha=upward), instance, hull)
        for outline, centre, facing in ((first, self.start, -axis), (last, self.end, axis)):
            if facing @ (camera.eye - centre) > 0:
                canvas.fill(outline, self.cap * canvas.shade(facing), instance)
        return hull


def structure(centre: Array, half: Array, colour: Array, rotation: Array | None = None) -> Cuboid:
    """A plain box-shaped thing that is not a package: beam, post, slat, wall of a tote, machine."""
    turn = np.eye(3) if rotation is None else rotation
    return Cuboid(np.asarray(centre, float), np.asarray(half, float), turn, np.asarray(colour, float), shadow=0.0)


def paint_all(
    things: list[Thing], order: list[int], canvas: Canvas, camera: Camera, limit: int = 250
) -> dict[int, str]:
    """Paint in the given order; returns id -> package class for what was painted as a package."""
    labels: dict[int, str] = {}
    for index in order:
        thing = things[index]
        instance = len(labels) + 1 if thing.label is not None and len(labels) < limit else STRUCTURE
        if thing.paint(canvas, camera, instance) is not None and instance and thing.label is not None:
            labels[instance] = thing.label
    return labels
