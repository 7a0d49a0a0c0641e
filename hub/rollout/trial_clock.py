"""Trials under a clock that was put back."""

from __future__ import annotations

import time
from typing import Final

from registry.catalog.catalog import Catalog

AHEAD_S: Final = 60.0
"""So far in the future no trial begins: outcomes keep their order when a clock is put back by less."""


def begin_by_now(catalog: Catalog) -> None:
    """A trial that began under a clock that was put back since begins now: else it saw no pick for days."""
    now = time.time()
    future = "state = 'running' AND started_at > ?"
    if catalog.query(f"SELECT 1 FROM rollout_trials WHERE {future} LIMIT 1", [now + AHEAD_S]):  # noqa: S608
        with catalog.write() as db:
            db.execute(f"UPDATE rollout_trials SET started_at = ? WHERE {future}", [now, now + AHEAD_S])  # noqa: S608
