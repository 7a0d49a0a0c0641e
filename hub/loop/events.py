"""Events: what new or failing packages have in common, over cells and time; what learning one would gain.

Captures that a change started hold embeddings of their packages. Each package becomes a finding; those that are new, or
whose pick failed, join an event or found one (`hub.loop.grouping`), and stay with it whatever comes later. A person
names events, moves them on, merges and splits them. An event is one team's; who works in some of its cells sees the
findings of those alone, and counts of those alone.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from finetune.curation.clusters import MAX_POINTS
from hub.errors import EventChangeError, UnknownEventError
from hub.loop import grouping
from hub.loop.event_reading import EventReading, placed
from hub.loop.event_views import Interval
from hub.loop.findings import FAILED, MAX_CROPS, Found, keep_crop, packages
from hub.schemas.events import EventChange
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from serving.errors import CaptureNotFound
from serving.observed.captures import CaptureStore
from serving.observed.novelty import Float

log = logging.getLogger("parcelhub.events")

LOOKED_AT: Final = 20_000
AT_ONCE: Final = 200
"""Captures that one look takes up."""
OUTCOMES_WITHIN_S: Final = 14 * 86_400.0
KEPT_S: Final = 365 * 86_400.0
READ_S: Final = 90 * 86_400.0
_WORTH = f"(novel OR (picked AND outcome IN ({', '.join(repr(one) for one in FAILED)})))"


class Events(EventReading):
    """All events. Thread-safe."""

    def __init__(
        self,
        catalog: Catalog,
        captures: CaptureStore,
        outcomes_of: Callable[[list[str]], dict[str, str]],
        folder: Path,
        interval: Interval,
    ) -> None:
        """`outcomes_of` gives outcomes by request id; small pictures lie in `folder`; `interval` is that of
        a share."""
        super().__init__(catalog, folder, interval)
        self._captures = captures
        self._outcomes_of = outcomes_of
        self._lock = threading.Lock()
        self.observers: list[Callable[[Cursor, str, str, str], None]] = []
        """Told of an event that is founded (id, cell, what), inside the transaction that says so."""

    # --- what comes in ------------------------------------------------------------------------------------------------

    def take_up(self) -> int:
        """Take up captures and outcomes that are new, and group what they brought; how many captures were new."""
        with self._lock:
            count = self._read_captures()
            changed = self._read_outcomes()
            if count or changed:
                self._group()
            return count

    def _read_captures(self) -> int:
        known = {row[0] for row in self._catalog.query("SELECT capture FROM loop_captures_read")}
        fresh = [name for name in islice(self._captures.names(), LOOKED_AT) if name not in known]
        teams = {row[0]: row[1] or "" for row in self._catalog.query("SELECT name, team FROM hub_cells")}
        gone = dict(self._catalog.query("SELECT cell, before FROM rollout_forgotten"))
        for name in fresh[-AT_ONCE:]:  # the oldest of them first
            self._take(name, teams, gone)
        return len(fresh[-AT_ONCE:])

    def _take(self, name: str, teams: dict[str, str], gone: dict[str, float]) -> None:
        document: dict[str, Any] = {}
        found: list[Found] = []
        try:
            document = self._captures.read(name)
            cell, at, space = document["cell"], float(document["at"]), _space(document)
            if cell in teams and at > gone.get(cell, 0.0):  # one of this name that is made anew inherits nothing
                found = list(packages(name, document))
        except CaptureNotFound:
            return  # it made room for a newer one in this moment
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            log.warning("what was observed of the capture %s cannot be read: %s", name, error)
            found = []
        for one in found:
            if one.novel or one.picked:
                self._keep_crop(name, one)

        def take(tx: Cursor) -> None:
            tx.execute("INSERT OR IGNORE INTO loop_captures_read VALUES (?, ?)", [name, time.time()])
            for one in found:
                tx.execute(
                    "INSERT OR IGNORE INTO loop_findings (id, capture, cell, line, seen_at, team, space, embedding,"
                    " novel, picked, novelty, score, label, box, answered, outcome, request_id, event)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, NULL)",
                    [one.id, name, cell, document["line"], at, teams[cell], f"{space}/{len(one.embedding)}",
                     one.embedding.astype(np.float16).tobytes(), one.novel, one.picked, one.novelty, one.score,
                     one.label, list(one.box), one.answered, document["request_id"]],
                )  # fmt: skip

        self._catalog.run(take)

    def _keep_crop(self, name: str, one: Found) -> None:
        try:
            keep_crop(self._folder, one.id, self._captures.image(name)[0], one.box)
        except CaptureNotFound:
            return

    def _read_outcomes(self) -> int:
        """Outcomes of picks that had none yet."""
        rows = self._catalog.query(
            "SELECT DISTINCT request_id FROM loop_findings WHERE picked AND outcome IS NULL AND seen_at > ?",
            [time.time() - OUTCOMES_WITHIN_S],
        )
        said = self._outcomes_of([row[0] for row in rows]) if rows else {}
        if not said:
            return 0

        def note(tx: Cursor) -> None:
            for request_id, outcome in said.items():
                tx.execute(
                    "UPDATE loop_findings SET outcome = ? WHERE request_id = ? AND picked AND outcome IS NULL",
                    [outcome, request_id],
                )

        self._catalog.run(note)
        return len(said)

    # --- groups -------------------------------------------------------------------------------------------------------

    def _group(self) -> None:
        for team, space in self._catalog.query(
            f"SELECT DISTINCT team, space FROM loop_findings WHERE event IS NULL AND {_WORTH}"  # noqa: S608  # ours
        ):
            self._group_in(team, space)
        self._prune()

    def _group_in(self, team: str, space: str) -> None:
        loose = self._rows(f"event IS NULL AND {_WORTH}", [team, space], MAX_POINTS)
        known = self._rows("event IS NULL AND NOT novel AND answered", [team, space], 2_000)
        members = self._rows("event IS NOT NULL", [team, space], 8_000)
        if not loose[0]:
            return
        rows = np.concatenate([loose[1], members[1]]) if members[0] else loose[1]
        where = grouping.space(known[1], rows)
        events: dict[str, Float] = {}
        for event in {one[1] for one in members[0]}:
            own = [k for k, one in enumerate(members[0]) if one[1] == event][: grouping.MAX_MEMBERS]
            events[event] = where.of(members[1][own])
        placed = where.of(loose[1])
        joined = grouping.joins(placed, events)
        left = [k for k, event in enumerate(joined) if event is None]
        labels = grouping.founded(placed[left])
        fresh = {int(label): uuid.uuid4().hex for label in sorted(set(labels.tolist())) if label >= 0}
        now = time.time()

        def write(tx: Cursor) -> None:
            for label, event in fresh.items():
                number = tx.execute("SELECT coalesce(max(number), 0) + 1 FROM loop_events").fetchone()
                tx.execute(
                    "INSERT INTO loop_events VALUES (?, ?, ?, ?, '', 'new', '', ?, ?, NULL, NULL)",
                    [event, number[0] if number else 1, team, space, now, now],
                )
                own = [loose[0][left[k]][0] for k in np.flatnonzero(labels == label)]
                self._assign(tx, own, event)
                self._tell(tx, event, own)
            for k, joins in enumerate(joined):
                if joins is not None:
                    self._assign(tx, [loose[0][k][0]], joins)

        self._catalog.run(write)

    def _rows(self, condition: str, of: list[Any], limit: int) -> tuple[list[tuple[str, str]], Float]:
        """((id, event), embeddings) of the newest findings of a team and space, the newest first."""
        rows = self._catalog.query(
            f"SELECT id, event, embedding FROM loop_findings WHERE team = ? AND space = ? AND {condition}"  # noqa: S608
            " ORDER BY seen_at DESC, id LIMIT ?",
            [*of, limit],
        )
        if not rows:
            return [], np.zeros((0, 1), np.float32)
        return [(row[0], row[1]) for row in rows], np.stack(
            [np.frombuffer(row[2], np.float16).astype(np.float32) for row in rows]
        )

    @staticmethod
    def _assign(tx: Cursor, findings: Iterable[str], event: str) -> None:
        tx.execute("UPDATE loop_findings SET event = ? WHERE list_contains(?::VARCHAR[], id)", [event, list(findings)])

    def _tell(self, tx: Cursor, event: str, findings: list[str]) -> None:
        rows = tx.execute(
            "SELECT DISTINCT cell FROM loop_findings WHERE list_contains(?::VARCHAR[], id) ORDER BY cell", [findings]
        ).fetchall()
        for (cell,) in rows:
            for observer in self.observers:
                observer(tx, event, cell, "new")

    def _prune(self) -> None:
        """What is a year old goes, and so do the oldest pictures beyond the bound."""
        now = time.time()
        files = sorted(self._folder.glob("*.jpg"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(len(files) - MAX_CROPS, 0)]:
            path.unlink(missing_ok=True)

        def prune(tx: Cursor) -> None:
            tx.execute("DELETE FROM loop_findings WHERE seen_at < ?", [now - KEPT_S])
            tx.execute("DELETE FROM loop_captures_read WHERE read_at < ?", [now - READ_S])

        self._catalog.run(prune)

    # --- what people do -----------------------------------------------------------------------------------------------

    def change(self, event_id: str, change: EventChange, who: str) -> None:
        """Name it, move it to another state, note something. Raises UnknownEventError."""
        wanted = {"name": change.name, "state": change.state, "note": change.note}
        given = {name: value.strip() for name, value in wanted.items() if value is not None}

        def write(tx: Cursor) -> None:
            for name, value in given.items():
                tx.execute(f"UPDATE loop_events SET {name} = ? WHERE id = ?", [value, event_id])  # noqa: S608
            tx.execute(
                "UPDATE loop_events SET changed_at = ?, changed_by = ? WHERE id = ?", [time.time(), who, event_id]
            )

        if self._head(event_id) is None:
            raise UnknownEventError(f"there is no event {event_id[:40]!r}")
        self._catalog.run(write)

    def merge(self, event_id: str, other: str, who: str) -> None:
        """Put all of another event into this one. Raises UnknownEventError, EventChangeError where they do not fit."""

        def write(tx: Cursor) -> None:
            rows = tx.execute(
                "SELECT id, team, space FROM loop_events WHERE id IN (?, ?) AND merged_into IS NULL", [event_id, other]
            ).fetchall()
            if len(rows) != len({event_id, other}):
                raise UnknownEventError("there is no event of one of these ids")
            if event_id == other or rows[0][1:] != rows[1][1:]:
                raise EventChangeError("only two events of one team and one base can be merged")
            tx.execute("UPDATE loop_findings SET event = ? WHERE event = ?", [event_id, other])
            tx.execute(
                "UPDATE loop_events SET merged_into = ? WHERE id = ? OR merged_into = ?", [event_id, other, other]
            )
            tx.execute(
                "UPDATE loop_events SET changed_at = ?, changed_by = ? WHERE id = ?", [time.time(), who, event_id]
            )

        with self._lock:
            self._catalog.run(write)

    def split(
        self, event_id: str, findings: Collection[str], who: str, places: Collection[str] | None, name: str = ""
    ) -> str:
        """Let findings found an event of their own; without any, the smaller of two groups. Returns its id.

        Raises UnknownEventError, EventChangeError where all or none would go.
        """
        fresh = uuid.uuid4().hex
        with self._lock:
            own = [one.id for one in self._seen(event_id, places)]
            chosen = set(findings) & set(own) if findings else self._smaller_half(event_id, own)
            total = self._catalog.query("SELECT count(*) FROM loop_findings WHERE event = ?", [event_id])[0][0]
            if not own:
                raise UnknownEventError(f"there is no event {event_id[:40]!r}")
            if not chosen or len(chosen) == total:
                raise EventChangeError("some findings of the event must go and some must stay")

            def write(tx: Cursor) -> None:
                now = time.time()
                tx.execute(
                    "INSERT INTO loop_events SELECT ?, (SELECT max(number) + 1 FROM loop_events), team, space, ?,"
                    " 'new', '', ?, ?, ?, NULL FROM loop_events WHERE id = ?",
                    [fresh, name.strip(), now, now, who, event_id],
                )
                self._assign(tx, sorted(chosen), fresh)

            self._catalog.run(write)
        return fresh

    def _smaller_half(self, event_id: str, own: list[str]) -> set[str]:
        rows = self._catalog.query(
            "SELECT id, embedding FROM loop_findings WHERE event = ? AND list_contains(?::VARCHAR[], id)",
            [event_id, own],
        )
        if len(rows) < 2:
            return set()
        stacked = np.stack([np.frombuffer(row[1], np.float16).astype(np.float32) for row in rows])
        labels = grouping.halves(stacked / (stacked.std(axis=0) + 1e-2))
        smaller = 1 if (labels == 1).sum() * 2 <= len(labels) else 0
        return {row[0] for row, label in zip(rows, labels, strict=True) if label == smaller}

    # --- what is forgotten --------------------------------------------------------------------------------------------

    def forget(self, tx: Cursor, cell: str) -> None:
        """The findings of a cell that is deleted go with it, their pictures too, and events of that cell alone."""
        self._gone(tx.execute("DELETE FROM loop_findings WHERE cell = ? RETURNING id", [cell]).fetchall(), tx)

    def forget_capture(self, capture: str, places: Collection[str] | None = None) -> None:
        """Forget what was found in a capture of these cells (None: of all); one that is not known is fine."""
        self._catalog.run(lambda tx: self.forget_capture_in(tx, capture, places))

    def forget_capture_in(self, tx: Cursor, capture: str, places: Collection[str] | None = None) -> None:
        """`forget_capture`, with what else a transaction does."""
        where, values = placed(places)
        rows = tx.execute(
            f"DELETE FROM loop_findings WHERE capture = ? AND {where} RETURNING id",  # noqa: S608  # ours
            [capture, *values],
        ).fetchall()
        self._gone(rows, tx)

    def _gone(self, rows: list[tuple[Any, ...]], tx: Cursor) -> None:
        for (finding,) in rows:
            (self._folder / f"{finding}.jpg").unlink(missing_ok=True)
        tx.execute("DELETE FROM loop_events WHERE id NOT IN (SELECT event FROM loop_findings WHERE event IS NOT NULL)")


def _space(document: dict[str, Any]) -> str:
    """The base that made the embeddings: those of one are compared with each other."""
    return str(document["served_by"]).rpartition("base/")[2][:200]
