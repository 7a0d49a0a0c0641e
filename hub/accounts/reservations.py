"""Bytes on their way into a team's repositories, counted in one place for all doors: REST, LFS and the Xet store.

A door reserves before bytes travel. A reservation ends when a commit of the team names the bytes (they are stored
then), when nothing arrived for a day, or when the collection has taken what arrived and was never committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from hub.errors import QuotaError
from registry.catalog.cursor import Cursor

ANNOUNCED_S = 24 * 3600.0
"""Links of an announced upload are good for so long."""
XORB, FILE = "xorb:", "file:"
"""Before the hash of chunks that no file is made of yet, and of a file whose sha256 is not known yet."""


class Reservations:
    """The reservations of all teams; everything runs inside the caller's transaction."""

    def __init__(self, grace_seconds: float, *, now: Callable[[], float] = time.time) -> None:
        """`grace_seconds`: what arrived and was not committed is stored for so long."""
        self._grace = grace_seconds
        self._now = now

    def pending(self, db: Cursor, team: str) -> int:
        """Bytes that are reserved and not committed, each content once."""
        now = self._now()
        # Under a clock that was put back, a reservation of the future would count until the clock comes there.
        db.execute("UPDATE hub_reservations SET made_at = ? WHERE team = ? AND made_at > ?", [now, team, now])
        row = db.execute(
            "SELECT coalesce(sum(size), 0) FROM (SELECT content, max(size) AS size FROM hub_reservations r"
            " WHERE team = ? AND (made_at >= ? OR (made_at >= ? AND (starts_with(content, 'xorb:') OR EXISTS ("
            "SELECT 1 FROM hub_possessions p WHERE p.sha256 = r.content AND p.owner = r.owner))))"
            " AND NOT EXISTS (SELECT 1 FROM repo_blobs b JOIN repos q ON q.key = b.repo"
            " WHERE b.sha256 = r.content AND lower(q.namespace) = r.team) GROUP BY content)",
            [team, now - ANNOUNCED_S, now - self._grace],
        ).fetchone()
        return int(row[0]) if row else 0

    def reserve(
        self,
        db: Cursor,
        team: str,
        owner: str,
        contents: Mapping[str, int],
        *,
        stored: int,
        limit: int,
        instead_of: Sequence[str] = (),
    ) -> None:
        """Reserve bytes by content (a sha256, or XORB or FILE and a hash); what is reserved or stored is free.

        What was reserved as `instead_of` is given back at the same moment.

        Raises QuotaError.
        """
        now = self._now()
        db.execute("DELETE FROM hub_reservations WHERE made_at < ?", [now - max(self._grace, ANNOUNCED_S)])
        db.execute(
            "DELETE FROM hub_reservations WHERE team = ? AND owner = ? AND content IN (SELECT unnest(?::VARCHAR[]))",
            [team, owner, list(instead_of)],
        )
        new = dict(contents)
        names = list(new)
        for at in range(0, len(names), 10_000):
            known = db.execute(
                "SELECT content FROM hub_reservations WHERE team = ? AND content IN (SELECT unnest(?::VARCHAR[]))"
                " AND made_at >= ? UNION SELECT b.sha256 FROM repo_blobs b JOIN repos q ON q.key = b.repo"
                " WHERE lower(q.namespace) = ? AND b.sha256 IN (SELECT unnest(?::VARCHAR[]))",
                [team, names[at : at + 10_000], now - ANNOUNCED_S, team, names[at : at + 10_000]],
            ).fetchall()
            for (content,) in known:
                new.pop(content, None)
        more = sum(new.values())
        pending = self.pending(db, team)
        if more and stored + pending + more > limit:
            raise QuotaError(
                f"the team {team!r} stores {stored:,} of its {limit:,} bytes, {pending:,} more wait for a commit;"
                f" these are {more:,} more"
            )
        if new:
            db.execute(
                "INSERT OR REPLACE INTO hub_reservations SELECT ?, ?, unnest(?::VARCHAR[]), unnest(?::BIGINT[]), ?",
                [team, owner, list(new), list(new.values()), now],
            )

    def release(self, db: Cursor, team: str, owner: str, contents: list[str]) -> None:
        """Give back what was reserved and has not arrived; what has arrived stays counted while it is stored."""
        db.execute(
            "DELETE FROM hub_reservations WHERE team = ? AND owner = ? AND content IN (SELECT unnest(?::VARCHAR[]))"
            " AND NOT EXISTS (SELECT 1 FROM hub_possessions p WHERE p.sha256 = content AND p.owner = ?)",
            [team, owner, contents, owner],
        )
