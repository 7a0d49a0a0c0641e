"""Pinhole camera and the painter's order of boxes: pure functions of geometry.

World axes: x to the right, y away from the viewer, z up; lengths in metres. Picture axes: x right, y down, pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NEAR = 0.05  # metres; anything nearer than this cannot be projected sensibly


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera. `rotation` maps world offsets to (right, down, forward); `focal` is in pixels."""

    eye: Array
    rotation: Array
    focal: float
    width: int
    height: int

    def resized(self, size: int) -> Camera:
        """The same view as a picture of `size` x `size` pixels."""
        return Camera(self.eye, self.rotation, self.focal * size / self.width, size, size)

    def project(self, points: Array) -> tuple[Array, Array]:
        """World points [N, 3] to pixels [N, 2] and depths [N] (metres along the optical axis)."""
        local = (points - self.eye) @ self.rotation.T
        depth = local[:, 2]
        safe = np.maximum(depth, NEAR)
        pixels = local[:, :2] * (self.focal / safe)[:, None]
        pixels[:, 0] += self.width / 2
        pixels[:, 1] += self.height / 2
        return pixels, depth


def look_at(eye: Array, target: Array, *, fov_degrees: float, size: int, roll: float = 0.0) -> Camera:
    """A camera at `eye` (metres) that looks at `target`; `fov_degrees` spans the picture, `roll` is in radians."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    up = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.98 else np.array([0.0, 1.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    rotation = np.stack([c * right + s * down, -s * right + c * down, forward])
    focal = size / 2 / np.tan(np.radians(fov_degrees) / 2)
    return Camera(eye, rotation, float(focal), size, size)


def cross(a: Array, b: Array) -> Array:
    """The cross product of two vectors [3]; NumPy's own takes ten times as long for one pair."""
    (a0, a1, a2), (b0, b1, b2) = a.tolist(), b.tolist()
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


def rotation_matrix(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Rotation about z (yaw), then x (pitch), then y (roll); angles in radians; [3, 3]."""
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    about_y = np.array([[cr, 0.0, sr], [0.0, 1.0, 0.0], [-sr, 0.0, cr]])
    return about_z @ about_x @ about_y


def paint_order(low: Array, high: Array, eye: Array) -> list[int]:
    """Back-to-front order of axis-aligned boxes with corners `low` and `high` [N, 3], seen from `eye` [3].

    Two boxes apart along some axis are separated by a plane, and the one on the eye's side of it cannot be hidden by
    the other; that order is exact. Boxes that overlap on every axis fall back on the distance of their centres.
    """
    count = len(low)
    distance = np.linalg.norm((low + high) / 2 - eye, axis=1)
    in_front = np.zeros((count, count), dtype=bool)  # in_front[i, j]: i must be painted after j
    decided = np.eye(count, dtype=bool)
    for axis in range(3):
        # i lies wholly below j on this axis
        below = high[:, None, axis] <= low[None, :, axis] + 1e-6
        fresh = below & ~decided & ~decided.T
        eye_above_gap = eye[axis] > low[None, :, axis] - 1e-6
        eye_below_gap = eye[axis] < high[:, None, axis] + 1e-6
        in_front |= (fresh & eye_above_gap).T
        in_front |= fresh & ~eye_above_gap & eye_below_gap
        decided |= fresh | fresh.T
    undecided = ~decided
    in_front |= undecided & (distance[:, None] < distance[None, :])
    waiting = in_front.sum(axis=1)
    left = np.ones(count, dtype=bool)
    order: list[int] = []
    for _ in range(count):
        ready = left & (waiting == 0)
        if not ready.any():  # a cycle (rotated boxes only): break it at the farthest
            ready = left
        pick = int(np.argmax(np.where(ready, distance, -1.0)))
        order.append(pick)
        left[pick] = False
        waiting -= in_front[:, pick]
    return order
