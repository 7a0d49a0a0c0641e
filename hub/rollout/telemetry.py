"""Outcomes and predictions, joined by request id, asked with DuckDB. The files are those of
`hub.rollout.telemetry_parquet`.

Each question first takes up what is incoming, so an outcome counts as soon as it was acknowledged. What is kept in
memory of requests and outcomes (`hub.rollout.votes`) saves looking into the files for each.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.rollout.statistics import Progress, SequentialTest
from hub.rollout.telemetry_parquet import ParquetFiles
from hub.rollout.votes import DAY_S, MAX_KNOWN, MAX_SAID, Said, Tally, Votes, Wanted, rows_of, said_of
from hub.rollout.votes import wanted_of as wanted_of
from serving.observed.failure_kinds import FailedPick
from serving.observed.telemetry import INCOMING, OUTCOMES, PREDICTIONS, write_segment
from serving.robot.outcomes import OUTCOMES as OUTCOME_NAMES

TIDY_AT = 32
"""So many segments are put into Parquet without being asked."""
REPEATS_WITHIN_S = 30 * DAY_S
"""A robot that sends an outcome again does so within this time; the join counts it once whenever it comes."""
DIMENSIONS: Mapping[str, str] = {
    "cell": "cell", "variant": "variant", "base": "base", "stage": "stage", "class": "label", "line": "line",
    "robot": "robot", "gripper": "gripper", "day": "strftime(make_timestamp((picked_at * 1e6)::BIGINT), '%Y-%m-%d')",
}  # fmt: skip
_JOINED = """
    SELECT o.request_id, o.outcome, o.picked_at, o.received_at,
        p.request_id IS NULL AS unmatched,
        coalesce(p.cell, o.cell) AS cell,
        coalesce(p.line, o.line) AS line,
        coalesce(p.robot, o.robot) AS robot,
        CASE WHEN p.request_id IS NOT NULL THEN p.variant
             WHEN contains(o.served_by, ' on base/') THEN split_part(o.served_by, ' on base/', 1) END AS variant,
        coalesce(p.base, nullif(regexp_extract(o.served_by, 'base/(.+)$', 1), '')) AS base,
        p.stage,
        coalesce(o.label, p.top_label) AS label, o.label AS said_label, p."at" AS asked_at,
        o.instance, o.point_x, o.point_y, o.gripper
    FROM o LEFT JOIN p USING (request_id) LEFT JOIN f ON f.cell = coalesce(p.cell, o.cell)
    WHERE (o.cell IS NULL OR p.cell IS NULL OR o.cell = p.cell)
        AND (o.speaker IS NULL OR p.caller IS NULL OR o.speaker = p.caller)
        AND (f.before IS NULL OR coalesce(p."at", o.received_at) >= f.before)
    QUALIFY row_number() OVER (PARTITION BY o.request_id ORDER BY o.received_at, o.reporter) = 1
