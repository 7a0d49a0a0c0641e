"""The rows of growths, and the log of what was decided: inside transactions of others.

A growth is `training` its base, then `refitting` its cells, then `finished`; or `failed`, or a person `stopped` it.
There is one under way at most, and one for each cause.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

import msgspec

from finetune.growth_plan import GrowthPlan
from hub.errors import UnknownGrowthError
from hub.loop.run_table import RunTable
from hub.migrations.tables import timestamp
from hub.schemas.growth import GrowthCell, GrowthRun, GrowthState
from registry.catalog.cursor import Cursor

ACTIVE: Final[tuple[GrowthState, ...]] = ("training", "refitting")
TABLE: Final = RunTable("growth_runs", "growth_active", ACTIVE)
ONE: Final = 1
"""The key of the one growth that may be under way."""
MAX_LOG: Final = 20_000
_COLUMNS = "id, state, by_rule, reason, asked_by, asked_at, start, base, job, result, ended_at, ended_by"


def add(db: Cursor, run: str, cause: str, plan: GrowthPlan, **values: Any) -> bool:  # noqa: ANN401  # columns
    """Note a growth that begins; False where one is under way, or the cause had its own."""
    begun = {"cause": cause, "state": "training", "plan": msgspec.json.encode(plan).decode(), "result": "{}"}
    if not TABLE.begin(db, run, ONE, begun | values):
        return False
    for one in plan.contributions:
        db.execute("INSERT INTO growth_contributions VALUES (?, ?, ?)", [run, one.id, len(one.files)])
    return True


def move(db: Cursor, run: str, to: GrowthState, came_from: Collection[str], now: float, **more: Any) -> bool:  # noqa: ANN401
    """Change a growth's state if it is one of `came_from`, with other columns' values."""
    return TABLE.move(db, run, to, came_from, now, **more)


def log(db: Cursor, at: float, kind: str, title: str, reason: str = "", *, run: str = "", cell: str = "",
        who: str = "") -> None:  # fmt: skip
    """Add to the log; a step without a cell is every cell's."""
    db.execute(
        "INSERT INTO growth_log (happened_at, cell, run, kind, title, reason, who) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [at, cell, run, kind, title, reason[:2000], who],
    )
    db.execute("DELETE FROM growth_log WHERE number <= (SELECT max(number) FROM growth_log) - ?", [MAX_LOG])


def read(db: Cursor, run: str) -> GrowthRun:
    """Raises UnknownGrowthError."""
    found = listed(db, run=run)
    if not found:
        raise UnknownGrowthError(f"there is no growth {run[:40]!r}")
    return found[0]


def plan_of(db: Cursor, run: str) -> GrowthPlan:
    """What a growth is made of. Raises UnknownGrowthError."""
    row = db.execute("SELECT plan FROM growth_runs WHERE id = ?", [run]).fetchone()
    if row is None:
        raise UnknownGrowthError(f"there is no growth {run[:40]!r}")
    return msgspec.json.decode(row[0], type=GrowthPlan)


def listed(db: Cursor, *, run: str = "", states: Collection[str] = (), limit: int = 50) -> list[GrowthRun]:
    """Growths, newest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM growth_runs WHERE (? = '' OR id = ?)"  # noqa: S608
        " AND (len(?::VARCHAR[]) = 0 OR list_contains(?::VARCHAR[], state)) ORDER BY asked_at DESC, id DESC LIMIT ?",
        [run, run, sorted(states), sorted(states), limit],
    ).fetchall()
    return [_run(db, row) for row in rows]


def cells_of(db: Cursor, run: str) -> list[GrowthCell]:
    """The cells of a growth, by name."""
    rows = db.execute(
        "SELECT cell, state, start, version, stages, reason, difference, job FROM growth_cells WHERE run = ?"
        " ORDER BY cell",
        [run],
    ).fetchall()
    return [
        GrowthCell(cell=c, state=s, start=b, version=v, stages=json.loads(g), reason=r, difference=d, job=j)
        for c, s, b, v, g, r, d, j in rows
    ]


def _run(db: Cursor, row: tuple[Any, ...]) -> GrowthRun:
    id_, state, by_rule, reason, by, at, start, base, job, result, ended, ended_by = row
    of = db.execute(
        "SELECT c.dataset || '@' || left(c.commit, 12) || ': ' || g.images FROM growth_contributions g"
        " JOIN contributions c ON c.id = g.id WHERE g.run = ? ORDER BY c.dataset",
        [id_],
    ).fetchall()
    return GrowthRun(
        id=id_, state=state, by_rule=by_rule, reason=reason, asked_by=by, asked_at=timestamp(at), start=start,
        base=base, job=job, contributions=[f"{each[0]} images" for each in of], cells=cells_of(db, id_),
        result=json.loads(result), ended_at=None if ended is None else timestamp(ended), ended_by=ended_by,
    )  # fmt: skip
