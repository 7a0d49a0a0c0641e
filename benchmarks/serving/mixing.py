"""What adapters cost: mixed batches beside the same engine's base, measured by turns.

Processor time on one thread, not the clock, and base and mixed batch in turns: a machine that does other things as well
slows both alike. A ratio is of neighbours, so that a slow second does not count for one side only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from serving.inference.segmenter import Segmenter


@dataclass(frozen=True, slots=True)
class Ratio:
    """Throughput of the second over that of the first of two things, run by turns. Times are CPU milliseconds."""

    first_ms: float
    second_ms: float
    median: float
    low: float
    high: float
    rounds: int

    def summary(self) -> dict[str, Any]:
        """For a report; `low` and `high` are the quartiles."""
        return {
            "base_cpu_ms": round(self.first_ms, 2),
            "mixed_cpu_ms": round(self.second_ms, 2),
            "ratio": round(self.median, 4),
            "quartiles": [round(self.low, 4), round(self.high, 4)],
            "rounds": self.rounds,
        }


def by_turns(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> Ratio:
    """Run both `rounds` times in turns, changing who begins, after one round that does not count."""
    firsts, seconds = [], []
    for number in range(rounds + 1):
        if number % 2:
            other, one = _timed(second, clock), _timed(first, clock)
        else:
            one, other = _timed(first, clock), _timed(second, clock)
        if number:
            firsts.append(one)
            seconds.append(other)
    ratios = sorted(a / b for a, b in zip(firsts, seconds, strict=True) if b > 0) or [0.0]
    return Ratio(
        1000 * statistics.median(firsts),
        1000 * statistics.median(seconds),
        statistics.median(ratios),
        ratios[len(ratios) // 4],
        ratios[(3 * len(ratios)) // 4],
        rounds,
    )


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    work()
    return clock() - started


def mixed_ratios(
    segmenter: Segmenter, names: Sequence[str], *, batches: Sequence[int] = (1, 8, 32), rounds: int = 9
) -> dict[str, Any]:
    """`mixed_<n>_ratio`: throughput of n rows with n different variants over that of n rows of the base, forward pass
    only. `names` are hot variants, at least as many as the largest batch has rows.

    One thread for torch and, where it is the engine, for another one as it was made. Raises ValueError for fewer names.
    """
    if len(names) < max(batches):
        raise ValueError(f"{max(batches)} variants are needed, got {len(names)}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    size = segmenter.preprocess.size
    try:
        for batch in batches:
            pixels = torch.randn(batch, 3, size, size, generator=generator)
            base, mixed = [None] * batch, list(names[:batch])
            count = max(3, rounds * 8 // max(batch, 8)) if batch > 1 else rounds * 3
            ratio = by_turns(
                partial(segmenter.forward, pixels, base), partial(segmenter.forward, pixels, mixed), rounds=count
            )
            report[f"mixed_{batch}_ratio"] = round(ratio.median, 4)
            report[f"mixed_{batch}"] = ratio.summary()
    finally:
        torch.set_num_threads(threads)
    return report
