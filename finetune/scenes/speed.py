"""The generator's speed on one core."""

from __future__ import annotations

import time

import cv2

from finetune.scenes.generator import SceneGenerator


def measure_speed(*, size: int, count: int) -> dict[str, float]:
    """Make `count` scenes of `size` pixels in this thread alone: `images_per_second` (median of five parts) and mean
    `instances`. The texture bank is made before the clock starts."""
    generator = SceneGenerator(size=size, seed=0)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        generator.scene(0)
        rates: list[float] = []
        instances = 0
        part = max(1, count // 5)
        for first in range(0, 5 * part, part):
            start = time.perf_counter()
            instances += sum(len(generator.scene(k).labels) for k in range(first, first + part))
            rates.append(part / (time.perf_counter() - start))
    finally:
        cv2.setNumThreads(threads)
    return {"images_per_second": sorted(rates)[2], "instances": instances / (5 * part), "size": size}
