"""The cells: what a variant is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hub.errors import CellExistsError, InputError, InUseError, UnknownCellError
from hub.migrations.tables import timestamp
from hub.models.bases import Bases
from hub.models.class_maps import known_labels
from hub.schemas.core import Cell
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor


class Cells:
    """The cell table. A cell may have a team: then only that team's users change what serves it."""

    def __init__(self, catalog: Catalog, bases: Bases) -> None:
        self._catalog = catalog
        self._bases = bases
        self.before_delete: list[Callable[[str], None]] = []
        """Called for a cell that may go, before its rows do: what lies outside the catalog goes first."""
        self.on_delete: list[Callable[[Cursor, str], None]] = []
        """Called inside the transaction that deletes a cell."""
        self.on_create: list[Callable[[Cursor, str, float], None]] = []
        """Called inside the transaction that makes a cell, with the time (epoch seconds)."""

    def create(self, name: str, description: str, team: str = "", classes: Sequence[str] = ()) -> Cell:
        """Raises CellExistsError, InputError for a class that the newest base does not know."""
        wanted = self._known(classes)
        with self._catalog.write() as db:
            self.insert(db, name, description, team, wanted)
        return self.get(name)

    def insert(self, db: Cursor, name: str, description: str, team: str, classes: Sequence[str] = ()) -> None:
        """Create a cell within a transaction of somebody else's. Raises CellExistsError."""
        if db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [name]).fetchone():
            raise CellExistsError(f"the cell {name!r} exists")
        now = time.time()
        db.execute(
            "INSERT INTO hub_cells (name, description, created_at, team, classes) VALUES (?, ?, ?, ?, ?)",
            [name, description, now, team.lower() or None, list(classes)],
        )
        for also in self.on_create:
            also(db, name, now)

    def get(self, name: str) -> Cell:
        """Raises UnknownCellError."""
        rows = self._catalog.query(f"{_SELECT} WHERE name = ?", [name])
        if not rows:
            raise UnknownCellError(f"there is no cell {name!r}; create it with `parcelhub cell create {name}`")
        return _cell(rows[0])

    def change(
        self,
        name: str,
        *,
        description: str | None = None,
        team: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> Cell:
        """None leaves a value as it is; an empty team makes the cell everybody's, no class at all any of the base's.

        Raises UnknownCellError, InputError for a class that the newest base does not know.
        """
        wanted = None if classes is None else self._known(classes)
        with self._catalog.write() as db:
            # Only what is asked for is written: two changes of different values at once are both there afterwards.
            found = db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [name]).fetchone()
            for column, value in (("description", description), ("classes", wanted)):
                if value is not None:
                    db.execute(f"UPDATE hub_cells SET {column} = ? WHERE name = ?", [value, name])  # noqa: S608
            if team is not None:
                db.execute("UPDATE hub_cells SET team = ? WHERE name = ?", [team.lower() or None, name])
        if found is None:
            raise UnknownCellError(f"there is no cell {name!r}; create it with `parcelhub cell create {name}`")
        return self.get(name)

    def choices(self) -> list[str]:
        """The classes that a cell may say it has: the labels that the newest base has learnt."""
        return known_labels(self._bases.newest_labels())

    def _known(self, classes: Sequence[str]) -> list[str]:
        wanted, choices = list(dict.fromkeys(classes)), self.choices()
        unknown = [one for one in wanted if one not in choices]
        if unknown and choices:  # before the first base nobody can tell
            raise InputError(f"the base knows no {', '.join(map(repr, unknown))}; it knows {', '.join(choices)}")
        return wanted

    def delete(self, name: str) -> None:
        """Forget a cell that has no variant, with all that hangs on it. Raises UnknownCellError, InUseError."""
        with self._catalog.read() as db:
            _require_idle(db, name)
        for forget in self.before_delete:
            forget(name)
        with self._catalog.write() as db:
            _require_idle(db, name)
            for also in self.on_delete:
                also(db, name)
            db.execute("DELETE FROM hub_cells WHERE name = ?", [name])

    def all(self) -> list[Cell]:
        """By name."""
        return [_cell(row) for row in self._catalog.query(f"{_SELECT} ORDER BY name")]

    def page(self, *, limit: int, after: str = "", team: str | None = None, contains: str = "") -> list[Cell]:
        """At most `limit` cells by name, those behind `after`."""
        rows = self._catalog.query(
            f"{_SELECT} WHERE name > ? AND (?::VARCHAR IS NULL OR team = ?) AND contains(name, ?)"
            " ORDER BY name LIMIT ?",
            [after, team, None if team is None else team.lower(), contains.lower(), limit],
        )
        return [_cell(row) for row in rows]


def _require_idle(db: Cursor, name: str) -> None:
    """Raises UnknownCellError, and InUseError while the cell has a variant or a job."""
    if db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [name]).fetchone() is None:
        raise UnknownCellError(f"there is no cell {name!r}")
    made = db.execute("SELECT count(*) FROM stage_variants WHERE cell = ?", [name]).fetchone()
    if made and made[0]:
        raise InUseError(f"the cell {name!r} has {made[0]} variants; what they did must stay explainable")
    if db.execute(
        "SELECT 1 FROM hub_jobs WHERE state IN ('queued', 'running') AND json_extract_string(spec, '$.cell') = ?",
        [name],
    ).fetchone():
        raise InUseError(f"a job works on the cell {name!r}; cancel it first")


_SELECT = "SELECT name, description, created_at, team, classes FROM hub_cells"


def _cell(row: tuple[str, str, float, str | None, list[str] | None]) -> Cell:
    name, description, made, team, classes = row
    return Cell(name=name, description=description, created_at=timestamp(made), team=team or "", classes=classes or [])
