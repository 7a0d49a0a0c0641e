"""Gates: what a variant must show before it may move to a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from registry.canonical import canonical_json, sha256_of
from registry.stage_types import MoveRequest, Stage, Verdict
from registry.types import Digest

DEFAULT_DEMANDS: Mapping[Stage, tuple[str, ...]] = MappingProxyType({"fleet": ("evaluation",)})


@dataclass(frozen=True)
class EvidenceGate:
    """Demands that the evidence for a stage names certain things, and that none of them is empty."""

    demands: Mapping[Stage, tuple[str, ...]] = field(default_factory=lambda: DEFAULT_DEMANDS)

    @cached_property
    def policy(self) -> bytes:
        """The rules as canonical JSON: store this, so that the digest in a record leads to the rules."""
        return canonical_json({"gate": "evidence", "demands": {k: list(v) for k, v in self.demands.items()}})

    @cached_property
    def policy_digest(self) -> Digest:
        """The sha256 of `policy`."""
        return sha256_of(self.policy)

    def __call__(self, request: MoveRequest) -> Verdict:
        """Judge a request by its evidence alone."""
        wanted = self.demands.get(request.to_stage, ())
        missing = [key for key in wanted if request.evidence.get(key) in (None, "", [], {})]
        if missing:
            return Verdict(False, f"{request.to_stage} needs evidence for: {', '.join(missing)}")
        if wanted:
            return Verdict(True, f"evidence for: {', '.join(wanted)}")
        return Verdict(True, f"{request.to_stage} needs no evidence")