"""
"""Outcomes with their requests: those that count (`hub.rollout.votes.counts`), and of one request the first."""


@dataclass(frozen=True, slots=True)
class Group:
    """Picks of one group: what they have in common, and how often each outcome happened."""

    key: tuple[str | None, ...]
    outcomes: Mapping[str, int]

    @property
    def picks(self) -> int:
        """How many picks there are, of whatever outcome."""
        return sum(self.outcomes.values())

    @property
    def successes(self) -> int:
        """How many of them went well."""
        return self.outcomes.get("success", 0)


class Telemetry:
    """The telemetry folder. Thread-safe; one process (the hub) owns the Parquet files."""

    def __init__(
        self, folder: Path, *, keep_days: int = 365, forgotten: Callable[[], Mapping[str, float]] = dict
    ) -> None:
        """`forgotten` gives the cells that were deleted, and when: what was recorded before counts for no cell."""
        self.folder = folder
        self.votes = Votes()
        self.keep_days = keep_days
        self._forgotten = forgotten
        # Reports wait for one another alone, never for a question or for a trial's look.
        self._reports = threading.Lock()
        self._seen: set[str] = set()
        self._loaded, self._last_received = False, 0.0
        self._lock = threading.Lock()
        self._files = ParquetFiles(folder, keep_days=keep_days)

    @property
    def damaged(self) -> list[str]:
        """Names of the files that could not be read and were set aside, below the telemetry folder."""
        return self._files.damaged

    def close(self) -> None:
        """End the database connection; the files stay."""
        with self._lock:
            self._files.close()

    def add_outcomes(
        self, rows: Sequence[Mapping[str, Any]], *, reporter: str, speaker: str | None = None
    ) -> tuple[int, int]:
        """Keep outcomes, durably. Returns (taken, repeated): of a reporter and a request id the first outcome stays.

        `speaker` is the robot that reports, None for a person. Raises OutcomesWaitError.
        """
        self.look()
        with self._reports:
            # Two batches never share a moment, and a clock that was put back does not turn their order round.
            now = time.time()
            if self._last_received - now < DAY_S:
                now = max(now, self._last_received + 1e-6)
            stamped = [
                {**row, "received_at": now, "reporter": reporter, "speaker": speaker}
                for row in self.votes.new(rows, reporter)
            ]
            if stamped:
                self._last_received = now
                path = write_segment(self.folder / INCOMING, OUTCOMES, stamped)
                self._seen.add(path.name)
                self.votes.add_outcomes(stamped)
        return len(stamped), len(rows) - len(stamped)

    def request(self, request_id: str) -> Said | None:
        """What is known of a request without a look into the files; None also while its record is on its way."""
        with self.votes.lock:
            return self.votes.said.get(request_id)

    def look(self, *, wait: bool = False) -> None:
        """Take note of what came in since the last look; nothing is rewritten. Without `wait`, somebody else's look
        or question, if one runs, is not waited for: what comes in late is noted by the next one."""
        if not self._lock.acquire(blocking=wait or not self._loaded):
            return
        try:
            self._files.sifting(self._note_incoming)
        finally:
            self._lock.release()

    def tidy(self) -> None:
        """Put what came in into Parquet files, once there is enough of it."""
        if len(list((self.folder / INCOMING).glob("*.jsonl"))) >= TIDY_AT:
            with self._lock:
                self._files.sifting(self._take_up)

    def progress(self, trial: str, wanted: Wanted, test: SequentialTest) -> Progress:
        """Where a trial stands: its running sum, made from the files if it is not kept yet."""
        found = self.votes.progress_of(trial, wanted, test)
        return self.recount(trial, wanted, test) if found is None else found

    def recount(self, trial: str, wanted: Wanted, test: SequentialTest) -> Progress:
        """Make a trial's sum anew from every pick on record."""
        tally = Tally(wanted, test)
        # No outcome comes between the files' answer and the sum; this is done once for each trial and start.
        with self._lock, self._reports:
            for received_at, request_id, success in self._picks(wanted):
                tally.add(received_at, request_id, success)
            self.votes.watch(trial, tally)
        return tally.progress

    def rates(
        self,
        by: Sequence[str],
        *,
        where: Mapping[str, str] | None = None,
        since: float = 0.0,
        until: float | None = None,
        cells: Collection[str] | None = None,
        matched: bool = False,
    ) -> tuple[list[Group], int]:
        """Outcomes by the dimensions `by` (of DIMENSIONS), and how many have no prediction; `matched`: none of those.

        Of `cells`; None: of all.

        `where` maps dimensions to the one value wanted; times are epoch seconds of the pick.
        """
        columns = [DIMENSIONS[name] for name in by]
        conditions, values = ["picked_at >= ?"], [since]
        if until is not None:
            conditions.append("picked_at < ?")
            values.append(until)
        if matched:
            conditions.append("NOT unmatched")
        given: list[Any] = [*values]
        if cells is not None:
            conditions.append("list_contains(?::VARCHAR[], cell)")
            given.append(sorted(cells))
        for name, value in (where or {}).items():
            conditions.append(f"{DIMENSIONS[name]} = ?")
            given.append(value)
        counts = ", ".join(f"count(*) FILTER (outcome = '{name}')" for name in OUTCOME_NAMES)
        keys = ", ".join(columns)
        sql = (
            f"SELECT {keys + ', ' if keys else ''}{counts}, count(*) FILTER (unmatched) "  # noqa: S608  # names of ours
            f"FROM joined WHERE {' AND '.join(conditions)} " + (f"GROUP BY {keys} ORDER BY {keys}" if keys else "")
        )
        groups, unmatched = [], 0
        for row in self._ask(sql, given, since):
            counted: dict[str, int] = {n: c for n, c in zip(OUTCOME_NAMES, row[len(by) : -1], strict=True) if c}
            unmatched += row[-1]
            if counted:
                groups.append(Group(tuple(row[: len(by)]), counted))
        return groups, unmatched

    def picks(self, cell: str, variant: str, stage: str, since: float) -> list[tuple[str, bool]]:
        """(request id, success) of a cell's picks with one variant since a time, in the order of their arrival.

        Only picks whose request is on record: nobody votes on what no robot asked.
        """
        with self._lock:
            found = self._picks(wanted_of(cell, variant, stage, since))
        return [(request_id, success) for _, request_id, success in found]

    def _picks(self, wanted: Wanted) -> list[tuple[float, str, bool]]:
        rows = self._ask_locked(
            "SELECT received_at, request_id, outcome = 'success' FROM joined WHERE cell = ? AND variant = ? "
            "AND stage = ? AND received_at >= ? AND NOT unmatched ORDER BY received_at, request_id",
            [wanted.cell, wanted.variant, wanted.stage, wanted.since],
            wanted.since,
        )
        return [(row[0], row[1], bool(row[2])) for row in rows]

    def outcome_of(self, request_ids: Sequence[str]) -> dict[str, str]:
        """Outcome by request id, for those that have one."""
        rows = self._ask(
            "SELECT request_id, outcome FROM joined WHERE list_contains(?, request_id)", [list(request_ids)], 0.0
        )
        return dict(rows)

    def failed(self, since: float, limit: int = 1000) -> list[FailedPick]:
        """Picks whose outcome came at or after a time and was no success, whose request is on record, in the order of
        their arrival."""
        rows = self._ask(
            f"SELECT {', '.join(FailedPick._fields[:-1])}, point_x, point_y FROM joined WHERE outcome <> 'success'"  # noqa: S608
            " AND NOT unmatched AND received_at >= ? ORDER BY received_at, request_id LIMIT ?",
            [since, limit],
            since,
        )
        return [FailedPick._make((*row[:-2], None if None in row[-2:] else (row[-2], row[-1]))) for row in rows]

    def arrived(self, since: float, limit: int) -> list[tuple[float, str, str, bool]]:
        """(received at, request id, cell, success) of outcomes that arrived after a time, oldest first; only picks
        whose request is on record."""
        return self._ask(
            "SELECT received_at, request_id, cell, outcome = 'success' FROM joined WHERE received_at > ? "
            "AND cell IS NOT NULL AND NOT unmatched ORDER BY received_at, request_id LIMIT ?",
            [since, limit],
            since,
        )

    def picks_of_cell(self, cell: str, since: float) -> int:
        """How many picks of a cell since a time (epoch seconds) have an outcome and their request on record."""
        groups, _ = self.rates([], where={"cell": cell}, since=since, matched=True)
        return sum(group.picks for group in groups)

    # --- files --------------------------------------------------------------------------------------------------------

    def _ask(self, sql: str, values: Sequence[object], since: float) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._ask_locked(sql, values, since)

    def _ask_locked(self, sql: str, values: Sequence[object], since: float) -> list[tuple[Any, ...]]:
        def work() -> list[tuple[Any, ...]]:
            self._take_up()
            views = [self._files.view("o", OUTCOMES, since), self._files.view("p", PREDICTIONS, since)]
            gone = self._forgotten()
            views.append("f AS (SELECT unnest(?::VARCHAR[]) AS cell, unnest(?::DOUBLE[]) AS before)")
            given = [list(gone), list(gone.values()), *values]
            return self._files.run(f"WITH {', '.join(views)}, joined AS ({_JOINED}) {sql}", given)

        return self._files.sifting(work)

    def _take_up(self) -> None:
        self._note_incoming()
        # A segment that arrives now waits for the next time: put into Parquet before it is noted, it would never count.
        self._files.take_up(self._seen)

    def _note_incoming(self) -> None:
        """Tell `votes` of the segments that are new; the first time, of what is on record."""
        if not self._loaded:
            self._load()
            self._loaded = True
        folder = self.folder / INCOMING
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".jsonl"))
        except FileNotFoundError:
            return
        self._seen.intersection_update(names)
        for name in names:
            if name in self._seen:
                continue
            kind = PREDICTIONS if name.startswith(f"{PREDICTIONS}-") else OUTCOMES
            rows = list(rows_of(folder / name, kind))
            self._seen.add(name)
            if kind == PREDICTIONS:
                self.votes.add_predictions((row["request_id"], said_of(row)) for row in rows if not row.get("error"))
            else:
                self.votes.add_outcomes(rows)

    def _load(self) -> None:
        self._files.take_up()
        columns = 'request_id, "at", cell, variant, stage, caller, instances, height, width'
        view = self._files.view("p", PREDICTIONS, 0.0)
        found = self._files.run(
            f'WITH {view} SELECT {columns} FROM p ORDER BY "at" DESC LIMIT ?',  # noqa: S608
            [MAX_SAID + 1],
        )
        self.votes.add_predictions((row[0], Said(*row[1:])) for row in reversed(found))
        names = ("request_id", "received_at", "reporter", "speaker", "cell", "outcome")
        view = self._files.view("o", OUTCOMES, time.time() - REPEATS_WITHIN_S)
        found = self._files.run(
            f"WITH {view} SELECT {', '.join(names)} FROM o ORDER BY received_at DESC LIMIT ?",  # noqa: S608
            [MAX_KNOWN],
        )
        self.votes.add_outcomes(dict(zip(names, row, strict=True)) for row in reversed(found))
        self._last_received = max((row[1] for row in found[:1]), default=0.0)


def evidence_digest(picks: Iterable[tuple[str, bool]]) -> str:
    """sha256 of the picks that a decision was made on, in their order."""
    return hashlib.sha256(json.dumps([list(pick) for pick in picks], separators=(",", ":")).encode()).hexdigest()
