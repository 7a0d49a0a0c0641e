"""The rule about a cell's history: which slices veto, which cannot, and what the gate makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from registry.errors import PolicyError
from registry.promotion.history import judge_history, judge_slice
from registry.promotion.policy import FIRST, Policy
from registry.stage_types import MoveRequest
from registry.types import Variant


def one(
    name: str = "v1", difference: float = 0.0, low: float = -0.01, high: float = 0.01, **more: Any
) -> dict[str, Any]:
    return {"name": name, "images": 40, "packages": 200, "difference": difference, "low": low, "high": high} | more


def asked(evidence: dict[str, Any], stage: str = "station") -> MoveRequest:
    variant = Variant.parse("cells/dock-7@v2")
    return MoveRequest("dock-7", variant, "c" * 64, "candidate", stage, None, "ann", evidence, "d" * 64)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        (one(), "same"),
        (one(difference=-0.015, low=-0.02, high=-0.01), "same"),  # within the tolerance
        (one(difference=-0.03, low=-0.04, high=-0.02), "worse"),
        (one(difference=-0.03, low=-0.10, high=0.04), "same"),  # within the noise
        (one(difference=-0.09, low=-0.16, high=-0.02), "worse"),  # beyond the noise
        (one(difference=0.1, low=0.05, high=0.15), "better"),
        (one(difference=-0.3, low=-0.5, high=0.1), "unsure"),  # wide, and zero is in it
        (one(difference=-0.8, low=-0.95, high=-0.5), "worse"),  # wide, and no doubt all the same
        (one(difference=-0.8, low=-0.9, high=-0.7, images=4), "unsure"),
        (one(difference=-0.8, low=-0.9, high=-0.7, packages=19), "unsure"),
    ],
)
def test_what_becomes_of_a_slice(figures: dict[str, Any], verdict: str) -> None:
    assert judge_slice(figures, 0.02) == verdict


@pytest.mark.parametrize("wrong", [{"low": "x"}, {"low": float("nan")}, {"images": True}, {"low": 1.0}])
def test_a_slice_without_its_figures_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="slice"):
        judge_slice(one() | wrong, 0.02)


def test_a_cell_cannot_allow_itself_more_than_the_policy_does() -> None:
    lost = one(difference=-0.3, low=-0.32, high=-0.28)
    assert judge_history({"tolerance": 0.5, "slices": [lost]}, 0.05).worse == ("v1",)
    assert judge_history({"tolerance": 0.5, "slices": [lost]}, 0.5).passed
    assert not judge_history(
        {"tolerance": 0.0, "slices": [one(difference=-0.011, low=-0.012, high=-0.01)]}, 0.05
    ).passed


@pytest.mark.parametrize("stage", ["station", "beta", "fleet"])
def test_the_first_policy_asks_for_the_history_at_every_stage(stage: str) -> None:
    good = {"evaluation": {"readiness": 2, "gain_ap50_high": 0.1}, "refresh": "r1"}
    kept = {"tolerance": 0.02, "slices": [one(), one("tiny", images=2)]}
    assert FIRST(asked(good | {"history": kept}, stage)).allowed
    lost = {"tolerance": 0.02, "slices": [one(), one("v2", -0.2, -0.25, -0.15)]}
    refused = FIRST(asked(good | {"history": lost}, stage))
    assert not refused.allowed and "'v2' lost 0.20 AP50" in refused.reason
    assert "not measured on the cell's history" in FIRST(asked(good, stage)).reason
    assert FIRST(asked({"evaluation": {"readiness": 2}}, stage)).allowed, "no refresh made it"
    assert "cannot be judged" in FIRST(asked(good | {"history": {"tolerance": 0.02, "slices": [{}]}}, stage)).reason


def test_a_small_slice_is_named_and_vetoes_nothing() -> None:
    found = judge_history({"tolerance": 0.02, "slices": [one("tiny", -0.9, -1.0, -0.8, images=2), one("v1")]})
    assert found.passed and found.unsure == ("tiny",) and "too small to tell: tiny" in found.told


@pytest.mark.parametrize("history", [{}, {"tolerance": -1}, {"tolerance": 2}, {"tolerance": True}, 3])
def test_a_policy_says_its_tolerance(history: Any) -> None:
    with pytest.raises(PolicyError, match="history"):
        Policy.parse({"rules": [{"to": "fleet", "history": history}]})
