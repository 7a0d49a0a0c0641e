"""Painting primitives: every stroke goes to the picture and, for packages, to the instance-id map with the
same outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.scenes.camera import Array
from finetune.scenes.textures import Float, Image

SUBPIXEL = 4  # fractional bits of polygon corners
STRUCTURE = 0  # id of everything that is not a package
FILM = 0.06  # what clear film covers where it does not glint


@dataclass(frozen=True, slots=True)
class Film:
    """A film's `veil` (0 to 1: what it covers where it does not glint), its `colour` [3] there, and its glints'
    `strength`."""

    veil: float
    colour: tuple[float, float, float]
    strength: float


class Canvas:
    """A picture (uint8 [S, S, 3] RGB) and its id map (uint8 [S, S], 0 = no package) under one directional light."""

    def __init__(self, backdrop: Image, light: Array, ambient: float) -> None:
        self.image: Image = np.ascontiguousarray(backdrop)
        self.size = backdrop.shape[0]
        self.ids: NDArray[np.uint8] = np.zeros(backdrop.shape[:2], np.uint8)
        self.light = light / np.linalg.norm(light)
        self.ambient = ambient

    def shade(self, normal: Array) -> float:
        """Lambert's law with an ambient floor: brightness factor of a surface with this unit normal [3]."""
        return self.ambient + (1 - self.ambient) * max(0.0, float(normal @ self.light))

    def window(self, outline: Array, margin: int = 1) -> tuple[int, int, int, int] | None:
        """Pixel window (x0, y0, x1, y1) that holds `outline` [N, 2] inside the picture, None when it lies outside."""
        # Plain numbers: most outlines have four corners, where an array's overhead is the larger part.
        x, y = outline.T.tolist()
        x0, y0 = max(floor(min(x)) - margin, 0), max(floor(min(y)) - margin, 0)
        x1, y1 = min(ceil(max(x)) + margin + 1, self.size), min(ceil(max(y)) + margin + 1, self.size)
        return (x0, y0, x1, y1) if x1 - x0 >= 1 and y1 - y0 >= 1 else None

    def fill(self, outline: Array, colour: Array, instance: int) -> None:
        """Fill a convex outline [N, 2] (pixels) with one colour [3]."""
        points = fixed_point(outline)
        shade = [float(v) for v in np.clip(colour, 0, 255)]
        cv2.fillConvexPoly(self.image, points, shade, cv2.LINE_8, SUBPIXEL)
        cv2.fillConvexPoly(self.ids, points, instance, cv2.LINE_8, SUBPIXEL)

    def texture(self, quad: Array, texture: Image, instance: int, outline: Array | None = None) -> None:
        """Map `texture` [T, T, 3] onto `quad` [4, 2] (pixels; corners in the order of the texture's own: top-left,
        top-right, bottom-right, bottom-left), clipped to `outline` [N, 2] (any simple polygon; the quad itself by
        default)."""
        shape = quad if outline is None else outline
        window = self.window(shape)
        if window is None:
            return
        x0, y0, x1, y1 = window
        side_y, side_x = texture.shape[:2]
        corners = np.array([[0, 0], [side_x, 0], [side_x, side_y], [0, side_y]], np.float32)
        offset = (quad - (x0, y0)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(corners, offset)
        patch = cv2.warpPerspective(
            texture, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [fixed_point(shape - (x0, y0))], 1, cv2.LINE_8, SUBPIXEL)
        cv2.copyTo(patch, mask, self.image[y0:y1, x0:x1])
        np.copyto(self.ids[y0:y1, x0:x1], np.uint8(instance), where=mask.view(np.bool_))

    def shadow(self, outline: Array, strength: float, reach: float) -> None:
        """Darken what lies under and around a convex outline [N, 2]; `reach` is the blur in pixels."""
        window = self.window(outline, margin=int(3 * reach) + 1)
        if window is None:
            return
        x0, y0, x1, y1 = window
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillConvexPoly(mask, fixed_point(outline - (x0, y0)), 255, cv2.LINE_8, SUBPIXEL)
        radius = 2 * max(1, int(reach)) + 1
        soft = cv2.blur(cv2.blur(mask, (radius, radius)), (radius, radius))
        factor = cv2.cvtColor(255 - cv2.convertScaleAbs(soft, alpha=strength), cv2.COLOR_GRAY2RGB)
        region = self.image[y0:y1, x0:x1]
        region[:] = cv2.multiply(region, factor, scale=1 / 255)

    def film(
        self, outline: Array, creases: Float, strength: float, members: NDArray[np.bool_], veil: float = FILM
    ) -> None:
        """Lay clear film over the instances in `members` (bool [256], indexed by id) within the outline's window;
        `veil` (0 to 1) is how much of what is under it it covers where it does not glint."""
        window = self.window(outline)
        if window is None:
            return
        x0, y0, x1, y1 = window
        glints = cv2.resize(creases, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        alpha = np.clip((glints - 0.98) * strength, 0, 0.75) + veil
        alpha = np.where(members[self.ids[y0:y1, x0:x1]], alpha, 0)[:, :, None]
        region = self.image[y0:y1, x0:x1]
        region[:] = (region * (1 - alpha) + 235 * alpha).astype(np.uint8)

    def wrap(self, outline: Array, creases: Float, film: Film, members: NDArray[np.bool_]) -> None:
        """Lay a film of its own colour over the instances in `members` (bool [256]) within the outline's window."""
        window = self.window(outline)
        if window is None:
            return
        x0, y0, x1, y1 = window
        glints = cv2.resize(creases, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        alpha = np.clip((glints - 1.0) * film.strength, 0, 0.7)[:, :, None]
        region = self.image[y0:y1, x0:x1]
        veiled = region * np.float32(1 - film.veil) + np.array(film.colour, np.float32) * np.float32(film.veil)
        veiled = veiled * (1 - alpha) + 225 * alpha
        np.copyto(region, veiled.astype(np.uint8), where=members[self.ids[y0:y1, x0:x1]][:, :, None])


def fixed_point(outline: Array) -> NDArray[np.int32]:
    """Pixel coordinates as OpenCV's fixed-point integers; far-away corners are clamped to what it can hold."""
    # OpenCV's pixel centres are at whole numbers, ours at half.
    return np.round((np.clip(outline, -4000, 4000) - 0.5) * (1 << SUBPIXEL)).astype(np.int32)
