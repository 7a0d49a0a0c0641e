"""Copy-paste scenes: photographs of packages, cut out, in rows, stacks and heaps before a background of ours.

A folder of assets holds the cutouts as PNGs with an alpha channel (in it, or in `box-cutouts` below it). All of them
are boxes. What is pasted later hides what was pasted before, so that masks are exact. Cutouts that are a carton's front
alone become walls instead (`finetune.scenes.walls`), as often as they are among the cutouts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from finetune.errors import SceneToolError
from finetune.scenes import effects
from finetune.scenes.camera import Array
from finetune.scenes.canvas import Canvas
from finetune.scenes.generator import Scene, SceneGenerator, compact
from finetune.scenes.look import Look
from finetune.scenes.textures import Image, texture_bank
from finetune.scenes.walls import build_wall, faces_of

FOLDER = "box-cutouts"
MOST_FILES, MOST_BYTES = 256, 8 << 20
LARGEST = 320  # pixels: the longer side that a cutout is kept at
SOLID = 128  # of alpha: from here on a pixel is the package's


def read_cutouts(assets: Path) -> tuple[Image, ...]:
    """The cutouts of a folder, uint8 [H, W, 4] RGBA, at most `LARGEST` pixels a side, cropped to what is solid.

    Raises SceneToolError for a folder without any, for one with too many or too large files, and for a file that is no
    picture with an alpha channel.
    """
    folder = assets / FOLDER if (assets / FOLDER).is_dir() else assets
    files = sorted(folder.glob("*.png"))
    if not files or len(files) > MOST_FILES:
        raise SceneToolError(f"{folder} has {len(files)} cutouts (PNG); it takes 1 to {MOST_FILES}")
    cutouts = []
    for file in files:
        if file.stat().st_size > MOST_BYTES:
            raise SceneToolError(f"{file} is larger than {MOST_BYTES >> 20} MB")
        picture = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        if picture is None or picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
            raise SceneToolError(f"{file} is no picture with an alpha channel")
        x, y, wide, high = cv2.boundingRect((picture[:, :, 3] >= SOLID).astype(np.uint8))
        if min(wide, high) < 8:
            raise SceneToolError(f"{file}: nothing in it is solid")
        cut = cv2.cvtColor(picture[y : y + high, x : x + wide], cv2.COLOR_BGRA2RGBA)
        # The outermost pixels carry the background of the photograph.
        cut[:, :, 3] = cv2.erode(cut[:, :, 3], np.ones((3, 3), np.uint8), iterations=2, borderValue=0)
        scale = min(1.0, LARGEST / max(wide, high))
        size = (max(8, round(wide * scale)), max(8, round(high * scale)))
        cutouts.append(np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA), np.uint8))
    return tuple(cutouts)


@dataclass(frozen=True)
class Place:
    """Where one goes: its middle (shares of the picture), its width (a share) and its turn (degrees)."""

    across: float
    down: float
    wide: float
    turn: float
    kind: int


class PasteGenerator:
    """Scenes of pasted cutouts, by number, as `SceneGenerator` has them, before its scenes without packages."""

    def __init__(self, look: Look, cutouts: tuple[Image, ...], *, size: int, seed: int) -> None:
        self._ground = SceneGenerator(replace(look, empty=1.0), size=size, seed=seed)
        faces = faces_of(cutouts)
        solid = tuple(cutout for cutout in cutouts if not faces_of((cutout,)))
        self._faces, self._walls = faces, len(faces) / len(cutouts)
        self._cutouts, self._seed, self.size = solid or cutouts, seed, size
        self.look = look

    def scene(self, index: int) -> Scene:
        """The scene number `index` (any non-negative integer)."""
        rng = np.random.default_rng((self._seed, 7, index))
        canvas = Canvas(self._ground.scene(index).image, np.array([0.2, -1.0, 1.0]), 0.6)
        if rng.random() < self._walls:
            return self._finished(rng, canvas, build_wall(rng, canvas, self._faces))
        light = float(np.clip(canvas.image.mean() / 110, 0.55, 1.2))
        tones = [rng.uniform(0.7, 1.25) * light * rng.uniform(0.9, 1.1, 3) for _ in range(4)]
        labels: dict[int, str] = {}
        for place in arranged(rng, len(self._cutouts)):
            if paste(
                canvas,
                self._cutouts[place.kind],
                place,
                tones[place.kind % 4] * rng.uniform(0.93, 1.07),
                len(labels) + 1,
            ):
                labels[len(labels) + 1] = "box"
        return self._finished(rng, canvas, labels)

    def _finished(self, rng: np.random.Generator, canvas: Canvas, labels: dict[int, str]) -> Scene:
        """The scene as its camera's sensor has it."""
        image = effects.sensor(rng, canvas.image, replace(self.look, noise=(0.0, 5.0)), texture_bank())
        ids, kept = compact(canvas.ids, labels, self._ground.min_area)
        return Scene(image, ids, kept, "cutouts")


