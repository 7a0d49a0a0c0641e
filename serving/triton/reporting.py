"""Tells the hub what is in place, by status.json, from a thread of its own: neither a slow disk nor a base that takes
long to load may silence the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from serving.observed.server_status import EVERY_S, ServerStatus, write_status

log = logging.getLogger(__name__)


class Reporter:
    """Once started, writes what `collect` says: at once when something changed, and every few seconds."""

    def __init__(self, folder: Path, collect: Callable[[], ServerStatus], *, every_s: float = EVERY_S) -> None:
        self._folder = folder
        self._collect = collect
        self._every_s = every_s
        self._changed = threading.Event()
        self._closed = False
        self._written: ServerStatus | None = None
        self._failed = ""
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        """From now on there is something to tell."""
        self._thread.start()

    def changed(self) -> None:
        """Write soon."""
        self._changed.set()

    def close(self) -> None:
        """Write a last time and end the thread."""
        self._closed = True
        self._changed.set()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            closing = self._closed
            try:
                status = self._collect()
                new = self._written is None or replace(status, at=self._written.at) != self._written
                write_status(self._folder, replace(status, at=time.time()), durably=new)
                self._written, self._failed = status, ""
            except Exception as error:
                # A folder that is mounted read-only has no status; robots are answered all the same.
                if str(error) != self._failed:
                    self._failed = str(error)
                    log.warning("the hub cannot be told what is in place: %s", error)
            if closing:
                return
            self._changed.wait(self._every_s)
            self._changed.clear()
