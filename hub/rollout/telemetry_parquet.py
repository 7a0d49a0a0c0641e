"""The telemetry folder: segments of JSON lines become one Parquet file a day, and DuckDB reads those.

    telemetry/incoming/*.jsonl              what the robots' server and the API wrote a moment ago
    telemetry/predictions/<day>/*.parquet   one row a request      telemetry/outcomes/<day>/*.parquet   one row a pick

A file that cannot be read is set aside, named in the log and counted (`hub.maintenance.telemetry_files`); the rest goes
on. A file taken up twice (the hub was killed in between) changes nothing: the Parquet file's name is that of its
segments, and of several rows of one request id the first counts. DuckDB works in memory here; the catalog is another
database.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from hub.errors import TelemetryError
from hub.maintenance.telemetry_files import Aside, rescue
from hub.rollout.votes import DAY_S, LATEST
from registry.blobs.disk import is_full
from registry.durable import make_folder, publish
from serving.observed.telemetry import INCOMING, OUTCOMES, PREDICTIONS

log = logging.getLogger("parcelhub.telemetry")

R = TypeVar("R")
MERGE_AT = 24
"""A day's folder with so many files is merged into one."""
SEGMENTS_AT_ONCE = 500
FRESH_DAYS = 2
COLUMNS: Mapping[str, Mapping[str, str]] = {
    PREDICTIONS: {
        "request_id": "VARCHAR", "at": "DOUBLE", "cell": "VARCHAR", "line": "VARCHAR", "robot": "VARCHAR",
        "variant": "VARCHAR", "base": "VARCHAR", "stage": "VARCHAR", "table_version": "BIGINT", "instances": "INTEGER",
        "top_score": "DOUBLE", "top_label": "VARCHAR", "labels": "VARCHAR", "latency_ms": "DOUBLE", "batch": "INTEGER",
        "error": "VARCHAR", "caller": "VARCHAR", "height": "INTEGER", "width": "INTEGER",
    },
    OUTCOMES: {
        "request_id": "VARCHAR", "outcome": "VARCHAR", "picked_at": "DOUBLE", "received_at": "DOUBLE",
        "label": "VARCHAR", "cell": "VARCHAR", "line": "VARCHAR", "robot": "VARCHAR", "served_by": "VARCHAR",
        "reporter": "VARCHAR", "speaker": "VARCHAR", "instance": "INTEGER", "point_x": "DOUBLE", "point_y": "DOUBLE",
        "gripper": "VARCHAR",
    },
}  # fmt: skip
_ONE = {PREDICTIONS: "request_id", OUTCOMES: "request_id, reporter"}
# What there is one row of.
_TIME = {PREDICTIONS: '"at"', OUTCOMES: "received_at"}


