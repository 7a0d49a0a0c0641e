"""What a contribution did for whom: bases that learnt from it, and what these did for cells, as somebody may see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hub.loop.growth import run_rows as rows
from hub.schemas.growth import CellGain, Credit
from registry.catalog.catalog import Catalog

MAX_CREDITS: Final = 20


class Credits:
    """Reads them. A cell that the caller may not see has a figure and no name, and its reason is not told."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def of(self, contribution: str, sees: Callable[[str], bool]) -> list[Credit]:
        """The newest first."""
        with self._catalog.read() as db:
            found = db.execute(
                "SELECT r.id, r.base, g.images, (SELECT count(*) FROM growth_contributions n WHERE n.run = r.id)"
                " FROM growth_contributions g JOIN growth_runs r ON r.id = g.run WHERE g.id = ? AND r.base IS NOT NULL"
                " ORDER BY r.asked_at DESC LIMIT ?",
                [contribution, MAX_CREDITS],
            ).fetchall()
            credits = []
            for run, base, images, count in found:
                gains = [
                    CellGain(cell=one.cell if sees(one.cell) else "", difference=one.difference, state=one.state,
                             reason=one.reason if sees(one.cell) else "")
                    for one in rows.cells_of(db, run)
                ]  # fmt: skip
                # By figure, so that the order of names tells nothing.
                gains.sort(key=lambda one: (one.cell == "", one.cell, -(one.difference or 0.0)))
                credits.append(Credit(run=run, base=base, images=images, contributions=count, cells=gains))
        return credits
