"""Promotions and rollbacks through the hub while robots ask, and every part killed or frozen in turn."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]

from benchmarks.hub.operated import MOVING, START_SECONDS, STEADY, Operated, wait_for
from benchmarks.serving.load import quantile
from benchmarks.serving.robots import History, RobotRequest, Robots
from benchmarks.serving.scenarios import frames
from hub.errors import HubError, StackError
from serving.errors import ClientError
from serving.robot.client import RobotClient

VISIBLE_S: Final = 1.0
"""How soon a promotion has to be seen by robots."""
_GIVE_UP_S: Final = 60.0
_PATIENCE_S: Final = 60.0
Say = Callable[[str], None]


@dataclass(slots=True)
class RolloutResult:
    """What came of the cycles, each a promotion and a rollback.

    `visible` are seconds from the hub's answer to the first answer of the new variant that the robot then got,
    `asked_to_visible` from the call to the hub on. `late` answers were by a variant whose second was over when the
    request left; `never_routed` ones by a variant that the cell never had.
    """

    cycles: int = 0
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    never_routed: list[str] = field(default_factory=list)
    late: int = 0
    unseen: int = 0
    served: Counter[str] = field(default_factory=Counter)
    visible: list[float] = field(default_factory=list)
    asked_to_visible: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether nobody failed, and nobody was answered by what was never routed."""
        return not (self.failed or self.never_routed or self.unseen)

    def figures(self) -> dict[str, Any]:
        """For a report; times in milliseconds."""
        return {
            "cycles": self.cycles,
            "requests": self.requests,
            "seconds": round(self.seconds, 1),
            "failed_requests": len(self.failed),
            "first_failures": self.failed[:5],
            "answers_never_routed": len(self.never_routed),
            "first_never_routed": self.never_routed[:5],
            "late_answers": self.late,
            "changes_never_seen": self.unseen,
            "served": dict(self.served),
            "visible_ms": _spread(self.visible),
            "asked_to_visible_ms": _spread(self.asked_to_visible),
        }


def run_rollout(
    folder: Path, base: Path, *, cycles: int, robots: int = 3, report: Callable[[int], None] = lambda _: None
) -> RolloutResult:
    """Promote v2 of one cell and roll it back, so many times, through the hub's API while robots of two cells ask."""
    found = RolloutResult()
    with Operated(folder, base) as stack:
        url, frame = stack.settings.triton_grpc, frames(1, (240, 320))[0]
        name = stack.client.routing()["base"]
        served = {version: f"{MOVING}@{version} on base/{name}" for version in ("v1", "v2")}
        history = History(served["v1"], grace_s=VISIBLE_S)
        cells = [STEADY if number % 3 == 2 else MOVING for number in range(robots)]
        with (
            RobotClient(url, cell=MOVING, robot="probe", timeout_s=_PATIENCE_S) as probe,
            Robots(url, cells, frame, timeout_s=_PATIENCE_S) as load,
        ):
            # What follows must not count the wait for the variants to be read.
            wait_for(lambda: probe.segment(frame).served_by == served["v1"], lambda: None)
            started = time.monotonic()
            for cycle in range(cycles):
                for version in ("v2", "v1"):
                    _change(stack, version, served, probe, frame, history, found)
                found.cycles = cycle + 1
                report(cycle + 1)
            found.seconds = time.monotonic() - started
        _judge(load.asked, history, f"{STEADY}@v1 on base/{name}", found)
    return found


def _change(
    stack: Operated,
    version: str,
    served: dict[str, str],
    probe: RobotClient,
    frame: bytes,
    history: History,
    found: RolloutResult,
) -> None:
    asked = time.monotonic()
    moved = stack.client.promote(f"{MOVING}@{version}") if version == "v2" else stack.client.rollback(MOVING)
    confirmed = time.monotonic()
    if moved.version != f"{MOVING}@{version}":
        raise StackError(f"the hub says that {moved.version} is at fleet now, {MOVING}@{version} was wanted")
    history.changed(served[version], asked, confirmed)
    while time.monotonic() - confirmed < _GIVE_UP_S:
        try:
            answer = probe.segment(frame).served_by
        except ClientError as error:
            found.failed.append(f"the probe: {type(error).__name__}: {error}")
            continue
        if answer == served[version]:
            now = time.monotonic()
            found.visible.append(now - confirmed)
            found.asked_to_visible.append(now - asked)
            return
    found.unseen += 1