def arranged(rng: np.random.Generator, kinds: int) -> list[Place]:
    """1 to 40 places, farthest first: a heap, rows on the ground, or a stack of equal boxes."""
    style = rng.random()
    kind, lean = int(rng.integers(kinds)), rng.normal(0, 3)
    places: list[Place] = []
    if style < 0.35:  # a heap: what is lower in the picture is nearer and larger
        near = rng.uniform(0.08, 0.4)
        for down in np.sort(rng.uniform(0.15, 0.95, int(rng.integers(2, 25)))):
            wide = near * (0.5 + 0.6 * down) * rng.uniform(0.7, 1.3)
            places.append(
                Place(rng.uniform(0.05, 0.95), float(down), wide, rng.normal(0, 12), int(rng.integers(kinds)))
            )
        return places
    wide = float(np.exp(rng.uniform(np.log(0.06), np.log(0.35))))
    columns, rows = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    layers = 1 if style < 0.6 else int(rng.integers(1, 5))
    alike = rng.random() < 0.8
    gap, drop = rng.uniform(0.62, 1.05), rng.uniform(0.3, 0.55)
    left, base = rng.uniform(-0.1, 0.45), rng.uniform(0.45, 0.9)
    for row in range(rows):
        scale = wide * (1 - 0.08 * (rows - 1 - row))
        for layer in range(layers):
            for column in range(columns):
                if len(places) >= 40 or (layer == layers - 1 and rng.random() < 0.25):
                    continue
                across = left + column * gap * scale + row * 0.25 * scale
                down = base - (rows - 1 - row) * drop * scale - layer * 0.55 * scale
                one = kind if alike else int(rng.integers(kinds))
                places.append(Place(across, down, scale * rng.uniform(0.97, 1.03), lean + rng.normal(0, 1.5), one))
    return places


def paste(canvas: Canvas, cutout: Image, place: Place, tone: Array, instance: int) -> bool:
    """Paste a cutout, uint8 [H, W, 4], with its shadow under it; false where it lies outside the picture."""
    high, wide = cutout.shape[:2]
    scale = place.wide * canvas.size / wide
    small = cv2.resize(cutout, (max(4, round(wide * scale)), max(4, round(high * scale))), interpolation=cv2.INTER_AREA)
    middle = np.array([small.shape[1], small.shape[0]]) / 2
    matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), place.turn, 1.0)
    reach = int(np.ceil(np.hypot(*middle))) + 1
    matrix[:, 2] += reach - middle
    turned = cv2.warpAffine(small, matrix, (2 * reach, 2 * reach), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0, 0))
    corner = np.round(np.array([place.across, place.down]) * canvas.size).astype(int) - reach
    x0, y0 = np.maximum(corner, 0)
    x1, y1 = np.minimum(corner + 2 * reach, canvas.size)
    if x1 <= x0 or y1 <= y0:
        return False
    part = turned[y0 - corner[1] : y1 - corner[1], x0 - corner[0] : x1 - corner[0]]
    solid: NDArray[np.bool_] = part[:, :, 3] >= SOLID
    if not solid.any():
        return False
    outline = np.argwhere(solid)[:, ::-1] + (x0, y0) + 0.5
    hull = cv2.convexHull(outline.astype(np.float32))[:, 0].astype(float)
    soft = float(np.clip(0.05 * place.wide * canvas.size, 1.0, 8.0))
    canvas.shadow(hull + (0.3 * soft, 0.8 * soft), 0.4, soft)
    alpha = part[:, :, 3:].astype(np.float32) / 255
    region = canvas.image[y0:y1, x0:x1]
    lit = np.clip(part[:, :, :3] * tone.astype(np.float32), 0, 255)
    region[:] = np.where(alpha > 0, region * (1 - alpha) + lit * alpha, region).astype(np.uint8)
    canvas.ids[y0:y1, x0:x1][solid] = instance
    return True
