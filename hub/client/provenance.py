"""The client's side of provenance: statements, audits, lineage, the policy and approvals."""

from __future__ import annotations

from typing import Any

from hub.client.calls import Calls
from hub.schemas import provenance as p


class ProvenanceCalls(Calls):
    """These calls, as part of `HubClient`."""

    def statement(self, name: str) -> p.StatementOut:
        """The believed statement about `<cell>@<version>` or `base/<name>@<version>`."""
        return self._call("GET", "/provenance/statement", p.StatementOut, params={"name": name})

    def sign(self, name: str) -> p.StatementOut:
        """Have the hub sign a version that an operator brings."""
        return self._call("POST", "/provenance/statement", p.StatementOut, p.SignIn(name=name))

    def signing_keys(self) -> list[p.KeyOut]:
        """The public keys that the hub believes."""
        return self._call("GET", "/provenance/keys", list[p.KeyOut])

    def verify(self, name: str) -> p.Verification:
        """Check a cell, a variant or a base: decisions, signatures, files."""
        return self._call("GET", "/provenance/verify", p.Verification, params={"name": name})

    def lineage(self, name: str, direction: str) -> p.LineageOut:
        """What a thing was made of (`up`), or what was made of it (`down`)."""
        params = {"name": name, "direction": direction}
        return self._call("GET", "/provenance/lineage", p.LineageOut, params=params)

    def decisions(self, cell: str, limit: int = 100) -> list[p.DecisionOut]:
        """Decisions about a cell, newest first."""
        params = {"cell": cell, "limit": str(limit)}
        return self._call("GET", "/provenance/decisions", list[p.DecisionOut], params=params)

    def policy(self) -> p.PolicyOut:
        """The promotion policy in force."""
        return self._call("GET", "/provenance/policy", p.PolicyOut)

    def set_policy(self, policy: dict[str, Any]) -> p.PolicyOut:
        """Put a promotion policy in force."""
        return self._call("PUT", "/provenance/policy", p.PolicyOut, p.PolicyIn(policy=policy))

    def approve(self, name: str, *, stage: str = "fleet", note: str = "") -> p.ApprovalOut:
        """Approve a variant's next move to a stage."""
        cell, _, version = name.partition("@")
        body = {"cell": cell, "version": version, "stage": stage, "note": note}
        return self._call("POST", "/provenance/approvals", p.ApprovalOut, body)
