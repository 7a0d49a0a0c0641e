"""What the server notes of each request, off the hot path: one short JSON line each, in files that the hub takes up.

The backend hands a `Prediction` over and goes on; one thread writes. Lines go to `<telemetry>/incoming/`, into a
`.part` file that is renamed to `.jsonl` when it is a second old or a megabyte long, so whoever reads sees whole files
only. The hub turns them into Parquet (`hub/rollout/telemetry.py`). While no hub takes them, the oldest ones go first.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from registry.durable import publish, write_file
from serving.observed.captures import Capture, CaptureStore

log = logging.getLogger(__name__)

INCOMING = "incoming"
PREDICTIONS, OUTCOMES = "predictions", "outcomes"
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


class SegmentWriter:
    """Appends lines to segments in a folder. Not thread-safe: one thread owns it."""

    def __init__(
        self, folder: Path, kind: str, *, segment_bytes: int = 1024**2, age_s: float = 1.0, total_bytes: int = 256 << 20
    ) -> None:
        self._folder = folder
        self._kind = kind
        self._segment_bytes = segment_bytes
        self._age_s = age_s
        self._total_bytes = total_bytes
        self._file: BinaryIO | None = None
        self._part: Path | None = None
        self._opened = 0.0
        self._numbers = itertools.count()
        folder.mkdir(parents=True, exist_ok=True)
        self._adopt()

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines (without their newline)."""
        if self._file is None:
            name = f"{self._kind}-{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}.part"
            self._part = self._folder / name
            self._file = self._part.open("wb")
            self._opened = time.monotonic()
        self._file.write(b"".join(line + b"\n" for line in lines))

    def tick(self) -> None:
        """Seal the segment if it is old or long enough."""
        if self._file is not None and (
            time.monotonic() - self._opened >= self._age_s or self._file.tell() >= self._segment_bytes
        ):
            self.seal()

    def seal(self) -> None:
        """Make what was written visible to readers."""
        if self._file is None or self._part is None:
            return
        try:
            self._file.close()
            publish(self._part, self._part.with_suffix(".jsonl"))
        finally:  # of a full disk: what could be written is adopted later, and the next segment is a new one
            self._file = self._part = None
        self._bound()

    def _adopt(self) -> None:
        """Seal what processes left that are gone, a killed one for example; its last line may be torn."""
        for part in self._folder.glob(f"{self._kind}-*.part"):
            process = part.stem.split("-")[-2]
            if not process.isdigit() or int(process) == os.getpid() or not Path("/proc", process).exists():
                part.replace(part.with_suffix(".jsonl"))

    def _bound(self) -> None:
        sizes = []
        for path in sorted(self._folder.glob(f"{self._kind}-*.jsonl")):
            try:
                sizes.append((path, path.stat().st_size))
            except FileNotFoundError:  # the hub was faster
                continue
        total = sum(size for _, size in sizes)
        for path, size in sizes:
            if total <= self._total_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size
            log.warning("%s is full and no hub takes it up: %s was dropped", self._folder.name, path.name)


class Recorder:
    """Writes predictions and captures from a thread of its own; `record` returns at once and never raises."""

    def __init__(self, folder: Path, captures: CaptureStore | None, *, tick_s: float = 0.25) -> None:
        self._captures = captures
        self._writer = SegmentWriter(folder / INCOMING, PREDICTIONS)
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
                    self._writer.seal()
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
            self._writer.append(lines)
        self._writer.tick()
        while self._frames and self._captures is not None:
            self._captures.add(self._frames.popleft())


def _line(prediction: Prediction) -> bytes:
    row: dict[str, Any] = asdict(prediction)
    row["labels"] = json.dumps(prediction.labels)
    return json.dumps(row, separators=(",", ":")).encode()


def write_segment(folder: Path, kind: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as one sealed segment, durably: the hub answers a robot only after this."""
    target = folder / f"{kind}-{time.time_ns():020d}-{os.getpid()}-{threading.get_ident()}.jsonl"
    write_file(target, b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows))
    return target
