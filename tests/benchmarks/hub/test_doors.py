"""`parcelhub bench doors`: wrong requests at a real hub, which another team never feels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.hub.door_requests import DoorFuzzer, Sender
from hub.cli.main import run
from tests.scale import scaled

SENDER = Sender("http://h", "t", "x", "c=1", "f" * 64, {"namespace": ("acme",), "name": ("d",)})


def test_a_seed_makes_the_same_requests_and_reaches_every_kind_of_door() -> None:
    one, other = (DoorFuzzer(SENDER, {}, 5) for _ in range(2))
    made = [one.make() for _ in range(600)]
    assert made == [other.make() for _ in range(600)]
    targets = [target for _, _, target, _, _ in made]
    for door in ("/api/v1/", "/api/", "/ui/", "/xet/"):
        assert any(target.startswith(door) for target in targets)
    assert all(target.isascii() and " " not in target for target in targets)
    assert len({body for _, _, _, body, _ in made}) > 100


@pytest.mark.slow
def test_nothing_leaves_its_tenant(tmp_path: Path) -> None:
    target = tmp_path / "doors.json"
    words = ["bench", "doors", "--requests", str(scaled(250, 5000)), "--clients", "1", "--json", str(target)]
    assert run(words) == 0
    found = json.loads(target.read_text())
    assert (found["failed"], found["tracebacks"], found["others_hurt"]) == ({}, 0, [])
    assert found["others_asked"] >= 1
    assert len(found["statuses"]) > 4, "not everything is refused at the first guard"
