"""Walls of photographed faces: carton fronts, cut out of photographs, stacked in rows and seen from a slant.

What a rack, a depalletiser and a loaded pallet show: many equal fronts side by side with thin dark joints, a ragged top
row, and at a corner a second side in other light. Fronts are photographs; stacking, view and masks are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.scenes.camera import Array
from finetune.scenes.canvas import Canvas
from finetune.scenes.textures import Image

MIN_FILL = 0.9  # of its bounding box: a cutout that fills so much is a face seen from the front
MAX_BOXES = 120
OPAQUE = 128  # alpha from which on a pixel belongs to the package


@dataclass(frozen=True, slots=True)
class Sheet:
    """One side of a stack, flat: `pixels` uint8 [H, W, 3], `ids` uint8 [H, W] (0 where no box is)."""

    pixels: Image
    ids: NDArray[np.uint8]


def faces_of(cutouts: tuple[Image, ...]) -> tuple[Image, ...]:
    """The cutouts (uint8 [H, W, 4]) that show a front and nothing else, as RGB without their rim."""
    found = []
    for cutout in cutouts:
        solid = cutout[:, :, 3] >= OPAQUE
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        if not len(rows):
            continue
        inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if solid[inside].mean() >= MIN_FILL and min(solid[inside].shape) >= 8:
            found.append(np.ascontiguousarray(cutout[inside][:, :, :3]))
    return tuple(found)


def build_wall(rng: np.random.Generator, canvas: Canvas, faces: tuple[Image, ...]) -> dict[int, str]:
    """Paint a stack of photographed fronts onto `canvas`; return each instance's label by its id.

    Args:
        rng: decides the stack and the view.
        canvas: what is painted on.
        faces: fronts, uint8 [H, W, 3] each; at least one.
    """
    kinds = [faces[int(k)] for k in rng.integers(len(faces), size=1 if rng.random() < 0.6 else int(rng.integers(2, 5)))]
    aspect = float(np.clip(kinds[0].shape[1] / kinds[0].shape[0] * rng.uniform(0.85, 1.15), 0.45, 2.6))
    columns = int(rng.integers(2, 11))
    rows = int(np.clip(rng.integers(1, 9), 1, MAX_BOXES // columns))
    wide = float(rng.uniform(0.35, 1.25))  # of the picture's side
    cell = wide * canvas.size / columns
    high = rows * cell / aspect / canvas.size
    if high > 1.3:
        rows = max(1, int(rows * 1.3 / high))
        high = rows * cell / aspect / canvas.size
    side = (max(6, round(cell)), max(6, round(cell / aspect)))
    ids = 1 + np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    if rng.random() < 0.6:  # boxes were taken from the top already
        depth = np.clip(rng.normal(0.6, 0.8, columns), 0, rows - 1).astype(int)
        for column, taken in enumerate(depth):
            ids[:taken, column] = 0
    light = float(np.clip(canvas.image.mean() / 100, 0.5, 1.15)) * rng.uniform(0.7, 1.25) * rng.uniform(0.93, 1.07, 3)
    front = _sheet(rng, kinds, ids, side, light)
    left, top = rng.uniform(-0.15, max(-0.1, 1.05 - wide)), rng.uniform(-0.1, max(-0.05, 0.98 - high))
    quad = np.array([[0, 0], [wide, 0], [wide, high], [0, high]]) + (left, top)
    quad = _seen(rng, quad)
    corner = rng.random() < 0.4
    if corner:  # the other side, whose first column are the ends of the front's last
        deep = int(rng.integers(1, 5))
        others = np.zeros((rows, deep), np.uint8)
        others[:, 0] = ids[:, -1]
        fresh = int(ids.max()) + 1
        for row, column in np.ndindex(rows, deep - 1):
            if ids[row, -1]:
                others[row, column + 1] = fresh = min(fresh + 1, 254)
        shade = light * rng.uniform(0.45, 0.85)
        beside = _sheet(rng, kinds, others, (max(4, round(side[0] * rng.uniform(0.4, 0.9))), side[1]), shade)
        reach = deep * cell / canvas.size * rng.uniform(0.25, 0.7)
        slope = rng.uniform(-0.12, 0.12)
        right_top, right_low = quad[1], quad[2]
        away = np.array([reach, slope * reach])
        shrink = rng.uniform(0.0, 0.12) * (right_low - right_top)
        _place(canvas, beside, np.array([right_top, right_top + away + shrink, right_low + away - shrink, right_low]))
    _place(canvas, front, quad, shadow=True)
    return {int(instance): "box" for instance in np.unique(canvas.ids) if instance}


def _sheet(
    rng: np.random.Generator, kinds: list[Image], ids: NDArray[np.uint8], side: tuple[int, int], light: Array
) -> Sheet:
    """A flat side: fronts of `side` pixels (wide, high) for each of `ids` [R, C], with joints between them."""
    rows, columns = ids.shape
    wide, high = side
    pixels = np.full((rows * high, columns * wide, 3), rng.integers(8, 60), np.uint8)
    painted = np.zeros(pixels.shape[:2], np.uint8)
    joint = float(rng.choice([0.0, 0.015, 0.04]))
    mixed = rng.random() < 0.5  # kinds box by box, or row by row
    flips = rng.random() < 0.3
    for (row, column), instance in np.ndenumerate(ids):
        if not instance:
            continue
        kind = kinds[int(rng.integers(len(kinds))) if mixed else row % len(kinds)]
        if flips and rng.random() < 0.5:
            kind = kind[::-1, ::-1]
        left, top = (round(s * joint * rng.uniform(0, 1)) for s in side)
        right, low = (round(s * joint * rng.uniform(0, 1)) for s in side)
        x0, y0 = column * wide + left, row * high + top
        size = (max(3, wide - left - right), max(3, high - top - low))
        face = cv2.resize(kind, size, interpolation=cv2.INTER_AREA)
        tone = light * rng.uniform(0.85, 1.12)
        window = np.s_[y0 : y0 + size[1], x0 : x0 + size[0]]
        pixels[window] = np.clip(face * tone, 0, 255).astype(np.uint8)
        painted[window] = instance
    return Sheet(pixels, painted)


def _seen(rng: np.random.Generator, quad: Array) -> Array:
    """The corners [4, 2] of a wall seen a little from the side or from above, by a camera that is tilted."""
    middle = quad.mean(0)
    yaw, pitch, roll = rng.normal(0, 0.16), rng.normal(0.05, 0.12), np.deg2rad(rng.normal(0, 3.0))
    flat = quad - middle
    depth = 1 + yaw * flat[:, 0] + pitch * flat[:, 1]
    turned = flat / np.clip(depth, 0.6, 1.6)[:, None]
    rotation = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return turned @ rotation.T + middle


def _place(canvas: Canvas, sheet: Sheet, quad: Array, *, shadow: bool = False) -> None:
    """Warp a side onto the corners `quad` [4, 2] (shares of the picture): pixels smoothly, ids by the nearest."""
    size, (high, wide) = canvas.size, sheet.ids.shape
    corners = np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, (quad * size).astype(np.float32))
    seen = cv2.warpPerspective(
        sheet.pixels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    ids = cv2.warpPerspective(sheet.ids, matrix, (size, size), flags=cv2.INTER_NEAREST)
    # Joints are dark and no box's; they hide what is behind the stack as boxes do.
    whole = cv2.morphologyEx((sheet.ids > 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    hides = cv2.warpPerspective(whole, matrix, (size, size), flags=cv2.INTER_NEAREST) > 0
    if shadow and hides.any():
        foot = quad[[2, 3]] * size
        drop = np.array([0.0, 0.02 * size])
        canvas.shadow(np.array([foot[1], foot[0], foot[0] + drop, foot[1] + drop]), 0.35, 0.015 * size)
    canvas.image[hides] = seen[hides]
    canvas.ids[hides] = ids[hides]
