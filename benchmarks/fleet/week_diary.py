"""How large a week is, and what is written down of it: its page is made of that alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.fleet.week_world import Planted


@dataclass(frozen=True, slots=True)
class Size:
    """How large a week is. `frames` a day and cell; `labels` a day, of all cells; `minutes` of each training; `first`
    pictures each cell's team had labelled before, a quarter of which are kept aside: with fewer than ten of those no
    variant is sure enough for the fleet (`registry.promotion.readiness`), and nothing that is learnt reaches a robot.
    """

    cells: int = 8
    days: int = 7
    frames: int = 60
    labels: int = 80
    first: int = 48
    least: int = 12
    minutes: float = 1.0
    picture: int = 256
    wait_s: float = 3600.0


QUICK: Final = Size(frames=16, labels=32, first=44, least=6, minutes=0.4, wait_s=900.0)


@dataclass
class Diary:
    """What happened: the report is made of it alone."""

    seed: int
    size: Size
    planted: Planted
    rates: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Of each cell by day: (picks that went well, picks)."""
    served: dict[str, list[str]] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    """What was seen on timelines and done by the gates: day, cell, kind, title, reason, tone."""
    labels: dict[str, list[int]] = field(default_factory=dict)
    label_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    minutes: float = 0.0

    def note(self, day: int, cell: str, kind: str, title: str, reason: str = "", tone: str = "") -> None:
        """Add a step of a day (counted from 0); `tone` colours it in the page."""
        self.steps.append({"day": day, "cell": cell, "kind": kind, "title": title, "reason": reason, "tone": tone})
