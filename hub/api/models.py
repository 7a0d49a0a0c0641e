"""Models: bases and variants, which of them serves a cell, and the robots' routing table."""

from __future__ import annotations

from typing import Any

from litestar import Controller, get, post
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK

from hub import schemas as s
from hub.api.auth import identity_of, requires
from hub.api.parts import Asked, Hub, Text
from hub.tokens import Scope


class ModelController(Controller):
    """Bases and variants."""

    path = "/models"
    tags = ("models",)

    @get(sync_to_thread=True)
    def list_models(self, services: Hub) -> s.Models:
        """Every base version and every variant."""
        return s.Models(bases=services.bases.all(), variants=services.variants.all())

    @get("/{cell:str}", sync_to_thread=True)
    def list_variants(self, services: Hub, cell: Text) -> list[s.Version]:
        """The variants of one cell, newest first."""
        return services.variants.all(services.cells.get(cell).name)

    @get("/{cell:str}/{version:str}", sync_to_thread=True)
    def get_variant(self, services: Hub, cell: Text, version: Text) -> s.Version:
        """One variant: metrics, lineage, stage."""
        return services.variants.get(cell, version)

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
        request: Asked,
    ) -> s.Moved:
        """Serve the variant to the robots of its cell."""
        actor = identity_of(request).name
        return services.promotions.promote(cell, version, data.stage, actor=actor, note=data.note)

    @post(
        "/{cell:str}/rollback",
        sync_to_thread=True,
        status_code=HTTP_200_OK,
        guards=[requires(Scope.PROMOTE)],
    )
    def rollback(self, services: Hub, cell: Text, data: JSONBody[s.RollbackIn], request: Asked) -> s.Moved:
        """Serve what the cell was served before its last promotion."""
        actor = identity_of(request).name
        return services.promotions.rollback(cell, data.stage, actor=actor, note=data.note)


@get("/routing", sync_to_thread=True, tags=["models"])
def routing(services: Hub) -> dict[str, Any]:
    """The table that the robots' server reads, as it is on disk."""
    return services.serving_folder.read()
