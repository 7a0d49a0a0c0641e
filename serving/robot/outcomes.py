"""What a pick did, on its way from the robot to the hub: a bounded buffer that never makes a robot wait.

`OutcomeReporter.report` appends to a queue in memory and returns. A daemon thread sends batches to the hub's
`POST /api/v1/outcomes`, tries again while the hub is away, and sends what is left when the process ends. The hub takes
an outcome once per request id, so sending a batch twice does no harm.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, Final, Literal, TypeAlias, get_args

from serving.errors import OutcomeInvalid

log = logging.getLogger(__name__)

OutcomeName = Literal["success", "miss", "drop", "wrong_item", "multi_pick"]
OUTCOMES: Final[tuple[OutcomeName, ...]] = get_args(OutcomeName)
MAX_BATCH: Final = 500
MAX_TEXT: Final = 200
MAX_INSTANCE: Final = 100_000
MAX_PIXEL: Final = 100_000.0
MAX_SENDS: Final = 64
"""So many requests one batch may take that the hub refuses: enough to find the few outcomes that are at fault."""
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0

Send: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], bool]
"""Delivers a batch. False: the hub will never take it; an exception: try again later."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the pick that followed one answer did.

    Attributes:
        request_id: of the answer.
        outcome: one of OUTCOMES.
        picked_at: epoch seconds.
        label: class of the item that was picked; the answer's most certain one where it is None.
        cell, line, robot, served_by: what the robot knows of the answer. The server's own record of the prediction
            goes before them; they count where that record is lost.
        instance: which instance of the answer was picked, counted from 0 in the answer's order.
        point: where the gripper went, (x, y) in pixels of the frame.
        gripper: what it was picked with, in a few words.

    Raises OutcomeInvalid for a field that the hub would refuse.
    """

    request_id: str
    outcome: OutcomeName
    picked_at: float
    label: str | None = None
    cell: str | None = None
    line: str | None = None
    robot: str | None = None
    served_by: str | None = None
    instance: int | None = None
    point: tuple[float, float] | None = None
    gripper: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.request_id, str) or not _REQUEST_ID.fullmatch(self.request_id):
            raise OutcomeInvalid("request_id must be 1 to 200 printable ASCII characters without blanks")
        if self.outcome not in OUTCOMES:
            raise OutcomeInvalid(f"outcome must be one of {', '.join(OUTCOMES)}, got {self.outcome!r}")
        if not 0 < self.picked_at < 1e11:
            raise OutcomeInvalid(f"picked_at must be epoch seconds, got {self.picked_at!r}")
        for name in ("label", "cell", "line", "robot", "served_by", "gripper"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or len(value) > MAX_TEXT):
                raise OutcomeInvalid(f"{name} must be a text of at most {MAX_TEXT} characters")
        number: object = self.instance  # whatever a caller gave
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, Integral) or not 0 <= int(number) < MAX_INSTANCE
        ):
            raise OutcomeInvalid(f"instance must be a whole number from 0 to {MAX_INSTANCE - 1}, got {number!r}")
        if number is not None:
            object.__setattr__(self, "instance", int(number))  # of numpy's whole numbers JSON knows nothing
        if self.point is not None:
            object.__setattr__(self, "point", _point(self.point))

    def row(self) -> dict[str, Any]:
        """As it is sent. What a hub of an earlier version does not know is left out where it says nothing."""
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None or name not in ("instance", "point", "gripper")
        }

    def check(self, instances: int | None, height: int | None, width: int | None) -> None:
        """Compare it with the answer that it is about; None where that is not known. Raises OutcomeInvalid."""
        if self.instance is not None and instances is not None and self.instance >= instances:
            raise OutcomeInvalid(
                f"instance {self.instance} of {self.request_id!r}: the answer has {instances}, counted from 0"
            )
        if self.point is not None and height is not None and width is not None:
            x, y = self.point
            if x > width or y > height:
                raise OutcomeInvalid(
                    f"the point ({x:g}, {y:g}) of {self.request_id!r} lies outside of the frame,"
                    f" {width} x {height} pixels"
                )


def _point(value: Any) -> tuple[float, float]:  # noqa: ANN401  # whatever a robot's program gives
    try:
        x, y = (float(one) for one in value)
    except (TypeError, ValueError) as error:
        raise OutcomeInvalid(f"point must be (x, y) in pixels of the frame, got {value!r}") from error
    if not (0 <= x <= MAX_PIXEL and 0 <= y <= MAX_PIXEL) or math.isnan(x + y):
        raise OutcomeInvalid(f"point must be (x, y) in pixels of the frame, got {value!r}")
    return x, y


class OutcomeReporter:
    """Buffers outcomes and delivers them from a thread of its own. Thread-safe; one per process is enough."""

    def __init__(self, send: Send, *, capacity: int = 10_000, flush_every_s: float = 1.0) -> None:
        """At `capacity` the oldest outcome is dropped (and counted) for the newest: a pick never waits."""
        self._send = send
        self._waiting: deque[Outcome] = deque()
        self._capacity = capacity
        self._every = flush_every_s
        self._changed = threading.Condition()
        self._closing = False
        self._in_flight = 0
        self.dropped = 0
        """Outcomes that were pushed out of a full buffer, or that the hub refused."""
        self._thread = threading.Thread(target=self._run, name="outcomes", daemon=True)
        self._thread.start()
        # A daemon thread ends with the interpreter whatever it still holds, so what is left is sent before that.
        atexit.register(self.close)

    @property
    def waiting(self) -> int:
        """How many outcomes are not delivered yet."""
        with self._changed:
            return len(self._waiting) + self._in_flight

    def report(self, outcome: Outcome) -> None:
        """Take an outcome; returns at once, whatever the hub does."""
        with self._changed:
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(outcome)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until all is delivered; False if that took longer."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._changed.notify_all()
            while self._waiting or self._in_flight:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.05))
        return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what is left, for at most `timeout_s`, and end the thread. Twice is fine."""
        atexit.unregister(self.close)
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        left = self.waiting
        if left:
            log.warning("%d outcomes could not be delivered to the hub", left)

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                if not self._closing or pause:
                    # While closing, only a failed delivery pauses: what is left has to leave soon.
                    self._changed.wait(pause if pause else self._every)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
                self._in_flight = len(batch)
                if not batch and self._closing:
                    return
            if not batch:
                continue
            delivered = self._deliver(batch)
            with self._changed:
                self._in_flight = 0
                if delivered:
                    pause = 0.0
                else:
                    pause = min(max(pause * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
                    room = self._capacity - len(self._waiting)
                    self.dropped += max(len(batch) - room, 0)
                    self._waiting.extendleft(reversed(batch[-room:] if room else []))
                self._changed.notify_all()

    def _deliver(self, batch: Sequence[Outcome]) -> bool:
        try:
            self._sift(batch)
        except Exception as error:
            log.warning("outcomes wait for the hub: %s", error)
            return False
        return True

    def _sift(self, batch: Sequence[Outcome]) -> None:
        """Send a batch. A hub refuses it as a whole for one outcome that it cannot take: the halves of what was
        refused are sent again, so that the others are not lost with it."""
        waiting, sends = [batch], 0
        while waiting:
            part = waiting.pop()
            sends += 1
            if self._send([outcome.row() for outcome in part]):
                continue
            if len(part) > 1 and sends < MAX_SENDS:
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
            else:
                log.error("the hub refused %d outcomes; they are dropped", len(part))
                self.dropped += len(part)


def hub_sender(url: str, token: str, *, timeout_s: float = 5.0) -> Send:
    """Sends batches to the hub at `url` with a robot's token. A refusal that will not change is False."""
    import httpx  # only robots that report outcomes need it

    client = httpx.Client(base_url=url.rstrip("/"), timeout=timeout_s, headers={"Authorization": f"Bearer {token}"})

    def send(batch: Sequence[Mapping[str, Any]]) -> bool:
        body = json.dumps({"outcomes": list(batch)}).encode()
        answer = client.post("/api/v1/outcomes", content=body, headers={"Content-Type": "application/json"})
        if answer.status_code in (408, 425, 429) or answer.status_code >= 500:
            answer.raise_for_status()
        if answer.is_error:
            log.error("the hub answered %d: %s", answer.status_code, answer.text[:300])
        return not answer.is_error

    return send
