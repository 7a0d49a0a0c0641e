"""Models: bases and variants, which of them serves a cell, and the robots' routing table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Scope
from hub.client.models import ModelCalls
from hub.errors import UnknownEvaluationError
from hub.http.access_policy import CHANGE, PRODUCTION, SEE, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.rollout.serving_folder import of_cells
from hub.schemas import core as s
from hub.schemas import resources as r
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged
from hub.services import Services
from registry.stage_types import HELD_STAGES
from registry.types import UNSET


class ModelController(Controller):
    """Bases and variants."""

    path = "/models"
    tags = ("models",)

    @get(sync_to_thread=True)
    def list_models(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        stage: Annotated[s.StageName | None, QueryParameter(description="At one stage alone.")] = None,
        q: Annotated[str, QueryParameter(max_length=100, description="Part of the cell's name.")] = "",
    ) -> Response[s.Models]:
        """Every base version, and a page of the variants, newest first."""
        hidden = services.privacy.hidden(identity_of(request))
        found = services.variants.page(limit=limit + 1, after=after, stage=stage, contains=q, hidden=hidden)
        shown = _shown(services, request, found)
        answer = paged(request, shown, limit, lambda one: one.name)
        return Response(s.Models(bases=services.bases.all(), variants=answer.content), headers=dict(answer.headers))

    @get("/{cell:str}", sync_to_thread=True)
    def list_variants(
        self, services: Hub, request: HubRequest, cell: Text, limit: Limit = DEFAULT_LIMIT, after: After = ""
    ) -> Response[list[s.Version]]:
        """The variants of one cell, newest first."""
        name, hidden = services.cells.get(cell).name, services.privacy.hidden(identity_of(request))
        found = services.variants.page(limit=limit + 1, after=after, cell=name, hidden=hidden)
        return paged(request, _shown(services, request, found), limit, lambda one: one.name)

    @get("/{cell:str}/{version:str}", sync_to_thread=True)
    def get_variant(self, services: Hub, request: HubRequest, cell: Text, version: Text) -> s.Version:
        """One variant: metrics, lineage, stage."""
        services.require_variant(identity_of(request), cell, version)
        return _shown(services, request, [services.variants.get(cell, version)])[0]

    @post(
        "/{cell:str}/{version:str}/promote",
        sync_to_thread=True,
        status_code=HTTP_200_OK,
        guards=[requires(Scope.PROMOTE)],
    )
    def promote(
        self,
        services: Hub,
        cell: Text,
        version: Text,
        data: JSONBody[s.PromoteIn],
        request: HubRequest,
    ) -> s.Moved:
        """Serve the variant to the robots of its cell."""
        actor = _promoter(services, request, cell)
        moved = services.promotions.promote(
            cell,
            version,
            data.stage,
            actor=actor,
            note=data.note,
            expected=UNSET if isinstance(data.expected, msgspec.UnsetType) else data.expected,
        )
        note(request, decision=moved.decision, before=moved.previous, now=moved.version)
        return _placed(services, moved)

    @post(
        "/{cell:str}/rollback",
        sync_to_thread=True,
        status_code=HTTP_200_OK,
        guards=[requires(Scope.PROMOTE)],
    )
    def rollback(self, services: Hub, cell: Text, data: JSONBody[s.RollbackIn], request: HubRequest) -> s.Moved:
        """Serve what the cell was served before its last promotion."""
        actor = _promoter(services, request, cell)
        expected = UNSET if isinstance(data.expected, msgspec.UnsetType) else data.expected
        moved = services.promotions.rollback(cell, data.stage, actor=actor, note=data.note, expected=expected)
        note(request, decision=moved.decision, before=moved.previous, now=moved.version)
        return _placed(services, moved)


class EvaluationController(Controller):
    """How models measured."""

    path = "/evaluations"
    tags = ("models",)

    @get(sync_to_thread=True)
    def list_evaluations(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        model: Annotated[str | None, QueryParameter(max_length=300, description="Of one model alone.")] = None,
    ) -> Response[list[r.Evaluation]]:
        """Evaluations, newest first."""
        who = identity_of(request)
        found = services.evaluations.page(
            limit=limit + 1,
            after=after,
            model=model,
            hidden=services.privacy.hidden(who),
            namespaces=None if who.sees_all else who.namespaces,
        )
        return paged(request, _judged(services, request, found), limit, lambda one: one.id)

    @get("/{evaluation_id:str}", sync_to_thread=True)
    def get_evaluation(self, services: Hub, request: HubRequest, evaluation_id: Text) -> r.Evaluation:
        """One evaluation."""
        found = services.evaluations.get(evaluation_id)
        who = identity_of(request)
        hidden = services.evaluations.cell_of(found) in services.privacy.hidden(who)
        if hidden or services.privacy.secret_datasets([found.dataset.partition("@")[0]], who):
            raise UnknownEvaluationError(f"there is no evaluation {evaluation_id!r}")
        return _judged(services, request, [found])[0]

    @post(sync_to_thread=True, guards=[requires(Scope.FINETUNE)])
    def add_evaluation(self, services: Hub, request: HubRequest, data: JSONBody[r.EvaluationIn]) -> r.Evaluation:
        """Keep how a model measured; it cannot be changed afterwards."""
        who = identity_of(request)
        name, _, version = data.model.partition("@")
        if "/" in name:
            services.bases.get(data.model)
        else:
            who.require_team(services.cells.get(name).team, f"the cell {name!r}")
            services.require_variant(who, name, version)
            services.variants.get(name, version)
        return services.evaluations.add(
            data.model, data.metrics, dataset=data.dataset, deck=data.deck, created_by=who.owner
        )


def _placed(services: Services, moved: s.Moved) -> s.Moved:
    """The move, with what the robots' server says of it; waits a moment for it to be tried."""
    place = services.serving_folder.placement.settled({moved.stage: moved.version}).get(moved.stage)
    return moved if place is None else msgspec.structs.replace(moved, state=place.state, reason=place.reason)