def _judge(asked: Sequence[RobotRequest], history: History, steady: str, found: RolloutResult) -> None:
    own = History(steady)
    for one in asked:
        found.requests += 1
        if one.error is not None:
            found.failed.append(f"{one.cell}: {one.error}")
            continue
        found.served[str(one.served_by)] += 1
        verdict = (own if one.cell == STEADY else history).judge(one)
        if verdict == "never":
            found.never_routed.append(f"{one.cell}: {one.served_by}")
        elif verdict == "late":
            found.late += 1


# --- kills ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to one process: `hub`, `tritonserver` or the Python stub, by a kill or by a freeze."""

    name: str
    process: str
    signal: int


FAULTS: Final = (
    Fault("stub killed", "triton_python_backend_stub", signal.SIGKILL),
    Fault("stub frozen", "triton_python_backend_stub", signal.SIGSTOP),
    Fault("server killed", "tritonserver", signal.SIGKILL),
    Fault("server frozen", "tritonserver", signal.SIGSTOP),
    Fault("hub killed", "hub", signal.SIGKILL),
)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one fault did. Seconds: until Triton was ready again, from then until each robot had an answer, and the
    longest that any robot went without one. Robots whose frames ran out of time are in `lost`.
    """

    fault: str
    ready_after: float
    recovered_after: float
    longest_gap: float
    lost: int
    errors: dict[str, int]

    def figures(self) -> dict[str, Any]:
        """For a report."""
        return {
            "fault": self.fault,
            "ready_after_s": round(self.ready_after, 2),
            "recovered_after_s": round(self.recovered_after, 2),
            "longest_gap_s": round(self.longest_gap, 2),
            "lost_frames": self.lost,
            "errors": self.errors,
        }


def run_faults(
    folder: Path,
    base: Path,
    *,
    rounds: int = 1,
    robots: int = 3,
    timeout_s: float = 2.0,
    faults: Sequence[Fault] = FAULTS,
    say: Say = lambda _: None,
) -> list[Recovery]:
    """Do each fault in turn, under load, and wait until every robot is answered again; StackError if one is not."""
    found = []
    with Operated(folder, base) as stack:
        url, frame = stack.settings.triton_grpc, frames(1, (240, 320))[0]
        for _ in range(rounds):
            for fault in faults:
                with Robots(url, [MOVING, STEADY] * (robots // 2) + [MOVING] * (robots % 2), frame,
                            timeout_s=timeout_s) as load:  # fmt: skip
                    begun = time.monotonic()
                    wait_for(lambda load=load, begun=begun: load.answered_since(begun), lambda: None)  # type: ignore[misc]
                    struck = time.monotonic()
                    ready = _strike(stack, fault)
                    wait_for(lambda load=load, ready=ready: load.answered_since(ready), lambda: None)  # type: ignore[misc]
                    done = load.asked
                    if fault.process == "hub":
                        stack.start_hub()
                found.append(_recovery(fault, struck, ready, done))
                say(f"{fault.name}: ready after {found[-1].ready_after:.1f} s, "
                    f"robots {found[-1].recovered_after:.1f} s later")  # fmt: skip
    return found


def _strike(stack: Operated, fault: Fault) -> float:
    """Do it, and return when Triton is ready again (it has to stop being so first, but for the hub)."""
    if fault.process == "hub":
        stack.kill_hub()
        try:
            stack.client.health()
        except HubError:
            return time.monotonic()
        raise StackError("the hub answers after it was killed")
    victim = stack.process(fault.process)
    if victim is None:
        raise StackError(f"there is no process {fault.process}")
    victim.send_signal(fault.signal)
    wait_for(lambda: _other(stack, fault, victim) and stack.ready(), lambda: None, START_SECONDS)
    return time.monotonic()


def _other(stack: Operated, fault: Fault, victim: psutil.Process) -> bool:
    now = stack.process(fault.process)
    return now is not None and now.pid != victim.pid


def _recovery(fault: Fault, struck: float, ready: float, asked: Sequence[RobotRequest]) -> Recovery:
    robots = {one.robot for one in asked}
    first, gaps = [], []
    errors: Counter[str] = Counter()
    for robot in robots:
        answers = [one for one in asked if one.robot == robot and one.error is None]
        after = [one.ended for one in answers if one.ended > ready]
        first.append(after[0] - ready)
        ends = [one.ended for one in answers if one.ended >= struck - _GIVE_UP_S]
        gaps += [late - early for early, late in pairwise(ends) if late >= struck]
    for one in asked:
        if one.error is not None and one.ended >= struck:
            errors[one.error.partition(":")[0]] += 1
    return Recovery(fault.name, ready - struck, max(first), max(gaps), sum(errors.values()), dict(errors))


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "p50": round(1000 * quantile(seconds, 0.5), 1),
        "p99": round(1000 * quantile(seconds, 0.99), 1),
        "max": round(1000 * max(seconds, default=0.0), 1),
    }
