"""Picks that begin to fail: the hub sees outcomes, sites have the frames; so the hub asks them for a sample.

Each cell's outcomes, in the order of their arrival, go through a change detector whose threshold is the number of picks
between false alarms (`serving.observed.change`). A change is a wish in the telemetry folder, with the requests whose
picks failed lately: their frames are sampled first, as far as the site's ring still has them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serving.observed.change import ChangeDetector
from serving.observed.novelty_watch import LOOK_BACK_S, wish

log = logging.getLogger("parcelhub.picks")

PICKS_BETWEEN: Final = 50_000.0
"""Picks of a cell between false alarms, at least on the average: some ten days of a busy robot."""
AT_ONCE: Final = 20_000
NAMED: Final = 200
MAX_CELLS: Final = 2_000
Arrived = Callable[[float, int], list[tuple[float, str, str, bool]]]


@dataclass(slots=True)
class _Cell:
    detector: ChangeDetector = field(default_factory=lambda: ChangeDetector(PICKS_BETWEEN))
    failed: deque[str] = field(default_factory=lambda: deque(maxlen=NAMED))


class PickChanges:
    """All cells. Thread-safe. What it learnt is learnt again after a restart of the hub."""

    def __init__(self, arrived: Arrived, telemetry: Path, *, since: float | None = None) -> None:
        """`arrived` gives outcomes after a time, oldest first (`Telemetry.arrived`)."""
        self._arrived = arrived
        self._folder = telemetry
        self._since = time.time() if since is None else since
        self._cells: dict[str, _Cell] = {}
        self._lock = threading.Lock()

    def take_up(self) -> int:
        """Look at the outcomes that are new; how many changes they brought."""
        changes = 0
        with self._lock:
            for received, request, name, success in self._arrived(self._since, AT_ONCE):
                self._since = max(self._since, received)
                cell = self._cells.get(name)
                if cell is None:
                    if len(self._cells) >= MAX_CELLS:
                        self._cells.pop(next(iter(self._cells)))
                    cell = self._cells[name] = _Cell()
                if not success:
                    cell.failed.append(request)
                if cell.detector.add(0.0 if success else 1.0):
                    changes += 1
                    self._ask(name, received, cell)
        return changes

    def _ask(self, name: str, at: float, cell: _Cell) -> None:
        log.warning("picks of %s fail more often than before", name)
        wish_id = hashlib.sha256(json.dumps([name, at]).encode()).hexdigest()[:32]
        wish(self._folder, wish_id, name, "failed_picks", at - LOOK_BACK_S, tuple(cell.failed))


def forget_frames(telemetry: Path, cell: str) -> None:
    """Ask the site to forget the frames of a cell that goes: one that is made anew by its name must not get them."""
    now = time.time()
    wish(
        telemetry, hashlib.sha256(json.dumps(["forget", cell, now]).encode()).hexdigest()[:32], cell, "forget", now, ()
    )
