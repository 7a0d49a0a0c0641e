"""Camera faults as they happen: each with a range of severity, from what a technician would call a fault upwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from serving.observed.camera_kinds import Kind

Image = NDArray[np.uint8]
Field = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """A planted fault. `of` draws one; severity 0 is the mildest that counts, 1 the worst.

    Attributes:
        exposure, field, colour: what it does to the light, before the sensor.
        lens: what it does to the picture in front of the sensor. wire: what it does after it.
        frozen: the picture stays what it was.
    """

    kind: Kind
    severity: float
    exposure: float = 1.0
    field: Field | None = None
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    lens: Callable[[Image], Image] | None = None
    wire: Callable[[Image, np.random.Generator], Image] | None = None
    frozen: bool = False


def _between(low: float, high: float, severity: float) -> float:
    return low + (high - low) * severity


def _dark(severity: float, _rng: np.random.Generator, _size: int) -> Fault:
    return Fault("dark", severity, exposure=_between(0.3, 0.02, severity))


def _over(severity: float, _rng: np.random.Generator, _size: int) -> Fault:
    return Fault("over_exposed", severity, exposure=_between(2.4, 6.0, severity))


def _light_part(severity: float, rng: np.random.Generator, size: int) -> Fault:
    """One of several lamps is out: a half or a third of the view loses 50 to 90 % of its light, with a soft rim."""
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.15, 0.15)
    grid = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    away = np.cos(angle) * x + np.sin(angle) * y - offset
    soft = 1 / (1 + np.exp(-away / 0.05))
    return Fault("light_part", severity, field=(1 - _between(0.5, 0.9, severity) * soft).astype(np.float32))


def _out_of_focus(severity: float, _rng: np.random.Generator, size: int) -> Fault:
    sigma = _between(0.007, 0.03, severity) * size
    return Fault("out_of_focus", severity, lens=lambda image: cv2.GaussianBlur(image, (0, 0), sigma))


def _blocked(severity: float, rng: np.random.Generator, size: int) -> Fault:
    """A smear or a thing before the lens: 12 to 60 % of the view, blurred and veiled, or hidden; soft rim."""
    share = _between(0.12, 0.6, severity)
    mask = np.zeros((size, size), np.float32)
    if rng.random() < 0.5:  # a thing that hangs in from a side
        reach = int(share * size)
        mask[:reach] = 1.0
        mask = np.rot90(mask, int(rng.integers(4))).copy()
    else:
        radius = np.sqrt(share / np.pi) * size
        centre = rng.uniform(0.25, 0.75, 2) * size
        cv2.circle(mask, (int(centre[0]), int(centre[1])), int(radius), 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.02 * size)[:, :, None]
    veil = np.float32(rng.uniform(30, 150))
    opaque = np.float32(rng.uniform(0.55, 1.0))
    sigma = 0.03 * size

    def lens(image: Image) -> Image:
        soft = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.float32) * (1 - opaque) + veil * opaque
        return np.asarray(image * (1 - mask) + soft * mask).astype(np.uint8)

    return Fault("blocked", severity, lens=lens)


def _moved(severity: float, rng: np.random.Generator, size: int) -> Fault:
    """Knocked: shifted by 3 to 15 % of the view, or turned by 3 to 15 degrees, or both and nearer."""
    angle = rng.uniform(0, 2 * np.pi)
    way = int(rng.integers(3))
    shift = _between(0.03, 0.15, severity) * size if way != 1 else 0.0
    turn = _between(3, 15, severity) * float(rng.choice([-1, 1])) if way != 0 else 0.0
    zoom = 1.0 if way != 2 else 1 + 0.08 * severity
    matrix = cv2.getRotationMatrix2D((size / 2, size / 2), turn, zoom)
    matrix[:, 2] += (shift * np.cos(angle), shift * np.sin(angle))
    return Fault(
        "moved",
        severity,
        lens=lambda image: cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT),
    )


def _frozen(severity: float, _rng: np.random.Generator, _size: int) -> Fault:
    return Fault("frozen", severity, frozen=True)


def _colour_cast(severity: float, rng: np.random.Generator, _size: int) -> Fault:
    change = _between(0.2, 0.6, severity)
    casts = ((1 + change, 1.0, 1 - change / 2), (1 - change / 2, 1.0, 1 + change), (1 - change, 1.0, 1 - change))
    return Fault("colour_cast", severity, colour=casts[int(rng.integers(3))])


def _damaged(severity: float, rng: np.random.Generator, size: int) -> Fault:
    """Torn (the rest of the frame is shifted, or missing, from another row each time) or noisy."""
    way = int(rng.integers(3))

    def wire(image: Image, draw: np.random.Generator) -> Image:
        image = image.copy()
        row = int(draw.uniform(0.15, 0.8) * size)
        if way == 0:
            image[row:] = np.roll(image[row:], int(_between(0.08, 0.5, severity) * size), axis=1)
        elif way == 1:
            image[row:] = 128 if draw.random() < 0.5 else image[row - 1]
        else:
            noise = draw.normal(0, _between(14, 45, severity), (size, size, 1)).astype(np.float32)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
        return image

    return Fault("damaged", severity, wire=wire)


FAULTS: Final[dict[Kind, Callable[[float, np.random.Generator, int], Fault]]] = {
    "dark": _dark,
    "over_exposed": _over,
    "light_part": _light_part,
    "out_of_focus": _out_of_focus,
    "blocked": _blocked,
    "moved": _moved,
    "frozen": _frozen,
    "colour_cast": _colour_cast,
    "damaged": _damaged,
}
"""Draws a fault from (severity 0 to 1, generator, pixels of a side)."""
