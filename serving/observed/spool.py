"""The uplink: messages of a serving site for its hub, in a folder, store and forward.

    uplink/<milliseconds>-<id>.json      one message, whole: written aside, synced to the disk, then renamed

A message has an id that follows from what it says, so the same news written twice is one file, and the hub, which keeps
the ids that it has taken, counts one that it sees again once. The folder is bounded; while no hub takes messages up,
the oldest go first. Today both sides share a disk; a carrier over a network needs `names`, `read` and `remove` alone.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

UPLINK: Final = "uplink"
MAX_MESSAGES: Final = 2_000
MAX_BYTES: Final = 64 * 1024**2
MAX_MESSAGE_BYTES: Final = 512 * 1024
_NAME = re.compile(r"[0-9]{13}-([0-9a-f]{32})\.json")


class Spool:
    """The folder. Any number of threads and processes may write, one reads. Thread-safe."""

    def __init__(self, folder: Path, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._lock = threading.Lock()
        self.dropped = 0
        """Messages that had to go while no hub took them up."""

    def put(self, message_id: str, at: float, document: dict[str, Any]) -> None:
        """Keep a message for the hub, durably; the same id again changes nothing.

        Args:
            message_id: 32 lower-case hexadecimal digits. at: epoch seconds; names sort by it.

        Raises ValueError for an id of another form or a message that is too long, OSError where the disk fails.
        """
        data = json.dumps({**document, "id": message_id}, separators=(",", ":")).encode()
        name = f"{max(int(at * 1000), 0):013d}-{message_id}.json"
        if not _NAME.fullmatch(name) or len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"no message for the hub: {name}, {len(data)} bytes")
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(entry.name.endswith(f"-{message_id}.json") for entry in os.scandir(self.folder)):
                return
            part = self.folder / f".{name}.{os.getpid()}"
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / name)
            _sync(self.folder)
            self._bound()

    def names(self) -> Iterator[str]:
        """Names of the messages that wait, oldest first."""
        try:
            names = sorted(entry.name for entry in os.scandir(self.folder))
        except FileNotFoundError:
            return
        yield from (name for name in names if _NAME.fullmatch(name))

    def read(self, name: str) -> dict[str, Any] | None:
        """A message; None where it is gone, and for what is no message."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        try:
            path = self.folder / name
            if path.stat().st_size > MAX_MESSAGE_BYTES:
                return None
            document = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) and document.get("id") == found[1] else None

    def remove(self, name: str) -> None:
        """Forget a message that was taken up; one that is gone already is fine."""
        if _NAME.fullmatch(name):
            (self.folder / name).unlink(missing_ok=True)

    def _bound(self) -> None:
        sizes: list[tuple[str, int]] = []
        for name in self.names():
            try:
                sizes.append((name, (self.folder / name).stat().st_size))
            except FileNotFoundError:  # the hub was faster
                continue
        total, count = sum(size for _, size in sizes), len(sizes)
        for name, size in sizes:
            if count <= self._max_messages and total <= self._max_bytes:
                return
            self.remove(name)
            total, count = total - size, count - 1
            self.dropped += 1
            log.warning("the uplink is full and no hub takes it up: %s was dropped", name)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
