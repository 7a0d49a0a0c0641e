"""Outcomes as votes: which of them count, and the running tests of the variants that they judge.

An outcome counts if its request is on record, was made for the cell that its reporter may speak for, and, where robots
show tokens, by that robot. Of one request the first such outcome counts. `hub.rollout.telemetry` asks the Parquet files
for the same: what is kept here in memory only saves reading every pick again, and is made anew from the files at start.
"""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from hub.errors import OutcomesWaitError
from hub.rollout.statistics import BEGIN, Progress, SequentialTest, Walk
from serving.observed.telemetry import PREDICTIONS

MAX_SAID: Final = 300_000
"""Requests that are known without looking into the files, some 300 bytes each."""
MAX_KNOWN: Final = 300_000
MAX_WAITING: Final = 10_000
"""Outcomes of one reporter whose requests are not on record: they may come late, but not in any number."""
DAY_S: Final = 86_400.0
WAITS_S: Final = DAY_S
TAIL: Final = 1024
LATEST: Final = 1e11
"""Epoch seconds that no clock says."""


class Said(NamedTuple):
    """A request as the robots' server recorded it; `caller` is the robot whose token it showed, None unchecked. How
    many instances the answer had, and its frame's size in pixels: None where an earlier version recorded it."""

    at: float
    cell: str | None
    variant: str | None
    stage: str | None
    caller: str | None
    instances: int | None = None
    height: int | None = None
    width: int | None = None


class Vote(NamedTuple):
    """An outcome; `cell` is what its reporter may speak for (None: any), `speaker` the robot (None: no robot)."""

    received_at: float
    reporter: str
    speaker: str | None
    cell: str | None
    success: bool


