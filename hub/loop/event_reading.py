"""Reading events: lists, details and small pictures, each as far as it shows in the cells that the caller works in."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np

from hub.errors import UnknownEventError
from hub.loop import grouping
from hub.loop.event_views import TYPICAL, Head, Interval, Seen, event_of
from hub.schemas.events import Event, EventState, Finding
from registry.catalog.catalog import Catalog

_COLUMNS: Final = "id, capture, cell, line, seen_at, novelty, novel, picked, score, label, answered, outcome"
CLOSED_STATES: Final = frozenset({"ignored", "learnt", "fault"})
"""States of events that nobody need label any more."""
_HEAD: Final = "id, number, name, state, note, changed_by"


class EventReading:
    """The reading half of `hub.loop.events.Events`. Thread-safe."""

    def __init__(self, catalog: Catalog, folder: Path, interval: Interval) -> None:
        """Small pictures lie in `folder`."""
        self._catalog = catalog
        self._interval = interval
        self._folder = folder

    def all(
        self, places: Collection[str] | None, *, cell: str | None = None, state: EventState | None = None
    ) -> list[Event]:
        """Events with findings in these cells (None: all), the one whose learning would gain most first."""
        where, values = placed(places)
        if cell is not None:
            where, values = f"{where} AND cell = ?", [*values, cell]
        rows = self._catalog.query(
            f"SELECT event, {_COLUMNS} FROM loop_findings WHERE event IS NOT NULL AND {where}"  # noqa: S608  # ours
            " ORDER BY seen_at DESC, id",
            values,
        )
        seen: dict[str, list[Seen]] = {}
        for event, *rest in rows:
            seen.setdefault(event, []).append(Seen(*rest))
        heads = {
            row[0]: Head(*row)
            for row in self._catalog.query(
                f"SELECT {_HEAD} FROM loop_events WHERE merged_into IS NULL AND (? IS NULL OR state = ?)",  # noqa: S608
                [state, state],
            )
        }
        found = [
            event_of(heads[name], own, self._typical(name, own), self._interval)
            for name, own in seen.items()
            if name in heads
        ]
        return sorted(found, key=lambda one: (one.state in CLOSED_STATES, -one.gain, one.id))

    def gains(self, cell: str) -> dict[str, float]:
        """Capture id to what labelling it would gain: of each open event in it, the event's expected gain in this cell,
        shared among its captures (the more of them wait, the less each one tells)."""
        gains: dict[str, float] = {}
        for event in self.all([cell], cell=cell):
            if event.state in CLOSED_STATES or not event.gain:
                continue
            captures = {one.capture for one in self._seen(event.id, [cell])}
            for capture in captures:
                gains[capture] = gains.get(capture, 0.0) + event.gain / len(captures)
        return gains

    def get(self, event_id: str, places: Collection[str] | None) -> Event:
        """One event, as far as it shows in these cells. Raises UnknownEventError where it does not."""
        head, seen = self._head(event_id), self._seen(event_id, places)
        if head is None or not seen:
            raise UnknownEventError(f"there is no event {event_id[:40]!r}")
        return event_of(head, seen, self._typical(event_id, seen), self._interval)

    def findings(self, event_id: str, places: Collection[str] | None, *, limit: int = 200) -> list[Finding]:
        """Its findings in these cells, the newest first. Raises UnknownEventError."""
        self.get(event_id, places)
        return [one.told() for one in self._seen(event_id, places)[:limit]]

    def crop(self, finding_id: str, places: Collection[str] | None) -> bytes:
        """The small picture of a finding, a JPEG. Raises UnknownEventError where there is none to see."""
        rows = self._catalog.query("SELECT cell FROM loop_findings WHERE id = ?", [finding_id])
        if not rows or (places is not None and rows[0][0] not in places):
            raise UnknownEventError(f"there is no finding {finding_id[:40]!r}")
        try:
            return (self._folder / f"{finding_id}.jpg").read_bytes()
        except FileNotFoundError as error:
            raise UnknownEventError(f"the finding {finding_id} has no picture") from error

    def _head(self, event_id: str) -> Head | None:
        rows = self._catalog.query(
            f"SELECT {_HEAD} FROM loop_events WHERE id = ? AND merged_into IS NULL",  # noqa: S608  # names of ours
            [event_id],
        )
        return Head(*rows[0]) if rows else None

    def _seen(self, event_id: str, places: Collection[str] | None) -> list[Seen]:
        where, values = placed(places)
        rows = self._catalog.query(
            f"SELECT {_COLUMNS} FROM loop_findings WHERE event = ? AND {where} ORDER BY seen_at DESC, id",  # noqa: S608
            [event_id, *values],
        )
        return [Seen(*row) for row in rows]

    def _typical(self, event_id: str, seen: list[Seen]) -> list[Seen]:
        """Those nearest to the middle of all that may be seen, with a picture."""
        some = {one.id: one for one in seen[: grouping.MAX_MEMBERS] if (self._folder / f"{one.id}.jpg").is_file()}
        rows = self._catalog.query(
            "SELECT id, embedding FROM loop_findings WHERE event = ? AND list_contains(?::VARCHAR[], id)",
            [event_id, list(some)],
        )
        if not rows:
            return []
        stacked = np.stack([np.frombuffer(row[1], np.float16).astype(np.float32) for row in rows])
        return [some[rows[k][0]] for k in grouping.typical(stacked / (stacked.std(axis=0) + 1e-2), TYPICAL)]


def placed(places: Collection[str] | None) -> tuple[str, list[Any]]:
    """The condition that a finding is of these cells (None: of any), and its values."""
    return ("true", []) if places is None else ("list_contains(?::VARCHAR[], cell)", [sorted(places)])
