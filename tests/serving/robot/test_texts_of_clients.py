"""What a client says by itself fills no memory and no disk: names that lead nowhere are not kept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from serving.folder.routing import CellRoute, RoutingTable
from serving.inference.segmenter import Segmenter
from serving.instances import Instances
from serving.robot.wire import Answer, Ask, Memory
from serving.triton.queries import Query
from serving.triton.state import State

TABLE = RoutingTable(1, "universal@v1", {"dock-7": CellRoute(fleet="dock-7@v1")})


def state() -> State:
    segmenter = SimpleNamespace(has_variant=lambda name: name == "dock-7@v0")
    return State(TABLE, TABLE, cast(Segmenter, segmenter))


def test_of_a_refused_request_only_names_that_lead_somewhere_are_noted() -> None:
    def known(*, heard: bool = True, **said: Any) -> tuple[str | None, ...]:
        found = state().known(Query(b"", **said), heard=heard)
        return found.cell, found.variant, found.line, found.robot

    told = {"line": "l", "robot": "r"}
    assert known(cell="dock-7", **told) == ("dock-7", None, "l", "r")
    assert known(variant="dock-7@v1", **told) == (None, "dock-7@v1", "l", "r")
    assert known(variant="dock-7@v0", **told) == (None, "dock-7@v0", "l", "r")
    for cell in (None, "x" * 200):
        assert known(cell=cell, **told) == (None, None, None, None)
    assert known(variant="x@v1", **told) == (None, None, None, None)
    assert known(cell="dock-7", heard=False, **told) == ("dock-7", None, None, None)


def test_a_client_remembers_so_many_places_and_no_more() -> None:
    """A program that asks for thousands of lines, or makes one up for each frame."""
    memory, none = Memory(), np.zeros((0, 4), np.float32)
    empty = Instances(4, 4, none, np.zeros(0, np.float32), (), ())
    for number in range(5000):
        answer = Answer(empty, "dock-7@v1 on base/universal@v1", f"id-{number}", 0.0)
        memory.note(Ask("dock-7", line=f"line-{number}"), answer)
        memory.note(Ask("dock-7", line="first"), answer)
    assert len(memory.last_good) <= 1000
    assert len(memory.recent) <= 1000
    assert memory.fallback_for(Ask("dock-7", line="first")) == "dock-7@v1", "whoever asks on is not forgotten"
    assert memory.fallback_for(Ask("dock-7", line="line-4999")) == "dock-7@v1"
    assert memory.fallback_for(Ask("dock-7", line="line-0")) is None
