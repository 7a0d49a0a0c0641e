"""The audit log: every change, who made it, when and from where, and what came of it. It only grows.

Each entry carries the digest of the one before, so that one that was changed or taken out shows; a log whose end was
cut off shows to whoever kept a later digest (`parcelhub audit --verify` prints the newest).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hub.migrations.tables import timestamp
from hub.schemas.resources import AuditCheck, AuditEntry
from registry.canonical import canonical_json, sha256_of
from registry.catalog.catalog import Catalog

FIRST = "0" * 64
"""What the first entry names as the digest before it."""
_MAX_TEXT = 1000
_PAGE = 10_000


class AuditLog:
    """The log of one hub. Use from any number of threads."""

    def __init__(self, catalog: Catalog, *, now: Callable[[], float] = time.time) -> None:
        self._catalog = catalog
        self._now = now
        self._lock = threading.Lock()
        self._last: tuple[int, str] | None = None

    def record(
        self,
        *,
        who: str,
        token: str,
        action: str,
        subject: str,
        status: int,
        address: str,
        detail: Mapping[str, Any] | None = None,
    ) -> AuditEntry:
        """Add an entry; durable when it returns."""
        with self._lock:  # the chain has one end; the catalog has one writer anyway
            number, previous = self._end()
            now = self._now()
            fields: dict[str, Any] = {
                "number": number + 1,
                "at": timestamp(now),
                "who": who[:_MAX_TEXT],
                "token": token[:_MAX_TEXT],
                "action": action[:_MAX_TEXT],
                "subject": subject[:_MAX_TEXT],
                "status": status,
                "address": address[:_MAX_TEXT],
                "detail": dict(detail or {}),
                "previous": previous,
            }
            digest = _digest(fields)
            text = msgspec.json.encode(fields).decode()
            with self._catalog.write() as db:
                db.execute(
                    "INSERT INTO hub_audit VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [number + 1, now, text, fields["who"], fields["action"], fields["subject"], digest],
                )
            self._last = (number + 1, digest)
        return _entry(fields, digest)

    def page(
        self, *, limit: int, before: int | None = None, who: str | None = None, action: str | None = None
    ) -> list[AuditEntry]:
        """At most `limit` entries, newest first, those numbered below `before`."""
        where, params = ["true"], []
        for column, value in (("number <", before), ("who =", who), ("action =", action)):
            if value is not None:
                where.append(f"{column} ?")
                params.append(value)
        rows = self._catalog.query(
            f"SELECT record, digest FROM hub_audit WHERE {' AND '.join(where)} "  # noqa: S608  # constants
            "ORDER BY number DESC LIMIT ?",
            [*params, limit],
        )
        return [_entry(msgspec.json.decode(record), digest) for record, digest in rows]

    def verify(self) -> AuditCheck:
        """Compute the chain again."""
        number, previous = 0, FIRST
        while rows := self._catalog.query(
            "SELECT number, record, digest FROM hub_audit WHERE number > ? ORDER BY number LIMIT ?", [number, _PAGE]
        ):
            for at, record, digest in rows:
                fields = msgspec.json.decode(record)
                right = at == number + 1 == fields["number"] and fields["previous"] == previous
                if not right or _digest(fields) != digest:
                    return AuditCheck(entries=number, whole=False, broken_at=number + 1, head=previous)
                number, previous = at, digest
        return AuditCheck(entries=number, whole=True, broken_at=None, head=previous)

    def _end(self) -> tuple[int, str]:
        if self._last is None:
            rows = self._catalog.query("SELECT number, digest FROM hub_audit ORDER BY number DESC LIMIT 1")
            self._last = (rows[0][0], rows[0][1]) if rows else (0, FIRST)
        return self._last


def _digest(fields: Mapping[str, Any]) -> str:
    return sha256_of(canonical_json(dict(fields)))


def _entry(fields: dict[str, Any], digest: str) -> AuditEntry:
    return AuditEntry(**fields, digest=digest)
