"""Rows of runs, of which one at a time is under way for a key: the refreshes of a cell, the growths of the base.

Two tables hold them: the runs, and the active ones, whose key says of what there is one. All happens inside
transactions of others.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from registry.catalog.cursor import Cursor


@dataclass(frozen=True, slots=True)
class RunTable:
    """The two tables of a kind of run.

    Attributes:
        runs: the table of runs, with the columns `id`, `cause` (unique), `state` and `ended_at`.
        active: the table of those under way: its key, then the run.
        under_way: the states of a run that has not ended.
    """

    runs: str
    active: str
    under_way: Collection[str]

    def begin(self, db: Cursor, run: str, key: str | int, values: dict[str, Any]) -> bool:
        """Add a run; False where one is under way for the key, or its cause had its run.

        Args:
            db: of the transaction.
            run: the new run's id.
            key: of what there is one at a time.
            values: columns of the run, `cause` and `state` among them.
        """
        taken = db.execute(f"INSERT OR IGNORE INTO {self.active} VALUES (?, ?) RETURNING run", [key, run])  # noqa: S608
        if not taken.fetchall():
            return False
        columns, marks = ", ".join(("id", *values)), ", ".join("?" * (len(values) + 1))
        made = db.execute(
            f"INSERT OR IGNORE INTO {self.runs} ({columns}) VALUES ({marks}) RETURNING id",  # noqa: S608
            [run, *values.values()],
        ).fetchall()
        if not made:
            self._end(db, run)
        return bool(made)

    def move(
        self, db: Cursor, run: str, to: str, came_from: Collection[str], now: float, **more: str | float | None
    ) -> bool:
        """Change a run's state if it is one of `came_from`; others' values with it. False where it is another one."""
        more |= {} if to in self.under_way else {"ended_at": now}
        columns = "".join(f", {name} = ?" for name in more)
        moved = db.execute(
            f"UPDATE {self.runs} SET state = ?{columns} WHERE id = ?"  # noqa: S608  # tables and columns of our own
            " AND list_contains(?::VARCHAR[], state) RETURNING id",
            [to, *more.values(), run, sorted(came_from)],
        ).fetchall()
        if moved and to not in self.under_way:
            self._end(db, run)
        return bool(moved)

    def _end(self, db: Cursor, run: str) -> None:
        db.execute(f"DELETE FROM {self.active} WHERE run = ?", [run])  # noqa: S608
