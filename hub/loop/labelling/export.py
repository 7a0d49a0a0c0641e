"""Labels become commits of a private dataset of the cell's team, in batches; a batch can be taken back.

A batch and its commit are one transaction: no picture is in a dataset without its task saying so.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from pycocotools import mask as coco_mask

from finetune.datasets.coco_write import dump
from hub.accounts.possession import UploadLedger
from hub.accounts.quotas import Quotas
from hub.accounts.tokens import Identity
from hub.datasets.image_index import ANNOTATIONS
from hub.errors import InputError, LabelError, TaskStateError
from hub.loop.labelling import rows
from hub.loop.labelling.queue import Queue
from hub.loop.labelling.regions import Kept
from hub.loop.labelling.rows import Row
from hub.migrations.tables import timestamp
from hub.schemas.labels import Batch
from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import EntryNotFoundError, RefConflictError, RepoNotFoundError, RevisionNotFoundError
from registry.repos.repos import DeleteFile, Operation, Repos
from registry.types import FileEntry, RepoId

MAX_BATCH: Final = 500
_TRIES = 5
_COLUMNS = "id, cell, dataset, pictures, instances, person, made_at, undone_at"
_CARD = """---
license: other
task_categories:
- image-segmentation
tags:
- instance-segmentation
- packages
- parcelhub
---

# Labels of the cell {cell}

