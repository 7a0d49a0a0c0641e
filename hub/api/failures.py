"""Failed picks: why they failed, and what persons say it was."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Scope
from hub.api.captures import moment
from hub.client.failures import FailureCalls
from hub.http.access_policy import PRODUCTION, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas.failures import CorrectionIn, Failure
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged
from serving.observed.failure_kinds import Verdict


class FailureController(Controller):
    """Picks that were no success."""

    path = "/failures"
    tags = ("failures",)

    @get(sync_to_thread=True)
    def list_failures(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        cell: Annotated[str | None, QueryParameter(max_length=200, description="Of one cell alone.")] = None,
        verdict: Annotated[Verdict | None, QueryParameter(description="Of one verdict alone.")] = None,
        since: Annotated[str | None, QueryParameter(max_length=40, description="Day or time, UTC.")] = None,
        until: Annotated[str | None, QueryParameter(max_length=40, description="Day or time, UTC; not later.")] = None,
    ) -> Response[list[Failure]]:
        """Failed picks, newest first, each with its verdict and the evidence."""
        services.production.failures.catch_up()
        found = services.production.failures.page(
            places=services.privacy.workplaces(identity_of(request)),
            limit=limit + 1,
            after=after,
            cell=cell,
            verdict=verdict,
            since=moment(since, "since"),
            until=moment(until, "until", end=True),
        )
        return paged(request, found, limit, lambda one: one.id)

    @get("/{failure_id:str}", sync_to_thread=True)
    def get_failure(self, services: Hub, request: HubRequest, failure_id: Text) -> Failure:
        """One failed pick: what the robot said, the verdict and what speaks for it."""
        return services.production.failures.get(failure_id, services.privacy.workplaces(identity_of(request)))

    @post("/{failure_id:str}/correct", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)])
    def correct_failure(
        self, services: Hub, request: HubRequest, failure_id: Text, data: JSONBody[CorrectionIn]
    ) -> Failure:
        """Say what the cause was. It goes before the rules' verdict and is kept with your name."""
        who = identity_of(request)
        places = services.privacy.workplaces(who)
        services.production.failures.get(failure_id, places)
        services.production.failures.correct(failure_id, data.verdict, who.owner, data.note)
        return services.production.failures.get(failure_id, places)


RESOURCE = register(
    Resource(
        "failures",
        [FailureController],
        rules=grouped(
            ("/failures", PRODUCTION, "GET, GET /{failure_id}, POST /{failure_id}/correct"),
        ),
        calls=FailureCalls,
    )
)
