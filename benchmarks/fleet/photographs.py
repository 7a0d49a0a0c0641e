"""Camera health on photographs as streams, with the fleet's faults applied: for measuring alone.

    python -m benchmarks.fleet.photographs ../shared/data

`robot-table` is one camera above one table, as a cell has it. `rack-boxes` is another view in every photograph: a
camera without a fixed view, of which some kinds cannot be told, and which must give no false alarms.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.fleet.cameras import Pool, Shot
from benchmarks.fleet.health import judge_pool, learnt

STREAMS = ("robot-table", "rack-boxes")
NOISE = 1.5
"""A photograph's own noise is the same each time it is shown; so much is added anew."""


def photograph_pool(folder: Path, *, size: int = 320, limit: int = 120) -> Pool | None:
    """A pool of the folder's photographs as squares; None where there are none."""
    files = sorted(folder.rglob("*.jpg"))[:limit]
    shots = []
    for file in files:
        picture = cv2.imread(str(file))
        if picture is None:
            continue
        image = np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)[..., ::-1], np.uint8)
        shots.append(Shot(np.ascontiguousarray(image), np.zeros((size, size), np.uint8), ()))
    return Pool(folder.name, tuple(shots), tuple(shots[:3]), (), NOISE, 0.0) if len(shots) > 20 else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the streams that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--faults", type=int, default=2)
    parser.add_argument("--days", type=float, default=0.02)
    asked = parser.parse_args(arguments)
    for name in STREAMS:
        pool = photograph_pool(asked.data / name)
        if pool is None:
            sys.stdout.write(f"{name}: not here\n")
            continue
        health, _ = learnt(pool, 77)
        tally = judge_pool(pool, 77, days=asked.days, faults=asked.faults, every_s=10.0)
        sys.stdout.write(f"\n{name}: cannot be told of this camera: {', '.join(health.state.blind) or 'nothing'}\n")
        sys.stdout.write("\n".join(tally.lines()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
