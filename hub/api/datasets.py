"""Datasets: lists and lookups, the images of one, offers to the base, and uploads that can be interrupted."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import anyio.to_thread
from litestar import Controller, Request, Response, delete, get, patch, post, put
from litestar.params import FromPath, HeaderParameter, JSONBody, PathParameter, QueryParameter
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT

from hub.accounts.tokens import Scope
from hub.client.datasets import DatasetCalls
from hub.datasets.content_range import parse_range
from hub.datasets.uploads import PART_BYTES
from hub.errors import InputError
from hub.http.access_policy import CHANGE, SEE, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas import core as s
from hub.schemas import resources as r
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged
from registry.errors import TooLargeError
from registry.types import RepoId

NAME = "/{namespace:str}/{name:str}"
Revision = Annotated[str, QueryParameter(max_length=300, description="A branch, tag or commit.")]
Position = Annotated[int, PathParameter(ge=0, le=2**31 - 1)]


class Part(NamedTuple):
    """Bytes of a file of `total` bytes, from `offset` on."""

    data: bytes
    offset: int
    total: int


_SUFFIX_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}


class DatasetController(Controller):
    """Labelled images of teams."""

    path = "/datasets"
    tags = ("datasets",)

    @get(sync_to_thread=True)
    def list_datasets(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        team: Annotated[str | None, QueryParameter(max_length=96, description="Of one team alone.")] = None,
        q: Annotated[str, QueryParameter(max_length=200, description="Part of the name.")] = "",
        offered: Annotated[bool | None, QueryParameter(description="Whether offered to the base.")] = None,
    ) -> Response[list[r.Dataset]]:
        """The datasets that the caller sees, by name."""
        found = services.datasets.page(
            identity_of(request), limit=limit + 1, after=after, team=team, contains=q, offered=offered
        )
        return paged(request, found, limit, lambda one: one.name)

    @put(NAME, sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.CONTRIBUTE)])
    def create_dataset(
        self, services: Hub, request: HubRequest, namespace: Text, name: Text, data: JSONBody[r.DatasetIn]
    ) -> r.Dataset:
        """Make a dataset without files, unless it is there."""
        return services.datasets.create(_repo(namespace, name), identity_of(request), private=data.private)

    @get(NAME, sync_to_thread=True)
    def get_dataset(self, services: Hub, request: HubRequest, namespace: Text, name: Text) -> r.Dataset:
        """One dataset."""
        return services.datasets.get(_repo(namespace, name), identity_of(request))

    @patch(NAME, sync_to_thread=True, guards=[requires(Scope.CONTRIBUTE)])
    def change_dataset(
        self, services: Hub, request: HubRequest, namespace: Text, name: Text, data: JSONBody[r.DatasetChange]
    ) -> r.Dataset:
        """Make a dataset private or public."""
        return services.datasets.change(_repo(namespace, name), identity_of(request), private=data.private)

    @delete(NAME, sync_to_thread=True, status_code=HTTP_204_NO_CONTENT, guards=[requires(Scope.CONTRIBUTE)])
    def delete_dataset(self, services: Hub, request: HubRequest, namespace: Text, name: Text) -> None:
        """Take a dataset away, with its history; not while a job needs it."""
        services.datasets.delete(_repo(namespace, name), identity_of(request))

    @put(NAME + "/offer", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.CONTRIBUTE)])
    def offer_dataset(
        self, services: Hub, request: HubRequest, namespace: Text, name: Text, data: JSONBody[r.OfferIn]
    ) -> r.Dataset:
        """Offer a revision of a dataset to the base: its pictures train a base that everybody gets, whether it is
        private or not. Its names and pictures are shown to nobody else."""
        who = identity_of(request)
        services.growth.contributions.offer(_repo(namespace, name), who, revision=data.revision, note=data.note)
        return services.datasets.get(_repo(namespace, name), who)

    @delete(NAME + "/offer", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.CONTRIBUTE)])
    def withdraw_dataset(self, services: Hub, request: HubRequest, namespace: Text, name: Text) -> r.Dataset:
        """Take an offer back; bases that are made already keep what they learnt."""
        who = identity_of(request)
        services.growth.contributions.withdraw(_repo(namespace, name), who)
        return services.datasets.get(_repo(namespace, name), who)

    @get(NAME + "/summary", sync_to_thread=True)
    def get_summary(
        self, services: Hub, request: HubRequest, namespace: Text, name: Text, revision: Revision = "main"
    ) -> r.DatasetSummary:
        """What a revision holds: files, images, instances per class."""
        return services.datasets.summary(_repo(namespace, name), revision, identity_of(request))

    @get(NAME + "/images", sync_to_thread=True)
    def list_images(
        self,
        services: Hub,
        request: HubRequest,
        namespace: Text,
        name: Text,
        revision: Revision = "main",
        limit: Limit = DEFAULT_LIMIT,
        after: Annotated[int, QueryParameter(ge=-1, le=2**31 - 1, description="The position to go on behind.")] = -1,
        split: Annotated[str | None, QueryParameter(max_length=20, description="Of one split alone.")] = None,
    ) -> Response[list[r.DatasetImage]]:
        """A page of a revision's images, in the dataset's order."""
        found = services.datasets.images_page(
            _repo(namespace, name), revision, identity_of(request), after=after, limit=limit + 1, split=split
        )
        return paged(request, found, limit, lambda image: image.pos)

    @get(NAME + "/images/{pos:int}", sync_to_thread=True)
    def get_image(
        self,
        services: Hub,
        request: HubRequest,
        namespace: Text,
        name: Text,
        pos: FromPath[Position],
        revision: Revision = "main",
    ) -> Stream:
        """The bytes of one image, by its position."""
        who = identity_of(request)
        _, entry = services.datasets.image(_repo(namespace, name), revision, pos, who)
        suffix = "." + entry.path.rpartition(".")[2].lower()
        headers = {
            "ETag": f'"{entry.sha256}"',
            "Content-Length": str(entry.size),
            # Whatever a team uploaded, a browser shows it as a picture or not at all.
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        media = _SUFFIX_TYPES.get(suffix, "application/octet-stream")
        return Stream(services.store.blobs.iter_range(entry.sha256), media_type=media, headers=headers)

    @post(NAME + "/uploads", sync_to_thread=True, guards=[requires(Scope.CONTRIBUTE)], status_code=HTTP_201_CREATED)
    def start_upload(
        self, services: Hub, request: HubRequest, namespace: Text, name: Text, data: JSONBody[r.UploadIn]
    ) -> r.Upload:
        """Begin an upload of all files of a dataset, or go on with one: the answer says what is missing."""
        who = identity_of(request)
        repo = _repo(namespace, name)
        who.require_write("dataset", str(repo))
        return services.uploads.start(repo, data, who)


class UploadController(Controller):
    """Uploads on their way."""

    path = "/uploads/{upload_id:str}"
    tags = ("datasets",)
    guards = (requires(Scope.CONTRIBUTE),)

    @get(sync_to_thread=True)
    def get_upload(self, services: Hub, request: HubRequest, upload_id: Text) -> r.Upload:
        """What is still missing."""
        return services.uploads.get(upload_id, identity_of(request))

    @delete(sync_to_thread=True, status_code=HTTP_204_NO_CONTENT)
    def abort_upload(self, services: Hub, request: HubRequest, upload_id: Text) -> None:
        """Forget the upload."""
        services.uploads.abort(upload_id, identity_of(request))

    @put("/files/{sha256:str}", request_max_body_size=PART_BYTES, status_code=HTTP_200_OK)
    async def put_file(
        self,
        services: Hub,
        request: HubRequest,
        upload_id: Text,
        sha256: FromPath[s.Sha256],
        content_range: Annotated[
            str | None, HeaderParameter(name="Content-Range", description="`bytes 0-99/200` for a part of a file.")
        ] = None,
    ) -> r.PartReceived:
        """Send a file, or the part of one that follows what has arrived."""
        who = identity_of(request)
        part = await read_part(request, content_range)
        return await anyio.to_thread.run_sync(
            lambda: services.uploads.put(upload_id, sha256, part.data, who, offset=part.offset, total=part.total)
        )

    @post("/commit", sync_to_thread=True, status_code=HTTP_200_OK)
    def commit_upload(self, services: Hub, request: HubRequest, upload_id: Text) -> s.Commit:
        """Make the dataset hold exactly the manifest's files, in one step."""
        who = identity_of(request)
        who.require_write("dataset", str(services.uploads.dataset_of(upload_id, who)))
        repo, commit = services.uploads.commit(upload_id, who)
        found = services.datasets.images.of(repo, commit.id)  # now, while somebody waits who knows why
        note(request, dataset=str(repo), commit=commit.id, images=found.images)
        return commit


async def read_part(request: Request[Any, Any, Any], content_range: str | None) -> Part:
    """The body of a request as a part of a file. Raises InputError, TooLargeError."""
    span = None if content_range is None else parse_range(content_range)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > PART_BYTES:
            raise TooLargeError(PART_BYTES)
    if span is not None and span[1] - span[0] != len(body):
        raise InputError(f"Content-Range names {span[1] - span[0]} bytes, {len(body)} came")
    offset, total = (span[0], span[2]) if span else (0, len(body))
    return Part(bytes(body), offset, total)


def _repo(namespace: str, name: str) -> RepoId:
    return RepoId("dataset", namespace, name)


RESOURCE = register(
    Resource(
        "datasets",
        [DatasetController, UploadController],
        rules=grouped(
            ("/datasets", SEE, "GET"),
            ("/datasets/{namespace}/{name}", SEE, "GET, GET /summary, GET /images, GET /images/{pos}"),
            ("/datasets/{namespace}/{name}", CHANGE, "PUT, PATCH, DELETE, PUT /offer, DELETE /offer, POST /uploads"),
            ("/uploads/{upload_id}", CHANGE, "GET, DELETE, PUT /files/{sha256}, POST /commit"),
        ),
        calls=DatasetCalls,
    )
)
