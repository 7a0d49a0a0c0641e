"""Doubt by other looks at a frame: masks that move, classes that change, packages that the answer has nothing of."""

from __future__ import annotations

import numpy as np
import pytest

from serving.instances import Instances
from serving.observed.doubt import by_scores, doubt_of
from serving.observed.second_looks import Look
from tests.serving.observed.test_failures import BOTH, LEFT, RIGHT, SHAPE, found


def looks(*answers: Instances, again: bool = True) -> list[Look]:
    return [Look("look", one, again) for one in answers]


def test_what_stays_is_in_no_doubt() -> None:
    two = found(LEFT, RIGHT)
    again = doubt_of(two, looks(two, two))
    assert again.unstable == pytest.approx((0.0, 0.0)) and again.frame == pytest.approx(0.0) and again.missing == 0
    assert doubt_of(two, []).frame == 0.0
    assert doubt_of(Instances.empty(*SHAPE), looks(Instances.empty(*SHAPE))).frame == 0.0


def test_a_mask_that_moves_or_goes_is_doubted_and_its_neighbour_not() -> None:
    two = found(LEFT, RIGHT)
    again = doubt_of(two, looks(found(RIGHT), two))
    assert again.unstable[0] == pytest.approx(0.5, abs=0.02) and again.unstable[1] == pytest.approx(0.0, abs=0.01)
    assert again.frame == max(again.unstable)
    merged = doubt_of(two, looks(found(BOTH), found(BOTH)))
    assert min(merged.unstable) > 0.4


def test_another_class_and_the_bases_word_count() -> None:
    box, bag = found(LEFT, labels=["box"]), found(LEFT, labels=["bag"])
    assert doubt_of(box, looks(bag, bag)).unstable[0] == pytest.approx(0.5)
    apart = doubt_of(box, [*looks(box, box), *looks(bag, again=False)])
    assert apart.unstable[0] == pytest.approx(0.0) and apart.disagreed[0] == pytest.approx(0.5)
    assert apart.frame == pytest.approx(0.5)
    assert doubt_of(box, looks(box)).disagreed == ()


def test_a_package_that_the_answer_lacks_is_missing_where_a_look_is_sure_of_it() -> None:
    one = found(LEFT)
    sure, faint = found(LEFT, RIGHT, scores=[0.9, 0.8]), found(LEFT, RIGHT, scores=[0.9, 0.4])
    assert doubt_of(one, looks(sure, one)).missing == 0.5
    assert doubt_of(one, looks(faint, faint)).missing == 0.0
    assert doubt_of(Instances.empty(*SHAPE), looks(sure)).frame == 1.0


def test_what_is_not_sure_itself_says_nothing_of_the_frame() -> None:
    answer = found(LEFT, RIGHT, scores=[0.9, 0.1])
    again = doubt_of(answer, looks(found(LEFT)))
    assert again.unstable[1] == 1.0 and again.frame == pytest.approx(0.0)


def test_frames_of_another_size_say_that_nothing_is_there() -> None:
    other = Instances.from_masks(np.ones((1, 30, 30), np.bool_), ["box"])
    assert doubt_of(found(LEFT), looks(other)).unstable == (1.0,)
    document = doubt_of(found(LEFT), looks(other)).document()
    assert document == {"unstable": [1.0], "disagreed": [], "missing": 0.0}


def test_low_scores_are_doubt_and_so_is_no_answer() -> None:
    assert by_scores([0.9, 0.7]) == 0.0 and by_scores([0.9, 0.2]) == pytest.approx(0.4)
    assert by_scores(np.array([0.5, 0.1], np.float32)) == pytest.approx(0.5) and by_scores([]) == 1.0
