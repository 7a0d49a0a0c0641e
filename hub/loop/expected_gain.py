"""What a cell would gain from learning its open events: the share of its picks that failed on their packages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hub.loop.event_reading import CLOSED_STATES
from hub.loop.findings import FAILED
from registry.catalog.catalog import Catalog

DAYS: Final = 7.0
LEAST_PICKS: Final = 50
"""Of fewer picks a share says little: three failures of ten would start a training."""


class ExpectedGain:
    """The gain of a cell, for its refresh policy.

    It is a lower bound: only picks whose frame was kept are known to be of an event.
    """

    def __init__(
        self, catalog: Catalog, picks_of: Callable[[str, float], int], *, now: Callable[[], float] = time.time
    ) -> None:
        """`picks_of` gives the number of a cell's picks since a time (epoch seconds)."""
        self._catalog = catalog
        self._picks_of = picks_of
        self._now = now

    def __call__(self, cell: str) -> tuple[float, str] | None:
        """(share from 0 to 1, what it comes from); None where too few picks or no failure of an event are on record."""
        since = self._now() - DAYS * 86_400
        rows = self._catalog.query(
            "SELECT count(DISTINCT f.request_id), count(DISTINCT e.id) FROM loop_findings f JOIN loop_events e"
            " ON f.event = e.id WHERE f.cell = ? AND f.picked AND f.seen_at >= ? AND e.merged_into IS NULL"
            " AND list_contains(?::VARCHAR[], f.outcome) AND NOT list_contains(?::VARCHAR[], e.state)",
            [cell, since, sorted(FAILED), sorted(CLOSED_STATES)],
        )
        failed, events = rows[0]
        if not failed:
            return None
        picks = self._picks_of(cell, since)
        if picks < LEAST_PICKS:
            return None
        share = min(failed / picks, 1.0)
        return share, (
            f"{failed} of {picks} picks in {DAYS:.0f} days failed on packages of"
            f" {events} open event{'' if events == 1 else 's'}"
        )
