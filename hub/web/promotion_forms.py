"""Moves of variants between stages, as pages ask for them and tell of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from hub.accounts.tokens import Identity, Scope
from hub.errors import InputError
from hub.web.dependencies import Web
from hub.web.guards import WebRequest, identity_of
from registry.stage_types import DecisionRecord


def mover(web: Web, request: WebRequest, cell: str) -> Identity:
    """Who asks, if they may move variants of this cell."""
    who = identity_of(request)
    who.require(Scope.PROMOTE)
    who.require_team(web.services.cells.get(cell).team, f"the cell {cell!r}")
    web.services.require_production(who, cell)
    return who


def asked_move(fields: Mapping[str, str], kind: Any) -> Any:  # noqa: ANN401  # a struct of the API
    """A form's stage and note, and the version that its page showed at the stage. Raises InputError."""
    values = {"stage": fields.get("stage", ""), "note": fields.get("note", "")}
    if "expected" in fields:
        values["expected"] = fields["expected"]
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"the form is not well-formed: {error}") from error


WATCH = "watch"
"""Who rolls back by itself: the trials (`hub.rollout.trials.ACTOR`)."""
_PLACES = {"station": "the test station", "beta": "beta", "fleet": "the fleet"}


def in_words(record: DecisionRecord) -> str:
    """What was decided, as a person says it: who goes where, and what serves there afterwards."""
    version, place = record.variant.version, _PLACES.get(record.to_stage, record.to_stage)
    alone = " automatically" if record.actor == WATCH else ""
    if record.kind == "rollback":
        before = f"{record.holder.version} was rolled back{alone}: " if record.holder else f"rolled back{alone}: "
        return f"{before}{version} serves {place} again" if record.allowed else f"{place} was not rolled back"
    if not record.allowed:
        return f"{version} was refused for {place}"
    if record.to_stage == "candidate" and record.from_stage in _PLACES:
        return f"{version} was rolled back{alone}: the shared base serves {_PLACES[record.from_stage]} again"
    if record.to_stage == "candidate":
        return f"{version} was made" if record.from_stage is None else f"{version} is a candidate again"
    if record.to_stage == "archived":
        return f"{version} was put away"
    return f"{version} was promoted{alone} to {place}"


def outcome(record: DecisionRecord) -> str:
    """The word for a decision: `refused`, `rolled back`, or `done`."""
    if not record.allowed:
        return "refused"
    back = record.kind == "rollback" or (record.to_stage == "candidate" and record.from_stage in _PLACES)
    return "rolled back" if back else "done"


def decision_row(record: DecisionRecord) -> dict[str, Any]:
    """A decision, as templates show it."""
    return {
        "id": record.id,
        "kind": record.kind,
        "version": record.variant.version,
        "from": record.from_stage,
        "to": record.to_stage,
        "actor": record.actor,
        "note": record.note,
        "reason": record.reason,
        "verdict": record.verdict,
        "what": in_words(record),
        "outcome": outcome(record),
        "at": record.decided_at.isoformat(),
        "evidence": json.dumps(record.evidence, indent=1, sort_keys=True, ensure_ascii=False),
    }
