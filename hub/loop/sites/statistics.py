"""What sites observe of each camera: the newest word of each, whichever way it came."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import msgspec

from hub.migrations.tables import timestamp
from hub.schemas.sites import CameraStatistics, StatisticsIn
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from serving.observed.camera_words import MAX_BYTES, CameraWord, waiting

log = logging.getLogger("parcelhub.sites")

MAX_CAMERAS: Final = 2_000
"""Of one site: those that were heard of longest ago go."""
AHEAD_S: Final = 300.0
"""What a clock that is ahead says counts as said now."""


class SiteStatistics:
    """All of them. Thread-safe. `folder` is the hub's telemetry folder, which the site `local` writes into."""

    def __init__(self, catalog: Catalog, folder: Path, local: str, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._folder = folder
        self._local = local
        self._now = now
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def take_up(self) -> int:
        """Take up what the site on this disk said since; how many words were new."""
        count = 0
        with self._lock:
            for name, changed, data in waiting(self._folder):
                if self._seen.get(name) == changed:
                    continue
                self._seen[name] = changed
                if len(data) > MAX_BYTES:
                    continue
                try:
                    count += self.put(self._local, name, msgspec.json.decode(data, type=StatisticsIn))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    log.warning("what is known of a camera cannot be read and was left out: %s", error)
        return count

    def put(self, site: str, name: str, word: StatisticsIn) -> bool:
        """Keep a word; False for one that is no newer, of a cell that is not there, or under another camera's name."""
        if CameraWord(word.what, word.cell, word.line, word.camera, word.at, word.values).name != name:
            return False

        def write(db: Cursor) -> bool:
            now = self._now()
            at = min(word.at, now) if word.at > now + AHEAD_S else word.at
            known = (
                "SELECT 1 FROM hub_cells WHERE name = ? AND NOT EXISTS"
                " (SELECT 1 FROM rollout_forgotten WHERE cell = ? AND before >= ?)"
            )
            if not db.execute(known, [word.cell, word.cell, at]).fetchone():
                return False
            before = db.execute(
                "SELECT happened_at FROM site_statistics WHERE site = ? AND name = ?", [site, name]
            ).fetchone()
            if before is not None and before[0] >= at:
                return False
            row = [site, name, word.cell, word.what, word.line, word.camera, at, now, json.dumps(word.values)]
            db.execute("INSERT OR REPLACE INTO site_statistics VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            if before is None:
                db.execute(
                    "DELETE FROM site_statistics WHERE site = ? AND received_at < (SELECT received_at FROM"
                    " site_statistics WHERE site = ? ORDER BY received_at DESC LIMIT 1 OFFSET ?)",
                    [site, site, MAX_CAMERAS - 1],
                )
            return True

        return self._catalog.run(write)

    def of(
        self, places: Collection[str] | None, *, cell: str | None = None, limit: int = 200
    ) -> list[CameraStatistics]:
        """What is known of the cameras of these cells (None: all), the newest first."""
        self.take_up()
        rows = self._catalog.query(
            "SELECT site, what, cell, line, camera, happened_at, received_at, document FROM site_statistics"
            " WHERE (?::VARCHAR[] IS NULL OR list_contains(?::VARCHAR[], cell)) AND (?::VARCHAR IS NULL OR cell = ?)"
            " ORDER BY happened_at DESC, site, name LIMIT ?",
            [*[None if places is None else sorted(places)] * 2, cell, cell, limit],
        )
        return [
            CameraStatistics(
                site=site, what=what, cell=of_cell, line=line, camera=camera, at=timestamp(at),
                received_at=timestamp(received), values=json.loads(document),
            )
            for site, what, of_cell, line, camera, at, received, document in rows
        ]  # fmt: skip

    @staticmethod
    def forget(db: Cursor, cell: str) -> None:
        """The statistics of a cell that is deleted go with it."""
        db.execute("DELETE FROM site_statistics WHERE cell = ?", [cell])
