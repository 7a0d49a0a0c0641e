"""Picks that begin to fail make the hub ask the site for a sample; picks that go on as before do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hub.loop.pick_changes import AT_ONCE, PickChanges
from serving.observed.state_files import read_state


def outcomes(rates: list[tuple[float, int]], cell: str, seed: int = 0) -> list[tuple[float, str, str, bool]]:
    rng = np.random.default_rng(seed)
    failed = np.concatenate([rng.random(count) < rate for rate, count in rates])
    return [(1000.0 + k, f"{cell}-{k}", cell, not bool(one)) for k, one in enumerate(failed)]


class Asked:
    """Who is asked: what the hub wished, by its id."""

    def __init__(self) -> None:
        self.wishes: dict[str, dict[str, object]] = {}

    def __call__(self, wish_id: str, cell: str, reason: str, since: float, requests: Sequence[str]) -> None:
        self.wishes[wish_id] = {"cell": cell, "reason": reason, "since": since, "requests": list(requests)}


def changes(rows: list[tuple[float, str, str, bool]], folder: Path, asked: Asked) -> int:
    rows.sort()
    watched = PickChanges(
        lambda since, limit: [row for row in rows if row[0] > since][:limit], folder, asked, since=0.0
    )
    found = 0
    for _ in range(len(rows) // AT_ONCE + 2):
        found += watched.take_up()
    return found


def test_failures_that_become_frequent_are_asked_about_and_steady_ones_not(tmp_path: Path) -> None:
    rows = outcomes([(0.03, 3000), (0.15, 700)], "worse") + outcomes([(0.15, 3700)], "always bad", 1)
    asked = Asked()
    assert changes(rows, tmp_path, asked) >= 1
    wishes = list(asked.wishes.values())
    assert {one["cell"] for one in wishes} == {"worse"} and wishes[0]["reason"] == "failed_picks"
    succeeded = {row[1] for row in rows if row[3]}
    requests = wishes[0]["requests"]
    assert isinstance(requests, list) and requests and not succeeded & set(requests)


def test_an_outcome_counts_once(tmp_path: Path) -> None:
    rows = outcomes([(0.02, 500)], "dock-7")
    asked: list[float] = []

    def arrived(since: float, limit: int) -> list[tuple[float, str, str, bool]]:
        asked.append(since)
        return [row for row in rows if row[0] > since][:limit]

    watched = PickChanges(arrived, tmp_path, Asked(), since=0.0)
    watched.take_up()
    watched.take_up()
    assert asked == [0.0, rows[-1][0]]


class Hub:
    """A hub that has outcomes up to a time; made anew for each start."""

    def __init__(self, rows: list[tuple[float, str, str, bool]], folder: Path) -> None:
        self.until = 0.0
        self.rows = rows
        self.asked = Asked()
        self.picks = PickChanges(self.arrived, folder, self.asked, since=0.0)

    def arrived(self, since: float, limit: int) -> list[tuple[float, str, str, bool]]:
        return [row for row in self.rows if since < row[0] <= self.until][:limit]

    def take_up(self, until: float) -> int:
        self.until = until
        return self.picks.take_up()


def test_a_restart_changes_nothing_of_what_is_noticed(tmp_path: Path) -> None:
    rows = outcomes([(0.03, 1500), (0.15, 700)], "worse")
    (whole,) = [Hub(rows, tmp_path / "one")]
    wanted = [whole.take_up(until) for until in (2400.0, 2600.0, 3200.0)]
    assert sum(wanted) >= 1
    found, again = [], set()
    for until in (2400.0, 2600.0, 3200.0):
        hub = Hub(rows, tmp_path / "two")  # its outcomes of before count, and none twice
        found.append(hub.take_up(until))
        hub.picks.close()
        again |= set(hub.asked.wishes)
    assert found == wanted
    assert again == set(whole.asked.wishes)


def test_a_hub_that_was_killed_takes_up_again_what_its_state_does_not_have(tmp_path: Path) -> None:
    rows = outcomes([(0.03, 1500), (0.15, 700)], "worse")
    first = Hub(rows, tmp_path)
    first.take_up(2400.0)
    first.picks.close()
    Hub(rows, tmp_path).take_up(2600.0)  # killed before it has saved
    last = Hub(rows, tmp_path)
    assert last.take_up(3200.0) >= 1


@pytest.mark.parametrize(
    "text",
    ["[", "{}", '{"format": 1, "since": "x", "cells": {}}', '{"format": 1, "since": 1, "cells": {"a": {}}}',
     '{"format": 1, "since": NaN, "cells": {}}', '{"format": 1, "since": 1, "cells": []}'],
)  # fmt: skip
def test_a_damaged_state_is_set_aside(tmp_path: Path, text: str) -> None:
    path = tmp_path / "observed" / "picks.json"
    path.parent.mkdir()
    path.write_text(text)
    rows = outcomes([(0.03, 1500), (0.15, 700)], "worse")
    assert Hub(rows, tmp_path).take_up(4000.0) >= 1
    assert path.with_name("picks.json.damaged").read_text() == text


def test_a_cell_that_goes_takes_its_history_along(tmp_path: Path) -> None:
    rows = outcomes([(0.03, 1500)], "gone") + outcomes([(0.03, 1500)], "stays", 1)
    hub = Hub(sorted(rows), tmp_path)
    hub.take_up(4000.0)
    hub.picks.close()
    hub.picks.forget("gone")
    assert set(read_state(tmp_path / "observed" / "picks.json")["cells"]) == {"stays"}  # type: ignore[index]
