"""What is told of an event: its counts, trend, cost and rank, in numbers and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from hub.loop.findings import FAILED
from hub.migrations.tables import timestamp
from hub.schemas.events import Event, EventCell, EventState, Finding

DAY_S: Final = 86_400.0
TYPICAL: Final = 6
Trend = Literal["rising", "steady", "falling"]
Interval = Callable[[int, int], tuple[float, float]]
"""The 95 % interval of a share, of its count and the count of all."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding as it is counted. Times are epoch seconds."""

    id: str
    capture: str
    cell: str
    line: str | None
    seen_at: float
    novelty: float
    novel: bool
    picked: bool
    score: float
    label: str
    answered: bool
    outcome: str | None

    def told(self) -> Finding:
        """The finding as the loop's pages and API show it."""
        return Finding(
            id=self.id,
            capture=self.capture,
            cell=self.cell,
            line=self.line,
            seen_at=timestamp(self.seen_at),
            label=self.label,
            score=self.score,
            novelty=self.novelty,
            answered=self.answered,
            outcome=self.outcome,
        )


@dataclass(frozen=True, slots=True)
class Head:
    """The row of an event."""

    id: str
    number: int
    name: str
    state: EventState
    note: str
    changed_by: str | None


def event_of(head: Head, seen: Sequence[Seen], typical: Sequence[Seen], interval: Interval) -> Event:
    """What is told of an event of these findings, one or more: those of cells that the caller works in."""
    times = np.array([one.seen_at for one in seen])
    outcomes = [one.outcome for one in seen if one.picked and one.outcome is not None]
    failed = sum(outcome in FAILED for outcome in outcomes)
    per_day = len(seen) / max((times.max() - times.min()) / DAY_S, 1.0)
    novelty = float(np.mean([one.novelty for one in seen]))
    low, high = interval(failed, len(outcomes))
    labels = Counter(one.label for one in seen if one.label)
    likeliest = labels.most_common(1)[0][0] if labels else "not answered"
    trend = trend_of(times, interval)
    cells = [
        EventCell(
            cell=cell,
            findings=len(own),
            first_seen=timestamp(min(own)),
            last_seen=timestamp(max(own)),
        )
        for cell, own in sorted(_by_cell(seen).items(), key=lambda one: (-len(one[1]), one[0]))
    ]
    return Event(
        id=head.id,
        name=head.name or f"Event {head.number}: like {likeliest}" if labels else head.name or f"Event {head.number}",
        state=head.state,
        note=head.note,
        findings=len(seen),
        cells=cells,
        first_seen=timestamp(float(times.min())),
        last_seen=timestamp(float(times.max())),
        trend=trend,
        picks=len(outcomes),
        failed=failed,
        failure_rate=failed / len(outcomes) if outcomes else None,
        failure_interval=(low, high),
        novelty=novelty,
        gain=per_day * (low + high) / 2 * novelty,
        why=_why(seen, per_day, failed, len(outcomes), (low, high), novelty, trend, len(cells)),
        typical=[one.told() for one in typical],
        changed_by=head.changed_by,
    )


def trend_of(times: np.ndarray, interval: Interval) -> Trend:
    """Whether findings come more often in the second half of the time than in the first, beyond chance."""
    start, end = float(times.min()), float(times.max())
    if len(times) < 8 or end <= start:
        return "steady"
    late = int((times > (start + end) / 2).sum())
    # Of as many findings in each half as in the other, the share's interval holds a half.
    low, high = interval(late, len(times))
    return "rising" if low > 0.5 else "falling" if high < 0.5 else "steady"


def _by_cell(seen: Sequence[Seen]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in seen:
        found.setdefault(one.cell, []).append(one.seen_at)
    return found


def _why(
    seen: Sequence[Seen],
    per_day: float,
    failed: int,
    picks: int,
    interval: tuple[float, float],
    novelty: float,
    trend: Trend,
    cells: int,
) -> str:
    """The rank's reason in a few sentences."""
    often = f"Seen {per_day:.1f} times a day" if per_day >= 0.1 else f"Seen {len(seen)} times"
    often += f" in {cells} cells" if cells > 1 else ""
    often += {"rising": ", more and more often", "falling": ", less and less often", "steady": ""}[trend]
    if not picks:
        cost = "No pick of it has an outcome yet, so half of them are taken to fail"
    else:
        low, high = (round(100 * value) for value in interval)
        cost = f"{failed} of its {picks} picks failed ({low} to {high} %)"
    missed = sum(not one.answered for one in seen)
    strange = f"It is stranger than {100 * novelty:.0f} % of known packages"
    ignored = f" {missed} of them were not answered at all." if missed else ""
    return f"{often}. {cost}. {strange}.{ignored}"
