"""Which frames of many are worth keeping: far apart from each other, none nearly the same, and not too many a day."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from registry.durable import write_file
from serving.observed.novelty import Float, farthest_first

SAME: Final = 6
"""Two pictures whose hashes of 64 bits differ in no more bits are nearly the same."""
STRANGE_FIRST: Final = 0.5
"""This share of a sample are the strangest frames, the others those that are far from all chosen."""
PER_DAY: Final = 60
KEPT_DAYS: Final = 7


def picture_hash(image: npt.NDArray[np.uint8]) -> int:
    """64 bits of a frame uint8 [H, W, 3] that small changes leave as they are: where it gets brighter to the right."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def diverse(rows: Float, strangeness: Float, hashes: Sequence[int], count: int) -> list[int]:
    """Indices of up to `count` frames: `rows` float32 [n, D] embeddings, `strangeness` float32 [n], hashes [n].

    First the strangest, then by turns the frame that is farthest from those chosen. Of near duplicates one is kept.
    """
    if not len(rows) or count < 1:
        return []
    scale = rows.std(axis=0) + 1e-6
    x = np.asarray((rows - rows.mean(axis=0)) / scale, np.float32)
    strange = [int(k) for k in np.argsort(-strangeness, kind="stable")]
    chosen: list[int] = []

    def take(order: Sequence[int], most: int) -> None:
        for k in order:
            if len(chosen) >= most:
                return
            near = any((hashes[k] ^ hashes[other]).bit_count() <= SAME for other in chosen)
            if k not in chosen and not near:
                chosen.append(k)

    take(strange, max(round(count * STRANGE_FIRST), 1))
    take(farthest_first(x, len(x), start=chosen[0]), count)
    return chosen


class Quota:
    """How many frames of each cell may still be kept today; remembered in a file over restarts."""

    def __init__(self, path: Path, *, per_day: int = PER_DAY) -> None:
        self._path = path
        self.per_day = per_day
        self._used: dict[str, dict[str, int]] = {}
        try:
            document = json.loads(path.read_bytes())
            self._used = {str(day): {str(k): int(v) for k, v in cells.items()} for day, cells in document.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            self._used = {}

    def left(self, cell: str, at: float) -> int:
        """How many more of a cell on the day of `at` (epoch seconds, UTC)."""
        return max(self.per_day - self._used.get(_day(at), {}).get(cell, 0), 0)

    def use(self, cell: str, at: float, count: int) -> None:
        """Count frames that were kept."""
        day = _day(at)
        self._used.setdefault(day, {})
        self._used[day][cell] = self._used[day].get(cell, 0) + count
        for old in sorted(self._used)[:-KEPT_DAYS]:
            del self._used[old]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_file(self._path, json.dumps(self._used).encode())


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
