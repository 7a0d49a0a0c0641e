"""A REST resource: short notes about cells, kept while the hub runs. Schema, service, routes and client in one file."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from hub.accounts.tokens import Scope
from hub.client.calls import Calls
from hub.http.access_policy import CHANGE, PRODUCTION
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.services import Services

# --- schema -----------------------------------------------------------------------------------------------------------


class NoteIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What a client sends: bounded, and a misspelt field is an error."""

    text: Annotated[str, Meta(min_length=1, max_length=500)]


class Note(Struct, frozen=True):
    """What the hub answers."""

    text: str
    author: str


# --- service ----------------------------------------------------------------------------------------------------------


class Notes:
    """Made once per application, with the hub's services at hand."""

    def __init__(self, services: Services) -> None:
        self._cells = services.cells
        self._notes: dict[str, list[Note]] = {}

    def of(self, cell: str) -> list[Note]:
        """Raises UnknownCellError."""
        return self._notes.setdefault(self._cells.get(cell).name, [])


# --- routes -----------------------------------------------------------------------------------------------------------


class NoteController(Controller):
    """Notes of a cell."""

    path = "/cells/{cell:str}/notes"
    tags = ("notes",)

    @get(sync_to_thread=True)
    def list_notes(self, services: Hub, service: NamedDependency[Notes], request: HubRequest, cell: Text) -> list[Note]:
        """The notes, oldest first."""
        services.require_production(identity_of(request), cell)
        return service.of(cell)

    @post(sync_to_thread=True, guards=[requires(Scope.FINETUNE)])
    def add_note(
        self, services: Hub, service: NamedDependency[Notes], request: HubRequest, cell: Text, data: JSONBody[NoteIn]
    ) -> Note:
        """Add one."""
        who = identity_of(request)
        who.require_team(services.cells.get(cell).team, f"the cell {cell!r}")
        service.of(cell).append(Note(data.text, who.owner))
        return service.of(cell)[-1]


# --- client -----------------------------------------------------------------------------------------------------------


class NoteCalls(Calls):
    """As in `client.of_resource("notes").add("dock-7", "the lamp was changed")`."""

    def all(self, cell: str) -> list[Note]:
        """The notes of a cell."""
        return self._call("GET", f"/cells/{quote(cell, safe='')}/notes", list[Note])

    def add(self, cell: str, text: str) -> Note:
        """Add one."""
        return self._call("POST", f"/cells/{quote(cell, safe='')}/notes", Note, NoteIn(text))


ADDRESS = "/cells/{cell}/notes"
register(
    Resource(
        "notes",
        [NoteController],
        rules={f"GET {ADDRESS}": PRODUCTION, f"POST {ADDRESS}": CHANGE},
        calls=NoteCalls,
        service=Notes,
    )
)
