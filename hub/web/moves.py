"""Moves of variants between stages, as pages ask for them and tell of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from hub.errors import InputError
from hub.tokens import Identity, Scope
from hub.web.guards import WebRequest, identity_of
from hub.web.parts import Web
from registry.stage_types import DecisionRecord


def mover(web: Web, request: WebRequest, cell: str) -> Identity:
    """Who asks, if they may move variants of this cell."""
    who = identity_of(request)
    who.require(Scope.PROMOTE)
    who.require_team(web.services.cells.get(cell).team, f"the cell {cell!r}")
    web.services.require_production(who, cell)
    return who


def asked_move(fields: Mapping[str, str], kind: Any) -> Any:  # noqa: ANN401  # a struct of the API
    """A form's stage and note. Raises InputError."""
    try:
        return msgspec.convert({"stage": fields.get("stage", ""), "note": fields.get("note", "")}, kind)
    except msgspec.ValidationError as error:
        raise InputError(f"the form is not well-formed: {error}") from error


def told(record: DecisionRecord) -> dict[str, Any]:
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
        "at": record.decided_at.isoformat(),
        "evidence": json.dumps(record.evidence, indent=1, sort_keys=True, ensure_ascii=False),
    }
