"""Halls: a floor and walls in perspective, with what is painted, taped, hung and built on them.

Every plane of a hall is a texture mapped by its homography. A hall is convex, so that along the ray of a pixel the
plane of the largest inverse distance is what is seen; that inverse distance is linear in the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from finetune.scenes.camera import Array, Camera
from finetune.scenes.canvas import Canvas
from finetune.scenes.environment import Maker
from finetune.scenes.marks import mark_floor, mark_wall
from finetune.scenes.materials import pick
from finetune.scenes.textures import BACKDROP, Image

FARTHEST = 40.0  # metres; beyond it the backdrop stands
FLOORS = ("concrete", "concrete", "steel", "planks", "wall", "belt", "dark")
WALLS = ("wall", "wall", "concrete", "dark", "clutter", "steel")


@dataclass(frozen=True)
class Plane:
    """A textured plane: `origin` + u `across` + v `down` (metres a texture pixel) is where texture pixel (u, v) lies;
    beyond its edges the texture is mirrored."""

    origin: Array
    across: Array
    down: Array
    texture: Image

    def normal(self) -> Array:
        """Unit vector [3] at right angles to the plane, by the right hand from `across` to `down`."""
        normal = np.cross(self.across, self.down)
        return normal / np.linalg.norm(normal)


@dataclass(frozen=True)
class Room:
    """The planes around a world; `floor` is the height of the ground, metres."""

    planes: list[Plane]
    floor: float

    def paint(self, canvas: Canvas, camera: Camera) -> None:
        """Paint the planes over the canvas's backdrop."""
        size = canvas.size
        focal, half = camera.focal, size / 2
        # Pixel (x, y, 1) to the world's direction of its ray, of depth one.
        rays = camera.rotation.T @ np.array([[1 / focal, 0, -half / focal], [0, 1 / focal, -half / focal], [0, 0, 1]])
        x = np.arange(size, dtype=np.float32) + 0.5
        nearest = np.full((size, size), 1 / FARTHEST, np.float32)
        winner = np.full((size, size), -1, np.int8)
        for number, plane in enumerate(self.planes):
            normal = plane.normal()
            away = float(normal @ (plane.origin - camera.eye))
            if abs(away) < 0.05:
                continue
            a, b, c = (normal @ rays) / away
            inverse = np.float32(a) * x[None, :] + (np.float32(b) * x + np.float32(c))[:, None]
            nearer = inverse > nearest
            winner[nearer] = number
            np.copyto(nearest, inverse, where=nearer)
        for number, plane in enumerate(self.planes):
            mask = (winner == number).view(np.uint8)
            x0, y0, wide, high = cv2.boundingRect(mask)
            if not wide:
                continue
            to_camera = camera.rotation @ np.stack([plane.across, plane.down, plane.origin - camera.eye], axis=1)
            lens = np.array([[focal, 0, half - 0.5 - x0], [0, focal, half - 0.5 - y0], [0, 0, 1.0]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            matrix = np.linalg.inv(lens @ to_camera)
            seen = cv2.warpPerspective(
                plane.texture, matrix, (wide, high), flags=flags, borderMode=cv2.BORDER_REFLECT_101
            )
            window = np.s_[y0 : y0 + high, x0 : x0 + wide]
            shade = canvas.shade(plane.normal() * (1 if plane.normal() @ (camera.eye - plane.origin) > 0 else -1))
            cv2.copyTo(cv2.convertScaleAbs(seen, alpha=0.25 + 0.6 * shade), mask[window], canvas.image[window])


def hall(make: Maker, floor: float, back: float) -> Room:
    """A floor at height `floor` and none to two walls at least `back` metres behind the origin."""
    rng, allowed = make.rng, make.look.backgrounds
    floors = tuple(name for name in FLOORS if name in allowed) or allowed
    walls = tuple(name for name in WALLS if name in allowed) or allowed
    metres = float(rng.uniform(2.0, 5.0)) / BACKDROP
    yaw = rng.uniform(0, 2 * np.pi)
    ground = np.ascontiguousarray(pick(rng, make.bank.backdrop[pick(rng, floors)])).copy()
    mark_floor(rng, make.look, make.bank, ground)
    across, along = (metres * np.array([np.cos(t), np.sin(t), 0.0]) for t in (yaw, yaw + np.pi / 2))
    middle = np.array([*rng.uniform(-1.5, 1.5, 2), floor]) - (across + along) * BACKDROP / 2
    planes = [Plane(middle, across, along, ground)]
    for turn in ((0.0,), (0.0, np.pi / 2), (0.0, -np.pi / 2))[int(rng.integers(3))]:
        angle = turn + rng.normal(0, 0.15)
        way = np.array([np.sin(angle), np.cos(angle), 0.0])
        side = np.array([np.cos(angle), -np.sin(angle), 0.0])
        high = float(rng.uniform(2.5, 6.0))
        picture = pick(rng, make.bank.backdrop[pick(rng, walls)]).copy()
        mark_wall(rng, make.look, make.bank, picture)
        step = high / BACKDROP
        corner = way * (back + rng.uniform(0.0, 5.0)) + np.array([0, 0, floor + high]) - side * high / 2
        planes.append(Plane(corner, side * step, np.array([0, 0, -step]), picture))
    return Room(planes, floor)
