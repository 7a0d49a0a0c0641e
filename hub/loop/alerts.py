"""Alerts: what is wrong with a cell's camera, for a technician.

An alert opens and closes by what the site's observer says; a person may acknowledge it (somebody looks after it) or
close it (it was dealt with, or it was none). Its two small pictures lie in `<data>/alerts/`. Alerts exist for those
who may look at the production of the cell: its team and the operator. Frames of a camera that was at fault are no
training captures: those that were kept since the fault began go when the alert opens.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import Any, Final

from hub.errors import AlertStateError, UnknownAlertError
from hub.loop.paging import page_where
from hub.loop.uplink import AlertClosed, AlertOpened, Message, Uplink
from hub.migrations.tables import timestamp
from hub.schemas.loop import Alert, AlertState
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from serving.errors import CaptureNotFound
from serving.observed.camera_kinds import ADVICE
from serving.observed.captures import CaptureStore

log = logging.getLogger("parcelhub.alerts")

ITSELF: Final = "the camera"
"""Who closed an alert whose fault went away."""
MAX_PICTURES: Final = 5_000
LOOKED_AT: Final = 5_000
"""So many of the newest captures are looked at when an alert opens."""
_COLUMNS = (
    "id, cell, line, camera, kind, reason, since, opened_at, state, acknowledged_at, acknowledged_by, closed_at,"
    " closed_by, note"
)
_ID = re.compile(r"[0-9a-f]{32}")
PICTURES: Final = ("before", "after")


class Alerts:
    """All alerts. Thread-safe."""

    def __init__(self, catalog: Catalog, uplink: Uplink, captures: CaptureStore, folder: Path) -> None:
        self._catalog = catalog
        self._uplink = uplink
        self._captures = captures
        self._folder = folder
        self.observers: list[Callable[[Cursor, str, str, str], None]] = []
        """Told of an alert that opens or closes (id, cell, state), inside the transaction that says so."""
        self.forgot: list[Callable[[str], None]] = []
        """Told of a capture that was removed, since its camera was at fault."""
        uplink.before.append(self._keep_pictures)
        uplink.handlers.append(self._apply)

    def take_up(self) -> int:
        """Take up what sites said meanwhile; how many messages were new. Questions do so by themselves."""
        return self._uplink.take_up()

    def page(
        self,
        *,
        places: Collection[str] | None,
        limit: int = 50,
        after: str = "",
        cell: str | None = None,
        state: AlertState | None = None,
    ) -> list[Alert]:
        """Alerts of these cells (None: all), the newest first; with `after` set to the last one's id, the next page."""
        self._uplink.take_up()
        wanted = (
            ("list_contains(?::VARCHAR[], cell)", None if places is None else sorted(places)),
            ("cell = ?", cell),
            ("state = ?", state),
        )
        found = page_where(self._catalog, "loop_alerts", "opened_at", wanted, after)
        if found is None:
            return []
        where, values = found
        rows = self._catalog.query(
            f"SELECT {_COLUMNS} FROM loop_alerts WHERE {where}"  # noqa: S608  # conditions of our own
            " ORDER BY opened_at DESC, id DESC LIMIT ?",
            [*values, limit],
        )
        return [self._alert(row) for row in rows]

    def get(self, alert_id: str, places: Collection[str] | None) -> Alert:
        """One alert of these cells (None: all). Raises UnknownAlertError."""
        self._uplink.take_up()
        rows = self._catalog.query(f"SELECT {_COLUMNS} FROM loop_alerts WHERE id = ?", [alert_id])  # noqa: S608
        if not rows or (places is not None and rows[0][1] not in places):
            raise UnknownAlertError(f"there is no alert {alert_id[:40]!r}")
        return self._alert(rows[0])

    def at_fault(self, cell: str, line: str | None, camera: str | None, at: float) -> bool:
        """Whether a camera was at fault at a time (epoch seconds), as far as sites have told."""
        self._uplink.take_up()
        return bool(
            self._catalog.query(
                "SELECT 1 FROM loop_alerts WHERE cell = ? AND line IS NOT DISTINCT FROM ?"
                " AND (camera IS NULL OR ?::VARCHAR IS NULL OR camera = ?)"
                " AND since <= ? AND (closed_at IS NULL OR closed_at > ?) LIMIT 1",
                [cell, line, camera, camera, at + 1.0, at],
            )
        )

    def open_in(self, cell: str) -> list[Alert]:
        """The alerts of a cell that are not closed, the newest first."""
        found = self.page(places=[cell], limit=50)
        return [one for one in found if one.state != "closed"]

    def acknowledge(self, alert_id: str, who: str, note: str = "") -> Alert:
        """Somebody looks after it. Raises UnknownAlertError, AlertStateError where it is closed."""
        return self._move(alert_id, "acknowledged", who, note)

    def close(self, alert_id: str, who: str, note: str = "") -> Alert:
        """It was dealt with. Raises UnknownAlertError, AlertStateError where it is closed already."""
        return self._move(alert_id, "closed", who, note)

    def picture(self, alert_id: str, name: str) -> bytes:
        """A JPEG of before or after. Raises UnknownAlertError where there is none."""
        if not _ID.fullmatch(alert_id) or name not in PICTURES:
            raise UnknownAlertError(f"there is no picture {name[:20]!r} of the alert {alert_id[:40]!r}")
        try:
            return (self._folder / f"{alert_id}-{name}.jpg").read_bytes()
        except FileNotFoundError as error:
            raise UnknownAlertError(f"the alert {alert_id} has no picture of {name}") from error

    def _move(self, alert_id: str, state: AlertState, who: str, note: str) -> Alert:
        self._uplink.take_up()
        now = time.time()

        def move(tx: Cursor) -> None:
            row = tx.execute("SELECT state FROM loop_alerts WHERE id = ?", [alert_id]).fetchone()
            if row is None:
                raise UnknownAlertError(f"there is no alert {alert_id[:40]!r}")
            if row[0] == "closed":
                raise AlertStateError("the alert is closed")
            tx.execute(
                f"UPDATE loop_alerts SET state = ?, {state}_at = ?, {state}_by = ?,"  # noqa: S608  # one of two words
                " note = CASE WHEN ? = '' THEN note ELSE ? END WHERE id = ?",
                [state, now, who, note, note, alert_id],
            )

        self._catalog.run(move)
        return self.get(alert_id, None)

    # --- what sites say -----------------------------------------------------------------------------------------------

    def _keep_pictures(self, message: Message) -> None:
        if not isinstance(message, AlertOpened) or not self._catalog.query(*_known(message)):
            return
        for name, data in message.jpegs().items():
            target = self._folder / f"{message.alert}-{name}.jpg"
            if not target.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                part = target.with_suffix(".part")
                part.write_bytes(data)
                part.replace(target)
        self._bound()
        self._forget_captures(message)

    def _forget_captures(self, message: AlertOpened) -> None:
        for name in islice(self._captures.names(), LOOKED_AT):
            if int(name[:13]) < message.since * 1000 - 1000:
                return
            try:
                one = self._captures.read(name)
            except CaptureNotFound:
                continue
            same_camera = message.camera is None or one.get("camera") in (None, message.camera)
            if one["cell"] == message.cell and one["line"] == message.line and same_camera:
                self._captures.remove(name)
                for tell in self.forgot:
                    tell(name)
                log.info("the capture %s is of a camera at fault, and was removed", name)

    def _apply(self, tx: Cursor, message: Message) -> None:
        if isinstance(message, AlertClosed):
            changed = tx.execute(
                "UPDATE loop_alerts SET state = 'closed', closed_at = ?, closed_by = ?"
                " WHERE id = ? AND state <> 'closed' RETURNING cell",
                [message.at, ITSELF, message.alert],
            ).fetchall()
            self._tell(tx, message.alert, [str(row[0]) for row in changed], "closed")
            return
        if not isinstance(message, AlertOpened):
            return
        if not tx.execute(*_known(message)).fetchone():
            log.warning("an alert of a cell that is not there any more was left out")
            return  # one that is made anew, perhaps of another team, must not inherit it
        made = tx.execute(
            "INSERT OR IGNORE INTO loop_alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'open', NULL, NULL, NULL, NULL, '')"
            " RETURNING cell",
            [
                message.alert,
                message.cell,
                message.line,
                message.camera,
                message.kind,
                message.reason,
                message.since,
                message.at,
            ],
        ).fetchall()
        self._tell(tx, message.alert, [str(row[0]) for row in made], "open")

    def _tell(self, tx: Cursor, alert: str, cells: Collection[str], state: str) -> None:
        for cell in cells:
            for observer in self.observers:
                observer(tx, alert, cell, state)

    def forget(self, tx: Cursor, cell: str) -> None:
        """The alerts of a cell that is deleted go with it, and so do their pictures."""
        gone = tx.execute("DELETE FROM loop_alerts WHERE cell = ? RETURNING id", [cell]).fetchall()
        for (alert,) in gone:
            for name in PICTURES:
                (self._folder / f"{alert}-{name}.jpg").unlink(missing_ok=True)

    def _bound(self) -> None:
        files = sorted(self._folder.glob("*.jpg"), key=lambda path: path.stat().st_mtime)
        for path in files[: max(len(files) - MAX_PICTURES, 0)]:
            path.unlink(missing_ok=True)

    def _alert(self, row: tuple[Any, ...]) -> Alert:
        (id_, cell, line, camera, kind, reason, since, opened, state, acked, acked_by, closed, closed_by, note) = row
        advice = ADVICE[kind]
        return Alert(
            id=id_,
            cell=cell,
            line=line,
            camera=camera,
            kind=kind,
            what=advice.what,
            remedy=advice.remedy,
            reason=reason,
            since=timestamp(since),
            opened_at=timestamp(opened),
            state=state,
            acknowledged_at=None if acked is None else timestamp(acked),
            acknowledged_by=acked_by,
            closed_at=None if closed is None else timestamp(closed),
            closed_by=closed_by,
            note=note,
            pictures=[name for name in PICTURES if (self._folder / f"{id_}-{name}.jpg").is_file()],
        )


def _known(message: AlertOpened) -> tuple[str, list[object]]:
    """The question whether there is the cell that an alert is of, and not another one of its name."""
    known = "SELECT 1 FROM hub_cells WHERE name = ? AND NOT EXISTS"
    gone = "(SELECT 1 FROM rollout_forgotten WHERE cell = ? AND before >= ?)"
    return f"{known} {gone}", [message.cell, message.cell, message.since]
