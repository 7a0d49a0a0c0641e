"""Responses that go out beside the engine."""

from __future__ import annotations

import threading

import pytest

from serving.triton.replies import FINAL, Replies


class Line:
    """Takes responses as the stub's sender does; the one that is told to breaks."""

    def __init__(self, sent: list[tuple[object, int]], *, broken: bool = False) -> None:
        self._sent, self._broken = sent, broken

    def send(self, response: object, flags: int) -> None:
        if self._broken:
            raise RuntimeError("the robot is gone")
        self._sent.append((response, flags))

    def is_cancelled(self) -> bool:
        return self._broken


def test_each_request_gets_its_own_response_in_order_and_closing_waits_for_the_last() -> None:
    sent: list[tuple[object, int]] = []
    replies = Replies()
    for number in range(30):
        replies.put(Line(sent), lambda number=number: number)  # type: ignore[misc]
    replies.close()
    assert sent == [(number, FINAL) for number in range(30)]


def test_putting_waits_neither_for_packing_nor_for_sending() -> None:
    sent: list[tuple[object, int]] = []
    held = threading.Event()

    def slow() -> str:
        held.wait(10)
        return "a"

    replies = Replies()
    replies.put(Line(sent), slow)
    assert sent == []
    held.set()
    replies.close()
    assert sent == [("a", FINAL)]


def test_a_robot_that_went_away_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[tuple[object, int]] = []
    replies = Replies()
    for name, broken in (("a", False), ("b", True), ("c", False)):
        replies.put(Line(sent, broken=broken), lambda name=name: name)  # type: ignore[misc]
    replies.close()
    assert [response for response, _ in sent] == ["a", "c"]
    assert "could not be sent" in caplog.text
