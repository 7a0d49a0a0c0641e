"""Repositories and blobs: what datasets, bases and variants are stored in."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from litestar import Controller, Response, get, head, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from hub.accounts.tokens import Identity
from hub.client.repos import RepoCalls
from hub.http.access_policy import CHANGE_GIVEN, SEE, SEE_GIVEN, SEND, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, may_upload, may_write
from hub.http.dependencies import Hub, HubRequest, Repo, Text
from hub.http.resources import Resource, register
from hub.schemas import core as s
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged
from hub.services import Services
from registry.blobs.blobs import CHUNK
from registry.errors import BlobNotFoundError

REPO = "/{type_:str}/{namespace:str}/{name:str}"


class RepoController(Controller):
    """Repositories: commits of files, refs that name commits."""

    path = "/repos"
    tags = ("repositories",)

    @get(sync_to_thread=True)
    def list_repos(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        type_: Annotated[s.RepoType | None, QueryParameter(name="type")] = None,
    ) -> Response[list[s.Repo]]:
        """The repositories that the caller may see, or those of one type, by type and name."""
        who = identity_of(request)
        found = services.store.page(type_, who, limit=limit + 1, after=after, also=services.privacy.listed(who))
        return paged(request, found, limit, lambda one: f"{one.type} {one.namespace}/{one.name}")

    @put(REPO, sync_to_thread=True, guards=[may_write], status_code=HTTP_200_OK)
    def create_repo(
        self,
        services: Hub,
        repo: Repo,
    ) -> s.Repo:
        """Create the repository unless it is there."""
        return services.store.ensure(repo)

    @get(REPO, sync_to_thread=True)
    def get_repo(
        self,
        services: Hub,
        repo: Repo,
        request: HubRequest,
    ) -> s.Repo:
        """One repository."""
        services.readable(repo, identity_of(request))
        return services.store.get(repo)

    @get(REPO + "/refs", sync_to_thread=True)
    def list_refs(
        self,
        services: Hub,
        repo: Repo,
        request: HubRequest,
    ) -> list[s.Ref]:
        """Branches and tags."""
        services.readable(repo, identity_of(request))
        return services.store.refs(repo)

    @get(REPO + "/commits/{revision:str}", sync_to_thread=True)
    def get_commit(
        self,
        services: Hub,
        repo: Repo,
        request: HubRequest,
        revision: Text,
    ) -> s.Commit:
        """The commit that a branch, tag or commit id names."""
        services.readable(repo, identity_of(request))
        return services.store.commit_of(repo, revision)

    @get(REPO + "/tree/{revision:str}", sync_to_thread=True)
    def get_tree(
        self,
        services: Hub,
        repo: Repo,
        request: HubRequest,
        revision: Text,
    ) -> s.Tree:
        """All files of a revision."""
        services.readable(repo, identity_of(request))
        return services.store.tree(repo, revision)

    @get(REPO + "/files/{revision:str}/{path:path}", sync_to_thread=True)
    def download(
        self,
        services: Hub,
        repo: Repo,
        request: HubRequest,
        revision: Text,
        path: Text,
    ) -> Stream:
        """The bytes of one file."""
        services.readable(repo, identity_of(request), files=True)
        reading = services.store.read(repo, revision, path.lstrip("/"))
        headers = {"ETag": f'"{reading.entry.sha256}"', "Content-Length": str(reading.entry.size)}
        return Stream(reading.chunks, media_type="application/octet-stream", headers=headers)

    @post(REPO + "/commits", sync_to_thread=True, guards=[may_write])
    def create_commit(
        self,
        services: Hub,
        repo: Repo,
        data: JSONBody[s.CommitIn],
        request: HubRequest,
    ) -> s.Commit:
        """Commit uploaded blobs to `main`."""
        who = identity_of(request)
        services.check_commit(repo, [op.sha256 for op in data.operations if isinstance(op, s.PutFile)], who)
        # A job that rewrites a team's dataset does it for who asked; variants are the job's own work.
        asked_for = who.job is not None and repo.type == "dataset"
        author = services.jobs.get(who.job).created_by if asked_for and who.job else who.owner
        made = services.store.commit(repo, data, author=author, sizes_of=services.hf.ledger.sizes_for(who))
        note(request, commit=made.id)
        return made


class BlobController(Controller):
    """Content-addressed bytes."""

    path = "/blobs"
    tags = ("repositories",)

    @head("/{sha256:str}", sync_to_thread=True)
    def has_blob(self, services: Hub, sha256: FromPath[s.Sha256], request: HubRequest) -> None:
        """Whether the hub has the blob, and the caller has proven to have it, too: 200, or 404."""
        _size_for(services, identity_of(request), sha256)

    @get("/{sha256:str}", sync_to_thread=True)
    def get_blob(self, services: Hub, sha256: FromPath[s.Sha256], request: HubRequest) -> Stream:
        """The bytes of a blob, a training deck for instance."""
        headers = {"Content-Length": str(_size_for(services, identity_of(request), sha256))}
        chunks = services.store.blobs.iter_range(sha256)
        return Stream(chunks, media_type="application/octet-stream", headers=headers)

    @put("/{sha256:str}", guards=[may_upload], request_max_body_size=None, status_code=HTTP_201_CREATED)
    async def put_blob(self, services: Hub, sha256: FromPath[s.Sha256], request: HubRequest) -> None:
        """Upload a blob; its bytes must have the sha256 of its address."""
        who = identity_of(request)
        announced = int(request.headers.get("content-length") or 0)
        room = await anyio.to_thread.run_sync(services.room_for_blobs, who, announced)
        limit = min(services.settings.max_blob_bytes, room)
        with services.store.blobs.writer(expected=sha256, max_bytes=limit) as writer:
            # The network's chunks are small: gathered, so that each trip to a thread takes a megabyte.
            pending = bytearray()
            async for chunk in request.stream():
                pending += chunk
                if len(pending) >= CHUNK:
                    await anyio.to_thread.run_sync(writer.write, bytes(pending))
                    pending.clear()
            writer.write(bytes(pending))
            await anyio.to_thread.run_sync(writer.commit)
        await anyio.to_thread.run_sync(services.hf.ledger.record, who, sha256, writer.size, "api")


def _size_for(services: Services, who: Identity, sha256: str) -> int:
    """The blob's size, if the caller may have it."""
    size = services.hf.ledger.sizes_for(who)([sha256])[sha256]
    if size is None:
        raise BlobNotFoundError(sha256)
    return size


_REPO = "{type_}/{namespace}/{name}"
RESOURCE = register(
    Resource(
        "repos",
        [RepoController, BlobController],
        rules=grouped(
            ("/blobs/{sha256}", SEE_GIVEN, "HEAD, GET"),
            ("/blobs/{sha256}", SEND, "PUT"),
            ("/repos", SEE, "GET"),
            (f"/repos/{_REPO}", SEE_GIVEN, "GET, GET /refs, GET /commits/{revision}, GET /tree/{revision}"),
            (f"/repos/{_REPO}", SEE_GIVEN, "GET /files/{revision}/{path}"),
            (f"/repos/{_REPO}", CHANGE_GIVEN, "PUT, POST /commits"),
        ),
        calls=RepoCalls,
    )
)
