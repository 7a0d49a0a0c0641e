"""Thin things and shadows: cables and hoses, wire mesh, shadows of what is out of sight. None of them is a package."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from finetune.scenes.camera import NEAR, Array, Camera
from finetune.scenes.canvas import STRUCTURE, Canvas

LIMIT = 4000.0  # pixels; what is farther outside the picture is drawn from there


@dataclass
class Tube:
    """A cable or hose: a line through `points` [N, 3] of one `radius` (metres) and one colour [3]."""

    points: Array
    radius: float
    colour: Array
    label: str | None = None

    def bounds(self) -> tuple[Array, Array]:
        """Axis-aligned corners (low [3], high [3]), metres."""
        return self.points.min(axis=0) - self.radius, self.points.max(axis=0) + self.radius

    def paint(self, canvas: Canvas, camera: Camera, instance: int) -> Array | None:
        """Paint the line at least a pixel thick; its points [N, 2] in pixels, None when nothing of it can be seen."""
        pixels, depth = camera.project(self.points)
        if depth.min() < NEAR or canvas.window(pixels, 2) is None:
            return None
        flat = [np.round(np.clip(pixels, -LIMIT, LIMIT)).astype(np.int32)]
        thick = int(np.clip(round(2 * self.radius * camera.focal / float(np.median(depth))), 1, 60))
        cv2.polylines(canvas.image, flat, False, (self.colour * 0.6).tolist(), thick)
        cv2.polylines(canvas.ids, flat, False, instance, thick)
        if thick > 3:  # the light side of what is round
            cv2.polylines(canvas.image, flat, False, self.colour.tolist(), thick // 2)
        return pixels


@dataclass
class Net:
    """Wire mesh: `rows` and `columns` of wires of one `radius` between the corners of a parallelogram (metres)."""

    corner: Array
    across: Array
    along: Array
    columns: int
    rows: int
    radius: float
    colour: Array
    label: str | None = None

    def bounds(self) -> tuple[Array, Array]:
        """Axis-aligned corners (low [3], high [3]), metres."""
        ends = self.corner + np.stack([np.zeros(3), self.across, self.along, self.across + self.along])
        return ends.min(axis=0) - self.radius, ends.max(axis=0) + self.radius

    def paint(self, canvas: Canvas, camera: Camera, instance: int) -> Array | None:
        """Paint the wires; their ends [N, 2] in pixels, None when nothing of them can be seen."""
        u, v = np.linspace(0, 1, self.columns + 1)[:, None], np.linspace(0, 1, self.rows + 1)[:, None]
        starts = np.concatenate([self.corner + u * self.across, self.corner + v * self.along])
        ends = np.concatenate([starts[: len(u)] + self.along, starts[len(u) :] + self.across])
        first, depth_a = camera.project(starts)
        last, depth_b = camera.project(ends)
        depth = np.concatenate([depth_a, depth_b])
        outline = np.concatenate([first, last])
        if depth.min() < NEAR or canvas.window(outline, 1) is None:
            return None
        thick = int(np.clip(round(2 * self.radius * camera.focal / float(np.median(depth))), 1, 20))
        lines = np.round(np.clip(np.stack([first, last], axis=1), -LIMIT, LIMIT)).astype(np.int32)
        cv2.polylines(canvas.image, list(lines), False, self.colour.tolist(), thick)
        cv2.polylines(canvas.ids, list(lines), False, instance, thick)
        return outline


@dataclass
class Shade:
    """The shadow that something out of sight casts on whatever is under the outline `points` [N, 3] (metres)."""

    points: Array
    strength: float
    label: str | None = None

    def bounds(self) -> tuple[Array, Array]:
        """Axis-aligned corners (low [3], high [3]) of the outline, metres."""
        return self.points.min(axis=0), self.points.max(axis=0)

    def paint(self, canvas: Canvas, camera: Camera, instance: int) -> Array | None:
        """Darken what is there; the outline [N, 2] in pixels. None when it is not in view, and for an id of an
        instance."""
        pixels, depth = camera.project(self.points)
        if depth.min() < NEAR or instance != STRUCTURE:
            return None
        hull = cv2.convexHull(np.clip(pixels, -LIMIT, LIMIT).astype(np.float32))[:, 0].astype(float)
        reach = float(np.clip(0.04 * np.ptp(hull, axis=0).max(), 1, 6))
        canvas.shadow(hull, self.strength, reach)
        return hull
