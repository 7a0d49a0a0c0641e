"""What second looks at a frame said moves its picture up in the queue; a document that is none moves nothing."""

from __future__ import annotations

import pytest

from hub.loop.labelling.rank import Candidate, by_doubt, doubt_of, doubt_of_looks


def test_a_sure_answer_that_does_not_hold_is_asked_first() -> None:
    sure = doubt_of([0.98, 0.97])
    shaken = max(sure, doubt_of_looks({"unstable": [0.1, 0.8], "disagreed": [], "missing": 0.0}))
    first, second = by_doubt([Candidate("a", shaken, "x"), Candidate("b", sure, "y")])
    assert first > second
    assert doubt_of_looks({"unstable": [0.1], "disagreed": [0.6], "missing": 0.0}) == 0.6
    assert doubt_of_looks({"unstable": [], "disagreed": [], "missing": 0.5}) == 0.5


@pytest.mark.parametrize(
    "document",
    [None, [], "x", 3, {}, {"unstable": "x"}, {"unstable": [None, "a", float("nan")]}, {"missing": float("inf")},
     {"unstable": {"a": 1}}],
)  # fmt: skip
def test_what_is_no_document_says_nothing(document: object) -> None:
    assert doubt_of_looks(document) == 0.0


def test_numbers_out_of_range_are_cut() -> None:
    assert doubt_of_looks({"unstable": [-3.0, 7]}) == 1.0
