"""Picks that begin to fail: the hub sees outcomes, sites have the frames; so the hub asks them for a sample.

Each cell's outcomes, in the order of their arrival, go through a change detector whose threshold is the number of picks
between false alarms (`serving.observed.change`). A change is a wish of the cell's sites, with the requests whose
picks failed lately: their frames are sampled first, as far as the site's ring still has them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from serving.observed.change import ChangeDetector
from serving.observed.novelty_watch import LOOK_BACK_S
from serving.observed.state_files import read_state, set_aside, write_state
from serving.observed.wishes import FORGET

log = logging.getLogger("parcelhub.picks")

PICKS_BETWEEN: Final = 50_000.0
"""Picks of a cell between false alarms, at least on the average: some ten days of a busy robot."""
AT_ONCE: Final = 20_000
NAMED: Final = 200
DAY_S: Final = 86_400.0
MAX_CELLS: Final = 2_000
STATE: Final = "picks.json"
FORMAT: Final = 1
SAVE_EVERY_S: Final = 60.0
Ask = Callable[[str, str, str, float, Sequence[str]], object]
"""Wishes a sample of sites: an id, the cell, the reason, since when, and the requests whose frames come first."""
Arrived = Callable[[float, int], list[tuple[float, str, str, bool]]]


@dataclass(slots=True)
class _Cell:
    detector: ChangeDetector = field(default_factory=lambda: ChangeDetector(PICKS_BETWEEN))
    failed: deque[str] = field(default_factory=lambda: deque(maxlen=NAMED))


class PickChanges:
    """All cells. Thread-safe. What it learnt outlives the hub's process: the state in its file and the time up to which
    outcomes are in it are written as one, so outcomes after that are taken up again, each once."""

    def __init__(self, arrived: Arrived, telemetry: Path, ask: Ask, *, since: float | None = None) -> None:
        """`arrived` gives outcomes after a time, oldest first (`Telemetry.arrived`). Without a state that was saved,
        outcomes count from `since` on (now unless said)."""
        self._arrived = arrived
        self._wish = ask
        self._state = telemetry / "observed" / STATE
        self._since = time.time() if since is None else since
        self._cells: dict[str, _Cell] = {}
        self._lock = threading.Lock()
        self._saved_at, self._taken = time.monotonic(), 0
        self.observers: list[Callable[[str, float], None]] = []
        """Told of each change (the cell, epoch seconds); again after a hub was killed."""
        self._restore()

    def take_up(self) -> int:
        """Look at the outcomes that are new; how many changes they brought."""
        changes = 0
        with self._lock:
            # The clock was put back since: what arrives is stamped with the time of now (`Telemetry.add_outcomes`).
            if self._since > time.time() + DAY_S:
                self._since = time.time()
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
                self._taken += 1
            if changes or (self._taken and time.monotonic() - self._saved_at > SAVE_EVERY_S):
                self._save()
        return changes

    def forget(self, name: str) -> None:
        """A cell goes: another one by its name starts anew."""
        with self._lock:
            if self._cells.pop(name, None) is not None:
                self._save()

    def close(self) -> None:
        """Keep what was learnt."""
        with self._lock:
            if self._taken:
                self._save()

    def _save(self) -> None:
        cells = {
            name: {"detector": one.detector.save(), "failed": list(one.failed)} for name, one in self._cells.items()
        }
        try:
            write_state(self._state, {"format": FORMAT, "since": self._since, "cells": cells})
        except OSError as error:
            log.warning("the state of failed picks could not be written: %s", error)
        self._saved_at, self._taken = time.monotonic(), 0

    def _restore(self) -> None:
        document = read_state(self._state)
        if document is None:
            return
        if document.get("format") != FORMAT:
            set_aside(self._state, "written by another version")
            return
        cells: dict[str, _Cell] = {}
        try:
            since = float(document["since"])
            if not math.isfinite(since):
                raise ValueError("a time that is not finite")  # noqa: TRY301 - the same as what `float` raises
            for name, saved in list(document["cells"].items())[-MAX_CELLS:]:
                cell = cells[str(name)] = _Cell()
                cell.detector.restore(saved["detector"])
                cell.failed.extend(str(one) for one in saved["failed"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            set_aside(self._state, error)
        else:
            # Not from the future: a clock that was put back must not make it wait.
            self._since, self._cells = min(since, time.time()), cells

    def _ask(self, name: str, at: float, cell: _Cell) -> None:
        log.warning("picks of %s fail more often than before", name)
        wish_id = hashlib.sha256(json.dumps([name, at]).encode()).hexdigest()[:32]
        self._wish(wish_id, name, "failed_picks", at - LOOK_BACK_S, tuple(cell.failed))
        for tell in self.observers:
            tell(name, at)


def forget_frames(ask: Ask, cell: str) -> None:
    """Ask the sites to forget the frames of a cell that goes: one that is made anew by its name must not get them."""
    now = time.time()
    ask(hashlib.sha256(json.dumps(["forget", cell, now]).encode()).hexdigest()[:32], cell, FORGET, now, ())
