"""The hub's end of the uplink: takes up what sites sent, each message once by its id.

A message, the mark that it was taken, and what it changes are one transaction; the file goes after that. A hub that is
killed in between finds the file and the mark, and only the file goes. What is no valid message is put aside.
"""

from __future__ import annotations

import base64
import binascii
import logging
import threading
import time
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from serving.observed.camera_kinds import Kind
from serving.observed.spool import Spool

log = logging.getLogger("parcelhub.uplink")

REMEMBERED_S: Final = 90 * 86_400.0
"""How long the ids of messages are kept; a site's spool is bounded, and holds none as old."""
AT_ONCE: Final = 200
MAX_PICTURE_BYTES: Final = 256 * 1024
Id = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Text = Annotated[str, Meta(min_length=1, max_length=200)]
Time = Annotated[float, Meta(ge=0, lt=1e11)]


class AlertOpened(Struct, frozen=True, tag_field="event", tag="open"):
    """A camera shows a fault."""

    id: Id
    type: Literal["alert"]
    alert: Id
    cell: Text
    kind: Kind
    since: Time
    at: Time
    line: Text | None = None
    camera: Text | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""
    pictures: dict[Literal["before", "after"], Annotated[str, Meta(max_length=MAX_PICTURE_BYTES * 4 // 3)]] = {}

    def jpegs(self) -> dict[str, bytes]:
        """The pictures; what is no JPEG is left out."""
        found: dict[str, bytes] = {}
        for name, text in self.pictures.items():
            try:
                data = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            if data[:3] == b"\xff\xd8\xff":
                found[name] = data
        return found


class AlertClosed(Struct, frozen=True, tag_field="event", tag="close"):
    """The fault is gone."""

    id: Id
    type: Literal["alert"]
    alert: Id
    at: Time


class ChangeSeen(Struct, frozen=True, tag_field="event", tag="change"):
    """A stream of a camera has changed, and a sample of its frames was started."""

    id: Id
    type: Literal["change"]
    cell: Text
    stream: Literal["novelty", "doubt", "unstable"]
    at: Time
    line: Text | None = None
    camera: Text | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""


Message = AlertOpened | AlertClosed | ChangeSeen


class Uplink:
    """Takes messages up when asked to. Thread-safe."""

    def __init__(self, catalog: Catalog, spool: Spool) -> None:
        self._catalog = catalog
        self._spool = spool
        self._lock = threading.Lock()
        self._pruned = 0.0
        self.handlers: list[Callable[[Cursor, Message], None]] = []
        """Called within the transaction that marks a message as taken."""
        self.before: list[Callable[[Message], None]] = []
        """Called before it, for what no transaction holds (files); may be called again for the same message."""

    def take_up(self) -> int:
        """Take up what waits, the oldest first; returns how many messages were new."""
        taken = 0
        with self._lock:
            self._prune()
            for _, name in zip(range(AT_ONCE), self._spool.names(), strict=False):
                document = self._spool.read(name)
                if document is not None:
                    try:
                        taken += self._take(msgspec.convert(document, Message))
                    except msgspec.ValidationError as error:
                        log.warning("a message of the uplink is not valid and was left out: %s", error)
                else:
                    log.warning("a message of the uplink cannot be read and was left out")
                self._spool.remove(name)
        return taken

    def _take(self, message: Message) -> int:
        for prepare in self.before:
            prepare(message)

        def take(tx: Cursor) -> int:
            if tx.execute("SELECT 1 FROM loop_messages WHERE id = ?", [message.id]).fetchone():
                return 0
            tx.execute("INSERT INTO loop_messages VALUES (?, ?)", [message.id, time.time()])
            for handle in self.handlers:
                handle(tx, message)
            return 1

        return self._catalog.run(take)

    def _prune(self) -> None:
        now = time.time()
        if now - self._pruned > 3600:
            self._pruned = now
            self._catalog.run(
                lambda tx: tx.execute("DELETE FROM loop_messages WHERE taken_at < ?", [now - REMEMBERED_S])
            )
