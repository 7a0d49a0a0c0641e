"""The client's side of the audit log."""

from __future__ import annotations

from hub.client.calls import Calls
from hub.schemas import resources as r


class AuditCalls(Calls):
    """These calls, as part of `HubClient`."""

    def audit(self, *, limit: int | None = None, **wanted: str) -> list[r.AuditEntry]:
        """Newest first; `wanted`: `who`, `action`."""
        return [one for page in self._pages("/audit", list[r.AuditEntry], wanted, limit=limit) for one in page]

    def check_audit(self) -> r.AuditCheck:
        """Compute the chain of digests again."""
        return self._call("GET", "/audit/check", r.AuditCheck)
