"""Telemetry files that cannot be read: they are set aside under `telemetry/damaged/`, and everything else goes on.

A file keeps its name there, below the folder that it lay in, so an operator can put back what was mended. Each is named
in the log when it goes, and in `parcelhub doctor` for as long as it lies there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from registry.durable import make_folder, sync_folder, write_file

log = logging.getLogger("parcelhub.telemetry")

DAMAGED: Final = "damaged"
_MENDED: Final = "-mended"


class Aside:
    """The files of one telemetry folder that were set aside. Not thread-safe: its owner has a lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unmoved: set[Path] = set()

    def put(self, path: Path, why: str) -> int:
        """Move a file away, or pass it over where it cannot be moved. Gives 1."""
        target = self._folder / DAMAGED / path.relative_to(self._folder)
        reason = why.partition("\n")[0]
        try:
            make_folder(target.parent)
            path.replace(target)
            sync_folder(path.parent)
            sync_folder(target.parent)
        except OSError as error:  # a full disk, or one that is read-only
            self._unmoved.add(path)
            log.error("telemetry file %s cannot be read (%s) nor set aside (%s)", path, reason, error.strerror)  # noqa: TRY400
        else:
            count = len(self.names())
            log.error("telemetry file %s cannot be read (%s): set aside as %s, %d now", path, reason, target, count)
        return 1

    def passed_over(self, path: Path) -> bool:
        """Whether this file cannot be read, and could not be moved away either."""
        return path in self._unmoved

    def names(self) -> list[str]:
        """Of all files that are set aside or passed over."""
        return [*set_aside(self._folder), *(str(path.relative_to(self._folder)) for path in sorted(self._unmoved))]


def set_aside(folder: Path) -> list[str]:
    """The files that were set aside in a telemetry folder, by the names that they had."""
    root = folder / DAMAGED
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def rescue(segment: Path) -> None:
    """Write the whole lines of a segment that cannot be read as it is into another one."""
    if segment.stem.endswith(_MENDED):
        return
    lines = list(_whole_lines(segment))
    if lines:
        write_file(segment.with_name(f"{segment.stem}{_MENDED}{segment.suffix}"), b"".join(lines))


def _whole_lines(segment: Path) -> Iterator[bytes]:
    try:
        data = segment.read_bytes()
    except OSError:
        return
    for line in data.split(b"\n"):
        try:
            row = json.loads(line.decode())
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("request_id"), str):
            yield json.dumps(row, separators=(",", ":")).encode() + b"\n"
