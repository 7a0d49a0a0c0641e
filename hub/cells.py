"""The cells: what a variant is for."""

from __future__ import annotations

import time

from hub.errors import CellExistsError, UnknownCellError
from hub.schemas import Cell
from hub.tables import timestamp
from registry.catalog import Catalog


class Cells:
    """The cell table."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def create(self, name: str, description: str) -> Cell:
        with self._catalog.write() as db:
            if db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [name]).fetchone():
                raise CellExistsError(f"the cell {name!r} exists")
            db.execute("INSERT INTO hub_cells VALUES (?, ?, ?)", [name, description, time.time()])
        return self.get(name)

    def get(self, name: str) -> Cell:
        with self._catalog.read() as db:
            row = db.execute("SELECT name, description, created_at FROM hub_cells WHERE name = ?", [name]).fetchone()
        if row is None:
            raise UnknownCellError(f"there is no cell {name!r}; create it with `parcelhub cell create {name}`")
        return _cell(row)

    def all(self) -> list[Cell]:
        with self._catalog.read() as db:
            rows = db.execute("SELECT name, description, created_at FROM hub_cells ORDER BY name").fetchall()
        return [_cell(row) for row in rows]


def _cell(row: tuple[str, str, float]) -> Cell:
    return Cell(name=row[0], description=row[1], created_at=timestamp(row[2]))
