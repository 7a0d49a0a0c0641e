"""Camera health judged on the fleet: faults noticed in time and by their right name, false alarms, novelty told apart.

    python -m benchmarks.fleet.health --seeds 20 21 22 --days 0.1 --faults 3

Rules and limits were chosen on seeds 0 to 9. Reports are on others.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fleet.cameras import CellCamera, Pool
from benchmarks.fleet.faults import FAULTS
from benchmarks.fleet.light import DAY_S, Day
from benchmarks.fleet.streams import EVERY_S, Stream
from hub.rollout.statistics import Rate
from serving.observed.camera_health import CameraHealth
from serving.observed.camera_kinds import KINDS, Kind
from serving.observed.views import View

WITHIN_S = 60.0
CELLS = 8
Saved = tuple[dict[str, NDArray[np.float32]], dict[str, Any]]


@dataclass(slots=True)
class Tally:
    """What was seen, summed over cells and seeds."""

    planted: Counter[str] = field(default_factory=Counter)
    noticed: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    confused: Counter[str] = field(default_factory=Counter)
    blind: Counter[str] = field(default_factory=Counter)
    delays_s: list[float] = field(default_factory=list)
    false_alarms: Counter[str] = field(default_factory=Counter)
    camera_days: float = 0.0
    novel: int = 0
    novel_as_fault: int = 0

    def add(self, other: Tally) -> None:
        """Add another tally to this one, in place."""
        for name in ("planted", "noticed", "named", "confused", "blind", "false_alarms"):
            getattr(self, name).update(getattr(other, name))
        self.delays_s += other.delays_s
        self.camera_days += other.camera_days
        self.novel += other.novel
        self.novel_as_fault += other.novel_as_fault

    def lines(self) -> list[str]:
        """A table for people."""
        made = [f"{'kind':14}{'planted':>8}{'noticed':>9}{'of these, right kind':>22}   taken for"]
        for kind in KINDS:
            wrong = {key.partition(">")[2]: n for key, n in self.confused.items() if key.startswith(f"{kind}>")}
            told = ", ".join(f"{name} {count}" for name, count in sorted(wrong.items(), key=lambda one: -one[1]))
            made.append(
                f"{kind:14}{self.planted[kind]:>8}{self.noticed[kind]:>9}{self.named[kind]:>22}   {told}"
                f"{f' (cannot be told: {self.blind[kind]})' if self.blind[kind] else ''}"
            )
        planted, noticed, named = (sum(one.values()) for one in (self.planted, self.noticed, self.named))
        made.append(f"noticed within {WITHIN_S:.0f} s: {_share(noticed, planted)}")
        made.append(f"right kind of those noticed: {_share(named, noticed)}")
        if self.delays_s:
            made.append(
                f"delay: median {np.median(self.delays_s):.0f} s, 95 % {np.quantile(self.delays_s, 0.95):.0f} s"
            )
        alarms = sum(self.false_alarms.values())
        low, high = _poisson(alarms)
        if self.camera_days:
            days = self.camera_days
            made.append(
                f"false alarms: {alarms} in {days:.2f} camera-days, {alarms / days:.2f} a day"
                f" (95 %: {low / days:.2f} to {high / days:.2f}) {dict(self.false_alarms)}"
            )
        made.append(f"new packages not taken for a fault: {_share(self.novel - self.novel_as_fault, self.novel)}")
        return made


def _share(part: int, of: int) -> str:
    rate = Rate(part, of)
    low, high = rate.interval
    return f"{part} of {of}, {part / of if of else 0:.3f} (95 %: {low:.3f} to {high:.3f})"


def _poisson(count: int) -> tuple[float, float]:
    """A 95 % interval of a Poisson mean (Byar's approximation)."""
    low = 0.0 if count == 0 else count * (1 - 1 / (9 * count) - 1.96 / (3 * math.sqrt(count))) ** 3
    more = count + 1
    return low, more * (1 - 1 / (9 * more) + 1.96 / (3 * math.sqrt(more))) ** 3


def learnt(pool: Pool, seed: int, *, at: float = 9 * 3600.0) -> tuple[CameraHealth, Stream]:
    """A camera that has been learnt on its stream, which goes on from there."""
    stream = Stream(pool, Day.of(seed), np.random.default_rng((seed, 31)), at=at)
    health = CameraHealth()
    for _ in range(3000):
        health.observe(View.of(stream.frame()), stream.at)
        stream.at += stream.every_s
        if health.learnt:
            break
    return health, stream


def judge_cell(seed: int, *, size: int, days: float, faults: int, every_s: float) -> Tally:
    """One cell of the fleet."""
    return judge_pool(CellCamera(seed, size=size).pool(), seed, days=days, faults=faults, every_s=every_s)


def judge_pool(
    pool: Pool, seed: int, *, days: float, faults: int, every_s: float, kinds: Sequence[Kind] = KINDS
) -> Tally:
    """One camera: faults one by one after it was learnt, a while with new packages, and a while without any of it."""
    tally = Tally()
    size = pool.busy[0].image.shape[0]
    health, stream = learnt(pool, seed)
    if not health.learnt:
        return tally
    saved, start = health.save(), stream.at
    rng = np.random.default_rng((seed, 37))
    for kind in kinds:
        for _ in range(faults):
            _plant(tally, pool, seed, kind, saved, start, rng, size)
    if pool.novel:
        _novelty(tally, pool, seed, saved, start)
    stream.every_s = every_s
    known: float | None = None
    for image, at in stream.frames(int(days * DAY_S / every_s)):
        state = health.observe(View.of(image), at)
        if state.kind is not None and state.since != known:
            tally.false_alarms[state.kind] += 1
        known = state.since
    tally.camera_days += int(days * DAY_S / every_s) * every_s / DAY_S
    return tally


def _plant(
    tally: Tally,
    pool: Pool,
    seed: int,
    kind: Kind,
    saved: Saved,
    start: float,
    rng: np.random.Generator,
    size: int,
) -> None:
    health = _restored(saved)
    stream = Stream(pool, Day.of(seed), np.random.default_rng(int(rng.integers(1 << 30))), at=start + EVERY_S)
    stream.keep_busy()
    for image, at in stream.frames(int(rng.integers(5, 20))):
        health.observe(View.of(image), at)
    stream.fault = FAULTS[kind](float(rng.uniform()), rng, size)
    planted_at = stream.at
    tally.planted[kind] += 1
    for image, at in stream.frames(int(WITHIN_S / EVERY_S)):
        state = health.observe(View.of(image), at)
        if state.kind is not None:
            tally.noticed[kind] += 1
            tally.delays_s.append(at - planted_at)
            if state.kind == kind:
                tally.named[kind] += 1
            else:
                tally.confused[f"{kind}>{state.kind}"] += 1
            return
    tally.confused[f"{kind}>nothing"] += 1
    if kind in health.state.blind:
        tally.blind[kind] += 1


def _novelty(tally: Tally, pool: Pool, seed: int, saved: Saved, start: float) -> None:
    """Five minutes in which every second frame holds packages that the cell never had."""
    for part in range(1):
        health = _restored(saved)
        rng = np.random.default_rng((seed, 41, part))
        stream = Stream(pool, Day.of(seed), rng, at=start + EVERY_S, novel=0.5)
        tally.novel += 1
        for image, at in stream.frames(int(300 / EVERY_S)):
            if health.observe(View.of(image), at).kind is not None:
                tally.novel_as_fault += 1
                break


def _restored(saved: Saved) -> CameraHealth:
    health = CameraHealth()
    if not health.restore(*saved):
        raise ValueError("a camera that was learnt must be restorable")
    return health


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22])
    parser.add_argument("--cells", type=int, default=CELLS, help="cells of each seed")
    parser.add_argument("--days", type=float, default=0.1, help="camera-days without a fault, of each cell")
    parser.add_argument("--faults", type=int, default=2, help="faults of each kind, of each cell")
    parser.add_argument("--every", type=float, default=10.0, help="seconds from frame to frame without a fault")
    parser.add_argument("--size", type=int, default=160)
    asked = parser.parse_args(arguments)
    total = Tally()
    for seed in asked.seeds:
        for cell in range(asked.cells):
            tally = judge_cell(
                1000 * seed + cell, size=asked.size, days=asked.days, faults=asked.faults, every_s=asked.every
            )
            total.add(tally)
            # Each cell at once: a run that is ended early has said what it knows.
            facts = {one.name: getattr(tally, one.name) for one in fields(tally)}
            sys.stdout.write(json.dumps({"seed": seed, "cell": cell, **facts}) + "\n")
            sys.stdout.flush()
    sys.stdout.write("\n".join(total.lines()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
