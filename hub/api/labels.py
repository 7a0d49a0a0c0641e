"""Labelling: the queue of each cell, the regions of a picture, and the commits that come of labels."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Scope
from hub.client.labels import LabelCalls
from hub.http.access_policy import PRODUCTION, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas import labels as s
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged

_CHANGES = [requires(Scope.CONTRIBUTE)]


class LabelController(Controller):
    """Pictures that a person is to label."""

    path = "/labels"
    tags = ("labels",)

    @get(sync_to_thread=True)
    def list_label_cells(self, services: Hub, request: HubRequest) -> list[s.LabelCell]:
        """The cells that the caller works in, with how many pictures wait in each."""
        return services.labelling.cells(identity_of(request))

    @get("/cells/{cell:str}", sync_to_thread=True)
    def get_label_cell(self, services: Hub, request: HubRequest, cell: Text) -> s.LabelCell:
        """How a cell's pictures are labelled, and how many are in which state."""
        return services.labelling.cell(cell, identity_of(request))

    @put("/cells/{cell:str}", sync_to_thread=True, guards=_CHANGES)
    def set_label_cell(
        self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[s.LabelSettings]
    ) -> s.LabelCell:
        """Choose where labels go, whether a second person looks, and what is asked first."""
        return services.labelling.settle(cell, data, identity_of(request))

    @get("/cells/{cell:str}/tasks", sync_to_thread=True)
    def list_label_tasks(
        self,
        services: Hub,
        request: HubRequest,
        cell: Text,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        in_state: Annotated[s.TaskState | None, QueryParameter(name="state", description="In one state alone.")] = None,
    ) -> Response[list[s.Task]]:
        """Tasks, what is asked first before."""
        who = identity_of(request)
        found = services.labelling.page(cell, who, state=in_state, limit=limit + 1, after=after)
        return paged(request, found, limit, lambda one: one.id)

    @get("/cells/{cell:str}/stats", sync_to_thread=True)
    def get_label_stats(self, services: Hub, request: HubRequest, cell: Text) -> s.LabelStats:
        """What labelling cost: seconds, clicks and keys, and what became of what was proposed."""
        return services.labelling.stats(cell, identity_of(request))

    @post("/cells/{cell:str}/fill", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def fill_labels(self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[s.FillIn]) -> dict[str, int]:
        """Make tasks of captures, or of a dataset's pictures that have no labels; `made` says how many."""
        return {"made": services.labelling.fill(cell, data, identity_of(request))}

    @post("/cells/{cell:str}/next", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def next_label_task(self, services: Hub, request: HubRequest, cell: Text) -> s.TaskWork | None:
        """The next picture, held for the caller for ten minutes; null where none waits."""
        return services.labelling.next(cell, identity_of(request))

    @post("/cells/{cell:str}/propagate", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def propagate_labels(
        self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[s.PropagateIn]
    ) -> s.Propagated:
        """Propose for pictures that look nearly the same what was verified in two of them or more."""
        return services.labelling.propagate(cell, data.look_alike, identity_of(request))

    @get("/cells/{cell:str}/batches", sync_to_thread=True)
    def list_label_batches(
        self, services: Hub, request: HubRequest, cell: Text, limit: Limit = DEFAULT_LIMIT, after: After = ""
    ) -> Response[list[s.Batch]]:
        """Labels that became commits, newest first."""
        found = services.labelling.batches(cell, identity_of(request), limit=limit + 1, after=after)
        return paged(request, found, limit, lambda one: one.id)

    @post("/cells/{cell:str}/batches", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def export_labels(self, services: Hub, request: HubRequest, cell: Text) -> s.Batch | None:
        """Make a commit of what is labelled; null where nothing waits."""
        made = services.labelling.export(cell, identity_of(request))
        if made is not None:
            note(request, dataset=made.dataset, batch=made.id)
        return made

    @delete("/cells/{cell:str}/batches/{batch_id:str}", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def undo_labels(self, services: Hub, request: HubRequest, cell: Text, batch_id: Text) -> s.Batch:
        """Take a batch out of its dataset by another commit; its pictures wait again."""
        return services.labelling.undo(cell, batch_id, identity_of(request))

    @get("/tasks/{task_id:str}", sync_to_thread=True)
    def get_label_task(self, services: Hub, request: HubRequest, task_id: Text) -> s.TaskWork:
        """One picture with its regions."""
        return services.labelling.work(task_id, identity_of(request))

    @get("/tasks/{task_id:str}/image", sync_to_thread=True)
    def get_label_image(self, services: Hub, request: HubRequest, task_id: Text) -> Response[bytes]:
        """The picture, JPEG or PNG, as it came."""
        data, kind, _, _ = services.labelling.picture(task_id, identity_of(request))
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=86400, immutable"}
        return Response(data, media_type=kind, headers=headers)

    @post("/tasks/{task_id:str}/accept", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def accept_labels(self, services: Hub, request: HubRequest, task_id: Text, data: JSONBody[s.Accept]) -> s.Task:
        """The labels of a picture that the caller holds. The same answer sent again is taken once."""
        return services.labelling.accept(task_id, data, identity_of(request))

    @post("/tasks/{task_id:str}/move", sync_to_thread=True, status_code=HTTP_200_OK, guards=_CHANGES)
    def move_label_task(self, services: Hub, request: HubRequest, task_id: Text, data: JSONBody[s.Move]) -> s.TaskWork:
        """Skip it, say that it is not to be learnt from, give it back, keep it for longer, or open it again."""
        return services.labelling.move(task_id, data, identity_of(request))

    @put("/tasks/{task_id:str}/proposal", sync_to_thread=True, guards=_CHANGES)
    def propose_labels(
        self, services: Hub, request: HubRequest, task_id: Text, data: JSONBody[s.ProposalIn]
    ) -> s.TaskWork:
        """What a model says of a picture that nobody has looked at yet."""
        return services.labelling.propose(task_id, data, identity_of(request))


RESOURCE = register(
    Resource(
        "labels",
        [LabelController],
        rules=grouped(
            ("/labels", PRODUCTION, "GET"),
            ("/labels/cells/{cell}", PRODUCTION, "GET, PUT, GET /tasks, GET /batches, GET /stats, POST /fill"),
            ("/labels/cells/{cell}", PRODUCTION, "POST /next, POST /propagate, POST /batches"),
            (
                "/labels/cells/{cell}",
                PRODUCTION,
                "DELETE /batches/{batch_id}",
            ),
            ("/labels/tasks/{task_id}", PRODUCTION, "GET, GET /image, POST /accept, POST /move, PUT /proposal"),
        ),
        calls=LabelCalls,
    )
)