Pictures of production that people labelled at the hub. Masks are COCO compressed RLE in `annotations.json`.
"""


class Exporter:
    """Makes the commits. Thread-safe: of two at once, one begins again on the other's commit."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        repos: Repos,
        queue: Queue,
        ledger: UploadLedger,
        quotas: Quotas,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._repos = repos
        self._queue = queue
        self._ledger = ledger
        self._quotas = quotas
        self._now = now

    def waiting(self, cell: str) -> int:
        """Pictures that are labelled and in no dataset yet."""
        rows_ = self._catalog.query(
            "SELECT count(*) FROM label_tasks WHERE cell = ? AND state = 'labelled' AND batch IS NULL", [cell]
        )
        return int(rows_[0][0])

    def page(self, cell: str, *, limit: int, after: str = "") -> list[Batch]:
        """Batches of a cell, newest first."""
        found = self._catalog.query(
            f"SELECT {_COLUMNS} FROM label_batches WHERE cell = ? AND (? = '' OR made_at <"  # noqa: S608  # a constant
            " (SELECT made_at FROM label_batches WHERE id = ? AND cell = ?)) ORDER BY made_at DESC LIMIT ?",
            [cell, after, after, cell, limit],
        )
        return [_batch(row) for row in found]

    def check_place(self, dataset: str, team: str, who: Identity) -> RepoId:
        """The dataset where labels of a cell may go. Raises InputError, ForbiddenError, InvalidNameError.

        It has to be the cell's team's own and private: what production saw is not for others' eyes.
        """
        repo = RepoId.parse(dataset, "dataset")
        if team and repo.namespace.lower() != team.lower():
            raise InputError(f"labels of this cell belong to the team {team!r}, not to {repo.namespace!r}")
        who.require_write("dataset", str(repo))
        try:
            if not self._repos.get(repo).private:
                raise InputError(f"the dataset {repo} is public, and what production saw is not; name a private one")
        except RepoNotFoundError:
            pass
        return repo

    def commit(self, cell: str, repo: RepoId, who: Identity, limit: int = MAX_BATCH) -> Batch | None:
        """Add what is labelled to the dataset; None where nothing waits.

        Raises QuotaError, LabelError for annotations that cannot be read, RefConflictError if the dataset keeps moving.
        """
        for attempt in range(_TRIES):
            try:
                return self._commit(cell, repo, who, limit)
            except RefConflictError:
                if attempt == _TRIES - 1:
                    raise
        return None

    def undo(self, batch_id: str, cell: str, who: Identity) -> Batch:
        """Take a batch out of its dataset by another commit; its pictures wait again, with the labels they had.

        Raises TaskStateError for one that was taken back before or is not the cell's.
        """
        for attempt in range(_TRIES):
            try:
                return self._undo(batch_id, cell, who)
            except RefConflictError:
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _commit(self, cell: str, repo: RepoId, who: Identity, limit: int) -> Batch | None:
        tasks = [
            Row(*row)
            for row in self._catalog.query(
                f"SELECT {rows.COLUMNS} FROM label_tasks WHERE cell = ? AND state = 'labelled'"  # noqa: S608
                " AND batch IS NULL ORDER BY created_at, id LIMIT ?",
                [cell, limit],
            )
        ]
        if not tasks:
            return None
        self._repos.create(repo, private=True, exist_ok=True)
        head, files, document = self._read(repo)
        operations: list[Operation] = []
        sizes: dict[str, int] = {}
        instances = 0
        for task in tasks:
            path = file_of(task, repo)
            labels = self._queue.labels(task.id) or []
            instances += len(labels)
            if path not in files:
                sizes[task.picture] = self._blobs.size(task.picture)
                operations.append(FileEntry(path, task.picture, sizes[task.picture]))
            _put(document, path.removeprefix("images/"), task, labels)
        if "README.md" not in files:
            operations.append(self._text("README.md", _CARD.format(cell=cell), sizes))
        operations.append(self._text(ANNOTATIONS, dump(document) + "\n", sizes))
        self._quotas.check_new(repo.namespace, sizes)
        for digest, size in sizes.items():
            self._ledger.record(who, digest, size, "labelling")
        batch, now = secrets.token_hex(16), self._now()

        def beside(tx: Cursor) -> None:
            tx.execute(
                "INSERT INTO label_batches VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                [batch, cell, str(repo), len(tasks), instances, who.owner, now],
            )
            for task in tasks:
                now_ = tx.execute("SELECT state, batch, version FROM label_tasks WHERE id = ?", [task.id]).fetchone()
                if now_ != ("labelled", None, task.version):  # reopened meanwhile, or another batch has it
                    raise RefConflictError(repo, "main", head, None)
                tx.execute("UPDATE label_tasks SET batch = ? WHERE id = ?", [batch, task.id])

        message = f"{len(tasks)} pictures with {instances} instances labelled at the hub (batch {batch[:12]})"
        self._repos.commit(repo, operations, message=message, author=who.owner, expected_parent=head, beside=beside)
        return self._one(batch)

    def _undo(self, batch_id: str, cell: str, who: Identity) -> Batch:
        batch = self._one(batch_id)
        if batch is None or batch.cell != cell:
            raise TaskStateError(f"the cell has no batch {batch_id[:40]!r}")
        if batch.undone_at is not None:
            raise TaskStateError("the batch was taken back before")
        repo = RepoId.parse(batch.dataset, "dataset")
        who.require_write("dataset", str(repo))
        tasks = [
            Row(*row)
            for row in self._catalog.query(
                f"SELECT {rows.COLUMNS} FROM label_tasks WHERE batch = ?",  # noqa: S608  # constants
                [batch_id],
            )
        ]
        now = self._now()

        def beside(tx: Cursor) -> None:
            tx.execute("UPDATE label_batches SET undone_at = ? WHERE id = ?", [now, batch_id])
            rows.reopen_all(tx, batch_id, who.owner, now)

        try:
            head, files, document = self._read(repo)
        except RepoNotFoundError:  # the dataset was deleted: nothing is left to take out
            self._catalog.run(beside)
            return self._required(batch_id)
        operations: list[Operation] = []
        sizes: dict[str, int] = {}
        for task in tasks:
            path = file_of(task, repo)
            _drop(document, path.removeprefix("images/"))
            if path in files and not _of(task, repo):  # a picture that the dataset had before stays
                operations.append(DeleteFile(path))
        operations.append(self._text(ANNOTATIONS, dump(document) + "\n", sizes))
        for digest, size in sizes.items():
            self._ledger.record(who, digest, size, "labelling")
        message = f"Labels of {len(tasks)} pictures taken back (batch {batch_id[:12]})"
        self._repos.commit(repo, operations, message=message, author=who.owner, expected_parent=head, beside=beside)
        return self._required(batch_id)

    def _read(self, repo: RepoId) -> tuple[str | None, dict[str, FileEntry], dict[str, Any]]:
        """Head, files and annotations of a dataset; raises RepoNotFoundError, LabelError."""
        empty: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        try:
            head = self._repos.resolve(repo, "main").id
        except RevisionNotFoundError:
            return None, {}, empty
        files = {entry.path: entry for entry in self._repos.tree(repo, head)}
        try:
            entry = self._repos.entry(repo, head, ANNOTATIONS)
        except EntryNotFoundError:
            return head, files, empty
        try:
            document = json.loads(self._blobs.read(entry.sha256))
            usable = all(isinstance(document[name], list) for name in empty)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LabelError(f"{repo}: {ANNOTATIONS} cannot be read ({error})") from error
        if not usable:
            raise LabelError(f"{repo}: {ANNOTATIONS} is no COCO document")
        return head, files, document

    def _text(self, path: str, text: str, sizes: dict[str, int]) -> FileEntry:
        info = self._blobs.put_bytes(text.encode())
        sizes[info.sha256] = info.size
        return FileEntry(path, info.sha256, info.size)

    def _one(self, batch_id: str) -> Batch | None:
        found = self._catalog.query(f"SELECT {_COLUMNS} FROM label_batches WHERE id = ?", [batch_id])  # noqa: S608
        return _batch(found[0]) if found else None

    def _required(self, batch_id: str) -> Batch:
        found = self._one(batch_id)
        if found is None:
            raise TaskStateError("the batch has gone")
        return found


