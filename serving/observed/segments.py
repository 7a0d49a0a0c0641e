"""Segments: files of JSON lines about requests and outcomes, sealed whole, that the hub takes up.

incoming/<kind>-<nanoseconds>-<process>-<number>.part     being written; renamed to .jsonl when it is sealed
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from registry.durable import publish, write_file

log = logging.getLogger(__name__)

INCOMING = "incoming"
PREDICTIONS, OUTCOMES = "predictions", "outcomes"


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
        self._file.flush()  # to the kernel: a process that is killed takes nothing along

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


def write_segment(folder: Path, kind: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as one sealed segment, durably: the hub answers a robot only after this."""
    target = folder / f"{kind}-{time.time_ns():020d}-{os.getpid()}-{threading.get_ident()}.jsonl"
    write_file(target, b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows))
    return target
