"""Hand-offs: pictures of a queue that are labelled in another tool, and what comes back."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Scope
from hub.client.handoffs import HandOffCalls
from hub.http.access_policy import PRODUCTION, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas import handoff as s

_CHANGES = [requires(Scope.CONTRIBUTE)]
_PLACE = QueryParameter(max_length=400, description="At one place alone.")


class HandOffController(Controller):
    """Pictures at other labelling tools. `parcelhub label push` and `pull` speak with the tools."""

    path = "/labels"
    tags = ("labels",)

    @get("/cells/{cell:str}/handoffs", sync_to_thread=True)
    def list_handoffs(
        self, services: Hub, request: HubRequest, cell: Text, place: Annotated[str | None, _PLACE] = None
    ) -> list[s.HandOff]:
        """Pictures of a cell that are, or were, at other tools."""
        return services.labelling.handed(cell, place, identity_of(request))

    @post("/cells/{cell:str}/handoffs", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def hand_off(self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[s.HandOffIn]) -> list[s.HandOff]:
        """Hold pictures that wait for a place; the ones that are to be sent there, also those of a try before."""
        return services.labelling.hand_off(cell, data, identity_of(request))

    @put("/tasks/{task_id:str}/handoff", sync_to_thread=True, guards=_CHANGES)
    def say_sent(self, services: Hub, request: HubRequest, task_id: Text, data: JSONBody[s.Sent]) -> s.HandOff:
        """A picture got to its place."""
        return services.labelling.sent(task_id, data, identity_of(request))

    @post("/tasks/{task_id:str}/handoff", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def take_back(self, services: Hub, request: HubRequest, task_id: Text, data: JSONBody[s.Returned]) -> s.HandOff:
        """What the tool says of a picture; its labels are taken as if they had been made here. Once, however often."""
        return services.labelling.take_back(task_id, data, identity_of(request))

    @delete("/tasks/{task_id:str}/handoff", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def give_back(self, services: Hub, request: HubRequest, task_id: Text, place: Annotated[str, _PLACE]) -> s.HandOff:
        """Let a picture wait here again, after it was deleted there."""
        return services.labelling.give_back(task_id, place, identity_of(request))


RESOURCE = register(
    Resource(
        "handoffs",
        [HandOffController],
        rules=grouped(
            ("/labels/cells/{cell}", PRODUCTION, "GET /handoffs, POST /handoffs"),
            ("/labels/tasks/{task_id}", PRODUCTION, "PUT /handoff, POST /handoff, DELETE /handoff"),
        ),
        calls=HandOffCalls,
    )
)
