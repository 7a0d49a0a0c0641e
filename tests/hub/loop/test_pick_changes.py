"""Picks that begin to fail make the hub ask the site for a sample; picks that go on as before do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hub.loop.pick_changes import AT_ONCE, PickChanges


def outcomes(rates: list[tuple[float, int]], cell: str, seed: int = 0) -> list[tuple[float, str, str, bool]]:
    rng = np.random.default_rng(seed)
    failed = np.concatenate([rng.random(count) < rate for rate, count in rates])
    return [(1000.0 + k, f"{cell}-{k}", cell, not bool(one)) for k, one in enumerate(failed)]


def changes(rows: list[tuple[float, str, str, bool]], folder: Path) -> int:
    rows.sort()
    watched = PickChanges(lambda since, limit: [row for row in rows if row[0] > since][:limit], folder, since=0.0)
    found = 0
    for _ in range(len(rows) // AT_ONCE + 2):
        found += watched.take_up()
    return found


def test_failures_that_become_frequent_are_asked_about_and_steady_ones_not(tmp_path: Path) -> None:
    rows = outcomes([(0.03, 3000), (0.15, 700)], "worse") + outcomes([(0.15, 3700)], "always bad", 1)
    assert changes(rows, tmp_path) >= 1
    wishes = [json.loads(path.read_text()) for path in (tmp_path / "wishes").iterdir()]
    assert {one["cell"] for one in wishes} == {"worse"} and wishes[0]["reason"] == "failed_picks"
    succeeded = {row[1] for row in rows if row[3]}
    assert wishes[0]["requests"] and not succeeded & set(wishes[0]["requests"])


def test_an_outcome_counts_once(tmp_path: Path) -> None:
    rows = outcomes([(0.02, 500)], "dock-7")
    asked: list[float] = []

    def arrived(since: float, limit: int) -> list[tuple[float, str, str, bool]]:
        asked.append(since)
        return [row for row in rows if row[0] > since][:limit]

    watched = PickChanges(arrived, tmp_path, since=0.0)
    watched.take_up()
    watched.take_up()
    assert asked == [0.0, rows[-1][0]]
