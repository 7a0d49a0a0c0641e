"""What sites send over the network: checked, kept as if it had been written on this disk, and counted once by its id.

Messages go into the spool that the hub takes up anyway, and captures and predictions into their folders. A capture is
marked when it is kept, so one that was removed since (forgotten, of a camera at fault) does not come back when its site
sends it again. Of predictions the first row of a request counts, so a segment may come twice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import re
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from hub.accounts.tokens import Identity
from hub.errors import ForbiddenError, InputError, LabelError
from hub.loop.alerts import Alerts
from hub.loop.labelling.regions import counts_of
from hub.loop.sites.sites import name_of, speaks_for
from hub.loop.uplink import AlertClosed, Message
from hub.schemas.sites import CaptureIn, MessageIn
from registry.catalog.catalog import Catalog
from registry.durable import write_file
from serving.errors import ImageError
from serving.image_header import MAX_PIXELS, image_size
from serving.observed.captures import CAPTURE_ID, CaptureStore
from serving.observed.segments import INCOMING, PREDICTIONS
from serving.observed.spool import Spool

log = logging.getLogger("parcelhub.sites")

MAX_LINES: Final = 200_000
MAX_LINE: Final = 64 * 1024
MAX_OBSERVED: Final = 4 * 1024**2
"""Bytes of embeddings and judgements beside a capture."""
_SEGMENT: Final = re.compile(rf"{PREDICTIONS}-[0-9]{{1,20}}-[0-9]{{1,10}}-[0-9]{{1,20}}")


class Inbox:
    """Takes in. Thread-safe."""

    def __init__(self, catalog: Catalog, spool: Spool, captures: CaptureStore, alerts: Alerts, telemetry: Path) -> None:
        self._catalog = catalog
        self._spool = spool
        self._captures = captures
        self._alerts = alerts
        self._incoming = telemetry / INCOMING

    def message(self, who: Identity, asked: MessageIn) -> bool:
        """Keep an alert for the next look; False for one that was taken up already. Raises InputError,
        ForbiddenError."""
        try:
            message = msgspec.convert(asked.message, Message)
        except msgspec.ValidationError as error:
            raise InputError(f"this is no message that the hub knows: {error}") from error
        self._require(who, self._cell_of(message) if isinstance(message, AlertClosed) else message.cell)
        if self._marked(message.id):
            return False
        try:
            self._spool.put(message.id, asked.at, asked.message)
        except ValueError as error:
            raise InputError(str(error)) from error
        return True

    def capture(self, who: Identity, capture_id: str, asked: CaptureIn) -> bool:
        """Keep a capture; False for one that was kept before, or that is of a camera at fault. Raises InputError,
        ForbiddenError."""
        document = asked.document
        self._require(who, document.cell)
        try:
            data = base64.b64decode(asked.picture, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError("the picture is no base64") from error
        if not CAPTURE_ID.fullmatch(capture_id) or int(capture_id[:13]) != max(int(document.at * 1000), 0):
            raise InputError(f"{capture_id[:80]!r} is no id of a capture of that time")
        _check_picture(data, asked)
        mark = hashlib.sha256(json.dumps(["capture", capture_id]).encode()).hexdigest()[:32]
        if self._marked(mark) or not self._is_there(document.cell, document.at):
            return False
        if document.cell is None or not self._alerts.at_fault(
            document.cell, document.line, document.camera, document.at
        ):
            text: dict[str, Any] = msgspec.to_builtins(document)
            if document.observed is None:
                text.pop("observed")
            self._captures.receive(capture_id, data, text)
        with self._catalog.write() as db:
            db.execute("INSERT OR IGNORE INTO loop_messages VALUES (?, ?)", [mark, time.time()])
        return True

    def predictions(self, who: Identity, segment: str, data: bytes) -> int:
        """Keep the lines of a segment that are of the site's cells; how many. Raises InputError."""
        if not _SEGMENT.fullmatch(segment):
            raise InputError(f"{segment[:80]!r} is no name of a segment of predictions")
        lines = data.splitlines()
        if len(lines) > MAX_LINES:
            raise InputError(f"a segment has at most {MAX_LINES:,} lines")
        good = [line for line in lines if len(line) <= MAX_LINE and _is_of(who, line)]
        if good:
            # The site's name in it: two sites may count alike.
            site = hashlib.sha256(name_of(who).encode()).hexdigest()[:16]
            kind, number, process, count = segment.rsplit("-", 3)
            name = f"{kind}-{number.zfill(20)}-{process}-{count}-{int(site, 16)}.jsonl"
            write_file(self._incoming / name, b"".join(line + b"\n" for line in good))
        if len(good) < len(lines):
            log.warning(
                "%d of %d predictions of the site %s were left out", len(lines) - len(good), len(lines), who.name
            )
        return len(good)

    def _require(self, who: Identity, cell: str | None) -> None:
        if not speaks_for(who, cell):
            raise ForbiddenError(f"the token of {who.name!r} is not good for the cell {cell!r}")

    def _cell_of(self, message: AlertClosed) -> str | None:
        self._alerts.take_up()
        rows = self._catalog.query("SELECT cell FROM loop_alerts WHERE id = ?", [message.alert])
        return str(rows[0][0]) if rows else None

    def _marked(self, id_: str) -> bool:
        return bool(self._catalog.query("SELECT 1 FROM loop_messages WHERE id = ?", [id_]))

    def _is_there(self, cell: str | None, at: float) -> bool:
        """Whether a cell is there, and was at a time: another one of its name must not get its frames."""
        if cell is None:
            return True
        known = (
            "SELECT 1 FROM hub_cells WHERE name = ? AND NOT EXISTS"
            " (SELECT 1 FROM rollout_forgotten WHERE cell = ? AND before >= ?)"
        )
        return bool(self._catalog.query(known, [cell, cell, at]))


def _check_picture(data: bytes, asked: CaptureIn) -> None:
    """What the hub decodes later, a page or a label task, is looked at where it comes in. Raises InputError."""
    said = asked.document
    try:
        kind, height, width = image_size(data)
    except ImageError as error:
        raise InputError(f"the picture cannot be read: {error}") from error
    # A JPEG may say that it lies on its side; its answers do not.
    if f"image/{kind}" != asked.kind or {height, width} != {said.height, said.width}:
        raise InputError(f"the picture is a {kind} of {width}x{height}, not {asked.kind} of {said.width}x{said.height}")
    if height * width > MAX_PIXELS:
        raise InputError(f"the picture has {width}x{height} pixels; the limit is {MAX_PIXELS:,}")
    try:
        for one in said.instances:
            counts_of(one.mask, said.height, said.width)
    except LabelError as error:
        raise InputError(str(error)) from error
    if said.observed is not None and len(msgspec.json.encode(said.observed)) > MAX_OBSERVED:
        raise InputError(f"what was observed beside it takes at most {MAX_OBSERVED:,} bytes")


def _is_of(who: Identity, line: bytes) -> bool:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(row, dict) or not isinstance(row.get("request_id"), str):
        return False
    cell = row.get("cell")
    return cell is None or (isinstance(cell, str) and speaks_for(who, cell))
