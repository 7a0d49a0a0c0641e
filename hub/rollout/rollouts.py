"""Which lines of a cell are on which stage, and the canary's share: kept in the catalog, carried out by the routing."""

from __future__ import annotations

from collections.abc import Mapping

from hub.errors import UnknownCellError
from hub.models.cells import Cells
from hub.rollout.plan import Plan
from hub.rollout.serving_folder import ServingFolder
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor


class Plans:
    """The plans of all cells."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def all(self) -> dict[str, Plan]:
        """The plan of every cell that has one."""
        with self._catalog.read() as db:
            lines = db.execute("SELECT cell, line, stage FROM rollout_lines").fetchall()
            shares = dict(db.execute("SELECT cell, share FROM rollout_shares").fetchall())
        by_cell: dict[str, dict[str, str]] = {cell: {} for cell in shares}
        for cell, line, stage in lines:
            by_cell.setdefault(cell, {})[line] = stage
        return {cell: Plan(mine, shares.get(cell, 0.0)) for cell, mine in by_cell.items()}


class Rollouts:
    """Changes plans; robots see a change within a second."""

    def __init__(self, catalog: Catalog, cells: Cells, plans: Plans, folder: ServingFolder) -> None:
        self._catalog = catalog
        self._cells = cells
        self._plans = plans
        self._folder = folder

    def plan(self, cell: str) -> Plan:
        """The plan of one cell. Raises UnknownCellError."""
        return self._plans.all().get(self._cells.get(cell).name, Plan())

    def set_lines(self, cell: str, lines: Mapping[str, str]) -> int:
        """Say which lines are on `station` or `beta`, replacing what was said before. Returns the table's version."""
        with self._catalog.write() as db:
            _require_cell(db, cell)
            db.execute("DELETE FROM rollout_lines WHERE cell = ?", [cell])
            for line, stage in sorted(lines.items()):
                db.execute("INSERT INTO rollout_lines VALUES (?, ?, ?)", [cell, line, stage])
        return self._folder.sync()

    def set_share(self, cell: str, share: float) -> int:
        """Give the beta variant to this share of the other lines and robots as well. Returns the table's version."""
        with self._catalog.write() as db:
            _require_cell(db, cell)
            db.execute(
                "INSERT INTO rollout_shares VALUES (?, ?) ON CONFLICT DO UPDATE SET share = excluded.share",
                [cell, share],
            )
        return self._folder.sync()


def _require_cell(db: Cursor, cell: str) -> None:
    """Raises UnknownCellError. Where the rows are written: a cell that goes meanwhile must not leave any."""
    if db.execute("SELECT 1 FROM hub_cells WHERE name = ?", [cell]).fetchone() is None:
        raise UnknownCellError(f"there is no cell {cell!r}")
