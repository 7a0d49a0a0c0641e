from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from serving.errors import OutcomeInvalid
from serving.robot.outcomes import MAX_BATCH, Outcome, OutcomeReporter


def outcome(number: int) -> Outcome:
    return Outcome(f"r{number}", "success", 1_700_000_000.0 + number)


class Hub:
    """Takes batches; away, refusing or slow when told so."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.batches: list[int] = []
        self.away = False
        self.refuses = False
        self.open = threading.Event()
        self.open.set()

    def send(self, batch: Sequence[Mapping[str, Any]]) -> bool:
        self.open.wait(10)
        if self.away:
            raise ConnectionError("nobody there")
        self.batches.append(len(batch))
        if self.refuses:
            return False
        self.got += [one["request_id"] for one in batch]
        return True


def test_outcomes_arrive_in_order_and_in_batches() -> None:
    hub = Hub()
    reporter = OutcomeReporter(hub.send, flush_every_s=0.02)
    for number in range(1200):
        reporter.report(outcome(number))
    assert reporter.flush()
    assert hub.got == [f"r{number}" for number in range(1200)]
    assert max(hub.batches) <= MAX_BATCH
    reporter.close()


def test_a_hub_that_is_away_costs_nothing_but_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.robot.outcomes._FIRST_PAUSE_S", 0.02)
    hub = Hub()
    hub.away = True
    reporter = OutcomeReporter(hub.send, flush_every_s=0.01)
    for number in range(5):
        reporter.report(outcome(number))
    assert not reporter.flush(0.1)
    assert reporter.waiting == 5
    hub.away = False
    assert reporter.flush(10)
    assert hub.got == [f"r{number}" for number in range(5)]
    assert reporter.dropped == 0
    reporter.close()


def test_a_full_buffer_drops_the_oldest_and_never_blocks() -> None:
    hub = Hub()
    hub.open.clear()
    reporter = OutcomeReporter(hub.send, capacity=10, flush_every_s=0.01)
    reporter.report(outcome(0))
    deadline = time.monotonic() + 5
    while reporter._in_flight == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for number in range(1, 26):
        reporter.report(outcome(number))
    assert reporter.dropped == 15
    hub.open.set()
    assert reporter.flush()
    assert hub.got == ["r0", *(f"r{number}" for number in range(16, 26))]
    reporter.close()


def test_a_refused_batch_is_not_sent_for_ever() -> None:
    hub = Hub()
    hub.refuses = True
    reporter = OutcomeReporter(hub.send, flush_every_s=0.01)
    reporter.report(outcome(1))
    assert reporter.flush()
    assert (reporter.dropped, hub.batches) == (1, [1])
    reporter.close()


def test_what_is_left_leaves_when_the_process_ends() -> None:
    code = """
import sys
from serving.robot.outcomes import Outcome, OutcomeReporter
reporter = OutcomeReporter(lambda batch: bool(print(len(batch), flush=True)) or True, flush_every_s=60)
for number in range(7):
    reporter.report(Outcome(f"r{number}", "drop", 1.7e9))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "7\n"


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_id": ""},
        {"request_id": "a b"},
        {"request_id": "x" * 201},
        {"outcome": "fine"},
        {"picked_at": 0.0},
        {"picked_at": float("nan")},
        {"label": "x" * 201},
        {"cell": 3},
    ],
)
def test_a_malformed_outcome_is_told_to_the_robot_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(OutcomeInvalid):
        Outcome(**{"request_id": "r", "outcome": "miss", "picked_at": 1.7e9} | wrong)
