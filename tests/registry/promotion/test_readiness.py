"""The declared rules: what was measured, and the verdict, its reason and the one next step that follow."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.promotion.policy import FIRST
from registry.promotion.readiness import LEARNT_STEPS, RANK, Measured, judge, judge_metrics
from registry.stage_types import MoveRequest
from registry.types import RepoId, Variant

GOOD = {
    "variant_ap50": 0.93, "variant_ap50_low": 0.88, "variant_agnostic_ap50": 0.94, "base_ap50": 0.4,
    "gain_ap50_low": 0.45, "gain_ap50_high": 0.6, "found": 93, "missed": 7, "extra": 4, "base_found": 41,
    "empty_images": 6, "empty_wrong": 0, "images_holdout": 24, "holdout_packages": 100, "images_train": 80,
    "steps": 400, "train_seconds": 560.0,
}  # fmt: skip
WEAK = GOOD | {"variant_ap50": 0.66, "variant_ap50_low": 0.58, "found": 70, "missed": 30, "extra": 20}
USELESS = GOOD | {
    "variant_ap50": 0.02, "variant_ap50_low": 0.0, "variant_agnostic_ap50": 0.03, "base_ap50": 0.0,
    "gain_ap50_low": 0.01, "gain_ap50_high": 0.04, "found": 4, "missed": 92, "extra": 2, "base_found": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "verdict", "reason", "step"),
    [
        (GOOD, "ready", "93% of the packages (93 of 100)", "Promote it to the fleet."),
        (GOOD, "ready", "the shared base finds 41", "Promote"),
        (GOOD | {"gain_ap50_low": -0.01, "base_ap50": 0.92}, "ready", "so does the shared base", "Promote"),
        (WEAK, "test station", "overlooks too many", "test station"),
        (GOOD | {"extra": 40}, "test station", "answers are wrong", "test station"),
        (GOOD | {"empty_wrong": 2}, "test station", "2 of 6 pictures that show none", "test station"),
        (GOOD | {"empty_wrong": 1}, "ready", "", ""),
        (GOOD | {"images_holdout": 9}, "test station", "only 9 images", "test station"),
        (GOOD | {"images_holdout": 1}, "test station", "only 1 image judged", "test station"),
        (GOOD | {"holdout_packages": 12, "found": 12, "missed": 0, "extra": 0}, "test station", "only 12 packages", ""),
        (GOOD | {"variant_ap50_low": 0.5}, "test station", "clearly worse", "test station"),
        # Four in a hundred is nothing, however much more than the base that is.
        (USELESS, "not yet", "4% of the packages (4 of 96)", "Label more images"),
        (USELESS | {"found": 0, "missed": 96, "extra": 0}, "not yet", "it finds nothing", "Label"),
        (GOOD | {"extra": 200}, "not yet", "most of what it points at", "add pictures of what is none"),
        (WEAK | {"gain_ap50_low": -0.3, "gain_ap50_high": -0.1}, "not yet", "worse than the shared base", "Keep"),
        (GOOD | {"holdout_packages": 0, "found": 0, "missed": 0}, "not yet", "no labelled package", "Label"),
        (GOOD | {"images_holdout": 0}, "not yet", "Nothing can be said", "Label"),
        # The training is blamed where it had hardly begun, and no image.
        (USELESS | {"steps": 1, "train_seconds": 2.0}, "not yet", "", "10 minutes or more: it was trained for 1 step"),
        (USELESS | {"steps": 3, "train_seconds": 30.0}, "not yet", "", "34 minutes or more"),
        (USELESS | {"steps": 1, "train_seconds": 660.0}, "not yet", "", "a faster or a free machine"),
        (USELESS | {"steps": 0, "train_seconds": 0.0}, "not yet", "", "trained for 0 steps only"),
        (WEAK | {"gain_ap50_high": -0.1, "steps": 5}, "not yet", "worse than", "Fine-tune again"),
        (GOOD | {"steps": 1}, "ready", "", "Promote"),
        (USELESS | {"images_train": 6}, "not yet", "", "at least 14 more images"),
        (
            USELESS | {"variant_ap50": 0.2, "variant_agnostic_ap50": 0.9, "found": 30, "missed": 70},
            "not yet", "", "classes that it mixes up",
        ),
        # Variants of before counted nothing: AP50 alone speaks.
        ({"variant_ap50": 0.8, "base_ap50": 0.4}, "ready", "AP50 is 0.80 (the shared base: 0.40)", ""),
        ({"variant_ap50": 0.5}, "test station", "AP50 is 0.50", ""),
        ({"variant_ap50": 0.04, "base_ap50": 0.0}, "not yet", "AP50 is 0.04", "Label"),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_what_was_measured(metrics, verdict, reason, step):
    judged = judge_metrics(metrics)
    assert judged is not None
    assert judged.verdict == verdict and reason in judged.reason and step in judged.next_step, judged
    assert judged.stage == {"ready": "fleet", "test station": "station", "not yet": "candidate"}[verdict]
    assert judged.reason[0].isupper() and judged.reason.endswith(".") and judged.next_step.endswith(".")
    if metrics.get("steps", LEARNT_STEPS) < LEARNT_STEPS and verdict == "not yet":
        assert "abel" not in judged.next_step, "no image is to blame for a training that had hardly begun"


@pytest.mark.parametrize("metrics", [{}, {"variant_ap": 0.3}, {"variant_ap50": float("nan")}, {"variant_ap50": "0.9"}])
def test_what_nobody_measured_has_no_verdict(metrics):
    assert judge_metrics(metrics) is None


def test_a_passed_trial_lifts_a_doubt_and_no_useless_variant():
    for metrics, verdict in ((WEAK, "ready"), (GOOD, "ready"), (USELESS, "not yet")):
        judged = judge_metrics(metrics, trial_picks=200)
        assert judged is not None and judged.verdict == verdict
    lifted = judge_metrics(WEAK, trial_picks=200)
    assert lifted is not None and "trial at the test station with 200 picks" in lifted.reason


@given(found=st.integers(0, 200), missed=st.integers(0, 200), extra=st.integers(0, 200), steps=st.integers(0, 500))
def test_finding_more_never_makes_the_verdict_worse(found, missed, extra, steps):
    rest = {"ap50": 0.9, "ap50_low": 0.8, "images": 40, "packages": found + missed + 1, "steps": steps}
    one = judge(Measured(found=found, missed=missed + 1, extra=extra, **rest))
    more = judge(Measured(found=found + 1, missed=missed, extra=extra, **rest))
    assert more.rank >= one.rank
    if one.verdict == "ready":
        assert found >= 0.8 * (found + missed + 1)


@pytest.mark.parametrize(
    ("stage", "verdict", "metrics"), list(itertools.product(("station", "beta", "fleet"), RANK, (GOOD,)))
)
def test_the_first_policy_follows_the_verdict(stage, verdict, metrics):
    evidence = {"evaluation": metrics | {"readiness": RANK[verdict]}}
    variant = Variant(RepoId("model", "cells", "dock"), "v1")
    asked = MoveRequest("dock", variant, "0" * 64, "candidate", stage, None, "ann", evidence, FIRST.digest)
    answer = FIRST(asked)
    least = "test station" if stage == "station" else "ready"
    assert answer.allowed is (RANK[verdict] >= RANK[least])
    if not answer.allowed:
        assert f"the verdict on it is not “{least}”" in answer.reason
