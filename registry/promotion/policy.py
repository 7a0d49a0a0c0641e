"""The declared policy of promotion: what a variant must show before it may move to a stage, as data.

A policy is a JSON object; its canonical bytes are its name (`digest`), so that a decision says for good under which
rules it was made:

    {"gate": "policy", "schema": 1, "name": "careful", "rules": [
      {"to": "fleet", "from": ["station", "beta"], "evidence": ["evaluation"], "approvals": 1,
       "metrics": [
         {"metric": "variant_ap", "at_least": 0.3},
         {"metric": "variant_ap", "not_below": "base_ap", "tolerance": 0.01},
         {"metric": "variant_ap", "slice": "dark", "not_below_holder": true, "tolerance": 0.02}]}]}

A rule may also ask about the cell's history, of a variant that a refresh made (`registry.promotion.history`):
`"history": {"tolerance": 0.05}` is the most AP50 that any slice of it may lose.

A rule speaks of moves to one stage, from any stage or from those it names; all rules that speak of a move must be
content. A stage that rules speak of can be reached only from where one of them says. A metric that was not measured
refuses the move, unless the rule says `if_measured`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from registry.canonical import JSON, canonical_json, sha256_of
from registry.errors import PolicyError
from registry.promotion.history import MOST_TOLERANCE, judge_history
from registry.promotion.readiness import RANK, Level
from registry.stage_types import MoveRequest, Stage, Verdict
from registry.types import Digest

MAX_POLICY: Final = 256 * 1024
MAX_RULES: Final = 100
MAX_METRICS: Final = 200
MAX_APPROVALS: Final = 20
_RULE_KEYS: Final = frozenset(("to", "from", "evidence", "metrics", "approvals", "history"))
_METRIC_KEYS: Final = frozenset(
    (
        *("metric", "slice", "at_least", "at_most", "not_below", "not_above", "not_below_holder", "tolerance"),
        *("if_measured", "says"),
    )
)


@dataclass(frozen=True, slots=True)
class MetricRule:
    """What one number must be. `slice` None: the whole evaluation; `tolerance` counts in the metric's own unit;
    `if_measured`: nothing is asked of a variant that nobody measured so; `says`: how a refusal begins."""

    metric: str
    slice: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    not_below: str | None = None
    not_above: str | None = None
    not_below_holder: bool = False
    tolerance: float = 0.0
    if_measured: bool = False
    says: str | None = None

    def complaint(self, evidence: Mapping[str, JSON]) -> str | None:
        """Why the evidence does not do; None if it does."""
        found = self._shortfall(evidence)
        return f"{self.says} ({found})" if found and self.says else found

    def _shortfall(self, evidence: Mapping[str, JSON]) -> str | None:
        name = self.metric if self.slice is None else f"{self.metric} on {self.slice!r}"
        value = self._number(evidence, self.metric)
        if value is None:
            return None if self.if_measured else f"{name} was not measured"
        if self.at_least is not None and value < self.at_least - self.tolerance:
            return f"{name} is {value:.4g}, less than {self.at_least:.4g}"
        if self.at_most is not None and value > self.at_most + self.tolerance:
            return f"{name} is {value:.4g}, more than {self.at_most:.4g}"
        for other, sign in ((self.not_below, 1), (self.not_above, -1)):
            if other is None:
                continue
            bound = self._number(evidence, other)
            if bound is None:
                return f"{other} was not measured, and {name} is compared with it"
            if sign * (bound - value) > self.tolerance:
                worse = "less" if sign > 0 else "more"
                return f"{name} is {value:.4g}, {worse} than {other} ({bound:.4g}) by more than {self.tolerance:.4g}"
        return self._against_holder(evidence, name, value)

    def _against_holder(self, evidence: Mapping[str, JSON], name: str, value: float) -> str | None:
        holder = evidence.get("holder")
        if not self.not_below_holder or not isinstance(holder, Mapping):
            return None  # nobody has the stage: nothing can get worse
        bound = self._number(holder, self.metric)
        if bound is None:
            return f"{name} of the present variant was not measured"
        if bound - value > self.tolerance:
            return f"{name} is {value:.4g}, the present variant has {bound:.4g}"
        return None

    def _number(self, evidence: Mapping[str, JSON], metric: str) -> float | None:
        place = evidence.get("evaluation")
        if self.slice is not None:
            slices = evidence.get("slices")
            place = slices.get(self.slice) if isinstance(slices, Mapping) else None
        value = place.get(metric) if isinstance(place, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a move to one stage needs."""

    to: Stage
    origins: tuple[Stage, ...] | None = None
    evidence: tuple[str, ...] = ()
    metrics: tuple[MetricRule, ...] = ()
    approvals: int = 0
    history: float | None = None
    """The most AP50 that a slice of the cell's history may lose; None: nobody asks."""

    def speaks_of(self, request: MoveRequest) -> bool:
        """Whether the move comes from where this rule says."""
        return self.origins is None or request.from_stage in self.origins

    def complaints(self, request: MoveRequest) -> list[str]:
        """Everything that is missing."""
        found = []
        missing = [key for key in self.evidence if request.evidence.get(key) in (None, "", [], {})]
        if missing:
            found.append(f"{self.to} needs evidence for: {', '.join(missing)}")
        found += [said for metric in self.metrics if (said := metric.complaint(request.evidence))]
        if self.history is not None and (said := _history_complaint(request.evidence, self.history)):
            found.append(said)
        given = approvers_of(request)
        if len(given) < self.approvals:
            found.append(
                f"{self.to} needs the approval of {self.approvals} besides whoever moves it, and has {len(given)}"
            )
        return found