def file_of(task: Row, repo: RepoId) -> str:
    """Where the picture of a task lies in the dataset `repo`: where it came from, or under `images/`."""
    kind, _, rest = task.source.partition(" ")
    if kind == "capture":
        return f"images/{rest}{task.suffix}"
    if _of(task, repo):
        return rest.partition(" ")[2]
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in PurePosixPath(rest).stem)
    return f"images/{stem[:60] or 'picture'}-{task.picture[:12]}{task.suffix}"


def _of(task: Row, repo: RepoId) -> bool:
    """Whether the picture of the task came from that dataset."""
    return task.source.startswith(f"dataset {repo} ")


def _put(document: dict[str, Any], name: str, task: Row, labels: Sequence[Kept]) -> None:
    """The picture and its instances into a COCO document, in place of what it says of the picture."""
    _drop(document, name)
    number = max((int(one["id"]) for one in document["images"]), default=0) + 1
    document["images"].append({"id": number, "file_name": name, "width": task.width, "height": task.height})
    categories = {one["name"]: one["id"] for one in document["categories"]}
    at = max((int(one["id"]) for one in document["annotations"]), default=0)
    for one in labels:
        if one.label not in categories:
            categories[one.label] = max(categories.values(), default=0) + 1
            document["categories"].append({"id": categories[one.label], "name": one.label})
        at += 1
        rle = {"size": [task.height, task.width], "counts": one.counts}
        document["annotations"].append(
            {
                "id": at, "image_id": number, "category_id": categories[one.label], "iscrowd": 0,
                "bbox": [float(side) for side in coco_mask.toBbox(rle)], "area": int(coco_mask.area(rle)),
                "segmentation": rle,
            }
        )  # fmt: skip


def _drop(document: dict[str, Any], name: str) -> None:
    gone = {one["id"] for one in document["images"] if one["file_name"] in (name, f"images/{name}")}
    if gone:
        document["images"] = [one for one in document["images"] if one["id"] not in gone]
        document["annotations"] = [one for one in document["annotations"] if one["image_id"] not in gone]


def _batch(row: tuple[Any, ...]) -> Batch:
    id_, cell, dataset, pictures, instances, person, at, undone = row
    return Batch(
        id=id_, cell=cell, dataset=dataset, pictures=pictures, instances=instances, person=person, at=timestamp(at),
        undone_at=None if undone is None else timestamp(undone),
    )  # fmt: skip
