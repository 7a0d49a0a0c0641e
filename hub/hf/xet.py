"""The Xet content store over HTTP: where stock clients put and get the chunks of large files.

An address holds an *epoch* (`registry.xet.XetStore.epoch`): clients remember what they stored at an address, and a new
address makes them forget. The hub answers at any epoch.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
from litestar import Controller, Request, Response, Router, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.handlers.base import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_206_PARTIAL_CONTENT

from hub.accounts.access import require_contributor
from hub.errors import ForbiddenError, InputError, UnauthorizedError
from hub.hf.context import Hf, HubRequest, Repo, endpoint_of, flag, open_repo
from hub.http.auth import Connection
from hub.http.dependencies import Hub, services_of
from hub.protocol import xet_schemas as wire
from hub.protocol.xet_access import CasGrant, XetAccess
from hub.schemas import core as s
from hub.services import Services
from registry.blobs.blobs import CHUNK
from registry.errors import InvalidRangeError, TooLargeError
from registry.xet import Reconstruction
from registry.xet.shards import MAX_SHARD
from registry.xet.xorbs import MAX_UPLOAD

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")
_BINARY = "application/octet-stream"
_SHARDS = anyio.CapacityLimiter(2)
"""Shards whose files are read for their sha256 at one time: others wait, and hold no thread meanwhile."""

Grant: TypeAlias = NamedDependency[CasGrant]
Plain: TypeAlias = Request[Any, Any, State]


def with_token(connection: Connection, handler: BaseRouteHandler) -> None:  # noqa: ARG001  # a guard's signature
    """A guard: the store's own token is needed. Raises UnauthorizedError."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthorizedError("the content store needs `Authorization: Bearer <its own token>`")
    services: Services = connection.app.state.services
    connection.state.grant = services.xet.check_token(token.strip())


def for_writing(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard, after `with_token`. Raises ForbiddenError."""
    if connection.state.grant.scope != "write":
        raise ForbiddenError("the token of the content store is for reading")


def grant_of(request: Plain) -> CasGrant:
    """Provides `grant`: what the request's token allows."""
    grant: CasGrant = request.state.grant
    return grant


class CasController(Controller):
    """The content store's own routes."""

    path = "/xet/{epoch:str}"
    tags = ("xet",)
    include_in_schema = False

    @post(
        "/v1/xorbs/{prefix:str}/{name:str}",
        guards=[for_writing],
        request_max_body_size=None,
        status_code=HTTP_200_OK,
    )
    async def put_xorb(self, services: Hub, name: FromPath[s.Sha256], grant: Grant, request: Plain) -> wire.XorbAnswer:
        """Upload a xorb, which is checked while it arrives."""
        xet = services.xet.store
        if await anyio.to_thread.run_sync(xet.touch_xorb, name):
            await _drained(request)
            return wire.XorbAnswer(was_inserted=False)
        size = _length_of(request)
        await anyio.to_thread.run_sync(services.xet.announce_xorb, grant, name, size)
        with xet.xorb_writer(name) as sink:
            # The network's pieces are small: gathered, so that each trip to a thread takes a megabyte.
            pending = bytearray()
            async for piece in request.stream():
                pending += piece
                if len(pending) >= CHUNK:
                    await anyio.to_thread.run_sync(sink.write, bytes(pending))
                    pending.clear()
            await anyio.to_thread.run_sync(sink.write, bytes(pending))
            inserted = await anyio.to_thread.run_sync(sink.commit)
        return wire.XorbAnswer(was_inserted=inserted)

    @post("/v1/shards", guards=[for_writing], request_max_body_size=None, status_code=HTTP_200_OK)
    async def put_shard(self, services: Hub, grant: Grant, request: Plain) -> wire.ShardAnswer:
        """Register files out of chunks that were uploaded before."""
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_SHARD:
                raise TooLargeError(MAX_SHARD)
        await anyio.to_thread.run_sync(services.xet.register, grant, bytes(body), limiter=_SHARDS)
        return wire.ShardAnswer(result=1)

    @get("/v1/reconstructions/{name:str}", sync_to_thread=True)
    def get_reconstruction(
        self, services: Hub, grant: Grant, name: FromPath[s.Sha256], request: Plain
    ) -> wire.ReconstructionOut:
        """How to put a file, or a range of it, together."""
        plan = _planned(services.xet, grant, name, request)
        return wire.version_1(plan, services.xet.links(endpoint_of(services.hf, request)))

    @get("/v2/reconstructions/{name:str}", sync_to_thread=True)
    def get_reconstruction_2(
        self, services: Hub, grant: Grant, name: FromPath[s.Sha256], request: Plain
    ) -> wire.ReconstructionOut2:
        """The same in the newer form."""
        plan = _planned(services.xet, grant, name, request)
        return wire.version_2(plan, services.xet.links(endpoint_of(services.hf, request)))

    @get("/v1/chunks/{prefix:str}/{name:str}", sync_to_thread=True)
    def find_chunk(self, services: Hub, grant: Grant, name: FromPath[s.Sha256]) -> Response[bytes]:
        """Where a chunk lies, so that it need not come again."""
        return Response(services.xet.find_chunk(grant, name), media_type=_BINARY)


@get("/xet-fetch/{token:str}", sync_to_thread=True, include_in_schema=False)
def fetch(services: Hub, token: FromPath[str], request: Plain) -> Stream:
    """The stored bytes of a run of chunks, by a signed link."""
    link = services.xet.check_link(token)
    begin, end = _range_of(request) or (link.first, link.stop)
    end = link.stop if end is None else end
    if not link.first <= begin < end <= link.stop:
        raise InvalidRangeError(link.xorb, begin, end, link.stop)
    pieces = services.xet.store.read_xorb(link.xorb, begin, end)
    headers = {"Content-Range": f"bytes {begin}-{end - 1}/*", "Content-Length": str(end - begin)}
    return Stream(pieces, media_type=_BINARY, headers=headers, status_code=HTTP_206_PARTIAL_CONTENT)


@post(["/v1/telemetry", "/xet/{epoch:str}/v1/telemetry"], sync_to_thread=False, include_in_schema=False)
def telemetry() -> Response[None]:
    """Clients report how fast they were. We keep nothing of it."""
    return Response(None, status_code=HTTP_200_OK)


def _planned(xet: XetAccess, grant: CasGrant, name: str, request: Plain) -> Reconstruction:
    start, stop = _range_of(request) or (0, None)
    return xet.plan(grant, name, start, stop)


def _range_of(request: Plain) -> tuple[int, int | None] | None:
    """The `Range` header as a half-open range; None without one. Raises InputError for any other form."""
    text = request.headers.get("range")
    if text is None:
        return None
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"the range {text[:60]!r} is not of the form `bytes=first-last`")
    return int(match[1]), int(match[2]) + 1 if match[2] else None


