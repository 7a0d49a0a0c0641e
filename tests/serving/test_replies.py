"""Responses that go out when their batch is over."""

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


def test_each_request_gets_its_own_response_in_order_and_closing_waits_for_the_last() -> None:
    sent: list[tuple[object, int]] = []
    replies = Replies()
    for first in range(0, 30, 3):
        replies.put([Line(sent) for _ in range(3)], list(range(first, first + 3)))
    replies.close()
    assert sent == [(number, FINAL) for number in range(30)]


def test_putting_does_not_wait_for_sending() -> None:
    sent: list[tuple[object, int]] = []
    held = threading.Event()

    class Slow(Line):
        def send(self, response: object, flags: int) -> None:
            held.wait(10)
            super().send(response, flags)

    replies = Replies()
    replies.put([Slow(sent)], ["a"])
    assert sent == []
    held.set()
    replies.close()
    assert sent == [("a", FINAL)]


def test_a_robot_that_went_away_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[tuple[object, int]] = []
    replies = Replies()
    replies.put([Line(sent), Line(sent, broken=True), Line(sent)], ["a", "b", "c"])
    replies.close()
    assert [response for response, _ in sent] == ["a", "c"]
    assert "could not be sent" in caplog.text
