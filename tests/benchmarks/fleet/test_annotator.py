"""The annotator of the clicks: poor proposals are put aside, good ones are not, and nothing is dearer than drawing."""

from __future__ import annotations

import numpy as np

from benchmarks.fleet.annotator import label
from serving.instances import Instances


def _boxes(places: list[tuple[int, int, int, int]], scores: list[float] | None = None) -> Instances:
    masks = np.zeros((len(places), 100, 120), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, places, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances.from_masks(masks, ["box"] * len(places), scores or [1.0] * len(places))


TRUTH = [(5, 5, 40, 45), (50, 10, 90, 40), (10, 60, 60, 95)]
NONE = _boxes([])


def test_good_proposals_stay_and_cost_nothing() -> None:
    scratch, cost = label(_boxes(TRUTH), _boxes(TRUTH, [0.55, 0.6, 0.9]), NONE)
    assert (cost.clicks, cost.keys, cost.good) == (1, 0, 3)
    assert scratch.clicks == 1 + 3 * 5


def test_many_wrong_answers_are_put_aside_with_a_key_and_not_deleted_one_by_one() -> None:
    wrong = [(x, y, x + 9, y + 9) for x in range(0, 110, 11) for y in range(0, 90, 11)]
    scratch, cost = label(_boxes(TRUTH), _boxes(wrong, [0.52] * len(wrong)), NONE)
    assert (cost.clicks, cost.false) == (scratch.clicks, 0) and cost.keys == 1
    _, before = label(_boxes(TRUTH), _boxes(wrong, [0.52] * len(wrong)))
    assert before.clicks > scratch.clicks, "without the key each of them is a click"


def test_only_the_less_sure_ones_go_and_what_goes_comes_back_by_a_click() -> None:
    wrong = [(x, 46, x + 9, 55) for x in range(0, 110, 10)]
    proposed = _boxes([*TRUTH, *wrong], [0.95, 0.92, 0.58, *[0.55] * len(wrong)])
    _, cost = label(_boxes(TRUTH), proposed, NONE)
    assert (cost.clicks, cost.keys) == (2, 1)
    assert (cost.good, cost.offers, cost.false) == (2, 1, 0)
