"""Decisions over time: a CUSUM on "this frame looks faulty", with a threshold that follows from a stated time.

After Page (1954). Each look adds the log-likelihood ratio of a fault (a share `SHOWS` of frames looks faulty) against
health (a share `p0` does), and never falls below zero. Of such a sum the mean number of independent looks between false
alarms is at least e^h (Lorden, 1971), so the threshold `h` is the logarithm of the time between false alarms that the
operator asks for, in looks. No number is tuned.

Frames that come shortly after each other show the same thing and are no independent looks: a frame counts as the part
of `LOOK_S` that passed since the one before. So neither the false alarms nor the delay depend on the frame rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LOOK_S = 4.0
"""Frames that are so far apart (seconds) count as independent looks."""
SHOWS = 0.6
"""Of the frames under a fault, at least this share looks faulty."""
P0_MIN, P0_MAX = 0.01, 0.25
DAY_S = 86_400.0


def threshold(seconds: float, tests: int) -> float:
    """The CUSUM's `h` such that `tests` of them together give a false alarm once in `seconds`, or more seldom. Raises
    ValueError for less than `LOOK_S` seconds or no test."""
    if seconds < LOOK_S or tests < 1:
        raise ValueError(f"a time of at least {LOOK_S} s and one test or more, not {seconds} and {tests}")
    return math.log(seconds / LOOK_S * tests)


def weight(passed_s: float) -> float:
    """How much of an independent look a frame is that comes `passed_s` after the one before: 0 to 1."""
    return min(max(passed_s, 0.0) / LOOK_S, 1.0)


@dataclass(slots=True)
class Cusum:
    """One sum. `p0` is the share of healthy frames that look faulty, as learnt from this camera."""

    p0: float = 0.02
    value: float = 0.0
    first: float | None = None
    """Time of the first faulty look of the present rise."""

    def add(self, faulty: bool, at: float, looks: float, most: float = math.inf) -> float:
        """Take a frame in; returns the sum, which never exceeds `most`: what is certain must be able to change."""
        p0 = min(max(self.p0, P0_MIN), P0_MAX)
        ratio = SHOWS / p0 if faulty else (1 - SHOWS) / (1 - p0)
        self.value = min(max(0.0, self.value + looks * math.log(ratio)), most)
        if self.value == 0.0:
            self.first = None
        elif faulty and self.first is None:
            self.first = at
        return self.value

    def learn(self, faulty: bool, looks: float) -> None:
        """Follow the share of healthy frames that look faulty, slowly (500 looks)."""
        self.p0 += (float(faulty) - self.p0) * looks / 500.0
        self.p0 = min(max(self.p0, P0_MIN), P0_MAX)

    def reset(self) -> None:
        """Forget all that was added."""
        self.value, self.first = 0.0, None


@dataclass(slots=True)
class Recovery:
    """The same test the other way round: whether a fault is over."""

    value: float = 0.0

    def add(self, faulty: bool, p0: float, looks: float) -> float:
        """Take one more look."""
        p0 = min(max(p0, P0_MIN), P0_MAX)
        ratio = p0 / SHOWS if faulty else (1 - p0) / (1 - SHOWS)
        self.value = max(0.0, self.value + looks * math.log(ratio))
        return self.value
