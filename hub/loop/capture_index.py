"""Which capture is of which request, and which captures lie beside it in time: what reading each file would tell.

Captures are files that a server writes and that make room for others by themselves. Names sort by age; each file is
read once.
"""

from __future__ import annotations

import bisect
import threading
from dataclasses import dataclass

from serving.errors import CaptureNotFound
from serving.observed.captures import CaptureStore


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a capture without its file. `at` is in epoch seconds."""

    name: str
    request_id: str
    at: float
    cell: str | None
    line: str | None
    camera: str | None


class CaptureIndex:
    """Captures by their requests. Thread-safe."""

    def __init__(self, captures: CaptureStore) -> None:
        self._captures = captures
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}
        self._of_request: dict[str, str] = {}
        self._names: list[str] = []

    def refresh(self) -> None:
        """Read what is new, forget what is gone."""
        with self._lock:
            names = sorted(self._captures.names())
            there = set(names)
            for name in self._kept.keys() - there:
                gone = self._kept.pop(name)
                self._of_request.pop(gone.request_id, None)
            for name in names:
                if name in self._kept:
                    continue
                try:
                    one = self._captures.read(name)
                    kept = Kept(name, one["request_id"], one["at"], one["cell"], one["line"], one.get("camera"))
                except (CaptureNotFound, KeyError, TypeError):  # it made room meanwhile, or is no capture
                    continue
                self._kept[name] = kept
                self._of_request.setdefault(kept.request_id, name)
            self._names = [name for name in names if name in self._kept]

    def of_request(self, request_id: str, cell: str | None) -> Kept | None:
        """The capture of a request of this cell. A request id is the robot's word: another cell's is none."""
        with self._lock:
            found = self._kept.get(self._of_request.get(request_id, ""))
            return found if found is not None and found.cell == cell else None

    def beside(self, one: Kept, within_s: float, most: int) -> list[Kept]:
        """Other captures of the same camera, taken at most `within_s` before or after, the nearest first."""
        with self._lock:
            first = bisect.bisect_left(self._names, f"{max(int((one.at - within_s) * 1000), 0):013d}-")
            last = bisect.bisect_right(self._names, f"{int((one.at + within_s) * 1000) + 1:013d}-")
            near = [self._kept[name] for name in self._names[first:last] if name != one.name]
        same = [other for other in near if (other.cell, other.line, other.camera) == (one.cell, one.line, one.camera)]
        return sorted(same, key=lambda other: abs(other.at - one.at))[:most]
