"""Banks of procedural textures, made once per process from a fixed seed and then only cropped, tinted and warped.

Relief textures (film, paper) are float32 [T, T] around 1.0; grain textures (fibre, wood) hold the same as
uint8 [T, T, 3] around `UNIT`, so that tinting them is one call; decals and backgrounds are uint8 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Image = NDArray[np.uint8]

UNIT = 128  # the level of a grain texture that leaves a colour as it is
FACE = 96  # pixels: side of a face texture
BACKDROP = 512
WORDS = (
    "FRAGILE",
    "THIS SIDE UP",
    "ACME",
    "NORDIC",
    "EXPRESS",
    "PRIORITY",
    "AUDIO",
    "HOME",
    "LOT 42",
    "HANDLE",
    "VITA",
    "KITCHEN",
    "SKU 7781",
    "BOLT&CO",
    "FRESH",
)


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Float:
    """Noise of about unit spread with features of size / cells pixels; float32 [size, size]."""
    coarse = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _fibre(rng: np.random.Generator) -> Float:
    grain = smooth_noise(rng, FACE, 48) * 0.02 + smooth_noise(rng, FACE, 6) * 0.035 + smooth_noise(rng, FACE, 3) * 0.04
    flutes = np.sin(np.arange(FACE, dtype=np.float32) * rng.uniform(0.9, 2.2))[None, :] * rng.uniform(0, 0.02)
    return (1.0 + grain + flutes).astype(np.float32)


def _wrinkles(rng: np.random.Generator, strength: float) -> Float:
    """Creases: ridged noise, lit from one side, as foil and film show them."""
    field = np.zeros((FACE, FACE), np.float32)
    for cells, weight in ((3, 1.0), (6, 0.6), (12, 0.35), (24, 0.15)):
        field += weight * np.abs(smooth_noise(rng, FACE, cells))
    gradient = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3) + 0.6 * cv2.Sobel(field, cv2.CV_32F, 0, 1, ksize=3)
    gradient /= max(float(np.abs(gradient).max()), 1e-6)
    return (1.0 + strength * gradient - 0.1 * strength * field).astype(np.float32)


def _grain(detail: Float) -> Image:
    return cv2.merge([np.clip(detail * UNIT, 0, 255).astype(np.uint8)] * 3)


def _wood(rng: np.random.Generator) -> Float:
    rows = np.arange(FACE, dtype=np.float32)[:, None] + smooth_noise(rng, FACE, 4) * 6
    rings = np.sin(rows * rng.uniform(0.3, 1.2)) * 0.06 + smooth_noise(rng, FACE, 24) * 0.03
    return (1.0 + rings).astype(np.float32)


def _barcode(rng: np.random.Generator, decal: Image, x: int, y: int, w: int, h: int) -> None:
    at = x
    while at < x + w:
        bar = int(rng.integers(1, 3))
        decal[y : y + h, at : min(at + bar, x + w)] = 20
        at += bar + int(rng.integers(1, 4))


def _label(rng: np.random.Generator) -> Image:
    """A shipping label: near-white paper, text lines, a bar code or a dot matrix; uint8 [48, 48, 3]."""
    paper = int(rng.integers(200, 256))
    decal = np.full((48, 48, 3), paper, np.uint8)
    if rng.random() < 0.15:
        decal[:] = (250, int(rng.integers(200, 240)), int(rng.integers(40, 120)))
    for line in range(int(rng.integers(1, 6))):
        y = 4 + line * int(rng.integers(4, 7))
        if y < 44:
            decal[y : y + int(rng.integers(1, 3)), 4 : int(rng.integers(16, 46))] = int(rng.integers(20, 110))
    if rng.random() < 0.7:
        _barcode(rng, decal, 5, 28, int(rng.integers(20, 40)), int(rng.integers(8, 16)))
    else:
        matrix = rng.integers(0, 2, (8, 8), dtype=np.uint8) * 230
        decal[26:42, 26:42] = cv2.resize(matrix, (16, 16), interpolation=cv2.INTER_NEAREST)[:, :, None]
    return decal


def print_mask(rng: np.random.Generator, kind: str) -> Float:
    """Where ink lies on a printed face, 0 to 1; float32 [FACE, FACE]."""
    ink = np.zeros((FACE, FACE), np.uint8)
    if kind == "text":
        for _ in range(int(rng.integers(1, 3))):
            word = WORDS[int(rng.integers(len(WORDS)))]
            scale = float(rng.uniform(0.25, 0.7))
            at = (int(rng.integers(2, 30)), int(rng.integers(20, FACE - 6)))
            cv2.putText(ink, word, at, int(rng.integers(0, 4)), scale, 255, 1 if scale < 0.5 else 2, cv2.LINE_AA)
    elif kind == "arrows":
        for k in range(2):
            x = 14 + 22 * k + int(rng.integers(0, 20))
            cv2.arrowedLine(ink, (x, 40), (x, 16), 255, 3, cv2.LINE_AA, tipLength=0.4)
        cv2.rectangle(ink, (8, 44), (60, 47), 255, -1)
    elif kind == "stripes":
        pitch, angle = rng.uniform(6, 22), rng.uniform(0, np.pi)
        yy, xx = np.mgrid[0:FACE, 0:FACE]
        wave = np.sin((xx * np.cos(angle) + yy * np.sin(angle)) * 2 * np.pi / pitch)
        ink = ((wave > rng.uniform(-0.3, 0.6)) * 255).astype(np.uint8)
    elif kind == "dots":
        pitch = int(rng.integers(9, 20))
        for y in range(pitch // 2, FACE, pitch):
            for x in range(pitch // 2, FACE, pitch):
                cv2.circle(ink, (x, y), max(2, pitch // 4), 255, -1, cv2.LINE_AA)
    elif kind == "hexagons":
        radius = int(rng.integers(7, 13))
        corners = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)], 1)
        for row, down in enumerate(np.arange(0, FACE + radius, radius * 1.74)):
            for across in np.arange((row % 2) * radius * 1.5, FACE + radius, radius * 3.0):
                hexagon = (corners * radius * 0.85 + (across, down)).astype(np.int32)
                cv2.polylines(ink, [hexagon], True, 255, 2, cv2.LINE_AA)
    else:  # a logo: a few big overlapping shapes
        for _ in range(int(rng.integers(1, 4))):
            centre = (int(rng.integers(20, 76)), int(rng.integers(20, 76)))
            axes = (int(rng.integers(6, 26)), int(rng.integers(6, 26)))
            cv2.ellipse(ink, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, int(rng.choice([-1, 3])))
    return ink.astype(np.float32) / np.float32(255)


def _backdrop(rng: np.random.Generator, kind: str) -> Image:
    """A floor, belt, wall or jumble to stand behind the packages; uint8 [BACKDROP, BACKDROP, 3]."""
    n = BACKDROP
    base = np.ones((n, n), np.float32)
    colour = np.array(rng.uniform(60, 200)) + rng.uniform(-18, 18, 3)
    if kind == "concrete":
        base += smooth_noise(rng, n, 90) * 0.05 + smooth_noise(rng, n, 12) * 0.07 + smooth_noise(rng, n, 4) * 0.08
    elif kind == "steel":
        base += (
            smooth_noise(rng, n, 5) * 0.1 + cv2.resize(rng.standard_normal((n, 2)).astype(np.float32), (n, n)) * 0.05
        )
        colour = np.array(rng.uniform(120, 210)) + rng.uniform(-8, 8, 3)
    elif kind == "belt":
        colour = np.array(rng.uniform(20, 95)) + rng.uniform(-10, 14, 3)
        base += smooth_noise(rng, n, 120) * 0.06 + smooth_noise(rng, n, 6) * 0.05
        if rng.random() < 0.5:  # rollers instead of a belt
            rows = np.arange(n, dtype=np.float32)[:, None]
            base = base * (0.75 + 0.5 * np.abs(np.sin(rows * np.pi / rng.uniform(18, 60))))
    elif kind == "planks":
        width = int(rng.integers(30, 90))
        line = np.arange(n)[:, None]
        base += np.sin(line / 3 + smooth_noise(rng, n, 6) * 6).astype(np.float32) * 0.05
        base *= 1 + 0.12 * rng.standard_normal(n // width + 1).astype(np.float32)[line // width]
        base = np.where(line % width < 3, 0.35, base).astype(np.float32)
        colour = np.array([190, 150, 100]) * rng.uniform(0.6, 1.2) + rng.uniform(-15, 15, 3)
    elif kind == "plate":  # chequered steel plate
        yy, xx = np.mgrid[0:n, 0:n]
        base += 0.25 * ((np.sin((xx + yy) / 5) * np.sin((xx - yy) / 5)) > 0.55) + smooth_noise(rng, n, 6) * 0.06
        colour = np.array([70, 100, 95]) * rng.uniform(0.7, 1.2)
    elif kind == "wall":
        colour = np.array(rng.uniform(130, 235)) + rng.uniform(-20, 20, 3)
        base += smooth_noise(rng, n, 3) * 0.08
        pitch = int(rng.integers(8, 60))
        lines = (np.arange(n) % pitch < max(1, pitch // 10)).astype(np.float32) * rng.uniform(-0.3, 0.15)
        base += lines[:, None] if rng.random() < 0.7 else lines[None, :]
    elif kind == "dark":
        colour = np.array(rng.uniform(8, 50)) + rng.uniform(-6, 10, 3)
        base += smooth_noise(rng, n, 8) * 0.3
    picture = np.clip(base[:, :, None] * colour, 0, 255).astype(np.uint8)
    if kind in ("clutter", "dark"):  # out-of-focus machines, beams, lamps, openings
        for _ in range(int(rng.integers(25, 60)) if kind == "clutter" else int(rng.integers(4, 16))):
            p, q = rng.integers(0, n, 2), rng.integers(6, 160, 2)
            tone = rng.uniform(10, 240) if kind == "clutter" else rng.uniform(10, 90)
            shade = tuple(int(v) for v in np.clip(tone + rng.uniform(-50, 50, 3), 0, 255))
            if rng.random() < 0.7:
                cv2.rectangle(picture, p.tolist(), (p + q * (1, int(rng.integers(1, 3)))).tolist(), shade, -1)
            else:
                cv2.line(picture, p.tolist(), rng.integers(0, n, 2).tolist(), shade, int(rng.integers(2, 22)))
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.6, 5)))
    elif kind == "concrete" and rng.random() < 0.5:  # floor marks
        shade = (int(rng.integers(180, 250)), int(rng.integers(140, 230)), int(rng.integers(20, 200)))
        for _ in range(int(rng.integers(1, 3))):
            cv2.line(
                picture,
                rng.integers(0, n, 2).tolist(),
                rng.integers(0, n, 2).tolist(),
                shade,
                int(rng.integers(6, 24)),
            )
    return picture


@dataclass(frozen=True)
class TextureBank:
    """Everything a scene picks from; see the module docstring for shapes."""

    fibre: tuple[Image, ...]
    film: tuple[Float, ...]
    paper: tuple[Float, ...]
    wood: tuple[Image, ...]
    label: tuple[Image, ...]
    ink: dict[str, tuple[Float, ...]]
    backdrop: dict[str, tuple[Image, ...]]
    sensor: NDArray[np.int16]


@lru_cache(maxsize=1)
def texture_bank() -> TextureBank:
    """The bank of this generator version: always the same, so that a scene depends on its seed alone."""
    rng = np.random.default_rng(20261121)
    prints = ("text", "arrows", "stripes", "dots", "logo", "hexagons")
    kinds = ("concrete", "steel", "belt", "planks", "clutter", "wall", "dark", "plate")
    return TextureBank(
        fibre=tuple(_grain(_fibre(rng)) for _ in range(32)),
        film=tuple(_wrinkles(rng, rng.uniform(0.25, 0.8)) for _ in range(40)),
        paper=tuple(_wrinkles(rng, rng.uniform(0.06, 0.2)) for _ in range(24)),
        wood=tuple(_grain(_wood(rng)) for _ in range(16)),
        label=tuple(_label(rng) for _ in range(64)),
        ink={kind: tuple(print_mask(rng, kind) for _ in range(24 if kind == "text" else 12)) for kind in prints},
        backdrop={kind: tuple(_backdrop(rng, kind) for _ in range(24 if kind == "clutter" else 10)) for kind in kinds},
        sensor=(rng.standard_normal((1024, 1024, 3)) * 64).astype(np.int16),
    )
