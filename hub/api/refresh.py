"""Refreshes of a cell: its policy, its runs, and its timeline."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, get, post, put
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from hub.accounts.tokens import Identity, Scope
from hub.client.refresh import RefreshCalls
from hub.errors import UnknownCellError
from hub.http.access_policy import CHANGE, PRODUCTION, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.loop.refreshes import check_labels
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged
from hub.schemas.refresh import Refresh, RefreshNote, RefreshPolicy, RefreshPolicySet, RefreshRun, Step
from hub.services import Services


def seen_cell(services: Services, who: Identity, cell: str) -> None:
    """Raise UnknownCellError unless `who` works in the cell, and its variants exist for them."""
    services.cells.get(cell)
    services.require_production(who, cell)
    if not services.privacy.sees(who, cell):
        raise UnknownCellError(f"there is no cell {cell!r} of yours")


def changer(services: Services, who: Identity, cell: str) -> None:
    """As `seen_cell`, and the cell must be of a team of theirs. Raises ForbiddenError."""
    seen_cell(services, who, cell)
    who.require_team(services.cells.get(cell).team, f"the cell {cell!r}")


def timeline_of(
    services: Services, who: Identity, cell: str, *, limit: int, after: str, kinds: tuple[str, ...] = ()
) -> list[Step]:
    """A page of a cell's timeline, as `who` may see it."""
    seen_cell(services, who, cell)
    labels = services.refreshes.label_datasets(cell)
    seen = services.datasets.readable_names(labels, who)
    return services.timeline.page(cell, limit=limit, after=after, labels=seen, kinds=kinds)


class RefreshController(Controller):
    """When a cell's variant is trained again, and what came of it."""

    path = "/cells/{cell:str}"
    tags = ("refresh",)

    @get("/timeline", sync_to_thread=True)
    def get_timeline(
        self,
        services: Hub,
        request: HubRequest,
        cell: Text,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        kind: Annotated[str, QueryParameter(max_length=40, description="Steps of one kind alone.")] = "",
    ) -> Response[list[Step]]:
        """What happened to the cell and why, newest first."""
        kinds = (kind,) if kind else ()
        found = timeline_of(services, identity_of(request), cell, limit=limit + 1, after=after, kinds=kinds)
        return paged(request, found, limit, lambda one: one.id)

    @get("/refresh", sync_to_thread=True)
    def get_refresh(self, services: Hub, request: HubRequest, cell: Text) -> Refresh:
        """The cell's policy, what it says now and why, and the newest refreshes."""
        seen_cell(services, identity_of(request), cell)
        return services.refreshes.of(cell)

    @get("/refresh/policies", sync_to_thread=True)
    def list_refresh_policies(self, services: Hub, request: HubRequest, cell: Text) -> list[RefreshPolicy]:
        """Every policy that the cell had, newest first: who set it when."""
        seen_cell(services, identity_of(request), cell)
        return services.refreshes.policies.history(cell)

    @put("/refresh/policy", sync_to_thread=True, guards=[requires(Scope.FINETUNE)])
    def set_refresh_policy(
        self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[RefreshPolicySet]
    ) -> RefreshPolicy:
        """Declare the cell's policy: a new version of it."""
        who = identity_of(request)
        changer(services, who, cell)
        check_labels(data.policy.labels, services.may_download(who))
        return services.refreshes.set_policy(cell, data.policy, who.owner, data.note, expected=data.expected)

    @post("/refresh/pause", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.FINETUNE)])
    def pause_refresh(
        self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[RefreshNote]
    ) -> RefreshPolicy:
        """Let the rule wait until it is resumed. What runs goes on."""
        who = identity_of(request)
        changer(services, who, cell)
        return services.refreshes.pause(cell, who.owner, data.note)

    @post("/refresh/resume", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.FINETUNE)])
    def resume_refresh(
        self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[RefreshNote]
    ) -> RefreshPolicy:
        """Let the rule go on."""
        who = identity_of(request)
        changer(services, who, cell)
        return services.refreshes.pause(cell, who.owner, data.note, paused=False)

    @post("/refresh/now", sync_to_thread=True, status_code=HTTP_202_ACCEPTED, guards=[requires(Scope.FINETUNE)])
    def refresh_now(self, services: Hub, request: HubRequest, cell: Text) -> RefreshRun:
        """Start a refresh by hand. While one is under way, that one is the answer."""
        who = identity_of(request)
        changer(services, who, cell)
        return services.refreshes.now(cell, who.owner)

    @get("/refresh/runs", sync_to_thread=True)
    def list_refreshes(
        self, services: Hub, request: HubRequest, cell: Text, limit: Limit = DEFAULT_LIMIT, after: After = ""
    ) -> Response[list[RefreshRun]]:
        """The cell's refreshes, newest first."""
        seen_cell(services, identity_of(request), cell)
        return paged(request, services.refreshes.page(cell, limit=limit + 1, after=after), limit, lambda one: one.id)

    @get("/refresh/runs/{run:str}", sync_to_thread=True)
    def get_refresh_run(self, services: Hub, request: HubRequest, cell: Text, run: Text) -> RefreshRun:
        """One refresh."""
        seen_cell(services, identity_of(request), cell)
        return services.refreshes.get(cell, run)

    @post(
        "/refresh/runs/{run:str}/veto", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)]
    )
    def veto_refresh(
        self, services: Hub, request: HubRequest, cell: Text, run: Text, data: JSONBody[RefreshNote]
    ) -> RefreshRun:
        """Stop a refresh, or put away the candidate that it offers."""
        who = identity_of(request)
        changer(services, who, cell)
        return services.refreshes.veto(cell, run, who.owner, data.note)

    @post(
        "/refresh/runs/{run:str}/undo", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)]
    )
    def undo_refresh(
        self, services: Hub, request: HubRequest, cell: Text, run: Text, data: JSONBody[RefreshNote]
    ) -> RefreshRun:
        """Take back what a refresh offered, from every stage that it has."""
        who = identity_of(request)
        changer(services, who, cell)
        return services.refreshes.undo(cell, run, who.owner, data.note)


RESOURCE = register(
    Resource(
        "refresh",
        [RefreshController],
        rules=grouped(
            ("/cells/{cell}", PRODUCTION, "GET /timeline, GET /refresh, GET /refresh/policies, GET /refresh/runs"),
            ("/cells/{cell}/refresh", CHANGE, "PUT /policy, POST /pause, POST /resume, POST /now"),
            ("/cells/{cell}/refresh/runs/{run}", PRODUCTION, "GET"),
            ("/cells/{cell}/refresh/runs/{run}", CHANGE, "POST /veto, POST /undo"),
        ),
        calls=RefreshCalls,
    )
)
