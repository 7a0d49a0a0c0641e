"""Labelling: the queues of the cells, the page on which one labels, and what its script calls.

The script speaks as `hub.api.labels` does, with the session in place of a bearer token; every call but reading carries
the proof of a form in a header.
"""

from __future__ import annotations

import io

from litestar import Response, get, post, put
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK
from PIL import Image, UnidentifiedImageError

from hub.accounts.tokens import Scope
from hub.errors import RefusedFileError
from hub.http.audit import note
from hub.schemas import labels as s
from hub.web.dependencies import Parts, Text
from hub.web.guards import WebRequest, identity_of
from hub.web.render import page

EDGE = 4096
"""Long edge in pixels of what the browser gets: more than any screen shows."""
_QUALITY = 90
_KEEP = {"Cache-Control": "private, max-age=86400, immutable"}


@get("/label", sync_to_thread=True)
def queues(request: WebRequest, web: Parts) -> Response[str]:
    """The cells that the caller works in, and how many pictures wait in each."""
    return page(request, "label.html", here="label", cells=web.services.labelling.cells(identity_of(request)))


@get("/label/cells/{cell:str}", sync_to_thread=True)
def editor(request: WebRequest, web: Parts, cell: Text) -> Response[str]:
    """Where one labels: the script fetches the pictures one after the other."""
    who = identity_of(request)
    found = web.services.labelling.cell(cell, who)
    return page(request, "label_editor.html", here="label", cell=found, labels=who.may(Scope.CONTRIBUTE))


# --- what the script calls --------------------------------------------------------------------------------------------


@get("/tasks/{task_id:str}/picture", sync_to_thread=True)
def label_picture(request: WebRequest, web: Parts, task_id: Text) -> Response[bytes]:
    """The picture, made anew: no byte of what came from outside reaches a page."""
    data, _, sha256, _ = web.services.labelling.picture(task_id, identity_of(request))
    made = web.pictures.kept(f"{sha256}-label.jpg", lambda: _redrawn(data))
    return Response(made, media_type="image/jpeg", headers=_KEEP)


@get("/tasks/{task_id:str}", sync_to_thread=True)
def label_task(request: WebRequest, web: Parts, task_id: Text) -> s.TaskWork:
    """One picture with its regions."""
    return web.services.labelling.work(task_id, identity_of(request))


@post("/cells/{cell:str}/next", sync_to_thread=True, status_code=HTTP_200_OK)
def next_task(request: WebRequest, web: Parts, cell: Text) -> s.TaskWork | None:
    """The next picture for this person; null where none waits."""
    return web.services.labelling.next(cell, identity_of(request))


@post("/cells/{cell:str}/fill", sync_to_thread=True, status_code=HTTP_200_OK)
def fill_queue(request: WebRequest, web: Parts, cell: Text, data: JSONBody[s.FillIn]) -> dict[str, int]:
    """More pictures for the queue."""
    return {"made": web.services.labelling.fill(cell, data, identity_of(request))}


@put("/cells/{cell:str}/settings", sync_to_thread=True)
def settle_queue(request: WebRequest, web: Parts, cell: Text, data: JSONBody[s.LabelSettings]) -> s.LabelCell:
    """Whether another person looks, and where labels go."""
    return web.services.labelling.settle(cell, data, identity_of(request))


@post("/cells/{cell:str}/propagate", sync_to_thread=True, status_code=HTTP_200_OK)
def propagate_group(request: WebRequest, web: Parts, cell: Text, data: JSONBody[s.PropagateIn]) -> s.Propagated:
    """Propose what was verified for pictures that look alike."""
    return web.services.labelling.propagate(cell, data.look_alike, identity_of(request))


@post("/cells/{cell:str}/batches", sync_to_thread=True, status_code=HTTP_200_OK)
def export_batch(request: WebRequest, web: Parts, cell: Text) -> s.Batch | None:
    """Make a commit of what is labelled; null where nothing waits."""
    made = web.services.labelling.export(cell, identity_of(request))
    if made is not None:
        note(request, dataset=made.dataset, batch=made.id)
    return made


@post("/tasks/{task_id:str}/accept", sync_to_thread=True, status_code=HTTP_200_OK)
def accept_task(request: WebRequest, web: Parts, task_id: Text, data: JSONBody[s.Accept]) -> s.Task:
    """The labels of a picture."""
    return web.services.labelling.accept(task_id, data, identity_of(request))


@post("/tasks/{task_id:str}/move", sync_to_thread=True, status_code=HTTP_200_OK)
def move_task(request: WebRequest, web: Parts, task_id: Text, data: JSONBody[s.Move]) -> s.TaskWork:
    """Skip, remove, release, renew, take or reopen."""
    return web.services.labelling.move(task_id, data, identity_of(request))


def _redrawn(data: bytes) -> bytes:
    """As JPEG; EXIF rotation is ignored, as robots ignore it. Raises RefusedFileError."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            small = picture.convert("RGB")
            small.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise RefusedFileError(f"the picture cannot be read ({error})") from error
    target = io.BytesIO()
    small.save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()


SCRIPT_ROUTES = [
    label_picture, label_task, next_task, fill_queue, settle_queue, propagate_group, export_batch, accept_task,
    move_task,
]  # fmt: skip
