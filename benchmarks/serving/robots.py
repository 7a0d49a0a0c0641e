"""Robots that ask all the time and write down every answer, and what those answers say of a roll-out."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from serving.errors import ClientError
from serving.robot.client import RobotClient


@dataclass(frozen=True, slots=True)
class RobotRequest:
    """One request of one robot. Times are of the monotonic clock; `error` is None for an answer."""

    robot: int
    cell: str
    started: float
    ended: float
    served_by: str | None
    error: str | None = None


class Robots:
    """A context in which one robot for each entry of `cells` asks in a closed loop, each over its own connection.

    A robot gives a frame up after `timeout_s` and takes the next one, as a real one does; that is what `error` records.
    """

    def __init__(self, url: str, cells: Sequence[str], frame: bytes, *, timeout_s: float, pause_s: float = 0.0) -> None:
        self._url, self._frame, self._timeout_s, self._pause_s = url, frame, timeout_s, pause_s
        self._stop = threading.Event()
        self._asked: list[list[RobotRequest]] = [[] for _ in cells]
        self._threads = [
            threading.Thread(target=self._run, args=(number, cell), name=f"robot-{number}", daemon=True)
            for number, cell in enumerate(cells)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self._timeout_s + 10)

    @property
    def asked(self) -> list[RobotRequest]:
        """Everything so far, in the order in which it ended."""
        return sorted((one for own in self._asked for one in tuple(own)), key=lambda one: one.ended)

    def answered_since(self, moment: float) -> bool:
        """Whether every robot got an answer to something that it asked after this moment."""
        return all(any(one.error is None and one.started >= moment for one in own[-50:]) for own in self._asked)

    def _run(self, number: int, cell: str) -> None:
        own = self._asked[number]
        with RobotClient(self._url, cell=cell, robot=f"robot-{number}", timeout_s=self._timeout_s) as client:
            while not self._stop.wait(self._pause_s):
                started = time.monotonic()
                try:
                    served = client.segment(self._frame).served_by
                except ClientError as error:
                    text = f"{type(error).__name__}: {error}"
                    own.append(RobotRequest(number, cell, started, time.monotonic(), None, text))
                    self._stop.wait(0.02)
                    continue
                own.append(RobotRequest(number, cell, started, time.monotonic(), served))


@dataclass(slots=True)
class History:
    """What a cell was routed to and when, to judge answers by. `began` is what held at the start."""

    began: str
    grace_s: float = 1.0
    _names: list[str] = field(default_factory=list)
    _asked: list[float] = field(default_factory=list)
    _confirmed: list[float] = field(default_factory=list)

    def changed(self, served_by: str, asked: float, confirmed: float) -> None:
        """A change was asked for at one time and confirmed at another: from the second on, `grace_s` counts."""
        self._names.append(served_by)
        self._asked.append(asked)
        self._confirmed.append(confirmed)

    def judge(self, one: RobotRequest) -> str:
        """`right`, `late` (it was routed before, and its grace was over when the request left) or `never`.

        Whatever held at some time between the request's start and its end is right: a batch finishes on the table
        that it began with.
        """
        names = [self.began, *self._names]
        if one.served_by not in names:
            return "never"
        # A name that was first asked for after the answer came cannot have given it.
        known = bisect_right(self._asked, one.ended)
        for at in range(known, -1, -1):
            over = self._confirmed[at] + self.grace_s if at < len(self._confirmed) else float("inf")
            if over < one.started:
                break  # and so were all before it
            if names[at] == one.served_by:
                return "right"
        return "late" if one.served_by in names[: known + 1] else "never"
