from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from serving.errors import OutcomeInvalid
from serving.instances import Instances
from serving.robot.client import Picked, outcome_of
from serving.robot.outcomes import MAX_BATCH, MAX_SENDS, Outcome, OutcomeReporter
from serving.robot.wire import Answer, Ask, Memory


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
    deadline = time.monotonic() + 60
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"instance": -1},
        {"instance": True},
        {"instance": 1.5},
        {"instance": "0"},
        {"instance": 10**9},
        {"point": (float("nan"), 1.0)},
        {"point": (float("inf"), 1.0)},
        {"point": (-0.5, 1.0)},
        {"point": (1.0,)},
        {"point": (1.0, 2.0, 3.0)},
        {"point": "no"},
        {"point": 3},
        {"gripper": "x" * 201},
        {"gripper": 7},
    ],
)
def test_a_pick_that_cannot_be_is_told_to_the_robot_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(OutcomeInvalid):
        Outcome("r", "miss", 1.7e9, **wrong)


def test_a_row_is_json_and_says_nothing_new_to_an_old_hub() -> None:
    plain = Outcome("r", "miss", 1.7e9).row()
    assert not plain.keys() & {"instance", "point", "gripper"}
    said = Outcome("r", "miss", 1.7e9, instance=np.int64(3), point=(np.float32(1.5), 2), gripper="cup").row()  # type: ignore[arg-type]
    assert json.loads(json.dumps(said)) == plain | {"instance": 3, "point": [1.5, 2.0], "gripper": "cup"}


def test_a_claim_is_compared_with_the_answer_that_the_client_remembers() -> None:
    memory = Memory()
    found = Instances.from_masks(np.ones((2, 20, 30), np.bool_), ["box", "box"])
    answer = Answer(found, "base/universal@v1", "q", 0.01)
    memory.note(Ask(cell="dock-7"), answer)
    for about in (answer, "q"):
        made = outcome_of(memory, about, "miss", None, None, Picked(1, (30.0, 20.0), "cup"))
        assert (made.instance, made.point, made.gripper, made.cell) == (1, (30.0, 20.0), "cup", "dock-7")
        for picked in (Picked(2, None, None), Picked(0, (31.0, 5.0), None), Picked(None, (5.0, 20.5), None)):
            with pytest.raises(OutcomeInvalid):
                outcome_of(memory, about, "miss", None, None, picked)
    assert outcome_of(memory, "forgotten", "miss", None, None, Picked(99, None, None)).instance == 99


def test_of_a_refused_batch_only_what_is_at_fault_is_lost() -> None:
    got: list[str] = []

    def send(batch: Sequence[Mapping[str, Any]]) -> bool:
        ids = [one["request_id"] for one in batch]
        if {"r17", "r303"} & set(ids):
            return False
        got.extend(ids)
        return True

    reporter = OutcomeReporter(send, flush_every_s=60)
    for number in range(400):
        reporter.report(outcome(number))
    reporter.close()
    assert got == [f"r{number}" for number in range(400) if number not in (17, 303)]
    assert reporter.dropped == 2


def test_a_hub_that_refuses_all_is_not_asked_without_end() -> None:
    hub = Hub()
    hub.refuses = True
    reporter = OutcomeReporter(hub.send, flush_every_s=60)
    for number in range(MAX_BATCH):
        reporter.report(outcome(number))
    reporter.close()
    assert len(hub.batches) <= MAX_SENDS * 2
    assert reporter.dropped == MAX_BATCH
