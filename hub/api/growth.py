"""The base's growth: contributions of datasets, the policy, and growths."""

from __future__ import annotations

import msgspec
from litestar import Controller, get, post, put
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from hub.accounts.tokens import Identity, Scope
from hub.client.growth import GrowthCalls
from hub.http.access_policy import OPERATOR, SEE, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas.growth import (
    Contribution,
    ContributionDecision,
    GrowIn,
    GrowthNote,
    GrowthOutlook,
    GrowthPolicy,
    GrowthPolicySet,
    GrowthRun,
)
from hub.services import Services
from registry.types import RepoId


def contributions_of(services: Services, who: Identity, repo: RepoId) -> list[Contribution]:
    """The offers of a dataset with what they did for whom, as `who` may see it. Raises RepoNotFoundError."""
    found = services.growth.contributions.of(repo, who)

    def sees(cell: str) -> bool:
        return services.privacy.sees(who, cell) and services.privacy.works_in(who, cell)

    return [msgspec.structs.replace(one, credits=services.credits.of(one.id, sees)) for one in found]


class ContributionController(Controller):
    """Offers of datasets to the base."""

    path = "/datasets/{namespace:str}/{name:str}"
    tags = ("growth",)

    @get("/contributions", sync_to_thread=True)
    def list_contributions(self, services: Hub, request: HubRequest, namespace: Text, name: Text) -> list[Contribution]:
        """The dataset's offers, newest first: state, who and when, what the checks and the test said, and what bases
        that learnt from it did for whom."""
        return contributions_of(services, identity_of(request), RepoId("dataset", namespace, name))


class GrowthController(Controller):
    """The next base. It is everybody's, so that the operator alone says when."""

    path = "/growth"
    tags = ("growth",)
    guards = (requires(Scope.ADMIN),)

    @get(sync_to_thread=True)
    def get_outlook(self, services: Hub) -> GrowthOutlook:
        """What growing now would do: what is learnt from, who judges, which variants are put on the new base."""
        return services.growth.outlook()

    @get("/policy", sync_to_thread=True)
    def get_growth_policy(self, services: Hub) -> GrowthPolicy:
        """The policy in force."""
        return services.growth.policies.get()

    @put("/policy", sync_to_thread=True)
    def set_growth_policy(self, services: Hub, request: HubRequest, data: JSONBody[GrowthPolicySet]) -> GrowthPolicy:
        """Declare a policy: a new version of it."""
        who = identity_of(request).owner
        return services.growth.policies.set(data.policy, who, data.note, expected=data.expected)

    @get("/contributions", sync_to_thread=True)
    def list_all_contributions(self, services: Hub) -> list[Contribution]:
        """All offers that stand, oldest first."""
        return services.growth.contributions.listed()

    @post("/contributions/{contribution:str}/decision", sync_to_thread=True, status_code=HTTP_200_OK)
    def decide_contribution(
        self, services: Hub, request: HubRequest, contribution: Text, data: JSONBody[ContributionDecision]
    ) -> Contribution:
        """Accept or refuse a contribution where the test does not tell, or against what it tells."""
        accept, who = data.decision == "accept", identity_of(request).owner
        return services.growth.contributions.decide(contribution, accept, who, data.note, data.expected)

    @get("/runs", sync_to_thread=True)
    def list_growths(self, services: Hub) -> list[GrowthRun]:
        """Growths, newest first."""
        return services.growth.page()

    @post("/runs", sync_to_thread=True, status_code=HTTP_202_ACCEPTED)
    def grow(self, services: Hub, request: HubRequest, data: JSONBody[GrowIn]) -> GrowthRun:
        """Let the base grow now. While a growth is under way, that one is the answer."""
        return services.growth.grow(identity_of(request).owner, data.note)

    @get("/runs/{run:str}", sync_to_thread=True)
    def get_growth(self, services: Hub, run: Text) -> GrowthRun:
        """One growth, with what became of each cell."""
        return services.growth.get(run)

    @post("/runs/{run:str}/stop", sync_to_thread=True, status_code=HTTP_200_OK)
    def stop_growth(self, services: Hub, request: HubRequest, run: Text, data: JSONBody[GrowthNote]) -> GrowthRun:
        """End a growth: its jobs end, and cells that have not moved stay."""
        return services.growth.stop(run, identity_of(request).owner, data.note)


RESOURCE = register(
    Resource(
        "growth",
        [ContributionController, GrowthController],
        rules=grouped(
            ("/datasets/{namespace}/{name}", SEE, "GET /contributions"),
            ("/growth", OPERATOR, "GET, GET /policy, PUT /policy, GET /contributions, GET /runs, POST /runs"),
            ("/growth", OPERATOR, "GET /runs/{run}, POST /runs/{run}/stop"),
            (
                "/growth",
                OPERATOR,
                "POST /contributions/{contribution}/decision",
            ),
        ),
        calls=GrowthCalls,
    )
)
