"""The comparison of ranking rules: what it makes of answers, and what it says of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.fleet import rankings
from benchmarks.fleet.rankings import Cell, Picture, _again, _gains, _kept, _novelty, judged, verdict
from hub.loop.labelling.rank import Candidate
from serving.instances import Instances


def _row(cell: str, rule: str, ap: float, over: float) -> dict[str, object]:
    return {"cell": cell, "labels": 8, "rule": rule, "ap": ap, "over_random": over}


def test_the_best_rule_and_the_flips_are_told() -> None:
    rows = [
        _row("a", "doubt", 0.5, 0.1), _row("a", "random", 0.4, 0.0), _row("a", "gain", 0.45, 0.05),
        _row("b", "doubt", 0.5, -0.1), _row("b", "random", 0.6, 0.0), _row("b", "gain", 0.65, 0.05),
    ]  # fmt: skip
    said = verdict(rows)
    assert said["best"] == "gain" and said["mean_over_random"] == {"doubt": 0.0, "random": 0.0, "gain": 0.05}
    assert said["flips"] == ["doubt and gain: 1 of 2 for doubt", "doubt and random: 1 of 2 for doubt"]


def test_answers_are_judged_and_differences_drawn_over_seeds_and_pictures() -> None:
    masks = np.zeros((2, 40, 50), bool)
    masks[0, 5:20, 5:25] = masks[1, 22:38, 10:40] = True
    truth = Instances.from_masks(masks, ["box", "bag"])
    pictures = [Picture(str(k), np.zeros((40, 50, 3), np.uint8), truth) for k in range(4)]
    right = [Instances.from_masks(masks, [rankings.ANY] * 2, [0.9, 0.8])] * 4
    half = [Instances.from_masks(masks[:1], [rankings.ANY], [0.9])] * 4
    best, worse = (judged(Cell("c", (), (), pictures), answers) for answers in (right, half))
    assert best.shape == (rankings.RESAMPLES + 1, 3) and best[0, 0] > 0.99 > 0.6 > worse[0, 0] > 0.4
    apart = _again(np.stack([(best - worse)[1:, 0]] * 2))
    assert apart.shape == (rankings.RESAMPLES,) and apart.min() > 0.4


def test_what_is_strange_or_fails_becomes_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    usual, one, other = (rng.normal(middle, 0.1, (count, 8)) for middle, count in ((0, 20), (5, 6), (-5, 6)))
    rows = np.concatenate([usual, one, other]).astype(np.float32)
    novelty = _novelty(rows, usual[:10].astype(np.float32), same=False)
    assert novelty[20:].min() > novelty[:20].max()
    gains = _gains(rows, novelty, [0] * 20 + [1] * 6 + [3] * 6)
    assert gains[:20] == [None] * 20
    assert gains[20:] == [6 / 32 / 6] * 6 + [18 / 32 / 6] * 6, "failed picks of an event, shared among its pictures"
    assert all(_gains(rows[:26], novelty[:26], [0] * 20 + [1] * 6)[20:]), "one kind alone is an event, too"
    assert np.isfinite(_novelty(rows, rows, same=True)).all()
    made = [Candidate("a", 0.5, "g", None, "00ff00ff00ff00ff", 0.2)]
    assert _kept(tmp_path / "k.json", lambda: made) == _kept(tmp_path / "k.json", lambda: []) == made
