"""More variants than fit: how long a cold one takes, what the crowd costs the others, and what is left in memory."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks.serving.load import Cell, closed_loop
from benchmarks.serving.scenarios import cold_variants, frames, oversubscribed, resident_bytes, uniform
from benchmarks.serving.transport import metric_total
from serving.triton.config import TritonConfig

LOADS, SWAPS = "parcelhub_adapter_loads_total", "parcelhub_slot_swaps_total"
_MARKS = 20


def measure_swaps(
    config: TritonConfig, *, variants: int, swaps: int, seconds: float, robots: int = 8, say: Callable[[str], None]
) -> dict[str, Any]:
    """Against a server that runs on a folder of `variants` variants, of which `config.hot_variants` fit into memory."""
    hot = config.hot_variants
    report: dict[str, Any] = {"variants": variants, "hot": hot}
    say("all hot, then zipf and uniform traffic over all of them")
    report["traffic"] = oversubscribed(config.url, cells=variants, hot=hot, seconds=seconds)
    say("cold variants, one after the other")
    report["cold"] = cold_variants(config.url, variants=variants, hot=hot, count=min(variants - hot, 200))
    say(f"{swaps} swaps")
    report["memory"] = memory_over_swaps(config, variants=variants, swaps=swaps, robots=robots, say=say)
    return report


def memory_over_swaps(
    config: TritonConfig,
    *,
    variants: int,
    swaps: int,
    robots: int,
    say: Callable[[str], None],
    round_s: float = 5.0,
) -> dict[str, Any]:
    """Resident memory of server and stub while so many adapters are read from disk into another one's place.

    What came before the first mark (twice as many swaps as variants fit into memory) filled the caches: growth counts
    from there on, from the median of the first fifth of the marks to that of the last fifth.
    """
    picture, draw, rng = frames(1, (240, 320)), uniform(variants), random.Random(0)
    settle = 2 * config.hot_variants
    began, marks, errors = time.monotonic(), list[tuple[int, int]](), 0
    first, swaps_before = metric_total(config, LOADS), metric_total(config, SWAPS)
    while True:
        found = asyncio.run(
            closed_loop(
                config.url,
                picture,
                robots=robots,
                seconds=round_s,
                cell=_drawn(draw, rng.randrange(1 << 30)),
                timeout_s=120.0,
            )
        )
        errors += sum(found.errors.values())
        done = int(metric_total(config, LOADS) - first)
        if done >= settle:
            marks.append((done, resident_bytes()))
        say(f"{done} of {settle + swaps} adapters read, {marks[-1][1] / 1e6 if marks else 0:.1f} MB")
        if len(marks) >= 2 and marks[-1][0] - marks[0][0] >= swaps:
            break
    chosen = [marks[at * (len(marks) - 1) // (_MARKS - 1)] for at in range(_MARKS)] if len(marks) > _MARKS else marks
    values = [memory for _, memory in marks]
    fifth = max(len(values) // 5, 1)
    before, after = _median(values[:fifth]), _median(values[-fifth:])
    return {
        "adapters_read": marks[-1][0] - marks[0][0],
        "slot_swaps": int(metric_total(config, SWAPS) - swaps_before),
        "seconds": round(time.monotonic() - began, 1),
        "errors": errors,
        "before_mb": round(before / 1e6, 2),
        "after_mb": round(after / 1e6, 2),
        "most_mb": round(max(values) / 1e6, 2),
        "on_the_way": [{"read": read, "mb": round(memory / 1e6, 2)} for read, memory in chosen],
        "growth": round(after / before - 1, 4),
    }


def _drawn(draw: Cell, seed: int) -> Cell:
    """Cells of its own: each round of a closed loop begins with the same numbers, which would be in memory by then."""
    own = random.Random(seed)
    return lambda _: draw(own)


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]
