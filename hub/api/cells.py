"""Health and cells."""

from __future__ import annotations

from importlib import metadata
from typing import ClassVar

from litestar import Controller, get, post

from hub.api.auth import requires
from hub.schemas import Cell, CellIn, Health
from hub.services import Services
from hub.tokens import Scope


@get("/health", sync_to_thread=True, opt={"public": True}, tags=["service"])
def health(services: Services) -> Health:
    """Whether the hub answers, and the newest base it has."""
    return Health(status="ok", version=metadata.version("parcelhub"), base=services.bases.newest_name())


class CellController(Controller):
    """Robot work cells."""

    path = "/cells"
    tags: ClassVar[list[str]] = ["cells"]

    @get(sync_to_thread=True)
    def list_cells(self, services: Services) -> list[Cell]:
        """All cells, by name."""
        return services.cells.list()

    @post(sync_to_thread=True, guards=[requires(Scope.FINETUNE)])
    def create_cell(self, services: Services, data: CellIn) -> Cell:
        """Create a cell."""
        return services.cells.create(data.name, data.description)

    @get("/{cell:str}", sync_to_thread=True)
    def get_cell(self, services: Services, cell: str) -> Cell:
        """One cell."""
        return services.cells.get(cell)
