"""A dataset from the browser: the page that takes a folder or a ZIP archive, and what its script calls.

The script speaks as `hub.api.datasets` does (a manifest, parts, a commit) with the session in place of a bearer token;
every call but reading carries the proof of a form in a header. What may come in is decided by the same code.
"""

from __future__ import annotations

import re
from typing import Annotated

import anyio.to_thread
import msgspec
from litestar import Response, delete, get, post, put
from litestar.handlers.base import BaseRouteHandler
from litestar.params import FromPath, HeaderParameter, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from hub.accounts.tokens import Identity, Scope
from hub.api.datasets import read_part
from hub.datasets.content_checks import KINDS, check_names
from hub.datasets.uploads import PART_BYTES
from hub.errors import UNREADABLE, InputError
from hub.http.audit import note
from hub.jobs.plain_text import plain
from hub.schemas import core as s
from hub.schemas import resources as r
from hub.web.dependencies import Parts, Text, last
from hub.web.guards import CSRF_HEADER, Connection, WebRequest, check_form, identity_of, session_of
from hub.web.render import page
from registry.types import RepoId

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


@get("/datasets/new", sync_to_thread=True)
def new_upload(request: WebRequest) -> Response[str]:
    """Where a team drops a folder or an archive."""
    who = identity_of(request)
    team, _, name = last(request, "dataset").partition("/")
    return page(
        request,
        "dataset_new.html",
        here="datasets",
        teams=_teams(who),
        team=team if _NAME.fullmatch(team) else "",
        name=name if _NAME.fullmatch(name) else "",
        kinds=" ".join(sorted(KINDS)),
    )


def _teams(who: Identity) -> list[str]:
    """Where the caller may upload to, the team before one's own name; none for the operator, who may everywhere."""
    if who.sees_all:
        return []
    teams = sorted(one.lower() for one in who.teams)
    return teams + sorted(who.namespaces - set(teams))


def proven(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard of what scripts change: the proof of a form of this session, in a header. Raises ForbiddenError."""
    if connection.scope["method"] not in ("GET", "HEAD"):  # type: ignore[typeddict-item]
        check_form(session_of(connection).secret, connection.headers.get(CSRF_HEADER, ""))
    identity_of(connection).require(Scope.CONTRIBUTE)


def proven_if_changing(connection: Connection, handler: BaseRouteHandler) -> None:
    """As `proven`, where reading is for everybody who may see the page. Raises ForbiddenError."""
    if connection.scope["method"] not in ("GET", "HEAD"):  # type: ignore[typeddict-item]
        proven(connection, handler)


@post("/{namespace:str}/{name:str}", sync_to_thread=True, status_code=HTTP_201_CREATED)
def start_upload(request: WebRequest, web: Parts, namespace: Text, name: Text, data: JSONBody[r.UploadIn]) -> r.Upload:
    """Begin an upload, or go on with one: the answer says what is missing."""
    who = identity_of(request)
    repo = RepoId("dataset", namespace, name)
    who.require_write("dataset", str(repo))
    return web.services.uploads.start(repo, data, who)


@get("/{upload_id:str}", sync_to_thread=True)
def get_upload(request: WebRequest, web: Parts, upload_id: Text) -> r.Upload:
    """What is still missing."""
    return web.services.uploads.get(upload_id, identity_of(request))


@delete("/{upload_id:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT)
def abort_upload(request: WebRequest, web: Parts, upload_id: Text) -> None:
    """Forget the upload."""
    web.services.uploads.abort(upload_id, identity_of(request))


@put("/{upload_id:str}/files/{sha256:str}", request_max_body_size=PART_BYTES, status_code=HTTP_200_OK)
async def put_file(
    request: WebRequest,
    web: Parts,
    upload_id: Text,
    sha256: FromPath[s.Sha256],
    content_range: Annotated[str | None, HeaderParameter(name="Content-Range")] = None,
) -> r.PartReceived:
    """A file, or the part of one that follows what has arrived."""
    who = identity_of(request)
    part = await read_part(request, content_range)
    return await anyio.to_thread.run_sync(
        lambda: web.services.uploads.put(upload_id, sha256, part.data, who, offset=part.offset, total=part.total)
    )


class LeftOut(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A picture that the browser left out, because the hub refused it or the archive holds it damaged."""

    path: Annotated[str, msgspec.Meta(max_length=1000)]
    why: Annotated[str, msgspec.Meta(max_length=500)] = ""


class CommitIn(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What comes with the end of an upload."""

    left_out: Annotated[list[LeftOut], msgspec.Meta(max_length=10_000)] = []


@post("/{upload_id:str}/commit", status_code=HTTP_200_OK)
async def commit_upload(request: WebRequest, web: Parts, upload_id: Text) -> dict[str, str]:
    """Make the dataset hold the files, then have it read and checked; the answer says where to look. The body may be
    empty, or a `CommitIn`.
    """
    body = await request.body()
    try:
        told = msgspec.json.decode(body, type=CommitIn) if body else CommitIn()
    except UNREADABLE as error:
        raise InputError(f"the body is not well-formed: {error}") from error
    left_out = {one.path: plain(one.why) for one in told.left_out}
    check_names(left_out)

    def commit() -> dict[str, str]:
        who = identity_of(request)
        who.require_write("dataset", str(web.services.uploads.dataset_of(upload_id, who)))
        repo, made = web.services.uploads.commit(upload_id, who)
        note(request, dataset=str(repo), commit=made.id)
        web.quality.start(repo, made.id, convert_for=who.owner, left_out=left_out)
        return {"commit": made.id, "address": f"/ui/datasets/{repo}/check"}

    return await anyio.to_thread.run_sync(commit)
