"""The week: what is planted, how its robots pick, its page; and a tiny one with everything real."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fleet.week import run_week
from benchmarks.fleet.week_diary import QUICK, Diary, Size
from benchmarks.fleet.week_report import summary, write_report
from benchmarks.fleet.week_world import BAG, CellWorld, Planted, picks_of
from serving.errors import ServingError
from serving.instances import Instances
from serving.triton.installation import Installation

NAMES = tuple(f"cell-{k + 1}" for k in range(8))


def triton_is_here() -> bool:
    try:
        Installation.find()
    except (ServingError, OSError):
        return False
    return True


def test_what_is_planted_follows_from_the_seed() -> None:
    one = Planted.of(1, NAMES, 7)
    assert one == Planted.of(1, NAMES, 7) != Planted.of(2, NAMES, 7)
    assert (one.shift, len(one.novel), len(one.faults), len(one.drift)) == (2, 3, 2, 2)
    assert one.bad_deck not in one.novel
    small = Planted.of(1, NAMES[:2], 2)
    assert small.shift == 1 and len(small.novel) == 1 and small.bad_deck in NAMES[:2]


def test_the_new_bag_comes_with_the_shift_and_the_truth_is_known() -> None:
    planted = Planted(1, frozenset({"cell-1"}), "cell-2", {}, frozenset())
    world = CellWorld.of("cell-1", 5, planted, 96)
    again = CellWorld.of("cell-1", 5, planted, 96)
    frames = [world.frame(day, 0.5) for day in (0, 0, 1, 1, 1, 1, 1, 1)]
    assert [one.data for one in frames] == [again.frame(day, 0.5).data for day in (0, 0, 1, 1, 1, 1, 1, 1)]
    for one in frames:
        assert world.truth(one.data) is one.truth
    assert world.truth(b"another") is None
    bags = sum(one.truth.labels.count(BAG) for one in frames[2:])
    assert bags > sum(one.truth.labels.count(BAG) for one in frames[:2])


def test_a_robot_with_the_truth_picks_better_than_one_with_nothing() -> None:
    planted = Planted(9, frozenset(), "", {}, frozenset())
    world, rng = CellWorld.of("cell-1", 7, planted, 96), np.random.default_rng(0)
    frames = [world.frame(0, 0.5) for _ in range(20)]
    right = [pick for one in frames for pick in picks_of(one, one.truth, rng)]
    assert sum(pick.success for pick in right) / len(right) > 0.75
    none = Instances.empty(96, 96)
    blind = [pick for one in frames for pick in picks_of(one, none, rng)]
    assert blind and not any(pick.success for pick in blind) and {pick.instance for pick in blind} == {None}
    shifted = [
        pick
        for one in frames
        for pick in picks_of(one, Instances.from_masks(np.roll(one.truth.decode_masks(), 40, 2), one.truth.labels), rng)
    ]
    assert sum(pick.success for pick in shifted) / len(shifted) < 0.4


def test_the_page_says_what_the_diary_has(tmp_path: Path) -> None:
    planted = Planted(1, frozenset({"cell-1"}), "cell-2", {}, frozenset())
    diary = Diary(3, replace(QUICK, cells=2, days=3), planted)
    diary.rates = {"cell-1": [(18, 20), (10, 20), (18, 20)], "cell-2": [(16, 20), (16, 20), (0, 0)]}
    diary.labels = {"cell-1": [0, 4, 2], "cell-2": [0, 0, 0]}
    diary.note(1, "cell-1", "promotion", "cell-1@v2 was promoted to fleet", tone="good")
    diary.note(1, "cell-1", "promotion", "cell-1@v2 was promoted to beta", tone="good")
    diary.note(2, "cell-2", "rollback", "v2 was rolled back: <v1> serves the fleet again", "2 of 9", "warn")
    found = summary(diary)
    assert found["cells"]["cell-1"] == {"before": 0.9, "worst": 0.5, "last": 0.9, "back": True}
    assert found["cells"]["cell-2"]["last"] == 0.8 and found["back"] == 2
    assert (found["labels"], found["counts"]["promotion"], found["counts"]["rollback"], found["asked"]) == (6, 1, 1, 2)
    page = write_report(diary, tmp_path).read_text()
    assert "cell-1 (new bag)" in page and "&lt;v1&gt; serves" in page and "<v1>" not in page
    assert json.loads((tmp_path / "week.json").read_text())["summary"]["back"] == 2


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not triton_is_here(), reason="Triton is not installed here")
@pytest.mark.nightly
def test_a_tiny_week_on_a_real_hub_with_real_triton(tmp_path: Path) -> None:
    from tests.e2e.test_growth import write_small_base

    size = Size(cells=2, days=2, frames=3, labels=8, first=8, least=4, minutes=0.05, picture=96, wait_s=900.0)
    diary = run_week(size, 1, tmp_path / "out", base=write_small_base(tmp_path / "base"))
    assert diary.problems == []
    assert all(len(days) == 2 for days in diary.rates.values())
    assert sum(map(sum, diary.labels.values())) > 0, "the queues asked, and a person answered"
    assert {"planted", "training"} <= {one["kind"] for one in diary.steps}
    assert any(one["kind"] == "refresh" for one in diary.steps), "the rule saw the labels or the planted deck"
    page = (tmp_path / "out" / "week.html").read_text()
    assert "A shift week, seed 1" in page and "cell-2" in page
