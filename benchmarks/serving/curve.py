"""What robots wait, and how many are answered in time, at loads below and beyond what the server can do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.load import closed_loop, open_loop
from benchmarks.serving.scenarios import frames, uniform


def latency_curve(
    url: str,
    *,
    cells: int,
    shares: Sequence[float],
    seconds: float,
    timeout_s: float,
    capacity: float | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """An open loop for each share of the capacity, which is that of 16 robots in a closed loop where it is not given.

    A robot gives up after `timeout_s`; latencies are of those that were answered.
    """
    pictures, draw = frames(), uniform(cells)
    asyncio.run(closed_loop(url, pictures, robots=4, seconds=min(seconds, 3), cell=draw))
    if capacity is None:
        capacity = asyncio.run(closed_loop(url, pictures, robots=16, seconds=seconds, cell=draw)).rate
    rows = []
    for number, share in enumerate(shares, start=1):
        rate = max(share * capacity, 0.5)
        found = asyncio.run(open_loop(url, pictures, per_second=rate, seconds=seconds, cell=draw, timeout_s=timeout_s))
        rows.append({"share": share, "asked_per_second": round(rate, 2), **found.summary()})
        report(number)
    return {"capacity_per_second": round(capacity, 2), "timeout_s": timeout_s, "loads": rows}


def draw_curve(found: dict[str, Any], target: Path) -> None:
    """p50 and p99, and answers in time, against the load, as a PNG."""
    from matplotlib.figure import Figure

    rows, capacity = found["loads"], found["capacity_per_second"]
    asked = [row["asked_per_second"] for row in rows]
    figure = Figure(figsize=(11, 4), layout="constrained")
    waits, answers = figure.subplots(1, 2)
    for name in ("p50_ms", "p90_ms", "p99_ms"):
        waits.plot(asked, [row[name] for row in rows], marker="o", label=name.removesuffix("_ms"))
    waits.set_title(f"what an answer takes, ms (a robot waits {found['timeout_s']:g} s)")
    waits.set_ylim(bottom=0)
    answers.plot(asked, asked, color="grey", linestyle="--", label="asked for")
    answers.plot(asked, [row["per_second"] for row in rows], marker="o", label="answered in time")
    answers.set_title("frames a second")
    answers.set_ylim(bottom=0)
    for axes in (waits, answers):
        axes.axvline(capacity, color="grey", linewidth=0.8)
        axes.set_xlabel("frames a second asked for (the line: capacity)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130)
