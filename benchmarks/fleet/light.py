"""What the time of day and the sensor do to a frame: daylight, clouds, lamps' colour, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Day:
    """Light at a cell over days, from a seed: a share of it comes through windows.

    Attributes:
        window: how much daylight adds at noon, as a share of the lamps' light. side: from where it falls, radians.
        cloud_s: how quickly clouds change it. warm: how much redder evening light is. ageing: what lamps lose a day.
    """

    window: float
    side: float
    cloud_s: float
    warm: float
    ageing: float
    seed: int

    @classmethod
    def of(cls, seed: int) -> Day:
        """Drawn from the seed: the same seed gives the same light."""
        rng = np.random.default_rng((seed, 23))
        return cls(
            float(rng.uniform(0.0, 0.45)),
            float(rng.uniform(0, 2 * np.pi)),
            float(rng.uniform(120, 900)),
            float(rng.uniform(0.0, 0.05)),
            float(rng.uniform(0.0, 0.004)),
            seed,
        )

    def gains(self, at: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(float32 [2, 2] over the picture's corners, [3] over the channels) at `at` seconds after midnight."""
        hour = at / 3600.0 % 24.0
        sun = max(0.0, np.sin((hour - 6.0) / 12.0 * np.pi)) * self.window
        if sun > 0:
            # A slow sum of sines that do not fit together: clouds.
            phase = at / self.cloud_s
            cloud = 0.5 + 0.25 * np.sin(phase + self.seed) + 0.25 * np.sin(0.37 * phase + 2 * self.seed)
            sun *= 0.35 + 0.65 * cloud
        evening = max(0.0, 1.0 - abs(hour - 18.0) / 3.0)
        colour = np.array([1 + self.warm * evening, 1.0, 1 - self.warm * evening])
        across, down = 0.3 * np.cos(self.side), 0.3 * np.sin(self.side)
        lamps = (1.0 - self.ageing) ** (at / DAY_S)
        corners = [[1 - across - down, 1 + across - down], [1 - across + down, 1 + across + down]]
        return (lamps + sun * np.array(corners)).astype(np.float32), colour


def seen(
    image: Image,
    day: Day,
    at: float,
    noise: float,
    rng: np.random.Generator,
    *,
    exposure: float = 1.0,
    field: NDArray[np.float32] | None = None,
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Image:
    """The frame as the sensor gives it, uint8 [H, W, 3]: light, then what faults do to light, then noise."""
    corners, tint = day.gains(at)
    gain = cv2.resize(corners * exposure, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    if field is not None:
        gain = gain * field
    tint = tint * np.asarray(colour)
    if abs(tint - tint[0]).max() > 1e-9:
        image = cv2.transform(image, np.diag(tint / tint.max()))
        gain = gain * np.float32(tint.max())
    lit = cv2.multiply(image, cv2.merge([gain, gain, gain]), dtype=cv2.CV_8U)
    return with_noise(lit, noise, rng)


_BANK: dict[tuple[int, ...], NDArray[np.int16]] = {}


def with_noise(image: Image, noise: float, rng: np.random.Generator) -> Image:
    """Add Gaussian noise of this standard deviation, from a bank that is shifted at random: to draw it is slow."""
    height, width = image.shape[:2]
    bank = _BANK.get((height, width))
    if bank is None:
        drawn = np.random.default_rng(5).normal(0, 64, (height + 64, width + 64, 3))
        bank = _BANK.setdefault((height, width), drawn.astype(np.int16))
    y, x = rng.integers(0, 64, 2)
    return np.asarray(
        cv2.addWeighted(image.astype(np.int16), 1.0, bank[y : y + height, x : x + width], noise / 64, 0.0)
        .clip(0, 255)
        .astype(np.uint8)
    )
