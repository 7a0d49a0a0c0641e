"""Downloads: a file of a revision, whole or in part, streamed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote

import anyio.to_thread
from litestar import Response, route
from litestar.di import Provide
from litestar.enums import HttpMethod
from litestar.response.base import ASGIResponse
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

from hub.hf.context import Hf, HubRequest, Repo, Text, dataset_of_path, endpoint_of, model_of_path, open_repo
from hub.hf.paths import text
from hub.protocol.service import HubProtocol
from hub.protocol.views import is_large, oid_of
from registry.blobs.blobs import BlobStore
from registry.types import Digest, RepoId

READING = [HttpMethod.GET, HttpMethod.HEAD]
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes [start, stop) of a file."""

    start: int
    stop: int


def parse_range(header: str | None, size: int) -> ByteRange | bool | None:
    """What a Range header asks for: a range, None for the whole file, False if it lies outside.

    A header of several ranges, or of no known form, is as good as none.
    """
    found = _RANGE.fullmatch((header or "").replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:  # the last so many bytes
        length = min(int(found[2]), size)
        return ByteRange(size - length, size) if length else False
    start = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < start:
        return None
    return ByteRange(start, last + 1) if start < size else False


class BytesAnswer(Response[None]):
    """An answer of a blob's bytes: one chunk in memory at a time, read as fast as the client takes them."""

    def __init__(self, blobs: BlobStore, sha256: Digest, size: int, etag: str, headers: dict[str, str]) -> None:
        super().__init__(None)
        self._sender = _Sender(blobs, sha256, size, etag, headers)

    def to_asgi_response(self, *_: object, **__: object) -> ASGIResponse:
        """The framework's own answers know neither ranges nor the length of what a HEAD leaves out."""
        return cast(ASGIResponse, self._sender)


class _Sender:
    """Sends the bytes that the request's headers ask for."""

    def __init__(self, blobs: BlobStore, sha256: Digest, size: int, etag: str, headers: dict[str, str]) -> None:
        self._blobs = blobs
        self._sha256 = sha256
        self._size = size
        self._headers = {
            "ETag": f'"{etag}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "X-Content-Type-Options": "nosniff",
        } | headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI
        asked = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        etag = self._headers["ETag"]
        if etag in asked.get(b"if-none-match", ""):
            await self._start(send, 304, {})
            await self._send(send, b"", more=False)
            return
        wanted = parse_range(asked.get(b"range"), self._size)
        if asked.get(b"if-range", etag) != etag:
            wanted = None
        if wanted is False:
            await self._start(send, 416, {"Content-Range": f"bytes */{self._size}", "Content-Length": "0"})
            await self._send(send, b"", more=False)
            return
        part = wanted if isinstance(wanted, ByteRange) else ByteRange(0, self._size)
        headers = {"Content-Length": str(part.stop - part.start)}
        if part is wanted:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{self._size}"
        if scope.get("method") == "HEAD":
            await self._start(send, 206 if part is wanted else 200, headers)
            await self._send(send, b"", more=False)
            return
        chunks = await anyio.to_thread.run_sync(self._blobs.iter_range, self._sha256, part.start, part.stop)
        try:
            await self._start(send, 206 if part is wanted else 200, headers)
            while chunk := await anyio.to_thread.run_sync(_next, chunks):
                await self._send(send, chunk, more=True)
            await self._send(send, b"", more=False)
        finally:
            with contextlib.suppress(AttributeError):  # an empty range is no generator
                cast(Generator[bytes], chunks).close()

    async def _start(self, send: Send, status: int, headers: dict[str, str]) -> None:
        pairs = [(key.lower().encode(), value.encode("latin-1")) for key, value in (self._headers | headers).items()]
        event: HTTPResponseStartEvent = {"type": "http.response.start", "status": status, "headers": pairs}
        await send(event)

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        event: HTTPResponseBodyEvent = {"type": "http.response.body", "body": body, "more_body": more}
        await send(event)


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")


def answer_file(hf: HubProtocol, request: HubRequest, repo: RepoId, revision: str, path: str) -> BytesAnswer:
    """A file of a revision, with all headers by which clients know it."""
    info = open_repo(hf, request, repo, "download")
    commit = hf.registry.repos.resolve(info.id, text(revision))
    entry = hf.registry.repos.entry(info.id, commit.id, text(path))
    etag = hf.views.etag_of(entry)
    name = quote(entry.path.rpartition("/")[2], safe="")
    headers = {
        "X-Repo-Commit": oid_of(commit.id),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
    }
    if is_large(entry):
        headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(entry.size)}
        if xet := hf.views.xet_hashes_of([entry.sha256]).get(entry.sha256):
            kind = f"{info.id.type}s"
            refresh = f"{endpoint_of(hf, request)}/api/{kind}/{info.id}/xet-read-token/{oid_of(commit.id)}"
            headers |= {"X-Xet-Hash": xet, "X-Xet-Refresh-Route": refresh, "Link": f'<{refresh}>; rel="xet-auth"'}
    return BytesAnswer(hf.registry.blobs, entry.sha256, entry.size, etag, headers)


@route(
    [
        "/{namespace:str}/{name:str}/resolve/{revision:str}/{path:path}",
        "/{namespace:str}/{name:str}/raw/{revision:str}/{path:path}",
    ],
    http_method=READING,
    dependencies={"repo": Provide(model_of_path, sync_to_thread=False)},
)
async def model_file(hf: Hf, request: HubRequest, repo: Repo, revision: Text, path: Text) -> BytesAnswer:
    """A file of a model."""
    return await anyio.to_thread.run_sync(answer_file, hf, request, repo, revision, path)


@route(
    [
        "/datasets/{namespace:str}/{name:str}/resolve/{revision:str}/{path:path}",
        "/datasets/{namespace:str}/{name:str}/raw/{revision:str}/{path:path}",
    ],
    http_method=READING,
    dependencies={"repo": Provide(dataset_of_path, sync_to_thread=False)},
)
async def dataset_file(hf: Hf, request: HubRequest, repo: Repo, revision: Text, path: Text) -> BytesAnswer:
    """A file of a dataset."""
    return await anyio.to_thread.run_sync(answer_file, hf, request, repo, revision, path)
