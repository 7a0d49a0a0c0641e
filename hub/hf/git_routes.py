"""`git clone` and `git fetch` over HTTP: read-only, under the same rules as downloads."""

from __future__ import annotations

import logging
import zlib
from collections.abc import AsyncIterator, Iterator

import anyio.to_thread
from litestar import MediaType, Response, get, post
from litestar.di import Provide
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK

from hub.hf.context import Hf, HubRequest, Repo, Text, open_repo, repo_id
from hub.protocol.git_wire import GitRequestError, Wish, advertisement, fetch, list_refs, parse, refusal
from hub.protocol.service import HubProtocol
from registry.types import RepoId

log = logging.getLogger("parcelhub.git")

UPLOAD_PACK = "git-upload-pack"
RECEIVE_PACK = "git-receive-pack"
MAX_BODY = 16 * 1024**2
NO_PUSH = (
    "This hub takes no pushes: its repositories are read-only for git.\n"
    "Upload with the huggingface_hub client: hf upload <repo> <folder>\n"
)
_FRESH = {"Cache-Control": "no-cache", "Pragma": "no-cache"}


def model_of_git(namespace: Text, name: Text) -> RepoId:
    """Provides `repo`: git adds `.git`, or not. Raises RepoNotFoundError."""
    return repo_id("models", namespace, name.removesuffix(".git"))


def dataset_of_git(namespace: Text, name: Text) -> RepoId:
    """Provides `repo`: git adds `.git`, or not. Raises RepoNotFoundError."""
    return repo_id("datasets", namespace, name.removesuffix(".git"))


def _refs(hf: HubProtocol, request: HubRequest, repo: RepoId) -> Response[bytes]:
    open_repo(hf, request, repo, "download")
    service = request.query_params.get("service")
    if service == RECEIVE_PACK:
        return _text(NO_PUSH, 403)
    if service != UPLOAD_PACK:
        return _text("This hub speaks git's smart protocol only; git 2.18 or newer does.\n", 403)
    body = advertisement()
    if "version=2" not in request.headers.get("git-protocol", "").split(":"):
        body = refusal("this hub speaks version 2 of git's protocol: git -c protocol.version=2 clone ...")
    media = f"application/x-{UPLOAD_PACK}-advertisement"
    return Response(body, media_type=media, headers=_FRESH)


def _text(sentence: str, status: int) -> Response[bytes]:
    return Response(sentence.encode(), status_code=status, media_type=MediaType.TEXT)


async def _serve(hf: HubProtocol, request: HubRequest, repo: RepoId) -> Stream | Response[bytes]:
    info = await anyio.to_thread.run_sync(open_repo, hf, request, repo, "download")
    media = f"application/x-{UPLOAD_PACK}-result"
    try:
        asked = parse(await _body(request))
        if asked.command == "ls-refs":
            listed = await anyio.to_thread.run_sync(list_refs, hf.git, info, asked.args)
            return Response(listed, status_code=HTTP_200_OK, media_type=media, headers=_FRESH)
        if asked.command != "fetch":
            told = refusal(f"this hub knows no command {asked.command[:40]!r}")
            return Response(told, status_code=HTTP_200_OK, media_type=media, headers=_FRESH)
        pieces = await anyio.to_thread.run_sync(fetch, hf.git, info, Wish.of(asked.args))
    except GitRequestError as error:
        return Response(refusal(str(error)), status_code=HTTP_200_OK, media_type=media, headers=_FRESH)
    return Stream(_sent(pieces), status_code=HTTP_200_OK, media_type=media, headers=_FRESH)


async def _body(request: HubRequest) -> bytes:
    """The request's body, unpacked as far as `MAX_BODY`. Raises GitRequestError."""
    packed = request.headers.get("content-encoding", "") in ("gzip", "x-gzip")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if packed else None
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += unpack.decompress(chunk, MAX_BODY + 1 - len(body)) if unpack else chunk
            if len(body) > MAX_BODY or (unpack and unpack.unconsumed_tail):
                raise GitRequestError("the request is too long")
    except zlib.error:
        raise GitRequestError("the request is said to be gzip, and is not") from None
    return bytes(body)


async def _sent(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await anyio.to_thread.run_sync(next, pieces, b""):
        yield piece


_MODEL = {"repo": Provide(model_of_git, sync_to_thread=False)}
_DATASET = {"repo": Provide(dataset_of_git, sync_to_thread=False)}


@get("/{namespace:str}/{name:str}/info/refs", sync_to_thread=True, dependencies=_MODEL)
def model_refs(hf: Hf, request: HubRequest, repo: Repo) -> Response[bytes]:
    """How git begins with a model."""
    return _refs(hf, request, repo)


@get("/datasets/{namespace:str}/{name:str}/info/refs", sync_to_thread=True, dependencies=_DATASET)
def dataset_refs(hf: Hf, request: HubRequest, repo: Repo) -> Response[bytes]:
    """How git begins with a dataset."""
    return _refs(hf, request, repo)


@post("/{namespace:str}/{name:str}/git-upload-pack", status_code=HTTP_200_OK, dependencies=_MODEL)
async def model_upload_pack(hf: Hf, request: HubRequest, repo: Repo) -> Stream | Response[bytes]:
    """A model's refs, and packs of its objects."""
    return await _serve(hf, request, repo)


@post("/datasets/{namespace:str}/{name:str}/git-upload-pack", status_code=HTTP_200_OK, dependencies=_DATASET)
async def dataset_upload_pack(hf: Hf, request: HubRequest, repo: Repo) -> Stream | Response[bytes]:
    """A dataset's refs, and packs of its objects."""
    return await _serve(hf, request, repo)


@post(
    ["/{namespace:str}/{name:str}/git-receive-pack", "/datasets/{namespace:str}/{name:str}/git-receive-pack"],
    status_code=HTTP_200_OK,
    sync_to_thread=False,
)
def receive_pack() -> Response[bytes]:
    """Pushes are refused in words."""
    return _text(NO_PUSH, 403)


HANDLERS = (model_refs, dataset_refs, model_upload_pack, dataset_upload_pack, receive_pack)
