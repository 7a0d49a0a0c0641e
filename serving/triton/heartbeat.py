"""The stub's sign of life, for the guard: a file in memory that a thread writes twice a second.

    <beats> <batch>     how often it was written, and the number of the batch that is being computed, 0 between batches

A stub that is stopped, or that holds Python's lock for ever, writes no more beats; one that never ends a batch goes on
beating and names the same batch. Nothing is read from the file here, and losing it does no harm but a restart.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 0.5
_WIDTH = 48


class Heartbeat:
    """Beats until it is closed. Without a path it does nothing: in the official container no guard is there."""

    def __init__(self, path: Path | None, *, every_s: float = EVERY_S) -> None:
        """Raises OSError where the file cannot be made."""
        self._batch = 0
        self._batches = 0
        self._beats = 0
        self._every = every_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if path is not None:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
            self._thread.start()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """While a batch is computed; batches come one after another."""
        self._batches += 1
        self._batch = self._batches
        try:
            yield
        finally:
            self._batch = 0

    def close(self) -> None:
        """Stop beating."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
            os.close(self._file)

    def _run(self) -> None:
        while True:
            self._beats += 1
            with contextlib.suppress(OSError):  # the guard decides; a stub must not end for a full /dev/shm
                os.pwrite(self._file, f"{self._beats} {self._batch}".ljust(_WIDTH).encode(), 0)
            if self._stop.wait(self._every):
                return
