"""The audit log, as the operator reads it."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, get
from litestar.params import QueryParameter

from hub.accounts.tokens import Scope
from hub.client.audit import AuditCalls
from hub.errors import InputError
from hub.http.access_policy import OPERATOR, grouped
from hub.http.auth import requires
from hub.http.dependencies import Hub, HubRequest
from hub.http.resources import Resource, register
from hub.schemas import resources as r
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged


class AuditController(Controller):
    """Who changed what, when, and from where."""

    path = "/audit"
    tags = ("audit",)
    guards = (requires(Scope.ADMIN),)

    @get(sync_to_thread=True)
    def list_audit(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        who: Annotated[str | None, QueryParameter(max_length=300, description="Of one person or token alone.")] = None,
        action: Annotated[str | None, QueryParameter(max_length=100, description="Of one kind alone.")] = None,
    ) -> Response[list[r.AuditEntry]]:
        """Changes, newest first."""
        before = None
        if after:
            if not after.isdecimal() or len(after) > 18:
                raise InputError("'after' must be an entry's number")
            before = int(after)
        found = services.audit.page(limit=limit + 1, before=before, who=who, action=action)
        return paged(request, found, limit, lambda entry: entry.number)

    @get("/check", sync_to_thread=True)
    def check_audit(self, services: Hub) -> r.AuditCheck:
        """Compute the chain of digests again."""
        return services.audit.verify()


RESOURCE = register(
    Resource(
        "audit",
        [AuditController],
        rules=grouped(
            ("/audit", OPERATOR, "GET, GET /check"),
        ),
        calls=AuditCalls,
    )
)
