"""Packs and sends responses beside the engine: the next batch is computed while the last one's answers go out."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

FINAL = 1
"""`TRITONSERVER_RESPONSE_COMPLETE_FINAL`: there is no other response to the request."""


class Sender(Protocol):
    """What we use of `pb.InferenceResponseSender`."""

    def send(self, response: object, flags: int) -> None:
        """Send one response; with `FINAL` in `flags` it is the last. From any thread."""

    def is_cancelled(self) -> bool:
        """Whether the caller has gone."""


class Replies:
    """One thread that sends what it is given, in order."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Sender, Callable[[], object]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="replies", daemon=True)
        self._thread.start()

    def put(self, sender: Sender, pack: Callable[[], object]) -> None:
        """Send what `pack` makes; returns at once."""
        self._waiting.put((sender, pack))

    def close(self) -> None:
        """Return when all that was put has been sent."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (one := self._waiting.get()) is not None:
            sender, pack = one
            try:
                sender.send(pack(), flags=FINAL)
            except Exception:
                # A robot that went away must not cost the others their answers.
                log.exception("a response could not be sent")
