"""What the hub wishes of sites: to sample the frames of a cell that their rings still hold, or to forget a cell.

A wish is a row for each site whose token is for the cell, made once by its id. A site fetches its rows with its own
token and says that it has them; until then they wait here. A wish for a sample is of no use when the ring has gone on,
so it expires; one to forget never does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from hub.loop.sites.sites import KIND
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from serving.observed.captures import Reason
from serving.observed.wishes import FORGET

EXPIRES_S: Final = 86_400.0
KEPT_S: Final = 90 * 86_400.0
"""Rows that were taken are kept so long: the same wish again is the same row."""
MAX_WAITING: Final = 1_000
"""Samples that wait for one site; beyond it the oldest go."""


class Wishes:
    """The wishes of all sites. Thread-safe."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now

    def ask(
        self,
        wish_id: str,
        cell: str,
        reason: Reason | Literal["forget"],
        since: float,
        requests: Sequence[str] = (),
    ) -> int:
        """Wish a sample of a cell's frames since a time (epoch seconds), those of `requests` before others, or that the
        cell is forgotten. `wish_id`: 32 hexadecimal digits; the same one again changes nothing. How many sites are
        asked."""
        document = json.dumps({"cell": cell, "reason": reason, "since": since, "until": None, "requests": [*requests]})

        def put(db: Cursor) -> int:
            asked = [one.name for one in KIND.rows(db) if one.cells & {"*", cell}]
            now = self._now()
            for site in asked:
                db.execute(
                    "INSERT OR IGNORE INTO site_wishes VALUES (?, ?, ?, ?, ?, ?, NULL)",
                    [wish_id, site, cell, reason, document, now],
                )
                db.execute(
                    "DELETE FROM site_wishes WHERE site = ? AND taken_at IS NULL AND reason <> ? AND (asked_at < ? OR"
                    " asked_at < (SELECT asked_at FROM site_wishes WHERE site = ? AND taken_at IS NULL AND reason <> ?"
                    " ORDER BY asked_at DESC LIMIT 1 OFFSET ?))",
                    [site, FORGET, now - EXPIRES_S, site, FORGET, MAX_WAITING - 1],
                )
            db.execute("DELETE FROM site_wishes WHERE taken_at < ?", [now - KEPT_S])
            return len(asked)

        return self._catalog.run(put)

    def of_site(self, site: str, *, limit: int = 100) -> list[tuple[str, dict[str, Any]]]:
        """(id, wish) of those that wait for a site, the oldest first."""
        found = self._catalog.query(
            "SELECT id, document FROM site_wishes WHERE site = ? AND taken_at IS NULL AND (reason = ? OR asked_at >= ?)"
            " ORDER BY asked_at, id LIMIT ?",
            [site, FORGET, self._now() - EXPIRES_S, limit],
        )
        return [(id_, json.loads(document)) for id_, document in found]

    def taken(self, site: str, wish_id: str) -> None:
        """A site has a wish; again is fine, and so is one that is gone."""
        with self._catalog.write() as db:
            db.execute(
                "UPDATE site_wishes SET taken_at = ? WHERE id = ? AND site = ? AND taken_at IS NULL",
                [self._now(), wish_id, site],
            )

    def forget(self, db: Cursor, cell: str) -> None:
        """A cell is deleted: no sample of it is wished any more."""
        db.execute("DELETE FROM site_wishes WHERE cell = ? AND reason <> ?", [cell, FORGET])
