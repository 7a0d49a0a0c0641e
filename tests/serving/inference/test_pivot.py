"""Scores with the pivot at one half: order, bounds, floors, and what a folder may say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.inference.score_calibration import EVEN, LEAST, answered, checked, network_floor

pivots = st.floats(0.01, 0.99)
shares = st.floats(0, 1)


def one(score, pivot):
    return float(answered(np.array([score], np.float32), pivot)[0])


@settings(deadline=None)
@given(pivots)
def test_the_pivot_becomes_a_half_and_the_ends_stay(pivot):
    assert one(pivot, pivot) == pytest.approx(0.5, abs=1e-4)
    assert one(0.0, pivot) == 0.0
    assert one(1.0, pivot) == 1.0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30), pivots)
def test_the_order_of_scores_stays(scores, pivot):
    before = np.sort(np.array(scores, np.float32))
    after = answered(before, pivot)
    assert after.dtype == np.float32
    assert (np.diff(after) >= 0).all()
    assert after.min() >= 0
    assert after.max() <= 1


@settings(deadline=None)
@given(shares, pivots)
def test_a_floor_keeps_what_is_answered_above_it(asked, pivot):
    least = network_floor(asked, pivot)
    assert 0 <= least <= 1
    assert one(least, pivot) >= asked - 1e-4
    if asked > LEAST and least > LEAST:
        assert one(least, pivot) == pytest.approx(asked, abs=1e-4), "and nothing more is left out"
    if pivot < EVEN:
        assert least >= min(asked, LEAST), "a low pivot does not let noise in"


@settings(deadline=None)
@given(shares)
def test_an_even_pivot_changes_nothing(score):
    assert one(score, EVEN) == np.float32(score)
    assert network_floor(score, EVEN) == score


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, float("nan"), True, "0.5", None, [0.5]])
def test_no_pivot(value):
    with pytest.raises(ValueError, match="score_pivot"):
        checked(value)
