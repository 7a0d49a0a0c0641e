"""Health and cells."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT

from hub import __version__
from hub.accounts.tokens import Identity, Kind, Scope
from hub.client.cells import CellCalls
from hub.http.access_policy import CHANGE, OPEN, SEE, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas.core import Cell, CellIn, Health
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged
from hub.schemas.resources import CellChange


@get("/health", sync_to_thread=True, tags=["service"])
def health(services: Hub) -> Health:
    """Whether the hub answers, and the newest base it has."""
    return Health(status="ok", version=__version__, base=services.bases.newest_name())


class CellController(Controller):
    """Robot work cells."""

    path = "/cells"
    tags = ("cells",)

    @get(sync_to_thread=True)
    def list_cells(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        team: Annotated[str | None, QueryParameter(max_length=96, description="Of one team alone.")] = None,
        q: Annotated[str, QueryParameter(max_length=100, description="Part of the name.")] = "",
    ) -> Response[list[Cell]]:
        """All cells, by name."""
        found = services.cells.page(limit=limit + 1, after=after, team=team, contains=q)
        return paged(request, found, limit, lambda cell: cell.name)

    @post(sync_to_thread=True, guards=[requires(Scope.FINETUNE)])
    def create_cell(self, services: Hub, request: HubRequest, data: JSONBody[CellIn]) -> Cell:
        """Create a cell, for the caller's team unless it is said for which."""
        who = identity_of(request)
        who.require_team(data.team, f"the cell {data.name!r}")
        team = data.team or _home(who)
        cell = services.cells.create(data.name, data.description, team, data.classes)
        services.serving_folder.sync()  # robots may name the cell from now on; the base answers
        return cell

    @get("/{cell:str}", sync_to_thread=True)
    def get_cell(self, services: Hub, cell: Text) -> Cell:
        """One cell."""
        return services.cells.get(cell)

    @patch("/{cell:str}", sync_to_thread=True, guards=[requires(Scope.FINETUNE)])
    def change_cell(self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[CellChange]) -> Cell:
        """Change what is said of a cell and what there is in it; the operator may give it to another team."""
        who = identity_of(request)
        who.require_team(services.cells.get(cell).team, f"the cell {cell!r}")
        if data.team is not None:
            who.require(Scope.ADMIN)
        changed = services.cells.change(cell, description=data.description, team=data.team, classes=data.classes)
        if data.classes is not None:
            services.serving_folder.sync()
        return changed

    @delete("/{cell:str}", sync_to_thread=True, guards=[requires(Scope.FINETUNE)], status_code=HTTP_204_NO_CONTENT)
    def delete_cell(self, services: Hub, request: HubRequest, cell: Text) -> None:
        """Forget a cell that never had a variant."""
        identity_of(request).require_team(services.cells.get(cell).team, f"the cell {cell!r}")
        services.delete_cell(cell)


def _home(who: Identity) -> str:
    """Whose cell it is if nothing is said: the user's only team, or the user's own; the operator's is everybody's."""
    if who.kind is Kind.OPERATOR or (who.user is None and who.kind is not Kind.TEAM):
        return ""
    return next(iter(who.teams)) if len(who.teams) == 1 else who.home.lower()


RESOURCE = register(
    Resource(
        "cells",
        [health, CellController],
        rules=grouped(
            ("", OPEN, "GET /health"),
            ("/cells", SEE, "GET, GET /{cell}"),
            ("/cells", CHANGE, "POST, PATCH /{cell}, DELETE /{cell}"),
        ),
        calls=CellCalls,
    )
)
