"""Sends the responses of a batch a moment after the batch is over, so that no request meets Triton between two batches.

With a queue policy (deadlines, priorities, a longest queue) Triton's batcher gives out a batch only while a model
instance stands waiting, and looks again after 500 ms if none does: nothing tells it that one has come back meanwhile
(`WaitForPayloadSlotAvailable` in Triton's `dynamic_batch_scheduler.cc`). A robot that asks again the moment it is
answered met an instance that was not back yet once in fifteen to thirty times, and waited for half a second.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Protocol

log = logging.getLogger(__name__)

PAUSE_S, PAUSE_S_A_BYTE = 0.0005, 0.7e-9
"""How long an instance has to come back before its answers go out; it lets go of the requests' pixels on its way."""
FINAL = 1
"""`TRITONSERVER_RESPONSE_COMPLETE_FINAL`: there is no other response to the request."""


class Sender(Protocol):
    """What we use of `pb.InferenceResponseSender`."""

    def send(self, response: object, flags: int) -> None: ...


class Replies:
    """One thread that sends what it is given, in order."""

    def __init__(self) -> None:
        self._batches: queue.SimpleQueue[tuple[float, Sequence[Sender], Sequence[object]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="replies", daemon=True)
        self._thread.start()

    def put(self, senders: Sequence[Sender], responses: Sequence[object], *, received: int = 0) -> None:
        """Send each of the responses by its sender; returns at once. `received` is how many bytes the requests had."""
        self._batches.put((PAUSE_S + received * PAUSE_S_A_BYTE, senders, responses))

    def close(self) -> None:
        """Return when all that was put has been sent."""
        self._batches.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            pause, senders, responses = batch
            time.sleep(pause)
            for sender, response in zip(senders, responses, strict=True):
                try:
                    sender.send(response, flags=FINAL)
                except Exception:
                    # A robot that went away must not cost the others their answers.
                    log.exception("a response could not be sent")
