"""`parcelhub up`: the hub, Triton and the worker as one thing, over one data folder.

Parts start in order, each once the one before it is ready. A part that dies is started again, after a pause
that doubles with every death; a signal stops all of them in reverse order.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, cast

from hub.errors import StackError
from hub.stack.processes import stop

log = logging.getLogger("parcelhub.up")

GRACE_SECONDS = 25.0
POLL_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
STEADY_SECONDS = 60.0
"""A part that ran this long is well again: its next death pauses for the shortest time."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    """Starts it with its output going to a pipe."""
    ready: Callable[[], bool]
    ready_seconds: float = 180.0  # a loaded machine is slow; a part that ended is noticed at once


@dataclass(slots=True)
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    pump: threading.Thread = field(init=False)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    started: float = field(default_factory=time.monotonic)
    pause: float = FIRST_PAUSE
    restart_at: float | None = None


class Supervisor:
    """Runs parts until told to stop."""

    def __init__(self, parts: Sequence[Part], *, show: Callable[[str, str], None] | None = None) -> None:
        self._parts = parts
        self._show = show or _write_line
        self._stopping = threading.Event()
        self._running: list[_Running] = []

    def request_stop(self) -> None:
        """End `run`; safe to call from a signal handler."""
        self._stopping.set()

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each part that was started, by the part's name."""
        return {running.part.name: running.process.pid for running in self._running}

    def start(self) -> None:
        """Start all parts and wait until each is ready; if one is not, stop the others and raise."""
        try:
            for part in self._parts:
                if self._stopping.is_set():
                    return
                self._running.append(self._launch(part))
                self._wait_until_ready(self._running[-1])
        except BaseException:
            self.stop()
            raise

    def watch(self) -> None:
        """Keep the parts alive until `request_stop`."""
        while not self._stopping.wait(POLL_SECONDS):
            for running in self._running:
                self._look_after(running)

    def stop(self) -> None:
        """Stop all parts in reverse order and wait for them."""
        self._stopping.set()
        while self._running:
            running = self._running.pop()
            log.info("stopping %s", running.part.name)
            stop(running.process, grace_seconds=GRACE_SECONDS)
            running.pump.join(timeout=2)

    def _launch(self, part: Part) -> _Running:
        process = part.start()
        log.info("started %s (process %d)", part.name, process.pid)
        running = _Running(part, process)
        running.pump = threading.Thread(
            target=self._pump, args=(running, cast("IO[bytes]", process.stdout)), daemon=True
        )
        running.pump.start()
        return running

    def _pump(self, running: _Running, stream: IO[bytes]) -> None:
        """Show a part's output line by line, under its name."""
        with stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip()
                running.tail.append(line)
                self._show(running.part.name, line)

    def _wait_until_ready(self, running: _Running) -> None:
        name, deadline = running.part.name, time.monotonic() + running.part.ready_seconds
        while not running.part.ready():
            if self._stopping.is_set():
                return
            if running.process.poll() is not None:
                running.pump.join(timeout=2)
                said = "\n".join(running.tail)
                raise StackError(f"{name} ended with exit status {running.process.returncode}:\n{said}")
            if time.monotonic() > deadline:
                raise StackError(f"{name} was not ready after {running.part.ready_seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        log.info("%s is ready", name)

    def _look_after(self, running: _Running) -> None:
        """Restart a dead part when its pause is over."""
        now = time.monotonic()
        if running.process.poll() is None:
            return
        if running.restart_at is None:
            running.pause = FIRST_PAUSE if now - running.started > STEADY_SECONDS else running.pause
            running.restart_at = now + running.pause
            status = running.process.returncode
            log.warning("%s died (exit status %s); again in %.0f s", running.part.name, status, running.pause)
            stop(running.process, grace_seconds=0)  # what it left behind in its process group
        elif now >= running.restart_at:
            again = self._launch(running.part)
            again.pause = min(running.pause * 2, LONGEST_PAUSE)
            self._running[self._running.index(running)] = again


def _write_line(name: str, line: str) -> None:
    sys.stderr.write(f"{name:>7} | {line}\n")
    sys.stderr.flush()
