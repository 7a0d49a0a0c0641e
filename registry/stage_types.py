"""The words of promotion: stages, requests, verdicts and the decision records they leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Self, TypeAlias

from registry.canonical import JSON, canonical_json, sha256_of
from registry.types import UNSET, Digest, Unset, Variant

Stage = Literal["candidate", "station", "beta", "fleet", "archived"]
HeldStage = Literal["station", "beta", "fleet"]
"""A stage that at most one variant of a cell holds at a time: the stages robots are served from."""

STAGES: Final[tuple[Stage, ...]] = ("candidate", "station", "beta", "fleet", "archived")
SCHEMA: Final = 2
"""Of decision records; those of earlier ones are read for ever."""
HELD_STAGES: Final[tuple[HeldStage, ...]] = ("station", "beta", "fleet")

LOOK: Final = "look"
"""The evidence that says what was found wrong with a variant's answers before it was to serve; else absent."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a variant of a cell stands, at which commit, and the decision that put it there."""

    cell: str
    variant: Variant
    commit: Digest
    stage: Stage
    decision: Digest


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """What a gate is asked. `holder` is who has the target stage now; `from_stage` None means a new variant."""

    cell: str
    variant: Variant
    commit: Digest
    from_stage: Stage | None
    to_stage: Stage
    holder: Variant | None
    actor: str
    evidence: Mapping[str, JSON]
    policy: Digest


@dataclass(frozen=True, slots=True)
class Verdict:
    """A gate's answer, with a reason that a person can act on."""

    allowed: bool
    reason: str


Gate: TypeAlias = Callable[[MoveRequest], Verdict]
"""Decides from the request alone (so that a decision can be replayed) and quickly (writers wait for it)."""


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """Who moved what, where, why, and what came of it. Never changed; `id` is the sha256 of `document()`.

    `holder` had the target stage before. `restores` is, for a rollback, the decision that is in force again.
    `previous` is the cell's decision before this one: a chain that shows a missing link. `expected` is the holder
    that the caller counted on (None: nobody; UNSET: whoever it is). Records of schema 1 did not keep it.
    """

    kind: Literal["move", "rollback"]
    cell: str
    variant: Variant
    commit: Digest
    from_stage: Stage | None
    to_stage: Stage
    holder: Variant | None
    actor: str
    note: str
    evidence: Mapping[str, JSON]
    policy: Digest | None
    restores: Digest | None
    verdict: Literal["allowed", "refused"]
    reason: str
    previous: Digest | None
    decided_at: datetime
    expected: Variant | Unset | None = UNSET
    schema: int = SCHEMA

    @property
    def id(self) -> Digest:
        """The record's name, here and in the blob store."""
        return sha256_of(self.document())

    @property
    def allowed(self) -> bool:
        """Whether the move was made."""
        return self.verdict == "allowed"

    def document(self) -> bytes:
        """The canonical JSON that is stored. Raises InvalidValueError if the evidence is no JSON."""
        expected: dict[str, JSON] = {}
        if self.schema > 1:
            counted_on: JSON = {"any": True} if isinstance(self.expected, Unset) else {"holder": _text(self.expected)}
            expected["expected"] = counted_on
        return canonical_json(
            expected
            | {
                "schema": self.schema,
                "kind": self.kind,
                "cell": self.cell,
                "variant": str(self.variant),
                "commit": self.commit,
                "from_stage": self.from_stage,
                "to_stage": self.to_stage,
                "holder": _text(self.holder),
                "actor": self.actor,
                "note": self.note,
                "evidence": self.evidence,
                "policy": self.policy,
                "restores": self.restores,
                "verdict": self.verdict,
                "reason": self.reason,
                "previous": self.previous,
                "decided_at": self.decided_at.isoformat(timespec="microseconds"),
            }
        )

    @classmethod
    def parse(cls, document: bytes) -> Self:
        """Read what `document` wrote, in this version or an earlier one.

        Raises ValueError, KeyError, TypeError or InvalidNameError.
        """
        fields = json.loads(document)
        if fields["schema"] not in range(1, SCHEMA + 1):
            raise ValueError(f"schema {fields['schema']}")
        if fields["schema"] > 1:
            expected = fields["expected"]
            fields["expected"] = UNSET if expected == {"any": True} else _variant(expected["holder"])
        fields["variant"] = Variant.parse(fields["variant"])
        fields["holder"] = _variant(fields["holder"])
        fields["decided_at"] = datetime.fromisoformat(fields["decided_at"])
        return cls(**fields)


def _text(variant: Variant | None) -> str | None:
    return None if variant is None else str(variant)


def _variant(text: str | None) -> Variant | None:
    return None if text is None else Variant.parse(text)
