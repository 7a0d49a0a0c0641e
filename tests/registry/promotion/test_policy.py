"""Declared policies: read strictly, and judging by evidence alone."""

from __future__ import annotations

import json

import pytest

from registry.errors import InvalidValueError, PolicyError
from registry.promotion.gates import EvidenceGate
from registry.promotion.policies import gate_of
from registry.promotion.policy import FIRST, Policy
from registry.stage_types import MoveRequest
from registry.types import Variant

COMMIT, POLICY = "c" * 64, "d" * 64


def request(**evidence) -> MoveRequest:
    variant = Variant.parse("cells/dock-7@v2")
    return MoveRequest("dock-7", variant, COMMIT, "station", "fleet", None, "ann", evidence, POLICY)


def policy(**rule) -> Policy:
    return Policy.parse({"rules": [{"to": "fleet"} | rule]})


def approval(by: str, commit: str = COMMIT, stage: str = "fleet") -> dict[str, str]:
    return {"by": by, "commit": commit, "stage": stage}


@pytest.mark.parametrize(
    ("rule", "evidence", "says"),
    [
        ({}, {}, ""),
        ({"evidence": ["evaluation"]}, {}, "needs evidence for: evaluation"),
        ({"evidence": ["evaluation"]}, {"evaluation": {"ap": 1}}, ""),
        ({"from": ["station", "beta"]}, {}, ""),
        ({"from": ["beta"]}, {}, "only from: beta"),
        ({"metrics": [{"metric": "ap", "at_least": 0.5}]}, {}, "ap was not measured"),
        ({"metrics": [{"metric": "ap", "at_least": 0.5}]}, {"evaluation": {"ap": "0.9"}}, "not measured"),
        ({"metrics": [{"metric": "ap", "at_least": 0.5}]}, {"evaluation": {"ap": True}}, "not measured"),
        ({"metrics": [{"metric": "ap", "at_least": 0.5}]}, {"evaluation": {"ap": 0.49}}, "less than 0.5"),
        ({"metrics": [{"metric": "ap", "at_least": 0.5, "tolerance": 0.02}]}, {"evaluation": {"ap": 0.49}}, ""),
        ({"metrics": [{"metric": "ap", "at_least": 0.5, "if_measured": True}]}, {}, ""),
        ({"metrics": [{"metric": "ap", "at_least": 0.5, "if_measured": True}]}, {"evaluation": {"ap": 0.4}}, "less"),
        ({"metrics": [{"metric": "ms", "at_most": 20}]}, {"evaluation": {"ms": 21}}, "more than 20"),
        ({"metrics": [{"metric": "a", "not_below": "b"}]}, {"evaluation": {"a": 0.4, "b": 0.5}}, "less than b"),
        ({"metrics": [{"metric": "a", "not_below": "b"}]}, {"evaluation": {"a": 0.4}}, "b was not measured"),
        ({"metrics": [{"metric": "a", "not_above": "b"}]}, {"evaluation": {"a": 0.6, "b": 0.5}}, "more than b"),
        ({"metrics": [{"metric": "a", "not_above": "b"}]}, {"evaluation": {"a": 0.5, "b": 0.5}}, ""),
        ({"metrics": [{"metric": "a", "slice": "dark", "at_least": 1}]}, {"evaluation": {"a": 2}}, "on 'dark'"),
        ({"metrics": [{"metric": "a", "slice": "dark", "at_least": 1}]}, {"slices": {"dark": {"a": 2}}}, ""),
        ({"metrics": [{"metric": "a", "not_below_holder": True}]}, {"evaluation": {"a": 1}}, ""),
        (
            {"metrics": [{"metric": "a", "not_below_holder": True}]},
            {"evaluation": {"a": 1}, "holder": {"evaluation": {"a": 2}}},
            "the present variant has 2",
        ),
        ({"approvals": 1}, {}, "has 0"),
        ({"approvals": 1}, {"approvals": [approval("ann")]}, "has 0"),
        ({"approvals": 1}, {"approvals": [approval("bob", commit="e" * 64)]}, "has 0"),
        ({"approvals": 1}, {"approvals": [approval("bob", stage="beta")]}, "has 0"),
        ({"approvals": 2}, {"approvals": [approval("bob"), approval("bob")]}, "has 1"),
        ({"approvals": 1}, {"approvals": [approval("bob")]}, ""),
        ({"approvals": 1}, {"approvals": "bob"}, "has 0"),
    ],
)
def test_verdicts(rule, evidence, says):
    verdict = policy(**rule)(request(**evidence))
    assert verdict.allowed is (says == "")
    assert says in verdict.reason