def _history_complaint(evidence: Mapping[str, JSON], most: float) -> str | None:
    """Why the cell's history speaks against a variant. One that no refresh made has none to show."""
    document = evidence.get("history")
    if not isinstance(document, Mapping):
        return "a refresh made it, and it was not measured on the cell's history" if evidence.get("refresh") else None
    try:
        verdict = judge_history(document, most)
    except ValueError as error:
        return f"its history cannot be judged: {error}"
    return None if verdict.passed else verdict.told


def approvers_of(request: MoveRequest) -> tuple[str, ...]:
    """Who else approved of this very move, by the evidence: each person once, the one who moves never."""
    approvals = request.evidence.get("approvals")
    names = set()
    for one in approvals if isinstance(approvals, Sequence) and not isinstance(approvals, str) else ():
        if (
            isinstance(one, Mapping)
            and (one.get("commit"), one.get("stage")) == (request.commit, request.to_stage)
            and isinstance(by := one.get("by"), str)
        ):
            names.add(by)
    return tuple(sorted(names - {request.actor}))


@dataclass(frozen=True, slots=True)
class Policy:
    """A checked policy. It is a gate: a function of the request alone."""

    name: str
    rules: tuple[Rule, ...]
    document: bytes = field(repr=False)

    @property
    def digest(self) -> Digest:
        """The sha256 of `document`, which is canonical JSON."""
        return sha256_of(self.document)

    @classmethod
    def parse(cls, value: object) -> Policy:
        """Check a policy as it was declared. Raises PolicyError naming the place at fault."""
        if not isinstance(value, dict):
            raise PolicyError("policy", "must be an object")
        _only(value, {"gate", "schema", "name", "rules"}, "policy")
        if value.get("gate", "policy") != "policy" or value.get("schema", 1) != 1:
            raise PolicyError("gate", "must be 'policy', of schema 1")
        name, rules = value.get("name", "policy"), value.get("rules")
        if not isinstance(name, str) or not 1 <= len(name) <= 100:
            raise PolicyError("name", "must be a text of 1 to 100 characters")
        if not isinstance(rules, list) or len(rules) > MAX_RULES:
            raise PolicyError("rules", f"must be a list of at most {MAX_RULES}")
        document = canonical_json({"gate": "policy", "schema": 1, "name": name, "rules": rules})
        if len(document) > MAX_POLICY:
            raise PolicyError("policy", f"must have at most {MAX_POLICY} bytes")
        return cls(name, tuple(_rule(rule, f"rules[{at}]") for at, rule in enumerate(rules)), document)

    def __call__(self, request: MoveRequest) -> Verdict:
        """Judge a request by its evidence alone."""
        about = [rule for rule in self.rules if rule.to == request.to_stage]
        if not about:
            return Verdict(True, f"policy {self.name!r} asks nothing for {request.to_stage}")
        mine = [rule for rule in about if rule.speaks_of(request)]
        if not mine:
            origins = sorted({origin for rule in about for origin in rule.origins or ()})
            return Verdict(False, f"{request.to_stage} can be reached only from: {', '.join(origins)}")
        found = list(dict.fromkeys(said for rule in mine for said in rule.complaints(request)))
        if found:
            return Verdict(False, "; ".join(found))
        return Verdict(True, f"policy {self.name!r} is content")


