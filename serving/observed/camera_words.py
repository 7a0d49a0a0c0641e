"""The newest word about each camera: what the hub shows of it. Statistics, not messages: only the last one counts.

    statistics/<32 hexadecimal digits>.json     {"what", "cell", "line", "camera", "at", "values"}

A file is replaced by the next word of the same camera, so the folder is bounded by the number of cameras. Who reads it
goes by `at`: an older word never takes the place of a newer one, however often it is read or sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from registry.durable import write_file

STATISTICS: Final = "statistics"
TOLD_EVERY_S: Final = 60.0
"""Seconds between two words about a camera that go on as before."""
MAX_BYTES: Final = 16 * 1024
MAX_FILES: Final = 1_024
NAME: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class CameraWord:
    """What is known of a camera at a time.

    Attributes:
        what: which part of the site says it (`camera`: its health, `novelty`: novelty and doubt).
        at: epoch seconds of the newest frame that it is about.
        values: numbers and words, as JSON has them.
    """

    what: str
    cell: str
    line: str | None
    camera: str | None
    at: float
    values: dict[str, Any]

    @property
    def name(self) -> str:
        """Of its file: one for each camera and part."""
        said = json.dumps([self.what, self.cell, self.line, self.camera])
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "what": self.what, "cell": self.cell, "line": self.line, "camera": self.camera, "at": self.at,
            "values": self.values,
        }  # fmt: skip


def keep(folder: Path, word: CameraWord) -> None:
    """Keep the newest word of a camera, durably. Raises OSError, and ValueError for one that is too long."""
    data = json.dumps(word.document(), separators=(",", ":"), allow_nan=False).encode()
    if len(data) > MAX_BYTES:
        raise ValueError(f"a word about a camera has at most {MAX_BYTES:,} bytes, this one {len(data):,}")
    target = folder / STATISTICS / f"{word.name}.json"
    fresh = not target.exists()
    write_file(target, data)
    if fresh:
        _bound(folder / STATISTICS)


def waiting(folder: Path) -> Iterator[tuple[str, float, bytes]]:
    """(name, time of the file, bytes) of each word in a telemetry folder."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder / STATISTICS))
    except FileNotFoundError:
        return
    for name in names:
        stem, dot, suffix = name.partition(".")
        if not dot or suffix != "json" or not NAME.fullmatch(stem):
            continue
        path = folder / STATISTICS / name
        try:
            with path.open("rb") as file:
                yield stem, path.stat().st_mtime, file.read(MAX_BYTES + 1)
        except OSError:
            continue


def _bound(folder: Path) -> None:
    files = sorted(folder.glob("*.json"), key=lambda one: one.stat().st_mtime)
    for path in files[: max(len(files) - MAX_FILES, 0)]:
        path.unlink(missing_ok=True)