def _with_places(services: Services, found: Sequence[s.Version]) -> list[s.Version]:
    """The variants, each with why it does not answer though it was promoted."""
    held = {one.name: one.name for one in found if one.stage in HELD_STAGES}
    places = services.serving_folder.placement.of(held) if held else {}
    bad = {name: one.reason for name, one in places.items() if one.state == "promoted, not in place"}
    return [msgspec.structs.replace(one, not_in_place=bad[one.name]) if one.name in bad else one for one in found]


def _promoter(services: Services, request: HubRequest, cell: str) -> str:
    """Who asks, if the cell is theirs to change."""
    who = identity_of(request)
    who.require_team(services.cells.get(cell).team, f"the cell {cell!r}")
    services.require_production(who, cell)
    return who.owner


def _shown(services: Services, request: HubRequest, found: Sequence[s.Version]) -> list[s.Version]:
    """The variants, without the names of datasets that the caller does not see."""
    found = _with_places(services, found)
    names = [one.dataset.partition("@")[0] for one in found]
    seen = services.datasets.readable_names(names, identity_of(request)) if any(names) else set()
    return [
        one if name in seen or not name else msgspec.structs.replace(one, dataset="")
        for one, name in zip(found, names, strict=True)
    ]


def _judged(services: Services, request: HubRequest, found: Sequence[r.Evaluation]) -> list[r.Evaluation]:
    names = [one.dataset.partition("@")[0] for one in found]
    seen = services.datasets.readable_names(names, identity_of(request)) if any(names) else set()
    return [
        one if name in seen or not name else msgspec.structs.replace(one, dataset="")
        for one, name in zip(found, names, strict=True)
    ]


@get("/routing", sync_to_thread=True, tags=["models"])
def routing(services: Hub, request: HubRequest) -> dict[str, Any]:
    """The table that the robots' server reads, as it is on disk; without the cells that are not the caller's."""
    table = services.serving_folder.read()
    places = services.privacy.workplaces(identity_of(request))
    return table if places is None else of_cells(table, places)


RESOURCE = register(
    Resource(
        "models",
        [ModelController, routing, EvaluationController],
        rules=grouped(
            ("/models", SEE, "GET, GET /{cell}, GET /{cell}/{version}"),
            ("/models/{cell}", CHANGE, "POST /{version}/promote, POST /rollback"),
            ("/routing", PRODUCTION, "GET"),
            ("/evaluations", SEE, "GET, GET /{evaluation_id}"),
            ("/evaluations", CHANGE, "POST"),
        ),
        calls=ModelCalls,
    )
)