def counts(vote: Vote, said: Said) -> bool:
    """Whether an outcome is one of this request. The same condition in SQL is in `hub.rollout.telemetry`."""
    return (vote.cell is None or said.cell is None or vote.cell == said.cell) and (
        vote.speaker is None or said.caller is None or vote.speaker == said.caller
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose picks a trial counts: since when outcomes arrived, and from which moment on requests are looked at."""

    cell: str
    variant: str
    stage: str
    since: float
    first_at: float

    @property
    def key(self) -> tuple[str, str, str]:
        """What picks are found by: cell, variant, stage."""
        return self.cell, self.variant, self.stage


class TooLateError(Exception):
    """A pick that belongs before those that are summed up for good: the sum has to be made anew."""


class Tally:
    """The running test of one trial: exactly `SequentialTest.run` over its picks in the order of their arrival.

    The last picks are kept, with the state after each, so that one which belongs among them finds its place.
    """

    def __init__(self, wanted: Wanted, test: SequentialTest) -> None:
        self.wanted, self.test = wanted, test
        self._walk = Walk(test)
        self._before: Progress = BEGIN
        self._before_key: tuple[float, str] | None = None
        self._keys: list[tuple[float, str]] = []
        self._successes: list[bool] = []
        self._after: list[Progress] = []

    @property
    def progress(self) -> Progress:
        """Where the test stands now, after all picks that were taken."""
        return self._after[-1] if self._after else self._before

    def add(self, received_at: float, request_id: str, success: bool) -> None:
        """One more pick. Raises TooLateError."""
        key = (received_at, request_id)
        if self._before_key is not None and key <= self._before_key:
            raise TooLateError
        at = len(self._keys) if not self._keys or key > self._keys[-1] else bisect_left(self._keys, key)
        self._keys.insert(at, key)
        self._successes.insert(at, success)
        del self._after[at:]
        for each in self._successes[at:]:
            self._after.append(self._walk.step(self.progress, each))
        if len(self._keys) >= 2 * TAIL:
            self._before, self._before_key = self._after[TAIL - 1], self._keys[TAIL - 1]
            del self._keys[:TAIL], self._successes[:TAIL], self._after[:TAIL]


@dataclass(slots=True)
class Votes:
    """What is known of requests and outcomes, and the tallies. Thread-safe; it reads no file."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    said: OrderedDict[str, Said] = field(default_factory=OrderedDict)
    known: OrderedDict[str, tuple[str, ...]] = field(default_factory=OrderedDict)
    waiting: OrderedDict[str, list[Vote]] = field(default_factory=OrderedDict)
    waits: Counter[str] = field(default_factory=Counter)
    tallies: dict[str, Tally] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    """Trials whose sum has to be made anew from the files."""
    _forgot_said: bool = False
    _forgot_until: float = 0.0
    """The newest outcome that was waiting and is not remembered any more."""

    def new(self, rows: Sequence[Mapping[str, Any]], reporter: str) -> list[Mapping[str, Any]]:
        """Those of a reporter's outcomes that are no repetitions. Raises OutcomesWaitError for too many unknown."""
        with self.lock:
            fresh: dict[str, Mapping[str, Any]] = {}
            for row in rows:
                if reporter not in self.known.get(row["request_id"], ()):
                    fresh.setdefault(row["request_id"], row)
            self._expire(time.time() - WAITS_S)
            unknown = sum(one not in self.said for one in fresh)
            if unknown and self.waits[reporter] + unknown > MAX_WAITING:
                raise OutcomesWaitError(
                    f"{self.waits[reporter]:,} outcomes of {reporter!r} wait for requests that the robots' server has"
                    f" not recorded, and {MAX_WAITING:,} may; these have {unknown:,} more"
                )
            return list(fresh.values())

    def add_outcomes(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take outcomes in, those that are known already are passed over."""
        with self.lock:
            for row in rows:
                request_id, reporter = row["request_id"], row["reporter"] or ""
                before = self.known.get(request_id, ())
                if reporter in before:
                    continue
                self.known[request_id] = (*before, reporter)
                if len(self.known) > MAX_KNOWN:
                    self.known.popitem(last=False)
                vote = Vote(
                    row["received_at"], reporter, row.get("speaker"), row.get("cell"), row["outcome"] == "success"
                )
                said = self.said.get(request_id)
                if said is None:
                    self.waiting.setdefault(request_id, []).append(vote)
                    self.waits[reporter] += 1
                    if self._forgot_said:  # it may be in the files
                        self.stale.update(self.tallies)
                elif counts(vote, said):
                    self._count(request_id, said, vote, first=not before)

    def add_predictions(self, rows: Iterable[tuple[str, Said]]) -> None:
        """Take requests in that were answered."""
        with self.lock:
            for request_id, said in rows:
                before = self.said.get(request_id)
                if before is not None:
                    if said.at < before.at:  # of two requests of one id the first one counts
                        self.said[request_id] = said
                        self.stale.update(self.tallies)
                    continue
                self.said[request_id] = said
                if len(self.said) > MAX_SAID:
                    self.said.popitem(last=False)
                    self._forgot_said = True
                votes = self.waiting.pop(request_id, None)
                for vote in votes or ():
                    self.waits[vote.reporter] -= 1
                good = [vote for vote in votes or () if counts(vote, said)]
                if good:
                    self._count(request_id, said, min(good), first=True)
                elif votes is None and said.at < self._forgot_until:
                    self.stale.update(self.tallies)

    def watch(self, trial: str, tally: Tally) -> None:
        """Keep a trial's sum from now on."""
        with self.lock:
            self.tallies[trial] = tally
            self.stale.discard(trial)

    def progress_of(self, trial: str, wanted: Wanted, test: SequentialTest) -> Progress | None:
        """Where a trial stands; None if its sum is not kept or has to be made anew."""
        with self.lock:
            tally = self.tallies.get(trial)
            if tally is None or trial in self.stale or tally.wanted != wanted or tally.test != test:
                return None
            return tally.progress

    def only(self, trials: set[str]) -> None:
        """Forget the sums of all other trials."""
        with self.lock:
            for gone in self.tallies.keys() - trials:
                del self.tallies[gone]
            self.stale &= trials

    def _count(self, request_id: str, said: Said, vote: Vote, *, first: bool) -> None:
        for trial, tally in self.tallies.items():
            wanted = tally.wanted
            if wanted.key != (said.cell or vote.cell, said.variant, said.stage):
                continue
            if vote.received_at < wanted.since or said.at < wanted.first_at:
                continue
            if not first:  # an outcome of somebody else came before: the files know whether that one counts
                self.stale.add(trial)
                continue
            try:
                tally.add(vote.received_at, request_id, vote.success)
            except TooLateError:
                self.stale.add(trial)

    def _expire(self, before: float) -> None:
        while self.waiting:
            request_id, votes = next(iter(self.waiting.items()))
            if votes[-1].received_at >= before:
                return
            del self.waiting[request_id]
            for vote in votes:
                self.waits[vote.reporter] -= 1
            self._forgot_until = max(self._forgot_until, votes[-1].received_at)


def wanted_of(cell: str, variant: str, stage: str, since: float) -> Wanted:
    """What a trial counts. Requests of days that `_view` does not open are left out by both."""
    day = datetime.fromtimestamp(max(since - DAY_S, 0.0), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Wanted(cell, variant, stage, since, day.timestamp())


_TEXTS: Final = ("cell", "variant", "stage", "caller", "speaker", "reporter", "error")


def rows_of(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The rows of a segment that can be read: a line that is torn or damaged, as a killed writer leaves, is none."""
    time_column = "at" if kind == PREDICTIONS else "received_at"
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(row, dict) or not isinstance(row.get("request_id"), str):
            continue
        moment = row.get(time_column)
        if isinstance(moment, bool) or not isinstance(moment, int | float) or not 0 <= moment <= LATEST:
            continue
        if kind != PREDICTIONS and not isinstance(row.get("outcome"), str):
            continue
        if all(row.get(name) is None or isinstance(row[name], str) for name in _TEXTS):
            yield {"reporter": None, **row}


_SHAPE: Final = ("instances", "height", "width")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def said_of(row: Mapping[str, Any]) -> Said:
    """A request from its row."""
    return Said(
        row["at"],
        row.get("cell"),
        row.get("variant"),
        row.get("stage"),
        row.get("caller"),
        *map(_whole, map(row.get, _SHAPE)),
    )
