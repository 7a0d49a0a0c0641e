"""Variants that do not answer, why, and when they are tried again.

A fault that may pass (the disk, the memory, an answer that was not finite) is tried again by itself, after a second,
two, four, a minute at most. What is wrong with the files themselves is looked at as often, and tried when they have
changed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serving.errors import AdapterError
from serving.inference.adapter_files import FILES
from serving.observed.server_status import Refused

FIRST_S, LONGEST_S = 1.0, 60.0
FORGET_S = 600.0
"""A variant that was refused so long ago begins anew with its waiting times."""
MAX_REMEMBERED = 10_000

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One variant's. `again` and `last` are of the clock; `stamp` is of the files that were read."""

    error: AdapterError
    since: float
    tries: int
    last: float
    again: float
    stamp: Stamp

    def told(self, variant: str) -> Refused:
        """As a status says it."""
        error = self.error
        return Refused(variant, error.code, error.reason, self.since, self.tries, error.passing)


class Refusals:
    """By variant. Thread-safe."""

    def __init__(self, *, first_s: float = FIRST_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._first_s = first_s
        self._clock = clock
        self._lock = threading.Lock()
        self._now: dict[str, Refusal] = {}
        self._before: dict[str, Refusal] = {}  # those that are tried again, or answer again

    def get(self, variant: str) -> AdapterError | None:
        """Why a variant does not answer; None where it may."""
        found = self._now.get(variant)
        return found.error if found is not None else None

    def add(self, variant: str, error: AdapterError, stamp: Stamp = ()) -> None:
        """Refuse a variant. The longer it has been refused, the longer it waits."""
        now = self._clock()
        with self._lock:
            before = self._now.get(variant) or self._before.pop(variant, None)
            if before is not None and now - before.last > FORGET_S:
                before = None
            tries = before.tries + 1 if before is not None else 1
            wait = min(self._first_s * 2.0 ** min(tries - 1, 16), LONGEST_S)
            since = before.since if before is not None else time.time()
            self._now[variant] = Refusal(error, since, tries, now, now + wait, stamp)
            if len(self._now) > MAX_REMEMBERED:
                # Only those that nobody routes to can be so many; they are read again when they are asked for.
                self._now.pop(next(iter(self._now)))

    def clear(self, variant: str) -> None:
        """It answers again."""
        with self._lock:
            found = self._now.pop(variant, None)
            if found is not None:
                self._before[variant] = found
                while len(self._before) > MAX_REMEMBERED:
                    self._before.pop(next(iter(self._before)))

    def start_anew(self) -> None:
        """Forget all, but what is routed is about to be read again."""
        with self._lock:
            self._now, self._before = {}, {}

    def due(self, stamp_of: Callable[[str], Stamp]) -> list[str]:
        """Those whose time has come, and whose files have changed where only that can help."""
        now = self._clock()
        with self._lock:
            waiting = [(variant, one) for variant, one in self._now.items() if one.again <= now]
        found = []
        for variant, one in waiting:
            if one.error.passing or stamp_of(variant) != one.stamp:
                found.append(variant)
            else:
                self.add(variant, one.error, one.stamp)
        return found

    def names(self) -> frozenset[str]:
        """All that are refused now."""
        with self._lock:
            return frozenset(self._now)

    def told(self, routed: frozenset[str]) -> tuple[Refused, ...]:
        """Those of `routed` that are refused, for a status."""
        with self._lock:
            return tuple(one.told(variant) for variant, one in sorted(self._now.items()) if variant in routed)


def stamp_of(folder: Path) -> Stamp:
    """What changes when a variant's files do; empty where one is missing."""
    try:
        states = [(folder / file).stat() for file in FILES]
    except OSError:
        return ()
    return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in states)