class ParquetFiles:
    """The files of one telemetry folder. Not thread-safe: its owner has a lock, and is the only one in the folder."""

    def __init__(self, folder: Path, *, keep_days: int) -> None:
        self.folder = folder
        self._keep = timedelta(days=keep_days)
        self._db = duckdb.connect(config={"threads": 2, "memory_limit": "512MB"})
        self._db.execute("SET enable_progress_bar = false")
        self._last_retention = 0.0
        self._aside = Aside(folder)

    @property
    def damaged(self) -> list[str]:
        """Names of the files that could not be read and were set aside, below the telemetry folder."""
        return self._aside.names()

    def close(self) -> None:
        """End the database connection; the files stay."""
        self._db.close()

    def run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement. Raises TelemetryError."""
        try:
            return self._db.execute(sql, list(values)).fetchall()
        except duckdb.Error as error:
            raise TelemetryError(str(error)) from error

    def sifting(self, work: Callable[[], R]) -> R:
        """Do the work; if it fails for a file that cannot be read, set that aside and do it once more."""
        try:
            return work()
        except TelemetryError:
            if not self._sift():
                raise
            return work()

    def _sift(self) -> int:
        """Read every file by itself and set aside those that cannot be read. Gives their number."""
        found = 0
        for kind in COLUMNS:
            for path in sorted((self.folder / kind).glob("????-??-??/*.parquet")):
                if why := self._trouble(f"SELECT count(COLUMNS(*)) FROM ({_parquet(kind, _paths([path]))})"):  # noqa: S608
                    found += self._aside.put(path, why)
            for path in sorted((self.folder / INCOMING).glob(f"{kind}-*.jsonl")):
                if why := self._trouble(f"SELECT count(COLUMNS(*)) FROM {_segments(kind, [path])}"):  # noqa: S608
                    with contextlib.suppress(OSError):  # of a full disk: what is set aside can be put back
                        rescue(path)
                    found += self._aside.put(path, why)
        return found

    def _trouble(self, sql: str) -> str:
        """Why a file cannot be read; "" if it can, and for what is no fault of the file."""
        try:
            self._db.execute(sql).fetchall()
        except duckdb.OutOfMemoryException:
            return ""
        except duckdb.Error as error:
            return "" if is_full(error) or "Too many open files" in str(error) else str(error)
        return ""

    def view(self, name: str, kind: str, since: float) -> str:
        """A common table: the first row of each request id. A request that failed has no outcome to be joined.

        Days that ended before `since` are not opened, but for the one before it: a pick follows its prediction.
        """
        first = datetime.fromtimestamp(max(since - DAY_S, 0.0), UTC).strftime("%Y-%m-%d")
        days = [folder for folder in (self.folder / kind).glob("????-??-??") if folder.name >= first]
        files = _paths(
            path for folder in days for path in folder.glob("*.parquet") if not self._aside.passed_over(path)
        )
        only = "WHERE error IS NULL " if kind == PREDICTIONS else ""
        return (
            f"{name} AS (SELECT * FROM ({_parquet(kind, files)}) {only}"  # noqa: S608  # our own file names
            f"QUALIFY row_number() OVER (PARTITION BY {_ONE[kind]} ORDER BY {_TIME[kind]}) = 1)"
        )

    def take_up(self, names: Collection[str] | None = None) -> None:
        """Put segments (those of these names, or all) into Parquet files; days that are over go. Raises
        TelemetryError."""
        for kind in (PREDICTIONS, OUTCOMES):
            segments = sorted((self.folder / INCOMING).glob(f"{kind}-*.jsonl"))
            segments = [
                path for path in segments if (names is None or path.name in names) and not self._aside.passed_over(path)
            ]
            for start in range(0, len(segments), SEGMENTS_AT_ONCE):
                try:
                    self._convert(kind, segments[start : start + SEGMENTS_AT_ONCE])
                except (TelemetryError, OSError) as error:
                    if not is_full(error):
                        raise
                    # They stay where they are, and are taken up when there is room: what is on record is answered.
                    log.warning("disk full: %d files of %s are not taken up", len(segments), kind)
                    break
        if time.monotonic() - self._last_retention > 3600 or not self._last_retention:
            self._last_retention = time.monotonic()
            self._retain()

    def _convert(self, kind: str, segments: Sequence[Path]) -> None:
        """Write segments as Parquet, by day, and delete them."""
        source = _segments(kind, segments)
        time_column = _TIME[kind]
        good = f"request_id IS NOT NULL AND {time_column} BETWEEN 0 AND {LATEST}"  # which NaN is not either
        good += "" if kind == PREDICTIONS else " AND outcome IS NOT NULL"
        self.run(f"CREATE OR REPLACE TEMP TABLE taken AS SELECT * FROM {source} WHERE {good}")  # noqa: S608
        day = f"strftime(make_timestamp(({time_column} * 1e6)::BIGINT), '%Y-%m-%d')"
        name = hashlib.sha256("\n".join(path.name for path in segments).encode()).hexdigest()[:24]
        for (one,) in self.run(f"SELECT DISTINCT {day} FROM taken"):  # noqa: S608
            target = self.folder / kind / str(one)
            make_folder(target)
            self._write(f"SELECT * FROM taken WHERE {day} = '{one}'", target / f"{name}.parquet")  # noqa: S608
            self._merge(kind, target)
        for path in segments:
            path.unlink(missing_ok=True)

    def _merge(self, kind: str, folder: Path) -> None:
        files = sorted(path for path in folder.glob("*.parquet") if not self._aside.passed_over(path))
        if len(files) < MERGE_AT:
            return
        name = hashlib.sha256("\n".join(path.name for path in files).encode()).hexdigest()[:24]
        self._write(
            f"SELECT * FROM ({_parquet(kind, _paths(files))}) "  # noqa: S608
            f"QUALIFY row_number() OVER (PARTITION BY {_ONE[kind]} ORDER BY {_TIME[kind]}) = 1",
            folder / f"{name}.parquet",
        )
        for path in files:
            path.unlink()

    def _write(self, select: str, target: Path) -> None:
        part = target.with_suffix(".part")
        try:
            self.run(f"COPY ({select}) TO '{_quoted(part)}' (FORMAT parquet, COMPRESSION zstd)")
            # The segments go after this: until then, they are what was acknowledged.
            publish(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _retain(self) -> None:
        """Days that are over go. A clock that is wrong for a while must not be the end of all that is on record: files
        go only when later days have some, on FRESH_DAYS days at least."""
        oldest = (datetime.now(UTC) - self._keep).strftime("%Y-%m-%d")
        for kind in (PREDICTIONS, OUTCOMES):
            days = {folder: any(folder.iterdir()) for folder in (self.folder / kind).glob("????-??-??")}
            trusted = sum(filled for folder, filled in days.items() if folder.name >= oldest) >= FRESH_DAYS
            for folder, filled in days.items():
                if folder.name < oldest and (trusted or not filled):
                    log.info("telemetry of %s is older than %d days and goes", folder.name, self._keep.days)
                    shutil.rmtree(folder, ignore_errors=True)


def _paths(paths: Iterable[Path]) -> str:
    listed = ", ".join(map(_literal, sorted(paths)))
    return f"[{listed}]" if listed else ""


def _parquet(kind: str, files: str) -> str:
    """The rows of Parquet files in the columns of today, NULL where a file of an earlier version has none."""
    shape = ", ".join(f'NULL::{type_} AS "{name}"' for name, type_ in COLUMNS[kind].items())
    if not files:
        return f"SELECT {shape} WHERE false"
    casts = ", ".join(f'CAST("{name}" AS {type_}) AS "{name}"' for name, type_ in COLUMNS[kind].items())
    return (
        f"SELECT {casts} FROM (SELECT {shape} WHERE false UNION ALL BY NAME "  # noqa: S608  # names of ours
        f"SELECT * FROM read_parquet({files}, union_by_name=true)) "
        # A file with other columns than ours would read as rows of nothing.
        f"WHERE CASE WHEN request_id IS NULL OR {_TIME[kind]} IS NULL THEN error('rows without an id') ELSE true END"
    )


def _segments(kind: str, paths: Iterable[Path]) -> str:
    """The rows of segments. A torn last line is what a killed writer leaves; it is skipped."""
    columns = ", ".join(f"'{name}': '{type_}'" for name, type_ in COLUMNS[kind].items())
    return f"read_json({_paths(paths)}, format='newline_delimited', columns={{{columns}}}, ignore_errors=true)"


def _literal(path: Path) -> str:
    return f"'{_quoted(path)}'"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
