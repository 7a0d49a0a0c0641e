"""Light rigs: where the lamps of a hall hang, how bright they are, and of what colour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from finetune.scenes.camera import Array
from finetune.scenes.materials import choose
from finetune.scenes.physical.look import PhysicalLook
from finetune.scenes.physical.world import Lamp, Lighting

WARM, DAY, COOL = np.array([1.0, 0.84, 0.64]), np.array([1.0, 0.98, 0.95]), np.array([0.86, 0.94, 1.0])


def draw_lighting(rng: np.random.Generator, look: PhysicalLook, focus: Array) -> tuple[str, Lighting]:
    """One of the look's rigs around `focus` [3]; returns its name too."""
    name = choose(rng, look.rigs)
    return name, _RIGS[name](rng, focus)


def _about(rng: np.random.Generator, focus: Array, low: float, high: float, away: float) -> Array:
    """A place between two elevations (radians) `away` metres from the focus."""
    lift, yaw = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    return focus + away * np.array([np.cos(lift) * np.cos(yaw), np.cos(lift) * np.sin(yaw), np.sin(lift)])


def _tone(rng: np.random.Generator) -> Array:
    mix = rng.uniform(0, 1)
    return (WARM if rng.random() < 0.4 else COOL) * mix + DAY * (1 - mix)


def _hall(rng: np.random.Generator, focus: Array) -> Lighting:
    """Rows of tubes and panels under the roof: soft, from above."""
    tone = _tone(rng)
    count = int(rng.integers(1, 4))
    lamps = [
        Lamp("lamp", _about(rng, focus, 0.8, 1.5, rng.uniform(3.0, 5.0)), focus, tone * 0.8 / count**0.8, 1.8)
        for _ in range(count)
    ]
    return Lighting(tuple(lamps), tone * rng.uniform(0.4, 0.6))


def _dim(rng: np.random.Generator, focus: Array) -> Lighting:
    tone = _tone(rng)
    lamp = Lamp("lamp", _about(rng, focus, 0.5, 1.5, 3.5), focus, tone * rng.uniform(0.22, 0.42), 1.2)
    return Lighting((lamp,), tone * rng.uniform(0.08, 0.2))


def _harsh(rng: np.random.Generator, focus: Array) -> Lighting:
    """One small bright lamp or the low sun, deep shadows."""
    tone = _tone(rng)
    kind: Literal["sun", "lamp"] = "sun" if rng.random() < 0.4 else "lamp"
    lamp = Lamp(kind, _about(rng, focus, 0.35, 1.2, 2.5), focus, tone * rng.uniform(1.0, 1.5), 0.12)
    return Lighting((lamp,), tone * rng.uniform(0.16, 0.3))


def _coloured(rng: np.random.Generator, focus: Array) -> Lighting:
    """Sodium lamps, signal lights, neon: a strong cast, often two that differ."""
    tones = (
        np.array([1.0, 0.62, 0.22]),
        np.array([0.4, 0.6, 1.0]),
        np.array([1.0, 0.35, 0.3]),
        np.array([0.5, 1.0, 0.6]),
        np.array([1.0, 0.9, 0.5]),
    )
    first, second = (tones[int(rng.integers(len(tones)))] for _ in range(2))
    weak = rng.uniform(0.4, 0.8)
    lamps = (
        Lamp("lamp", _about(rng, focus, 0.7, 1.5, 3.5), focus, (first * weak + DAY * (1 - weak)) * 0.8, 1.0),
        Lamp("lamp", _about(rng, focus, 0.3, 1.0, 3.0), focus, second * rng.uniform(0.1, 0.4), 0.5, shadow=False),
    )
    return Lighting(lamps, (first * 0.4 + DAY * 0.6) * rng.uniform(0.25, 0.45))


def _window(rng: np.random.Generator, focus: Array) -> Lighting:
    """Daylight from one side through gates or a band of windows, lamps above."""
    side = Lamp("lamp", _about(rng, focus, 0.15, 0.6, 4.0), focus, COOL * rng.uniform(0.5, 1.0), 2.2)
    above = Lamp("lamp", _about(rng, focus, 1.1, 1.5, 4.0), focus, WARM * rng.uniform(0.15, 0.4), 1.5, shadow=False)
    return Lighting((side, above), DAY * rng.uniform(0.3, 0.45))


def _side_lamp(rng: np.random.Generator, focus: Array) -> Lighting:
    """The gantry's: a small hard lamp low at one side, nearly nothing else."""
    lamp = Lamp("lamp", _about(rng, focus, 0.6, 0.85, 1.8), focus, DAY * rng.uniform(1.3, 1.8), 0.08)
    return Lighting((lamp,), COOL * rng.uniform(0.12, 0.2))


def _door(rng: np.random.Generator, focus: Array) -> Lighting:
    """The dock's: daylight floods in behind the camera's shoulder, warm lamps further in."""
    yaw = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.1)
    place = focus + 4 * np.array([np.sin(yaw), -np.cos(yaw), rng.uniform(0.35, 0.7)])
    door = Lamp("lamp", place, focus, COOL * rng.uniform(0.8, 1.15), 2.6)
    above = Lamp("lamp", focus + (0, 2.0, 3.5), focus, WARM * 0.3, 1.0, shadow=False)
    return Lighting((door, above), COOL * rng.uniform(0.3, 0.45))


_RIGS: dict[str, Callable[[np.random.Generator, Array], Lighting]] = {
    "hall": _hall,
    "dim": _dim,
    "harsh": _harsh,
    "coloured": _coloured,
    "window": _window,
    "side_lamp": _side_lamp,
    "door": _door,
}
