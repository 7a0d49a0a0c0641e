"""The two statistics that decide about a variant in production: an interval for a rate, and Wald's sequential test.

Pure Python, no arrays: the hub evaluates them beside its other work, and a decision must be the same when it is
made again from the stored outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Z95 = 1.959963984540054
Verdict = Literal["good", "bad", "open"]


@dataclass(frozen=True, slots=True)
class Rate:
    """`successes` of `picks`, with the Wilson score interval at 95 %; [0, 1] while there are none."""

    successes: int
    picks: int

    @property
    def value(self) -> float | None:
        """The share, None while there are no picks."""
        return self.successes / self.picks if self.picks else None

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end. It stays inside [0, 1] and has a width at 0 of n and n of n, where Wald's has none."""
        return wilson(self.successes, self.picks)


def wilson(successes: int, picks: int, z: float = Z95) -> tuple[float, float]:
    """The Wilson score interval of a binomial share. Raises ValueError for counts that are none."""
    if not 0 <= successes <= picks:
        raise ValueError(f"{successes} of {picks} is no share")
    if picks == 0:
        return 0.0, 1.0
    share, square = successes / picks, z * z
    centre = share + square / (2 * picks)
    spread = z * math.sqrt(share * (1 - share) / picks + square / (4 * picks * picks))
    scale = 1 + square / picks
    # At 0 and at n of n one end is exact; rounding must not push it out of [0, 1].
    low = 0.0 if successes == 0 else max((centre - spread) / scale, 0.0)
    high = 1.0 if successes == picks else min((centre + spread) / scale, 1.0)
    return low, high


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Wald's sequential probability ratio test (1945) of a success rate: is it `good` or is it `bad`?

    After each pick the log-likelihood ratio of `bad` against `good` moves; at log((1 - beta) / alpha) the variant is
    judged bad, at log(beta / (1 - alpha)) good. Wald's bounds: a variant with rate `good` is judged bad with a
    probability of at most alpha / (1 - beta), one with rate `bad` is judged good with at most beta / (1 - alpha).

    Attributes:
        good, bad: the two rates to tell apart, 0 < bad < good < 1.
        alpha: how often a good variant may be judged bad (a needless rollback).
        beta: how often a bad one may be judged good (a missed one).
        at_most: picks after which the likelier of the two is taken, where no boundary was reached; 0: never.
        repeat: after `good` the test begins anew, which watches for ever: a good variant is then judged bad once in
            (picks of one run) / alpha picks on average, and one that turns bad later is still found.

    Raises ValueError unless 0 < bad < good < 1 and both error rates are between 0 and 0.5.
    """

    good: float
    bad: float
    alpha: float = 0.01
    beta: float = 0.05
    at_most: int = 0
    repeat: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.bad < self.good < 1.0:
            raise ValueError(f"rates must be 0 < bad < good < 1, got bad {self.bad} and good {self.good}")
        if not (0.0 < self.alpha < 0.5 and 0.0 < self.beta < 0.5):
            raise ValueError(f"alpha and beta must be between 0 and 0.5, got {self.alpha} and {self.beta}")
        if self.at_most < 0:
            raise ValueError("at_most must not be negative")

    @property
    def boundaries(self) -> tuple[float, float]:
        """(judged good at or below, judged bad at or above) of the log-likelihood ratio."""
        return math.log(self.beta / (1 - self.alpha)), math.log((1 - self.beta) / self.alpha)

    def run(self, outcomes: Iterable[bool]) -> Result:
        """Feed picks in their order; stops at the pick that decides (with `repeat`: at the one that says bad)."""
        walk = Walk(self)
        at = BEGIN
        for success in outcomes:
            at = walk.step(at, success)
            if at.verdict != "open":
                break
        return at.result


@dataclass(frozen=True, slots=True)
class Result:
    """What the test says after these picks; `ratio` is the log-likelihood ratio of bad against good."""

    verdict: Verdict
    ratio: float
    rate: Rate


class Progress(NamedTuple):
    """Where a test stands after some picks; `run` are those since it began anew."""

    ratio: float
    picks: int
    successes: int
    run: int
    verdict: Verdict

    @property
    def result(self) -> Result:
        """Verdict, log-likelihood ratio, and the rate of these picks."""
        return Result(self.verdict, self.ratio, Rate(self.successes, self.picks))


BEGIN = Progress(0.0, 0, 0, 0, "open")


class Walk:
    """A sequential test one pick at a time: what `SequentialTest.run` does, for those who keep where they are."""

    __slots__ = ("_at_most", "_down", "_high", "_low", "_repeat", "_up")

    def __init__(self, test: SequentialTest) -> None:
        self._low, self._high = test.boundaries
        self._up = math.log((1 - test.bad) / (1 - test.good))
        self._down = math.log(test.bad / test.good)
        self._at_most, self._repeat = test.at_most, test.repeat

    def step(self, at: Progress, success: bool) -> Progress:
        """After one more pick; a test that has decided stays as it is."""
        if at.verdict != "open":
            return at
        ratio = at.ratio + (self._down if success else self._up)
        picks, successes, run = at.picks + 1, at.successes + success, at.run + 1
        verdict: Verdict = "open"
        if ratio >= self._high:
            verdict = "bad"
        elif ratio <= self._low:
            if self._repeat:
                return Progress(0.0, picks, successes, 0, "open")
            verdict = "good"
        elif self._at_most and run >= self._at_most:
            verdict = "bad" if ratio > 0 else "good"
            if verdict == "good" and self._repeat:
                return Progress(0.0, picks, successes, 0, "open")
        return Progress(ratio, picks, successes, run, verdict)
