"""Load on a server: closed loop for its capacity, open loop for what robots feel.

In the open loop requests leave at times fixed beforehand, whether or not earlier ones have come back, and a latency
counts from the time it should have left: a server that stands still for a second is seen by all who wanted an answer
in that second, not only by the one that was waiting (the coordinated omission that closed loops hide).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serving.errors import ClientError
from serving.robot.aio_client import AsyncRobotClient


@dataclass(slots=True)
class Figures:
    """What a load saw. Latencies in seconds; `errors` by kind."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float:
        """Latency in seconds; 0 without answers."""
        return quantile(self.latencies, share)

    def summary(self) -> dict[str, float | int | dict[str, int]]:
        """For a report; latencies in milliseconds."""
        quantiles = {f"p{share:g}_ms": round(1000 * self.quantile(share / 100), 2) for share in (50, 90, 99)}
        return {
            "seconds": round(self.seconds, 2),
            "answers": len(self.latencies),
            "per_second": round(self.rate, 2),
            **quantiles,
            "errors": dict(self.errors),
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values are at or below; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


Cell = Callable[[random.Random], str | None]
"""Draws the cell of the next request."""


async def closed_loop(
    url: str, frames: Sequence[bytes], *, robots: int, seconds: float, cell: Cell, timeout_s: float = 30.0
) -> Figures:
    """`robots` that ask again as soon as they are answered: the server's capacity at that many at a time."""
    figures, rng = Figures(), random.Random(0)
    end = time.perf_counter() + seconds
    async with AsyncRobotClient(url, timeout_s=timeout_s) as client:

        async def robot() -> None:
            while time.perf_counter() < end:
                await _ask(client, frames, rng, cell, figures, time.perf_counter())

        started = time.perf_counter()
        await asyncio.gather(*(robot() for _ in range(robots)))
        figures.seconds = time.perf_counter() - started
    return figures


async def open_loop(
    url: str, frames: Sequence[bytes], *, per_second: float, seconds: float, cell: Cell, timeout_s: float = 30.0
) -> Figures:
    """Requests at random times (Poisson) at a fixed rate, each on its own."""
    figures, rng = Figures(), random.Random(1)
    async with AsyncRobotClient(url, timeout_s=timeout_s) as client:
        started = time.perf_counter()
        due, tasks = started, []
        while due < started + seconds:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            tasks.append(asyncio.create_task(_ask(client, frames, rng, cell, figures, due)))
            due += rng.expovariate(per_second)
        await asyncio.gather(*tasks)
        figures.seconds = time.perf_counter() - started
    return figures


async def _ask(
    client: AsyncRobotClient, frames: Sequence[bytes], rng: random.Random, cell: Cell, figures: Figures, due: float
) -> None:
    try:
        answer = await client.segment(rng.choice(frames), cell=cell(rng))
    except ClientError as error:
        figures.errors[getattr(error, "reason_code", None) or type(error).__name__] += 1
        return
    figures.latencies.append(time.perf_counter() - due)
    figures.served[answer.served_by] += 1
