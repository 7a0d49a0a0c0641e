"""Whether a stream of numbers has changed: a decision over time whose threshold is a time between false alarms.

Each number is ranked among those before it. While nothing changes, ranks are independent and uniform whatever the
numbers' distribution is (conformal p-values; Vovk et al., arXiv 2102.10439), so no baseline has to be fitted. Bets that
small p-values have become frequent gain by nothing on the average then; a Shiryaev-Roberts sum of such bets that is
compared with `c` gives a false alarm once in `c` looks or more seldom (Shin, Ramdas and Rinaldo, arXiv 2203.03532).
It is the CUSUM's sibling: the CUSUM of the same bets is never larger. No number is tuned to data.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from typing import Any, Final

import numpy as np

BETS: Final = tuple(itertools.product((0.005, 0.02, 0.06), (0.01, 0.05, 0.2)))
"""(level, stake): bets that p-values at or below the level have become more frequent."""
LEARN: Final = 100
"""Numbers that are taken for granted first."""
MAX_KEPT: Final = 4_000
DAY_S: Final = 86_400.0


class ChangeDetector:
    """One stream; higher numbers are worse. Its cost is some 50 KB and 20 microseconds a number."""

    def __init__(self, looks: float, *, seed: int = 0) -> None:
        """`looks` is the least mean number of looks between false alarms. Raises ValueError for one look or less."""
        if not looks > 1:
            raise ValueError(f"a time between false alarms is more than one look, not {looks}")
        self.looks = looks
        self._levels = np.array([level for level, _ in BETS])
        self._stakes = np.array([stake for _, stake in BETS])
        self._sums = np.zeros(len(BETS))
        self._sorted: list[float] = []
        self._order: deque[float] = deque()
        self._random = np.random.default_rng(seed)

    @property
    def evidence(self) -> float:
        """The sum that is compared with `looks`."""
        return float(self._sums.mean())

    @property
    def learnt(self) -> bool:
        """Whether there are enough numbers to rank others among."""
        return len(self._sorted) >= LEARN

    def add(self, value: float, weight: float = 1.0) -> bool:
        """Take a number in; whether the stream has changed. `weight` (0 to 1) is how much of a look it is."""
        p = self._rank(value)
        self._keep(value)
        if len(self._sorted) <= LEARN:
            return False
        gains = 1 + self._stakes * ((p <= self._levels) / self._levels - 1)
        self._sums = np.minimum((self._sums + weight) * gains**weight, 1e300)
        if self.evidence < self.looks:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """What comes next is the new normal."""
        self._sums[:] = 0.0
        self._order, self._sorted = deque(), []

    def _rank(self, value: float) -> float:
        """The smoothed conformal p-value: uniform, ties broken at random."""
        low, high = bisect.bisect_left(self._sorted, value), bisect.bisect_right(self._sorted, value)
        above, same = len(self._sorted) - high, high - low
        return float((above + self._random.random() * (same + 1)) / (len(self._sorted) + 1))

    def _keep(self, value: float) -> None:
        bisect.insort(self._sorted, value)
        self._order.append(value)
        if len(self._order) > MAX_KEPT:
            oldest = self._order.popleft()
            del self._sorted[bisect.bisect_left(self._sorted, oldest)]

    def save(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kept": [round(one, 5) for one in self._order],
            "sums": [float(one) for one in self._sums],
            "random": self._random.bit_generator.state,
        }

    def restore(self, document: dict[str, Any]) -> None:
        """What `save` made. Raises KeyError, TypeError and ValueError for what is none."""
        kept = [float(one) for one in document["kept"]][-MAX_KEPT:]
        sums = np.array([float(one) for one in document["sums"]])
        if sums.shape != self._sums.shape or not np.isfinite(kept).all() or not np.isfinite(sums).all():
            raise ValueError("no state of a change detector")
        if "random" in document:  # so that ties are broken as if nothing had happened
            self._random.bit_generator.state = document["random"]
        self._order, self._sorted, self._sums = deque(kept), sorted(kept), sums


def looks_between(seconds: float, every_s: float, tests: int) -> float:
    """Looks between false alarms of each of `tests` streams such that together they give one in `seconds`. Raises
    ValueError unless all are positive."""
    if seconds <= 0 or every_s <= 0 or tests < 1:
        raise ValueError("a time, a pace and a number of streams, all positive")
    return max(seconds / every_s * tests, 2.0)
