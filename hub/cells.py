"""The cells: what a variant is for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hub.bases import Bases
from hub.class_maps import known_labels
from hub.errors import CellExistsError, InputError, InUseError, UnknownCellError
from hub.schemas import Cell
from hub.tables import timestamp
from registry.catalog import Catalog, Cursor


class Cells:
    """The cell table. A cell may have a team: then only that team's users change what serves it."""

    def __init__(self, catalog: Catalog, bases: Bases) -> None:
        self._catalog = catalog
        self._bases = bases

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
        db.execute(
            "INSERT INTO hub_cells (name, description, created_at, team, classes) VALUES (?, ?, ?, ?, ?)",
            [name, description, time.time(), team.lower() or None, list(classes)],
        )

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
        before = self.get(name)
        text = before.description if description is None else description
        owner = before.team if team is None else team.lower()
        wanted = before.classes if classes is None else self._known(classes)
        with self._catalog.write() as db:
            db.execute(
                "UPDATE hub_cells SET description = ?, team = ?, classes = ? WHERE name = ?",
                [text, owner or None, wanted, name],
            )
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
        """Forget a cell that has no variant. Raises UnknownCellError, InUseError."""
        self.get(name)
        with self._catalog.write() as db:
            made = db.execute("SELECT count(*) FROM stage_variants WHERE cell = ?", [name]).fetchone()
            if made and made[0]:
                raise InUseError(f"the cell {name!r} has {made[0]} variants; what they did must stay explainable")
            if db.execute(
                "SELECT 1 FROM hub_jobs WHERE state IN ('queued', 'running')"
                " AND json_extract_string(spec, '$.cell') = ?",
                [name],
            ).fetchone():
                raise InUseError(f"a job works on the cell {name!r}; cancel it first")
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


_SELECT = "SELECT name, description, created_at, team, classes FROM hub_cells"


def _cell(row: tuple[str, str, float, str | None, list[str] | None]) -> Cell:
    name, description, made, team, classes = row
    return Cell(name=name, description=description, created_at=timestamp(made), team=team or "", classes=classes or [])
