"""What the server notes of each request, off the hot path: one short JSON line each, in files that the hub takes up.

The backend hands a `Prediction` over and goes on; one thread writes. Lines go to `<telemetry>/incoming/`, into a
`.part` file that is renamed to `.jsonl` when it is a second old or a megabyte long, so whoever reads sees whole files
only. The hub turns them into Parquet (`hub/rollout/telemetry.py`). While no hub takes them, the oldest ones go first.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.observed.captures import Capture, CaptureStore
from serving.observed.segments import INCOMING, OUTCOMES, PREDICTIONS, SegmentWriter, write_segment
from serving.observed.uplink import DiskUplink, Uplink

__all__ = ["INCOMING", "OUTCOMES", "PREDICTIONS", "Prediction", "Recorder", "SegmentWriter", "write_segment"]

log = logging.getLogger(__name__)

MAX_WAITING = 4096
MAX_WAITING_CAPTURES = 16
"""Captures hold whole frames: a disk that is slow must not fill the memory."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One request as the server answered it.

    Attributes:
        at: epoch seconds. latency_ms: from the batch's start to its answers, decoding included.
        stage: which stage's variant it was (`station`, `beta`, `fleet`), `pinned`, or None for the base.
        labels: class -> how many instances, most frequent first. top_label, top_score: the most certain instance.
        error: the code of the error it got instead of an answer.
        height, width: of the frame, pixels; None where there was no answer.
        caller: the robot whose token the request showed; None where tokens are not checked. `robot` is what it said.
    """

    request_id: str
    at: float
    cell: str | None
    line: str | None
    robot: str | None
    variant: str | None
    base: str | None
    stage: str | None
    table_version: int
    instances: int
    top_score: float | None
    top_label: str | None
    labels: dict[str, int]
    latency_ms: float
    batch: int
    error: str | None = None
    caller: str | None = None
    height: int | None = None
    width: int | None = None


class Recorder:
    """Writes predictions and captures from a thread of its own; `record` returns at once and never raises."""

    def __init__(
        self, folder: Path, captures: CaptureStore | None, *, tick_s: float = 0.25, uplink: Uplink | None = None
    ) -> None:
        """`folder` is the telemetry folder; `uplink` takes all of it, the one on this disk unless said."""
        self._uplink = uplink or DiskUplink(folder, captures=captures)
        self._uplink.seal(now=False)  # what a killed process left is the hub's to see
        self._waiting: deque[Prediction] = deque(maxlen=MAX_WAITING)
        self._frames: deque[Capture] = deque()
        self._tick_s = tick_s
        self._wake = threading.Event()
        self._closed = False
        self.dropped = 0
        """Captures left out because the disk was behind."""
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()

    def record(self, prediction: Prediction, capture: Capture | None = None) -> None:
        """Note a request, and keep its frame where one is given."""
        self._waiting.append(prediction)
        if capture is not None:
            if len(self._frames) < MAX_WAITING_CAPTURES:
                self._frames.append(capture)
                self._wake.set()
            else:
                self.dropped += 1

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._closed = True
        self._wake.set()
        self._thread.join(10)

    def _run(self) -> None:
        while True:
            self._wake.wait(self._tick_s)
            self._wake.clear()
            closing = self._closed
            try:
                self._write()
                if closing:
                    self._uplink.seal(now=True)
            except Exception:
                # A full disk must not end the recording for good, and never an answer.
                log.exception("telemetry could not be written")
            if closing:
                return

    def _write(self) -> None:
        lines = []
        while self._waiting:
            lines.append(_line(self._waiting.popleft()))
        if lines:
            self._uplink.predictions(lines)
        self._uplink.seal(now=False)
        while self._frames:
            frame = self._frames.popleft()
            try:
                self._uplink.capture(frame)
            except OSError:
                self._frames.appendleft(frame)  # a full disk: it is kept for the next time
                raise


def _line(prediction: Prediction) -> bytes:
    row: dict[str, Any] = asdict(prediction)
    row["labels"] = json.dumps(prediction.labels)
    return json.dumps(row, separators=(",", ":")).encode()