def _length_of(request: Plain) -> int:
    """The bytes that a xorb's upload announces; the most that one may have where it does not say."""
    text = request.headers.get("content-length", "")
    size = int(text) if text.isdecimal() and len(text) < 16 else MAX_UPLOAD
    if size > MAX_UPLOAD:
        raise TooLargeError(MAX_UPLOAD)
    return size


async def _drained(request: Plain) -> None:
    """Read what a client sends although we need it not: it listens for the answer only after that."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_UPLOAD:
            raise TooLargeError(MAX_UPLOAD)


class XetTokenController(Controller):
    """Where clients that the hub knows get a token of the content store. It is good for all revisions of the repo."""

    path = "/api/{kind:str}/{namespace:str}/{name:str}"

    @get("/xet-read-token/{revision:path}", sync_to_thread=True)
    def read_token(self, services: Hub, hf: Hf, repo: Repo, request: HubRequest) -> Response[wire.TokenOut]:
        """A token for reading the files of a repository."""
        info = open_repo(hf, request, repo, "download")
        return _answer(services.xet.token(request.user, info, "read", endpoint_of(hf, request)))

    @get("/xet-write-token/{revision:path}", sync_to_thread=True)
    def write_token(self, services: Hub, hf: Hf, repo: Repo, request: HubRequest) -> Response[wire.TokenOut]:
        """A token for adding files: for those who may write to the repository, or propose a change to it."""
        proposing = flag(request, "create_pr")
        if proposing:
            require_contributor(request.user)
        info = open_repo(hf, request, repo, "download" if proposing else "write")
        return _answer(services.xet.token(request.user, info, "write", endpoint_of(hf, request)))


def _answer(token: wire.TokenOut) -> Response[wire.TokenOut]:
    """The Rust part of the client reads the body, its Python part the headers."""
    headers = {
        "X-Xet-Cas-Url": token.cas_url,
        "X-Xet-Access-Token": token.access_token,
        "X-Xet-Token-Expiration": str(token.exp),
        "Cache-Control": "no-store",
    }
    return Response(token, headers=headers)


def store_routers() -> list[Router]:
    """The routes that check the store's own tokens and links, and so are for anybody."""
    services = {"services": Provide(services_of, sync_to_thread=False)}
    grant = {"grant": Provide(grant_of, sync_to_thread=False)}
    return [
        Router("/", route_handlers=[CasController], guards=[with_token], dependencies=services | grant),
        Router("/", route_handlers=[fetch, telemetry], dependencies=services),
    ]
