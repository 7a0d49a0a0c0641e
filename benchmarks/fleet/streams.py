"""One camera's frames over time: belts that are busy and idle, light that drifts, a fault or a novelty now and then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet.cameras import Pool, Shot
from benchmarks.fleet.faults import Fault
from benchmarks.fleet.light import Day, seen

Image = NDArray[np.uint8]
EVERY_S = 2.0
"""Seconds from frame to frame: a robot that picks 1,800 times an hour."""


@dataclass(slots=True)
class Stream:
    """Frames of one cell. `fault` and `novel` may be set at any time, and hold from the next frame on."""

    pool: Pool
    day: Day
    rng: np.random.Generator
    at: float = 0.0
    fault: Fault | None = None
    novel: float = 0.0
    """Share of frames that hold packages which are new."""
    every_s: float = EVERY_S
    _idle_until: float = 0.0
    _busy_until: float = 0.0
    _last: Image | None = None

    def keep_busy(self) -> None:
        """Packages come without a pause from now on."""
        self._idle_until, self._busy_until = self.at, np.inf

    def frames(self, count: int) -> Iterator[tuple[Image, float]]:
        """The next frames: (uint8 [S, S, 3], epoch seconds of day one)."""
        for _ in range(count):
            yield self.frame(), self.at
            self.at += self.every_s

    def frame(self) -> Image:
        """The frame of this moment."""
        fault = self.fault
        if fault is not None and fault.frozen and self._last is not None:
            return self._last
        image = self._view().image
        if fault is not None and fault.lens is not None:
            image = fault.lens(image)
        exposure, field, colour = 1.0, None, (1.0, 1.0, 1.0)
        if fault is not None:
            exposure, field, colour = fault.exposure, fault.field, fault.colour
        image = seen(
            image, self.day, self.at, self.pool.sensor_noise, self.rng, exposure=exposure, field=field, colour=colour
        )
        if fault is not None and fault.wire is not None:
            image = fault.wire(image, self.rng)
        self._last = image
        return image

    def _view(self) -> Shot:
        """Busy for some minutes, then idle for some: an empty belt, or one that stands with what lies on it."""
        pool, rng = self.pool, self.rng
        if self.at >= self._busy_until and self.at >= self._idle_until:
            self._idle_until = self.at + float(rng.uniform(20, 600))
            self._busy_until = self._idle_until + float(rng.uniform(300, 3600))
            self._standing = pool.idle[0] if rng.random() < 0.6 else pool.busy[int(rng.integers(len(pool.busy)))]
        if self.at < self._idle_until:
            return self._standing
        if self.novel and rng.random() < self.novel:
            return pool.novel[int(rng.integers(len(pool.novel)))]
        return pool.busy[int(rng.integers(len(pool.busy)))]

    _standing: Shot = None  # type: ignore[assignment]  # the first frame sets it
