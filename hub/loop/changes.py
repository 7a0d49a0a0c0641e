"""Change points: when a camera began to show something new, answers became doubtful, or picks began to fail.

A site tells of those of its streams by the uplink; of failed picks the hub knows by itself. Each started a sample.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final

from hub.loop.uplink import ChangeSeen, Message, Uplink
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor

MAX_CHANGES: Final = 1_000
"""Of a cell, the newest."""
PICKS: Final = "failed_picks"


class Changes:
    """All change points. Thread-safe."""

    def __init__(self, catalog: Catalog, uplink: Uplink) -> None:
        self._catalog = catalog
        uplink.handlers.append(self._apply)

    def picks(self, cell: str, at: float, reason: str) -> None:
        """Picks of a cell began to fail more often. The same again changes nothing."""
        id_ = hashlib.sha256(json.dumps([PICKS, cell, at]).encode()).hexdigest()[:32]
        self._catalog.run(lambda tx: _put(tx, id_, cell, None, None, PICKS, at, reason))

    def _apply(self, tx: Cursor, message: Message) -> None:
        if isinstance(message, ChangeSeen):
            _put(tx, message.id, message.cell, message.line, message.camera, message.stream, message.at, message.reason)

    @staticmethod
    def forget(tx: Cursor, cell: str) -> None:
        """Those of a cell that is deleted go with it."""
        tx.execute("DELETE FROM loop_changes WHERE cell = ?", [cell])


def _put(
    tx: Cursor, id_: str, cell: str, line: str | None, camera: str | None, stream: str, at: float, reason: str
) -> None:
    known = (
        "SELECT 1 FROM hub_cells WHERE name = ? AND NOT EXISTS"
        " (SELECT 1 FROM rollout_forgotten WHERE cell = ? AND before >= ?)"
    )
    if not tx.execute(known, [cell, cell, at]).fetchone():
        return
    tx.execute("INSERT OR IGNORE INTO loop_changes VALUES (?, ?, ?, ?, ?, ?, ?)",
               [id_, cell, line, camera, stream, at, reason[:500]])  # fmt: skip
    tx.execute(
        "DELETE FROM loop_changes WHERE cell = ? AND happened_at < (SELECT happened_at FROM loop_changes WHERE cell = ?"
        " ORDER BY happened_at DESC LIMIT 1 OFFSET ?)",
        [cell, cell, MAX_CHANGES - 1],
    )
