"""The operator's part: examination, collection and backup of a running hub."""

from __future__ import annotations

import msgspec
from litestar import Controller, post
from litestar.params import JSONBody
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Scope
from hub.http.access_policy import OPERATOR, grouped
from hub.http.auth import requires
from hub.http.dependencies import Hub
from hub.http.resources import Resource, register
from hub.maintenance.maintenance import check_target

_LINES = "application/x-ndjson"


class FsckIn(msgspec.Struct, frozen=True):
    """`quick`: look whether things are there with the right size; else every byte is read."""

    quick: bool = False


class GcIn(msgspec.Struct, frozen=True):
    """`dry_run`: count only."""

    dry_run: bool = False


class BackupIn(msgspec.Struct, frozen=True):
    """`out`: a folder on the hub's machine, or a URL. `reread`: also read what the backup has already."""

    out: str
    reread: bool = False


class MaintenanceController(Controller):
    """Answers are lines of JSON: `at` (what, done, total) now and then, at last `result` or `error`."""

    path = "/maintenance"
    tags = ("operation",)
    guards = (requires(Scope.ADMIN),)

    @post("/fsck", sync_to_thread=True, status_code=HTTP_200_OK, media_type=_LINES)
    def fsck(self, services: Hub, data: JSONBody[FsckIn]) -> Stream:
        """Find and name any damage."""
        care = services.maintenance
        return Stream(care.streamed(lambda tell: care.fsck(quick=data.quick, progress=tell)), media_type=_LINES)

    @post("/gc", sync_to_thread=True, status_code=HTTP_200_OK, media_type=_LINES)
    def collect(self, services: Hub, data: JSONBody[GcIn]) -> Stream:
        """Remove what nothing needs and is older than its grace."""
        care = services.maintenance
        return Stream(care.streamed(lambda tell: care.collect(dry_run=data.dry_run, progress=tell)), media_type=_LINES)

    @post("/backup", sync_to_thread=True, status_code=HTTP_200_OK, media_type=_LINES)
    def backup(self, services: Hub, data: JSONBody[BackupIn]) -> Stream:
        """Back up the catalog and all blobs."""
        care = services.maintenance
        check_target(data.out, care.root)
        return Stream(
            care.streamed(lambda tell: care.backup(data.out, reread=data.reread, progress=tell)), media_type=_LINES
        )


RESOURCE = register(
    Resource(
        "maintenance",
        [MaintenanceController],
        rules=grouped(
            ("/maintenance", OPERATOR, "POST /backup, POST /gc, POST /fsck"),
        ),
    )
)
