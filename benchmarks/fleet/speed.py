"""What a look at a frame costs: processor time for a view and its judgement, and the memory of a camera.

python -m benchmarks.fleet.speed
"""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np

from benchmarks.fleet.cameras import CellCamera
from benchmarks.fleet.health import learnt
from serving.observed.views import View

ROUNDS = 300
PACES = (0.1, 0.5, 2.0)
"""Seconds from frame to frame."""


def main() -> int:
    """Print one line for each size of frame."""
    cv2.setNumThreads(1)
    pool = CellCamera(20_000, size=160).pool(busy=30, idle=2, novel=1)
    health, stream = learnt(pool, 20_000)
    arrays, _ = health.save()
    view = View.of(stream.frame())
    kept = sum(values.nbytes for values in arrays.values())
    learning = 60 * (view.small.nbytes + view.windows.nbytes)
    sys.stdout.write(f"a camera keeps {kept / 1024:.0f} KB, and {learning / 1024:.0f} KB of views while it is learnt\n")
    frames = [View.of(stream.frame()) for _ in range(20)]
    paces: dict[float, float] = {}
    for every_s in PACES:
        at, spent = stream.at + 10.0 * len(paces), []
        for k in range(ROUNDS):
            begun = time.thread_time()
            health.observe(frames[k % len(frames)], at + every_s * k)
            spent.append(time.thread_time() - begun)
        stream.at = at + every_s * ROUNDS
        judged = np.array(spent) * 1000
        paces[every_s] = float(judged.mean())
        sys.stdout.write(
            f"judging, a frame each {every_s:g} s: mean {judged.mean():.2f} ms a frame, median {np.median(judged):.2f},"
            f" 95 % {np.quantile(judged, 0.95):.2f}\n"
        )
    for height, width in ((160, 160), (720, 1280), (1080, 1920), (2160, 3840)):
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        spent = []
        for _ in range(60):
            begun = time.thread_time()
            View.of(image)
            spent.append(time.thread_time() - begun)
        made = np.array(spent) * 1000
        sys.stdout.write(
            f"view of {width} x {height}: median {np.median(made):.2f} ms;"
            f" together with judging "
            + ", ".join(f"{np.median(made) + cost:.2f} ms at a frame each {pace:g} s" for pace, cost in paces.items())
            + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
