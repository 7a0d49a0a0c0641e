"""One list per cell of what happened to it and why: alerts, labels, trainings, refreshes, promotions, rollbacks.

Each kind of step comes from a *source*: a function of (catalog, what is asked) to steps, in a file of its own in
`hub.loop.timeline_sources`, that registers itself there. The list is the newest of all of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from hub.errors import InputError
from hub.loop.timeline_sources import SOURCES
from hub.loop.timeline_sources.source import Asked, Source, key_of
from hub.schemas.refresh import Step
from registry.catalog.catalog import Catalog


class Timeline:
    """The timelines of all cells. Thread-safe."""

    def __init__(self, catalog: Catalog, sources: tuple[tuple[str, Source], ...] = SOURCES) -> None:
        self._catalog = catalog
        self._sources = sources

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the sources."""
        return tuple(name for name, _ in self._sources)

    def page(
        self,
        cell: str,
        *,
        limit: int,
        after: str = "",
        labels: Collection[str] = (),
        kinds: Collection[str] = (),
    ) -> list[Step]:
        """At most `limit` steps of a cell, the newest first, those before the step `after` (its id).

        `labels` are the datasets whose commits are steps: those of the cell that the caller may see. `kinds` are the
        sources that are meant, all of them by default. Raises InputError for an `after` that is no step's id.
        """
        rows = self._catalog.query("SELECT created_at FROM hub_cells WHERE name = ?", [cell])
        # A cell of this name that there was before is another one.
        since = rows[0][0] if rows else float("inf")
        asked = Asked(cell, since, _before(after), limit, tuple(sorted(labels)))
        found = [source(self._catalog, asked) for name, source in self._sources if not kinds or name in kinds]
        merged = heapq.merge(*(sorted(each, key=key_of, reverse=True) for each in found), key=key_of, reverse=True)
        return [step for step, _ in zip(merged, range(limit), strict=False)]


def _before(after: str) -> tuple[float, str]:
    """The place of a step by its id: `<epoch milliseconds>-<source>-<name>`; "" is behind all of them."""
    if not after:
        return float("inf"), ""
    at, dash, name = after.partition("-")
    if not dash or not at.isdigit() or len(at) > 15:
        raise InputError("after must be the id of a step")
    return int(at) / 1000, name
