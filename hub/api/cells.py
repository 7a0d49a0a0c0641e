"""Health and cells."""

from __future__ import annotations

from litestar import Controller, get, post
from litestar.params import JSONBody

from hub import __version__
from hub.api.auth import requires
from hub.api.parts import Hub, Text
from hub.schemas import Cell, CellIn, Health
from hub.tokens import Scope


@get("/health", sync_to_thread=True, opt={"public": True}, tags=["service"])
def health(services: Hub) -> Health:
    """Whether the hub answers, and the newest base it has."""
    return Health(status="ok", version=__version__, base=services.bases.newest_name())


class CellController(Controller):
    """Robot work cells."""

    path = "/cells"
    tags = ("cells",)

    @get(sync_to_thread=True)
    def list_cells(self, services: Hub) -> list[Cell]:
        """All cells, by name."""
        return services.cells.all()

    @post(sync_to_thread=True, guards=[requires(Scope.FINETUNE)])
    def create_cell(self, services: Hub, data: JSONBody[CellIn]) -> Cell:
        """Create a cell."""
        cell = services.cells.create(data.name, data.description)
        services.serving_folder.sync()  # robots may name the cell from now on; the base answers
        return cell

    @get("/{cell:str}", sync_to_thread=True)
    def get_cell(self, services: Hub, cell: Text) -> Cell:
        """One cell."""
        return services.cells.get(cell)
