"""Outcomes of picks: robots report them, people ask for success rates."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from litestar import Controller, get, post
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Identity, Scope
from hub.client.outcomes import OutcomeCalls
from hub.errors import ForbiddenError, InputError
from hub.http.access_policy import PRODUCTION, REPORT, grouped
from hub.http.auth import identity_of
from hub.http.dependencies import Hub, HubRequest
from hub.http.resources import Resource, register
from hub.rollout.ballots import Ballot
from hub.rollout.statistics import Rate
from hub.rollout.telemetry import DIMENSIONS
from hub.schemas import serving as v
from hub.services import Services

DEFAULT_DAYS = 30.0
Wanted = Annotated[str | None, QueryParameter(max_length=200)]


def reports(connection: ASGIConnection, _: BaseRouteHandler) -> None:  # type: ignore[type-arg]
    """A guard: robots, and those who may promote. Raises ForbiddenError for others."""
    who = identity_of(connection)
    if who.robot_cells is None and not who.may(Scope.PROMOTE):
        raise ForbiddenError(f"the token {who.name!r} is no robot's and lacks the scope 'promote'")


class OutcomeController(Controller):
    """What the picks did."""

    path = "/outcomes"
    tags = ("outcomes",)

    @post(sync_to_thread=True, status_code=HTTP_200_OK, guards=[reports], opt={"robots": True})
    def report_outcomes(self, services: Hub, request: HubRequest, data: JSONBody[v.OutcomesIn]) -> v.OutcomesTaken:
        """Report outcomes of picks. Safe to repeat: of a request id the first outcome stays."""
        who = identity_of(request)
        production = services.production
        services.registry.blobs.check_room()
        production.telemetry.look()
        ballot = Ballot(who, services.cells, production.telemetry, now=time.time())
        rows = [ballot.admit(msgspec.structs.asdict(outcome)) for outcome in data.outcomes]
        taken, repeated = production.telemetry.add_outcomes(rows, reporter=who.name, speaker=ballot.speaker)
        production.watch.arrived({row["cell"] for row in rows})
        return v.OutcomesTaken(taken=taken, repeated=repeated)

    @get("/rates", sync_to_thread=True)
    def get_rates(
        self,
        services: Hub,
        request: HubRequest,
        by: Annotated[
            str, QueryParameter(max_length=100, description="Dimensions, comma-separated: cell, variant, stage, class…")
        ] = "cell",
        cell: Wanted = None,
        variant: Wanted = None,
        stage: Wanted = None,
        class_: Annotated[str | None, QueryParameter(name="class", max_length=200)] = None,
        days: Annotated[float, QueryParameter(gt=0, le=3650, description="How far back.")] = DEFAULT_DAYS,
    ) -> v.Rates:
        """Success rates with Wilson intervals at 95 %, by any of the dimensions."""
        names = [name.strip() for name in by.split(",") if name.strip()]
        unknown = [name for name in names if name not in DIMENSIONS]
        if unknown or len(set(names)) != len(names):
            raise InputError(f"by: {', '.join(unknown) or by!r}: choose each once of {', '.join(DIMENSIONS)}")
        wanted = {"cell": cell, "variant": variant, "stage": stage, "class": class_}
        where = {name: value for name, value in wanted.items() if value is not None}
        return success_rates(services, names, where, days, who=identity_of(request))


def success_rates(
    services: Services, by: Sequence[str], where: Mapping[str, str], days: float, *, who: Identity
) -> v.Rates:
    """Success rates of the last `days` by dimensions (of `hub.rollout.telemetry.DIMENSIONS`), for the API and the
    pages; of the cells that `who` works in."""
    groups, unmatched = services.production.telemetry.rates(
        by, where=where, since=time.time() - days * 86_400, cells=services.privacy.workplaces(who)
    )
    rates = []
    for group in groups:
        rate = Rate(group.successes, group.picks)
        low, high = rate.interval
        rates.append(
            v.Rate(
                group=dict(zip(by, group.key, strict=True)),
                picks=group.picks,
                successes=group.successes,
                rate=rate.value,
                low=low,
                high=high,
                outcomes=dict(group.outcomes),
            )
        )
    return v.Rates(by=list(by), rates=rates, unmatched=unmatched)


RESOURCE = register(
    Resource(
        "outcomes",
        [OutcomeController],
        rules=grouped(
            ("/outcomes", REPORT, "POST"),
            ("/outcomes", PRODUCTION, "GET /rates"),
        ),
        calls=OutcomeCalls,
    )
)
