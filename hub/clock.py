"""A clock that is wrong: put right while the hub runs, put back, or ahead by days.

Times on record are those of the wall clock; how long ago something was is not always what the wall clock says. What is
removed for its age, and what ends because somebody was silent, asks here how much of the difference was a leap.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from hub.errors import UNREADABLE
from registry.durable import write_file
from registry.errors import RegistryError

log = logging.getLogger("parcelhub.clock")

LEAP_S: Final = 60.0
"""A wall clock that gained so much on the steady one was put; less is drift, or a clock that is slewed."""
OFF_S: Final = 86_400.0
"""A machine that was off is believed to have been off for so long; more is a clock that is wrong, until it was seen
to run on."""
_MOST: Final = 100

Now = Callable[[], float]


class LeapWatch:
    """Tells how far the wall clock leapt ahead since the last question. Thread-safe."""

    def __init__(self, now: Now = time.time, steady: Now | None = None, *, least: float = LEAP_S) -> None:
        """`steady` is a clock that nobody puts; without one, that of the machine, or none where `now` is not the
        machine's: then nothing is a leap. Less than `least` seconds are none either."""
        self._now = now
        self._least = least
        self._lock = threading.Lock()
        self._steady = steady or (time.monotonic if now is time.time else now)
        self._last = (now(), self._steady())

    def leapt(self) -> float:
        """Seconds that the wall clock leapt ahead since the last call; 0 where it did not, or was put back."""
        with self._lock:
            before, self._last = self._last, (self._now(), self._steady())
            gained = (self._last[0] - before[0]) - (self._last[1] - before[1])
        return gained if gained >= self._least else 0.0


class _Seen(msgspec.Struct):
    """What the file says. `lived` are seconds that machine and hub were seen to run, `leaps` pairs of that time and the
    seconds that the wall clock leapt then."""

    boot: str = ""
    wall: float = 0.0
    steady: float = 0.0
    lived: float = 0.0
    leaps: list[tuple[float, float]] = []


class Elapsed:
    """How much older than they are things on record look. Thread-safe; it remembers in a file, across restarts."""

    def __init__(self, file: Path, *, now: Now = time.time, steady: Now | None = None, boot: str | None = None) -> None:
        """`boot` names the start of the machine that `steady` counts from (seconds)."""
        self._file = file
        self._now = now
        self._steady = steady or _since_boot
        self._boot = _boot_id() if boot is None else boot
        self._lock = threading.Lock()
        self._seen = self._read()

    def look(self) -> None:
        """Note where the clocks stand. What cannot be written is noted in memory alone."""
        with self._lock:
            self._note()
            try:
                write_file(self._file, msgspec.json.encode(self._seen))
            except (OSError, RegistryError) as error:  # a full disk, for instance
                log.warning("where the clocks stand could not be noted: %s", error)

    def leapt(self, within: float) -> float:
        """Seconds that the wall clock leapt ahead in the last `within` seconds that were really lived: so much older
        than it is may look what was stored before."""
        with self._lock:
            self._note()
            lived = self._seen.lived
            return sum(size for at, size in self._seen.leaps if lived - at < within)

    def _note(self) -> None:
        seen, wall, steady = self._seen, self._now(), self._steady()
        if not seen.boot:  # never looked before
            self._seen = _Seen(self._boot, wall, steady)
            return
        passed = wall - seen.wall
        lived = max(0.0, steady - seen.steady) if seen.boot == self._boot else min(max(0.0, passed), OFF_S)
        leaps, total = seen.leaps, seen.lived + lived
        if passed - lived >= LEAP_S:
            log.warning("the clock leapt %.0f seconds ahead; nothing is removed the sooner for it", passed - lived)
            leaps = [*leaps, (total, passed - lived)][-_MOST:]
        elif passed - lived <= -LEAP_S:
            log.warning("the clock was put back by %.0f seconds", lived - passed)
        self._seen = _Seen(self._boot, wall, steady, total, leaps)

    def _read(self) -> _Seen:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Seen)
        except (OSError, *UNREADABLE):
            return _Seen()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # no Linux: every start of the hub is one of the machine
        return f"start-{time.time_ns()}"


def _since_boot() -> float:
    """Seconds since the machine was started, those that it slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