def test_all_rules_of_a_move_must_be_content():
    rules = [{"to": "fleet", "approvals": 1}, {"to": "fleet", "from": ["station"], "evidence": ["evaluation"]}]
    verdict = Policy.parse({"rules": rules})(request())
    assert "approval" in verdict.reason and "evaluation" in verdict.reason


@pytest.mark.parametrize(
    "declared",
    [
        [],
        {},
        {"rules": {}},
        {"rules": [[]]},
        {"rules": [{}]},
        {"rules": [{"to": "moon"}]},
        {"rules": [{"to": "fleet", "from": []}]},
        {"rules": [{"to": "fleet", "from": ["moon"]}]},
        {"rules": [{"to": "fleet", "approvals": -1}]},
        {"rules": [{"to": "fleet", "approvals": True}]},
        {"rules": [{"to": "fleet", "evidence": "evaluation"}]},
        {"rules": [{"to": "fleet", "metrics": [{"metric": "ap"}]}]},
        {"rules": [{"to": "fleet", "metrics": [{"at_least": 1}]}]},
        {"rules": [{"to": "fleet", "metrics": [{"metric": "ap", "at_least": "1"}]}]},
        {"rules": [{"to": "fleet", "metrics": [{"metric": "ap", "at_least": float("nan")}]}]},
        {"rules": [{"to": "fleet", "metrics": [{"metric": "ap", "at_least": 1, "tolerance": -1}]}]},
        {"rules": [{"to": "fleet", "metrics": [{"metric": "ap", "if_measured": True}]}]},
        {"rules": [{"to": "fleet", "metrics": [{"metric": "ap", "at_least": 1, "if_measured": 1}]}]},
        {"rules": [], "schema": 2},
        {"rules": [], "gate": "other"},
        {"rules": [], "name": ""},
        {"rules": [], "extra": 1},
        {"rules": [{"to": "fleet", "evidence": ["x" * 300_000]}]},
    ],
)
def test_what_is_no_policy(declared):
    with pytest.raises(InvalidValueError):
        Policy.parse(declared)


@pytest.mark.parametrize(
    ("evaluation", "says"),
    [
        ({}, "needs evidence"),
        ({"variant_ap": 0.3}, ""),
        ({"variant_ap": 0.3, "gain_ap50_high": 0.0}, ""),
        ({"variant_ap": 0.3, "gain_ap50_high": -0.01}, "gain_ap50_high is -0.01, less than 0"),
    ],
)
def test_a_registry_starts_by_refusing_what_is_worse_than_the_base(evaluation, says):
    verdict = FIRST(request(evaluation=evaluation))
    assert verdict.allowed is (says == "") and says in verdict.reason


def test_a_stored_policy_is_the_same_policy():
    made = policy(approvals=1, metrics=[{"metric": "ap", "at_least": 0.5}])
    again = Policy.parse(json.loads(made.document))
    assert (again, again.digest) == (made, made.digest)
    assert gate_of(made.document) == made
    assert gate_of(EvidenceGate().policy)(request()) == EvidenceGate()(request())
    for damaged in (b"", b"[]", b'{"gate":"evidence"}', b'{"gate":"evidence","demands":[]}', b"[" * 100_000):
        with pytest.raises(PolicyError):
            gate_of(damaged)
