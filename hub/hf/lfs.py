"""Git LFS: the batch that says where bytes go and come from, and the links it gives, which prove themselves."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
from litestar import Response, get, post, put
from litestar.di import Provide
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK

from hub.accounts.access import require_contributor, signed_in
from hub.accounts.possession import owner_of
from hub.accounts.tokens import Identity, Kind
from hub.errors import ForbiddenError, InputError
from hub.hf import schemas
from hub.hf.context import (
    Hf,
    HubRequest,
    Repo,
    Text,
    decode,
    endpoint_of,
    git_dataset_of_path,
    git_model_of_path,
    open_repo,
    repo_url,
)
from hub.hf.files import BytesAnswer
from hub.protocol.service import HubProtocol
from hub.protocol.upload_parts import LINK_SECONDS, remove_parts
from registry.blobs.blobs import CHUNK
from registry.durable import make_folder, publish
from registry.errors import BlobNotFoundError, DigestMismatchError, TooLargeError
from registry.types import RepoId, RepoInfo

LFS_JSON = "application/vnd.git-lfs+json"
PART_BYTES = 64 * 1024**2
MULTIPART_FROM = 2 * 1024**3
"""Files of at least so many bytes are sent in parts, if the client can: a broken part is sent again, not the file.
Smaller ones come in one piece, which writes them once instead of twice."""
MAX_PARTS = 10_000


class UploadGrant(msgspec.Struct, frozen=True):
    """What a link allows: these bytes, in this user's name. `part_bytes` 0: in one piece."""

    oid: str
    size: int
    user: str | None
    name: str
    part_bytes: int = 0
    kind: Kind | None = None

    @property
    def identity(self) -> Identity:
        """Whose possession an upload proves; no rights come with it."""
        return Identity.known_as(self.name, self.user, self.kind)

    @property
    def parts(self) -> int:
        """How many parts the file has; the last may be shorter. Not for a file in one piece."""
        return -(-self.size // self.part_bytes)

    def part_size(self, number: int) -> int:
        """Bytes of part `number`, counted from 1."""
        return min(self.part_bytes, self.size - (number - 1) * self.part_bytes)

    def folder(self, root: Path) -> Path:
        """Where the parts wait: one place per user and file, so that nobody's part gets into another's file."""
        owner = hashlib.sha256(f"{self.user}\0{self.name}\0{self.part_bytes}".encode()).hexdigest()[:16]
        return root / f"{self.oid}-{owner}"


class DownloadGrant(msgspec.Struct, frozen=True):
    """What a link allows: to read these bytes."""

    oid: str
    size: int


async def _batch(hf: HubProtocol, request: HubRequest, repo: RepoId) -> Response[Any]:
    asked = decode(await request.body(), schemas.LfsBatch)
    answer = await anyio.to_thread.run_sync(_answer_batch, hf, request, repo, asked)
    return Response(answer, status_code=HTTP_200_OK, media_type=LFS_JSON)


def _answer_batch(hf: HubProtocol, request: HubRequest, repo: RepoId, asked: schemas.LfsBatch) -> schemas.Json:
    upload = asked.operation == "upload"
    if upload:  # an upload shows nothing to anybody until a commit, or a proposal, names it
        require_contributor(request.user)
    info = open_repo(hf, request, repo, "download")
    base = endpoint_of(hf, request)
    if not upload:
        return {"transfer": "basic", "objects": [_download(hf, info, base, one) for one in asked.objects]}
    multipart = "multipart" in asked.transfers and any(one.size >= MULTIPART_FROM for one in asked.objects)
    who = signed_in(request.user)
    sizes = hf.ledger.sizes_of(who, [one.oid for one in asked.objects])
    # Refused before the bytes travel, if it can be known by then; else at the commit.
    new = [one for one in asked.objects if sizes[one.oid] is None and one.size <= hf.max_file_bytes]
    hf.quota.reserve(info.id.namespace, owner_of(who), {one.oid: one.size for one in new})
    check = f"{repo_url(hf, request, info.id)}.git/info/lfs/verify"
    objects = [
        _upload(hf, who, base, one, known=sizes[one.oid], multipart=multipart, verify=check) for one in asked.objects
    ]
    return {"transfer": "multipart" if multipart else "basic", "objects": objects, "hash_algo": "sha256"}


def _download(hf: HubProtocol, info: RepoInfo, base: str, asked: schemas.LfsObject) -> schemas.Json:
    held = {holder.key: size for holder, size in hf.registry.directory.holders(asked.oid)}
    view: schemas.Json = {"oid": asked.oid, "size": asked.size}
    if held.get(info.key) != asked.size:
        return view | {"error": {"code": 404, "message": "no file of this repo"}}
    token = hf.signer.sign(DownloadGrant(asked.oid, asked.size), seconds=LINK_SECONDS)
    return view | {"authenticated": True, "actions": {"download": {"href": f"{base}/lfs/objects/{token}"}}}


def _upload(
    hf: HubProtocol,
    who: Identity,
    base: str,
    asked: schemas.LfsObject,
    *,
    known: int | None,
    multipart: bool,
    verify: str,
) -> schemas.Json:
    view: schemas.Json = {"oid": asked.oid, "size": asked.size}
    if known is not None:
        if known != asked.size:
            return view | {"error": {"code": 422, "message": f"these bytes are {known} long, not {asked.size}"}}
        return view
    if asked.size > hf.max_file_bytes:
        return view | {"error": {"code": 413, "message": f"more than the {hf.max_file_bytes} bytes allowed"}}
    part = max(PART_BYTES, -(-asked.size // MAX_PARTS)) if multipart else 0
    name = who.owner if who.kind is Kind.TEAM else who.name
    grant = UploadGrant(asked.oid, asked.size, who.user, name, part, who.kind)
    token = hf.signer.sign(grant, seconds=LINK_SECONDS)
    # Git LFS sends no password along with links that are said to prove themselves, and verifies by one as well.
    check = {"href": f"{verify}?grant={token}", "header": {}}
    if not multipart:
        upload: schemas.Json = {"href": f"{base}/lfs/objects/{token}", "header": {}}
    else:
        urls = {str(number): f"{base}/lfs/parts/{token}/{number}" for number in range(1, grant.parts + 1)}
        upload = {"href": f"{base}/lfs/complete/{token}", "header": {"chunk_size": str(part)} | urls}
    return view | {"authenticated": True, "actions": {"upload": upload, "verify": check}}


@post(
    "/{namespace:str}/{name:str}/info/lfs/objects/batch",
    status_code=HTTP_200_OK,
    dependencies={"repo": Provide(git_model_of_path, sync_to_thread=False)},
)
async def model_batch(hf: Hf, request: HubRequest, repo: Repo) -> Response[Any]:
    """Where a model's large files go and come from."""
    return await _batch(hf, request, repo)


@post(
    "/datasets/{namespace:str}/{name:str}/info/lfs/objects/batch",
    status_code=HTTP_200_OK,
    dependencies={"repo": Provide(git_dataset_of_path, sync_to_thread=False)},
)
async def dataset_batch(hf: Hf, request: HubRequest, repo: Repo) -> Response[Any]:
    """Where a dataset's large files go and come from."""
    return await _batch(hf, request, repo)


@post(
    ["/{namespace:str}/{name:str}/info/lfs/verify", "/datasets/{namespace:str}/{name:str}/info/lfs/verify"],
    status_code=HTTP_200_OK,
)
async def verify(hf: Hf, request: HubRequest) -> schemas.Json:
    """Whether an upload arrived."""
    asked = decode(await request.body(), schemas.LfsObject)
    who = request.user
    if who is None and (token := str(request.query_params.get("grant", ""))):
        grant = hf.signer.check(token, UploadGrant)
        if grant.oid != asked.oid:
            raise ForbiddenError("the link was made for another file")
        who = grant.identity
    size = await anyio.to_thread.run_sync(hf.ledger.size_of, signed_in(who), asked.oid)
    if size != asked.size:
        raise BlobNotFoundError(asked.oid, claimed=asked.size, actual=size)
    return {}


@put("/lfs/objects/{token:str}", request_max_body_size=None, status_code=HTTP_200_OK)
async def put_object(hf: Hf, request: HubRequest, token: Text) -> None:
    """Receive a file whose sha256 the link names; visible only when all of it has arrived and is right."""
    grant = hf.signer.check(token, UploadGrant)
    with hf.registry.blobs.writer(expected=grant.oid, max_bytes=grant.size) as writer:
        await _receive(request, writer.write)
        await anyio.to_thread.run_sync(writer.commit)
    await anyio.to_thread.run_sync(hf.ledger.record, grant.identity, grant.oid, grant.size, "lfs")


@get("/lfs/objects/{token:str}", sync_to_thread=True)
def get_object(hf: Hf, token: Text) -> BytesAnswer:
    """Send a file to whom a download batch gave the link."""
    grant = hf.signer.check(token, DownloadGrant)
    return BytesAnswer(hf.registry.blobs, grant.oid, hf.registry.blobs.size(grant.oid), grant.oid, {})


@put("/lfs/parts/{token:str}/{number:int}", request_max_body_size=None, status_code=HTTP_200_OK)
async def put_part(hf: Hf, request: HubRequest, token: Text, number: FromPath[int]) -> Response[None]:
    """Receive a part; it waits in a file of its own until the last one is there."""
    grant = hf.signer.check(token, UploadGrant)
    if not (grant.part_bytes and 1 <= number <= grant.parts):
        raise InputError("there is no such part")
    folder, limit = grant.folder(hf.parts_folder), grant.part_size(number)
    hf.registry.blobs.check_room(limit)
    make_folder(folder, mode=0o700)
    digest, size = hashlib.sha256(), 0
    draft = folder / f".{number}.{time.monotonic_ns()}"
    try:
        with draft.open("xb") as out:

            def write(data: bytes) -> None:
                nonlocal size
                size += len(data)
                if size > limit:
                    raise TooLargeError(limit)
                digest.update(data)
                out.write(data)

            await _receive(request, write)
        if size != limit:
            raise InputError(f"part {number} has {size} bytes, not {limit}")
        await anyio.to_thread.run_sync(publish, draft, folder / f"{number}")
    finally:
        draft.unlink(missing_ok=True)
    return Response(None, headers={"ETag": f'"{digest.hexdigest()}"'})


@post("/lfs/complete/{token:str}", status_code=HTTP_200_OK)
async def complete(hf: Hf, request: HubRequest, token: Text) -> schemas.Json:
    """Put the parts together."""
    grant = hf.signer.check(token, UploadGrant)
    asked = decode(await request.body(), schemas.LfsComplete)
    if asked.oid != grant.oid or {part.part_number for part in asked.parts} != set(range(1, grant.parts + 1)):
        raise InputError("the parts are not those of this upload")
    await anyio.to_thread.run_sync(_assemble, hf, grant)
    return {}


def _assemble(hf: HubProtocol, grant: UploadGrant) -> None:
    folder = grant.folder(hf.parts_folder)
    with hf.registry.blobs.writer(expected=grant.oid, max_bytes=grant.size) as writer:
        try:
            for number in range(1, grant.parts + 1):
                with (folder / str(number)).open("rb") as part:
                    while chunk := part.read(CHUNK):
                        writer.write(chunk)
        except FileNotFoundError:
            raise InputError(f"part {number} is missing") from None
        try:
            writer.commit()
        except DigestMismatchError:
            remove_parts(folder)  # whatever is wrong in there, sending it again must start anew
            raise
    hf.ledger.record(grant.identity, grant.oid, grant.size, "lfs")
    remove_parts(folder)


async def _receive(request: HubRequest, write: Any) -> None:  # noqa: ANN401  # any sink of bytes
    """The body, in pieces of about a megabyte: each trip to a thread costs, the network's pieces are small."""
    pending = bytearray()
    async for chunk in request.stream():
        pending += chunk
        if len(pending) >= CHUNK:
            await anyio.to_thread.run_sync(write, bytes(pending))
            pending.clear()
    if pending:
        await anyio.to_thread.run_sync(write, bytes(pending))