def _rule(value: object, where: str) -> Rule:
    if not isinstance(value, dict):
        raise PolicyError(where, "must be an object")
    _only(value, _RULE_KEYS, where)
    origins, metrics, approvals = value.get("from"), value.get("metrics", []), value.get("approvals", 0)
    if origins is not None and (not isinstance(origins, list) or not origins):
        raise PolicyError(f"{where}.from", "must be a list of stages")
    if not isinstance(metrics, list) or len(metrics) > MAX_METRICS:
        raise PolicyError(f"{where}.metrics", f"must be a list of at most {MAX_METRICS}")
    if type(approvals) is not int or not 0 <= approvals <= MAX_APPROVALS:
        raise PolicyError(f"{where}.approvals", f"must be a whole number up to {MAX_APPROVALS}")
    evidence = value.get("evidence", [])
    if not isinstance(evidence, list) or not all(isinstance(one, str) and one for one in evidence):
        raise PolicyError(f"{where}.evidence", "must be a list of texts")
    history = value.get("history")
    if history is not None:
        if not isinstance(history, dict) or set(history) != {"tolerance"}:
            raise PolicyError(f"{where}.history", "must be an object with a tolerance")
        most = history["tolerance"]
        if type(most) not in (int, float) or not 0 <= most <= 1:
            raise PolicyError(f"{where}.history.tolerance", "must be a number from 0 to 1")
    return Rule(
        _stage(value.get("to"), f"{where}.to"),
        None if origins is None else tuple(_stage(one, f"{where}.from") for one in origins),
        tuple(evidence),
        tuple(_metric(one, f"{where}.metrics[{at}]") for at, one in enumerate(metrics)),
        approvals,
        None if history is None else float(history["tolerance"]),
    )


def _stage(value: object, where: str) -> Stage:
    for stage in get_args(Stage):
        if value == stage:
            return stage
    raise PolicyError(where, f"must be one of {', '.join(get_args(Stage))}")


def _metric(value: object, where: str) -> MetricRule:
    if not isinstance(value, dict):
        raise PolicyError(where, "must be an object")
    _only(value, _METRIC_KEYS, where)
    for key in ("metric", "slice", "not_below", "not_above", "says"):
        text = value.get(key)
        if (text is not None or key == "metric") and (not isinstance(text, str) or not text):
            raise PolicyError(f"{where}.{key}", "must be a text" if key == "says" else "must be a name")
    for key in ("at_least", "at_most", "tolerance"):
        number = value.get(key)
        if number is not None and (type(number) not in (int, float) or not math.isfinite(number)):
            raise PolicyError(f"{where}.{key}", "must be a number")
    if value.get("tolerance", 0) < 0:
        raise PolicyError(f"{where}.tolerance", "must not be negative")
    for key in ("not_below_holder", "if_measured"):
        if not isinstance(value.get(key, False), bool):
            raise PolicyError(f"{where}.{key}", "must be true or false")
    if not set(value) - {"metric", "slice", "tolerance", "if_measured", "says"}:
        raise PolicyError(where, "compares the metric with nothing")
    return MetricRule(**value)


def _only(value: Mapping[str, Any], known: frozenset[str] | set[str], where: str) -> None:
    if unknown := sorted(map(str, set(value) - known)):
        raise PolicyError(where, f"has the unknown key {unknown[0]!r}")


def _verdict_rule(least: Level) -> dict[str, Any]:
    """A variant that was measured needs this verdict of `registry.promotion.readiness`, or a better one."""
    says = f"the verdict on it is not “{least}”" + ("" if least == "ready" else ", or better")
    return {"metric": "readiness", "at_least": RANK[least], "if_measured": True, "says": says}


_HISTORY: Final = {"tolerance": MOST_TOLERANCE}

FIRST: Final = Policy.parse(
    {
        "name": "measured, of use, and not worse than the base",
        "rules": [
            {"to": "station", "metrics": [_verdict_rule("test station")], "history": _HISTORY},
            {"to": "beta", "metrics": [_verdict_rule("ready")], "history": _HISTORY},
            {
                "to": "fleet",
                "history": _HISTORY,
                "evidence": ["evaluation"],
                "metrics": [
                    _verdict_rule("ready"),
                    # The upper end of the interval of the gain over the base: below zero there is no doubt left.
                    {"metric": "gain_ap50_high", "at_least": 0, "if_measured": True},
                ],
            },
        ],
    }
)
"""The policy that a registry starts with."""
