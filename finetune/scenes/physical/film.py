"""Shrink wrap: clear film around a load, with the creases that glint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune.scenes.camera import Array
from finetune.scenes.physical import shapes
from finetune.scenes.physical.shapes import Mesh
from finetune.scenes.physical.world import Piece, Surface
from finetune.scenes.textures import smooth_noise

ROWS, COLUMNS = 24, 72
REACH = 0.85  # metres from the middle of a load: what fell off it lies farther away


def shrink_wrap(rng: np.random.Generator, meshes: Sequence[Mesh]) -> list[Piece]:
    """Film a little outside the outline of a load, open below, and its creases; nothing for no load."""
    centres = np.array([m.vertices.mean(axis=0) for m in meshes]).reshape(-1, 3)
    if not len(centres):
        return []
    away = np.linalg.norm(centres[:, :2] - np.median(centres[:, :2], axis=0), axis=1)
    loaded = [m for m, off in zip(meshes, away, strict=True) if off < REACH and float(m.vertices[:, 2].min()) > 0.05]
    if not loaded:
        return []
    place = _skirt(rng, np.concatenate([m.vertices for m in loaded]).astype(float))
    uv = np.stack(np.meshgrid(np.linspace(0, 1, ROWS + 1), np.linspace(0, 2, COLUMNS + 1), indexing="ij")[::-1], -1)
    mesh = shapes.smooth(place.reshape(-1, 3), shapes.grid_faces(ROWS, COLUMNS), uv.reshape(-1, 2))
    tone = (0.9, 0.94, 0.97)
    film = Surface(None, tone, gloss=1.0, clear=float(rng.uniform(0.82, 0.93)))
    return [
        Piece(mesh, film, 0, ghost=True),
        Piece(
            _creases(rng, place, int(rng.integers(20, 60)), 0.006), Surface(None, tone, gloss=1.0, clear=0.6), 0, True
        ),
        Piece(
            _creases(rng, place, int(rng.integers(6, 24)), 0.002),
            Surface(None, (1, 1, 1), gloss=1.0, clear=0.15),
            0,
            True,
        ),
    ]


def _skirt(rng: np.random.Generator, points: Array) -> Array:
    """The film's grid of places [ROWS + 1, COLUMNS + 1, 3], from the top down."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    angle = np.linspace(0, 2 * np.pi, COLUMNS + 1)
    way = np.stack([np.cos(angle), np.sin(angle)], 1)
    levels = np.linspace(high[2] + 0.004, low[2], ROWS + 1)
    place = np.empty((ROWS + 1, COLUMNS + 1, 3))
    field = np.abs(smooth_noise(rng, COLUMNS + 1, 14) * 0.005 + smooth_noise(rng, COLUMNS + 1, 36) * 0.003)
    between = np.cos(angle[None, :-1] - angle[:-1, None])
    for k, z in enumerate(levels):
        # The film is stretched over all that reaches this high: the outline of its convex hull.
        near = points[points[:, 2] >= z - 0.03 if k else points[:, 2] >= high[2] - 0.03]
        support = ((near[:, :2] - middle[:2]) @ way[:-1].T).max(axis=0) + 0.008
        # Radius along each direction of the polygon that the support lines cut out. A load that leans clear of its own
        # middle at this height has no outline around it; the film then keeps close to the middle.
        lines = np.where(between > 0.05, support[None, :] / np.maximum(between, 0.05), np.inf)
        radius = np.maximum(lines.min(axis=1), 0.01)
        ripple = field[k].copy()
        ripple[-1] = ripple[0]
        place[k, :, :2] = middle[:2] + way * (np.append(radius, radius[0]) + ripple)[:, None]
        place[k, :, 2] = z
    return place


def _creases(rng: np.random.Generator, place: Array, count: int, width: float) -> Mesh:
    """Thin ribbons on the film, mostly along the way it was wound."""
    strips = []
    middle = place.mean(axis=(0, 1))
    for _ in range(count):
        steps = int(rng.integers(4, 16))
        row = rng.uniform(0, ROWS) + rng.normal(0, 0.35) * np.arange(steps)
        column = rng.uniform(0, COLUMNS) + np.arange(steps) * rng.uniform(0.3, 1.0)
        row = np.clip(row, 0, ROWS - 1e-6)
        r, c = row.astype(int), column.astype(int) % COLUMNS
        a, b = (row - r)[:, None], (column % 1)[:, None]
        line = (1 - a) * ((1 - b) * place[r, c] + b * place[r, c + 1]) + a * (
            (1 - b) * place[r + 1, c] + b * place[r + 1, c + 1]
        )
        outward = (line - middle) * (1, 1, 0)
        line = line + 0.002 * outward / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
        half = width * np.sin(np.linspace(0.1, np.pi - 0.1, steps))[:, None] * np.array([0.0, 0.0, 1.0])
        ribbon = np.stack([line + half, line - half])
        uv = np.stack(np.meshgrid([0.0, 1.0], np.linspace(0, 1, steps), indexing="ij"), -1)
        strips.append(shapes.smooth(ribbon.reshape(-1, 3), shapes.grid_faces(1, steps - 1), uv.reshape(-1, 2)))
    return shapes.merge(strips)
