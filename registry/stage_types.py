"""The words of promotion: stages, requests, verdicts and the decision records they leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Self, TypeAlias

from registry.canonical import JSON, canonical_json, sha256_of
from registry.types import Digest, Variant

Stage = Literal["candidate", "station", "beta", "fleet", "archived"]
HeldStage = Literal["station", "beta", "fleet"]
"""A stage that at most one variant of a cell holds at a time: the stages robots are served from."""

STAGES: Final[tuple[Stage, ...]] = ("candidate", "station", "beta", "fleet", "archived")
HELD_STAGES: Final[tuple[HeldStage, ...]] = ("station", "beta", "fleet")


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
    `previous` is the cell's decision before this one: a chain that shows a missing link.
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
        return canonical_json(
            {
                "schema": 1,
                "kind": self.kind,
                "cell": self.cell,
                "variant": str(self.variant),
                "commit": self.commit,
                "from_stage": self.from_stage,
                "to_stage": self.to_stage,
                "holder": None if self.holder is None else str(self.holder),
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
        """Read what `document` wrote."""
        fields = json.loads(document)
        del fields["schema"]
        fields["variant"] = Variant.parse(fields["variant"])
        fields["holder"] = None if fields["holder"] is None else Variant.parse(fields["holder"])
        fields["decided_at"] = datetime.fromisoformat(fields["decided_at"])
        return cls(**fields)
