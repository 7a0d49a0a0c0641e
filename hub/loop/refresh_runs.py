"""The rows of refreshes, and the log of what was decided about each cell: inside transactions of others.

A run is `building` (its dataset), `training` (its job), then `offered`, or `failed`; a person may have `vetoed` it, or
`undone` what it offered. Each change names the states that it may follow, and happens once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, get_args

import msgspec

from hub.errors import UnknownRefreshError
from hub.loop.refresh_material import Source
from hub.loop.run_table import RunTable
from hub.migrations.tables import timestamp
from hub.schemas.core import EarlierVariant
from hub.schemas.refresh import RefreshRun, RunState
from registry.catalog.cursor import Cursor
from registry.catalog.remembered import Reads

MAX_LOG: Final = 1000
"""Entries of a cell's log that are kept, the newest."""
ACTIVE: Final = ("building", "training")
TABLE: Final = RunTable("refresh_runs", "refresh_active", ACTIVE)
STATES: Final[tuple[RunState, ...]] = get_args(RunState)
_COLUMNS = (
    "id, cell, by_rule, state, reason, asked_by, asked_at, inputs, new_images, job, dataset_commit, version, ended_at,"
    " ended_by, note"
)


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of, pinned when it was started."""

    sources: tuple[Source, ...]
    base: str
    base_commit: str
    start: EarlierVariant | None
    dataset: str
    team: str
    minutes: float
    tolerance: float


def add(db: Cursor, run: str, cell: str, cause: str, **values: Any) -> bool:  # noqa: ANN401  # columns of the table
    """Note a run that begins; False where the cell has one under way or the cause had its run."""
    values["inputs"] = msgspec.json.encode(values["inputs"]).decode()
    begun = {"cell": cell, "cause": cause, "state": "building", "builder_until": 0, "tries": 0, "note": ""}
    return TABLE.begin(db, run, cell, begun | values)


def move(
    db: Cursor, run: str, to: RunState, came_from: Collection[str], now: float, **more: str | float | None
) -> bool:
    """Change a run's state if it is one of `came_from`; others' values with it. False where it is another one."""
    return TABLE.move(db, run, to, came_from, now, **more)


def log(
    db: Cursor, cell: str, at: float, kind: str, title: str, reason: str = "", *, run: str = "", who: str = ""
) -> None:
    """Add to a cell's log, which keeps the newest MAX_LOG entries."""
    db.execute(
        "INSERT INTO refresh_log (cell, happened_at, kind, run, title, reason, who) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [cell, at, kind, run, title, reason[:2000], who],
    )
    db.execute(
        "DELETE FROM refresh_log WHERE cell = ? AND number <= (SELECT number FROM refresh_log WHERE cell = ?"
        " ORDER BY number DESC LIMIT 1 OFFSET ?)",
        [cell, cell, MAX_LOG],
    )


def read(db: Cursor, cell: str, run: str) -> RefreshRun:
    """Raises UnknownRefreshError."""
    found = listed(db, cell, run=run, limit=1)
    if not found:
        raise UnknownRefreshError(f"the cell {cell!r} has no refresh {run[:40]!r}")
    return found[0]


def inputs_of(db: Cursor, run: str) -> Inputs:
    """What a run is made of. Raises UnknownRefreshError."""
    row = db.execute("SELECT inputs FROM refresh_runs WHERE id = ?", [run]).fetchone()
    if row is None:
        raise UnknownRefreshError(f"there is no refresh {run[:40]!r}")
    return msgspec.json.decode(row[0], type=Inputs)


def listed(
    db: Reads,
    cell: str | None = None,
    *,
    run: str | None = None,
    states: Sequence[str] = STATES,
    after: str = "",
    limit: int = 100,
) -> list[RefreshRun]:
    """Runs, newest first: of a cell or of all, those started before the run `after`."""
    where, values = ["list_contains(?::VARCHAR[], state)"], [list(states)]  # type: list[str], list[object]
    for condition, value in (("cell = ?", cell), ("id = ?", run)):
        if value is not None:
            where.append(condition)
            values.append(value)
    if after:
        own = "true" if cell is None else "cell = ?"
        where.append(f"(asked_at, id) < (SELECT (asked_at, id) FROM refresh_runs WHERE id = ? AND {own})")  # noqa: S608
        values += [after] if cell is None else [after, cell]
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM refresh_runs WHERE {' AND '.join(where)}"  # noqa: S608  # conditions of our own
        " ORDER BY asked_at DESC, id DESC LIMIT ?",
        [*values, limit],
    ).fetchall()
    return [_run(row) for row in rows]


def _run(row: tuple[Any, ...]) -> RefreshRun:
    id_, cell, by_rule, state, reason, asked_by, asked_at, inputs, new, job, commit, version, ended, by, note = row
    made_of = msgspec.json.decode(inputs, type=Inputs)
    return RefreshRun(
        id=id_,
        cell=cell,
        state=state,
        by_rule=by_rule,
        reason=reason,
        asked_by=asked_by,
        asked_at=timestamp(asked_at),
        new_images=new,
        start=made_of.start.version if made_of.start else "",
        job=job,
        dataset=made_of.dataset,
        dataset_commit=commit,
        version=version,
        ended_at=None if ended is None else timestamp(ended),
        ended_by=by,
        note=note,
    )
