"""Outcomes and predictions as Parquet, joined by request id, asked with DuckDB.

    telemetry/incoming/*.jsonl              what the robots' server and the API wrote a moment ago
    telemetry/predictions/<day>/*.parquet   one row a request      telemetry/outcomes/<day>/*.parquet   one row a pick

Each question first takes up what is incoming, so an outcome counts as soon as it was acknowledged. A file taken up
twice (the hub was killed in between) changes nothing: the Parquet file's name is that of its segments, and of several
rows of one request id the first counts. DuckDB works in memory here; the catalog is another database.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from hub.errors import TelemetryError
from serving.outcomes import OUTCOMES as OUTCOME_NAMES
from serving.telemetry import INCOMING, OUTCOMES, PREDICTIONS, write_segment

log = logging.getLogger("parcelhub.telemetry")

MERGE_AT = 24
"""A day's folder with so many files is merged into one."""
SEGMENTS_AT_ONCE = 500
DAY_S = 86_400.0
REPEATS_WITHIN_S = 30 * DAY_S
"""A robot that sends an outcome again does so within this time; the join counts it once whenever it comes."""
_COLUMNS: Mapping[str, Mapping[str, str]] = {
    PREDICTIONS: {
        "request_id": "VARCHAR", "at": "DOUBLE", "cell": "VARCHAR", "line": "VARCHAR", "robot": "VARCHAR",
        "variant": "VARCHAR", "base": "VARCHAR", "stage": "VARCHAR", "table_version": "BIGINT", "instances": "INTEGER",
        "top_score": "DOUBLE", "top_label": "VARCHAR", "labels": "VARCHAR", "latency_ms": "DOUBLE", "batch": "INTEGER",
        "error": "VARCHAR",
    },
    OUTCOMES: {
        "request_id": "VARCHAR", "outcome": "VARCHAR", "picked_at": "DOUBLE", "received_at": "DOUBLE",
        "label": "VARCHAR", "cell": "VARCHAR", "line": "VARCHAR", "robot": "VARCHAR", "served_by": "VARCHAR",
        "reporter": "VARCHAR",
    },
}  # fmt: skip
_TIME = {PREDICTIONS: '"at"', OUTCOMES: "received_at"}
DIMENSIONS: Mapping[str, str] = {
    "cell": "cell", "variant": "variant", "base": "base", "stage": "stage", "class": "label", "line": "line",
    "robot": "robot", "day": "strftime(make_timestamp((picked_at * 1e6)::BIGINT), '%Y-%m-%d')",
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
        coalesce(o.label, p.top_label) AS label
    FROM o LEFT JOIN p USING (request_id)
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Picks of one group: what they have in common, and how often each outcome happened."""

    key: tuple[str | None, ...]
    outcomes: Mapping[str, int]

    @property
    def picks(self) -> int:
        return sum(self.outcomes.values())

    @property
    def successes(self) -> int:
        return self.outcomes.get("success", 0)


class Telemetry:
    """The telemetry folder. Thread-safe; one process (the hub) owns the Parquet files."""

    def __init__(self, folder: Path, *, keep_days: int = 365) -> None:
        self.folder = folder
        self._keep = timedelta(days=keep_days)
        self._lock = threading.Lock()
        self._db = duckdb.connect(config={"threads": 2, "memory_limit": "512MB"})
        self._last_retention = 0.0

    def close(self) -> None:
        """End the database connection; the files stay."""
        with self._lock:
            self._db.close()

    def add_outcomes(self, rows: Sequence[Mapping[str, Any]], *, reporter: str) -> tuple[int, int]:
        """Keep outcomes, durably. Returns (taken, repeated): of a request id that is known the first outcome stays."""
        now = time.time()
        fresh: dict[str, dict[str, Any]] = {}
        for row in rows:
            fresh.setdefault(row["request_id"], {**row, "received_at": now, "reporter": reporter})
        with self._lock:
            known = self._known(list(fresh))
            new = [row for request_id, row in fresh.items() if request_id not in known]
            if new:
                write_segment(self.folder / INCOMING, OUTCOMES, new)
        return len(new), len(rows) - len(new)

    def rates(
        self,
        by: Sequence[str],
        *,
        where: Mapping[str, str] | None = None,
        since: float = 0.0,
        until: float | None = None,
        cells: Collection[str] | None = None,
    ) -> tuple[list[Group], int]:
        """Outcomes by the dimensions `by` (of DIMENSIONS), and how many have no prediction; of `cells`, None: of all.

        `where` maps dimensions to the one value wanted; times are epoch seconds of the pick.
        """
        columns = [DIMENSIONS[name] for name in by]
        conditions, values = ["picked_at >= ?"], [since]
        if until is not None:
            conditions.append("picked_at < ?")
            values.append(until)
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

    def picks(self, cell: str, variant: str | None, stage: str, since: float) -> list[tuple[str, bool]]:
        """(request id, success) of a cell's picks with one variant since a time, in the order of their arrival.

        Picks whose prediction is not recorded count for the stage that the variant is on.
        """
        rows = self._ask(
            "SELECT request_id, outcome = 'success' FROM joined WHERE cell = ? AND variant IS NOT DISTINCT FROM ? "
            "AND coalesce(stage, ?) = ? AND received_at >= ? ORDER BY received_at, request_id",
            [cell, variant, stage, stage, since],
            since,
        )
        return [(row[0], bool(row[1])) for row in rows]

    def outcome_of(self, request_ids: Sequence[str]) -> dict[str, str]:
        """Outcome by request id, for those that have one."""
        rows = self._ask(
            "SELECT request_id, outcome FROM o WHERE list_contains(?, request_id)", [list(request_ids)], 0.0
        )
        return dict(rows)

    def cells_since(self, since: float) -> set[str]:
        """Cells with outcomes that arrived at or after a time."""
        rows = self._ask("SELECT DISTINCT cell FROM joined WHERE received_at >= ?", [since], since)
        return {row[0] for row in rows if row[0] is not None}

    # --- files --------------------------------------------------------------------------------------------------------

    def _ask(self, sql: str, values: Sequence[object], since: float) -> list[tuple[Any, ...]]:
        with self._lock:
            self._take_up()
            views = [self._view("o", OUTCOMES, since), self._view("p", PREDICTIONS, since)]
            return self._run(f"WITH {', '.join(views)}, joined AS ({_JOINED}) {sql}", values)

    def _known(self, request_ids: Sequence[str]) -> set[str]:
        self._take_up()
        recent = self._view("o", OUTCOMES, time.time() - REPEATS_WITHIN_S)
        sql = f"WITH {recent} SELECT request_id FROM o WHERE list_contains(?, request_id)"  # noqa: S608
        return {row[0] for row in self._run(sql, [list(request_ids)])}

    def _run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, list(values)).fetchall()
        except duckdb.Error as error:
            raise TelemetryError(str(error)) from error

    def _view(self, name: str, kind: str, since: float) -> str:
        """A common table: the first row of each request id. (A request that failed has no outcome to be joined.)

        Days that ended before `since` are not opened, but for the one before it: a pick follows its prediction.
        """
        first = datetime.fromtimestamp(max(since - DAY_S, 0.0), UTC).strftime("%Y-%m-%d")
        days = [folder for folder in (self.folder / kind).glob("????-??-??") if folder.name >= first]
        files = _paths(path for folder in days for path in folder.glob("*.parquet"))
        if not files:
            empty = ", ".join(f'NULL::{type_} AS "{column}"' for column, type_ in _COLUMNS[kind].items())
            return f"{name} AS (SELECT {empty} WHERE false)"
        only = "WHERE error IS NULL " if kind == PREDICTIONS else ""
        return (
            f"{name} AS (SELECT * FROM read_parquet({files}) {only}"  # noqa: S608  # our own file names
            f"QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY {_TIME[kind]}) = 1)"
        )

    def _take_up(self) -> None:
        for kind in (PREDICTIONS, OUTCOMES):
            segments = sorted((self.folder / INCOMING).glob(f"{kind}-*.jsonl"))
            for start in range(0, len(segments), SEGMENTS_AT_ONCE):
                self._convert(kind, segments[start : start + SEGMENTS_AT_ONCE])
        if time.monotonic() - self._last_retention > 3600 or not self._last_retention:
            self._last_retention = time.monotonic()
            self._retain()

    def _convert(self, kind: str, segments: Sequence[Path]) -> None:
        """Write segments as Parquet, by day, and delete them."""
        columns = ", ".join(f"'{name}': '{type_}'" for name, type_ in _COLUMNS[kind].items())
        # A torn last line is what a killed writer leaves; it is skipped.
        source = f"read_json({_paths(segments)}, format='newline_delimited', columns={{{columns}}}, ignore_errors=true)"
        time_column = _TIME[kind]
        self._run(f"CREATE OR REPLACE TEMP TABLE taken AS SELECT * FROM {source} WHERE request_id IS NOT NULL")  # noqa: S608
        day = f"strftime(make_timestamp(({time_column} * 1e6)::BIGINT), '%Y-%m-%d')"
        name = hashlib.sha256("\n".join(path.name for path in segments).encode()).hexdigest()[:24]
        for (one,) in self._run(f"SELECT DISTINCT {day} FROM taken"):  # noqa: S608
            target = self.folder / kind / str(one)
            target.mkdir(parents=True, exist_ok=True)
            self._write(f"SELECT * FROM taken WHERE {day} = '{one}'", target / f"{name}.parquet")  # noqa: S608
            self._merge(kind, target)
        for path in segments:
            path.unlink(missing_ok=True)

    def _merge(self, kind: str, folder: Path) -> None:
        files = sorted(folder.glob("*.parquet"))
        if len(files) < MERGE_AT:
            return
        name = hashlib.sha256("\n".join(path.name for path in files).encode()).hexdigest()[:24]
        self._write(
            f"SELECT * FROM read_parquet({_paths(files)}) "  # noqa: S608
            f"QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY {_TIME[kind]}) = 1",
            folder / f"{name}.parquet",
        )
        for path in files:
            path.unlink()

    def _write(self, select: str, target: Path) -> None:
        part = target.with_suffix(".part")
        self._run(f"COPY ({select}) TO '{_quoted(part)}' (FORMAT parquet, COMPRESSION zstd)")
        part.replace(target)

    def _retain(self) -> None:
        oldest = (datetime.now(UTC) - self._keep).strftime("%Y-%m-%d")
        for kind in (PREDICTIONS, OUTCOMES):
            for folder in (self.folder / kind).glob("????-??-??"):
                if folder.name < oldest:
                    log.info("telemetry of %s is older than %d days and goes", folder.name, self._keep.days)
                    shutil.rmtree(folder, ignore_errors=True)


def evidence_digest(picks: Iterable[tuple[str, bool]]) -> str:
    """sha256 of the picks that a decision was made on, in their order."""
    return hashlib.sha256(json.dumps([list(pick) for pick in picks], separators=(",", ":")).encode()).hexdigest()


def _paths(paths: Iterable[Path]) -> str:
    listed = ", ".join(f"'{_quoted(path)}'" for path in sorted(paths))
    return f"[{listed}]" if listed else ""


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
