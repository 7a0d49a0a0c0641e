"""Uploads of whole datasets that can be interrupted at any point, on either side, and go on.

A client sends a manifest: every file's path, size and sha256. The hub answers which contents it misses for this
caller; they come in any order, several at a time, large ones in parts. Everything lies under its upload until the
commit, which is one step: before it nobody sees anything, after it all of it. The same manifest again is the same
upload, so a client needs to remember nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from hub.accounts.possession import UploadLedger
from hub.accounts.quotas import Quotas
from hub.accounts.tokens import Identity
from hub.datasets import content_checks
from hub.datasets.store import commit_view
from hub.errors import InputError, UnknownUploadError, UploadStateError
from hub.migrations.tables import timestamp
from hub.schemas.resources import ManifestFile, MissingFile, PartReceived, Upload, UploadIn
from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.durable import append, make_folder, write_file
from registry.errors import DigestMismatchError, RepoNotFoundError, RevisionNotFoundError, TooLargeError
from registry.repos.repos import MAIN, DeleteFile, Operation, Repos
from registry.types import Digest, FileEntry, RepoId, check_digest

PART_BYTES = 32 * 1024**2
"""The most bytes of one request: what fits is checked in memory and written once."""
STALE_SECONDS = 7 * 86_400.0
UNNAMED_SECONDS = 86_400.0
"""A folder that no upload names, or an upload whose folder is gone."""
_MANIFEST = "manifest.json"
_COLUMNS = "id, dataset, owner, manifest, message, private, parent, files, bytes, commit, created_at"


class _Row(msgspec.Struct, frozen=True):
    id: str
    dataset: str
    owner: str
    manifest: str
    message: str
    private: bool
    parent: str | None
    files: int
    bytes: int
    commit: str | None
    created_at: float


class Uploads:
    """The uploads of one hub. Use from any number of threads."""

    def __init__(
        self,
        catalog: Catalog,
        repos: Repos,
        blobs: BlobStore,
        ledger: UploadLedger,
        quotas: Quotas,
        folder: Path,
        *,
        max_file_bytes: int,
        leapt: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._catalog = catalog
        self._repos = repos
        self._blobs = blobs
        self._ledger = ledger
        self._quotas = quotas
        self._folder = folder
        self._max_file_bytes = max_file_bytes
        self._now = now
        # A fixed number of locks: two files that share one wait for each other now and then, and nothing grows.
        self._locks = tuple(threading.Lock() for _ in range(64))
        self._by_digest = lru_cache(maxsize=8)(self._read_manifest)
        self.forget_stale(leapt)

    def start(self, dataset: RepoId, asked: UploadIn, who: Identity) -> Upload:
        """Begin an upload, or go on with one of the same manifest onto the same head.

        Raises RefusedFileError and InvalidPathError for names and sizes that no dataset may have, TooLargeError for a
        file over the hub's limit, QuotaError.
        """
        self._check(asked.files)
        document = msgspec.json.encode(sorted(asked.files, key=lambda file: file.path))
        manifest = hashlib.sha256(document).hexdigest()
        parent = self._head(dataset)
        sizes = self._sizes_for(who, asked.files)
        new = {file.sha256: file.size for file in asked.files if sizes[file.sha256] is None}
        self._blobs.check_room(len(document) + sum(new.values()))
        total = sum({file.sha256: file.size for file in asked.files}.values())
        row = _Row(
            id=secrets.token_hex(12), dataset=str(dataset), owner=_owner(who), manifest=manifest,
            message=asked.message, private=asked.private, parent=parent, files=len(asked.files), bytes=total,
            commit=None, created_at=self._now(),
        )  # fmt: skip
        place = self._folder / row.id
        make_folder(place, mode=0o700)
        try:
            write_file(place / _MANIFEST, document)
            with self._catalog.write() as db:
                # Looked for where it is written: one manifest sent twice at once is one upload, and room is taken once.
                found = db.execute(
                    f"SELECT {_COLUMNS} FROM hub_uploads WHERE dataset = ? AND owner = ? AND manifest = ?"  # noqa: S608
                    " AND commit IS NULL AND parent IS NOT DISTINCT FROM ?",
                    [str(dataset), _owner(who), manifest, parent],
                ).fetchone()
                if found is None:
                    self._quotas.reserve_in(db, dataset.namespace, _owner(who), new)
                    db.execute(
                        f"INSERT INTO hub_uploads ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                        list(msgspec.structs.astuple(row)),
                    )
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        if found is not None:
            shutil.rmtree(place, ignore_errors=True)
            row = _row(found)
        return self._view(row, asked.files, who)

    def get(self, upload_id: str, who: Identity) -> Upload:
        """Where an upload stands. Raises UnknownUploadError, for somebody else's too."""
        row = self._own(upload_id, who)
        return self._view(row, self._manifest(row), who)

    def dataset_of(self, upload_id: str, who: Identity) -> RepoId:
        """The dataset that an upload is for. Raises UnknownUploadError."""
        return RepoId.parse(self._own(upload_id, who).dataset, "dataset")

    def put(
        self, upload_id: str, sha256: Digest, data: bytes, who: Identity, *, offset: int = 0, total: int | None = None
    ) -> PartReceived:
        """Take bytes of a file from `offset` on; the last part checks the whole and stores it.

        Raises UploadStateError for a part that does not follow what is there, DigestMismatchError, and RefusedFileError
        for content that no dataset may hold; then the file's parts are gone and can be sent anew. InputError and
        TooLargeError are for a size that is not the manifest's, and for more than it.
        """
        row = self._own(upload_id, who)
        if row.commit is not None:
            raise UploadStateError(f"the upload {upload_id} is committed")
        check_digest(sha256)
        files = self._by_digest(upload_id).get(sha256)
        if not files:
            raise UploadStateError(f"the manifest of upload {upload_id} has no file {sha256}")
        size = files[0].size
        if total is not None and total != size:
            raise InputError(f"the manifest says that {files[0].path!r} has {size:,} bytes, not {total:,}")
        if offset + len(data) > size:
            raise TooLargeError(size)
        with self._lock(f"{upload_id}/{sha256}"):
            if self._sizes_for(who, files)[sha256] is not None:
                return PartReceived(sha256=sha256, received=size, complete=True)
            if offset == 0 and len(data) == size:
                self._accept(files, data, who)
                return PartReceived(sha256=sha256, received=size, complete=True)
            return self._part(row, files, data, offset, who)

    def commit(self, upload_id: str, who: Identity) -> tuple[RepoId, Any]:
        """Make the dataset hold exactly the manifest's files. Again: the same answer.

        Raises UploadStateError naming files that are missing, RefConflictError if the dataset has changed since the
        upload began, RefusedFileError, QuotaError.
        """
        row = self._own(upload_id, who)
        repo = RepoId.parse(row.dataset, "dataset")
        with self._lock(upload_id):
            row = self._own(upload_id, who)
            if row.commit is None:
                row = self._commit(row, repo, who)
        assert row.commit is not None  # noqa: S101  # set just now
        return repo, commit_view(self._repos.resolve(repo, row.commit))

    def abort(self, upload_id: str, who: Identity) -> None:
        """Forget an upload and the parts of it. Raises UnknownUploadError."""
        row = self._own(upload_id, who)
        with self._catalog.write() as db:
            db.execute("DELETE FROM hub_uploads WHERE id = ?", [row.id])
            # What arrived is stored until the collection takes it, and stays counted.
            digests = list(self._by_digest(row.id)) if row.commit is None else []
            self._quotas.release_in(db, RepoId.parse(row.dataset, "dataset").namespace, row.owner, digests)
        shutil.rmtree(self._folder / row.id, ignore_errors=True)

    # How

    def _check(self, files: Sequence[ManifestFile]) -> None:
        content_checks.check_names(file.path for file in files)
        sizes: dict[str, int] = {}
        for file in files:
            if file.size > self._max_file_bytes:
                raise TooLargeError(self._max_file_bytes)
            content_checks.check_size(file.path, file.size)
            if sizes.setdefault(file.sha256, file.size) != file.size:
                raise InputError(f"{file.path!r}: two sizes for one sha256")

    def _part(self, row: _Row, files: Sequence[ManifestFile], data: bytes, offset: int, who: Identity) -> PartReceived:
        file = files[0]
        path = self._folder / row.id / f"{file.sha256}.part"
        have = path.stat().st_size if path.exists() else 0
        if offset != have:
            raise UploadStateError(f"{file.path!r}: {have} bytes have arrived, the next part begins there")
        self._blobs.check_room(len(data))
        append(path, data)
        have += len(data)
        if have < file.size:
            return PartReceived(sha256=file.sha256, received=have, complete=False)
        try:
            with path.open("rb") as whole, mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as content:
                view = memoryview(content)
                try:
                    self._accept(files, view, who)
                finally:
                    view.release()
        finally:
            path.unlink(missing_ok=True)
        return PartReceived(sha256=file.sha256, received=have, complete=True)

    def _accept(self, files: Sequence[ManifestFile], data: bytes | memoryview, who: Identity) -> None:
        """Check a whole file and store it."""
        sha256 = files[0].sha256
        actual = hashlib.sha256(data).hexdigest()
        if actual != sha256:
            raise DigestMismatchError(sha256, actual)
        kinds = {content_checks.check_content(file.path, data) for file in files}
        self._blobs.put_stream((data,), expected=sha256)
        self._ledger.record(who, sha256, len(data), "dataset")
        self._note_checked(sha256, kinds)

    def _commit(self, row: _Row, repo: RepoId, who: Identity) -> _Row:
        files = self._manifest(row)
        sizes = self._sizes_for(who, files)
        missing = [file for file in files if sizes[file.sha256] != file.size]
        if missing:
            raise UploadStateError(f"{len(missing)} files have not arrived, {missing[0].path!r} among them")
        self._check_stored(files)
        entries = {file.path: FileEntry(file.path, file.sha256, file.size) for file in files}
        self._repos.create(repo, private=row.private, exist_ok=True)
        before = {entry.path: entry for entry in self._repos.tree(repo, row.parent)} if row.parent else {}
        operations: list[Operation] = [DeleteFile(path) for path in before if path not in entries]
        operations += [
            entry for path, entry in entries.items() if path not in before or before[path].sha256 != entry.sha256
        ]
        if not operations and row.parent:
            commit = row.parent
        else:
            made = self._repos.commit(
                repo, operations, message=row.message, author=who.owner, expected_parent=row.parent
            )
            commit = made.id
        with self._catalog.write() as db:
            db.execute("UPDATE hub_uploads SET commit = ? WHERE id = ?", [commit, row.id])
        shutil.rmtree(self._folder / row.id, ignore_errors=True)
        return msgspec.structs.replace(row, commit=commit)

    def _check_stored(self, files: Sequence[ManifestFile]) -> None:
        """Look at what came through other doors."""
        wanted = {(file.sha256, content_checks.kind_of(file.path)): file for file in files}
        digests = sorted({digest for digest, _ in wanted})
        known: set[tuple[str, str]] = set()
        for at in range(0, len(digests), 10_000):
            known |= set(
                self._catalog.query(
                    "SELECT sha256, kind FROM hub_checked_files WHERE sha256 IN (SELECT unnest(?::VARCHAR[]))",
                    [digests[at : at + 10_000]],
                )
            )
        for key, file in wanted.items():
            if key in known:
                continue
            if file.size > PART_BYTES and (path := self._blobs.local_path(file.sha256)) is not None:
                with path.open("rb") as whole, mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    view = memoryview(content)
                    try:
                        content_checks.check_content(file.path, view)
                    finally:
                        view.release()
            else:
                content_checks.check_content(file.path, b"".join(self._blobs.iter_range(file.sha256)))
            self._note_checked(file.sha256, {key[1]})

    def _note_checked(self, sha256: Digest, kinds: set[content_checks.Kind]) -> None:
        with self._catalog.write() as db:
            for kind in kinds:
                db.execute("INSERT OR IGNORE INTO hub_checked_files VALUES (?, ?)", [sha256, kind])

    def _sizes_for(self, who: Identity, files: Sequence[ManifestFile]) -> dict[Digest, int | None]:
        return self._ledger.sizes_for(who)([file.sha256 for file in files])

    def _view(self, row: _Row, files: Sequence[ManifestFile], who: Identity) -> Upload:
        missing = []
        if row.commit is None:
            sizes = self._sizes_for(who, files)
            for digest, size in {file.sha256: file.size for file in files}.items():
                if sizes[digest] is None:
                    part = self._folder / row.id / f"{digest}.part"
                    received = part.stat().st_size if part.exists() else 0
                    missing.append(MissingFile(sha256=digest, size=size, received=received))
                elif sizes[digest] != size:
                    raise InputError(f"the sha256 {digest} is of {sizes[digest]} bytes, not {size}")
        return Upload(
            id=row.id, dataset=row.dataset, files=row.files, bytes=row.bytes, missing=missing,
            part_bytes=PART_BYTES, commit=row.commit, created_at=timestamp(row.created_at),
        )  # fmt: skip

    def _manifest(self, row: _Row) -> list[ManifestFile]:
        if row.commit is not None:
            return []
        return [file for same in self._by_digest(row.id).values() for file in same]

    def _own(self, upload_id: str, who: Identity) -> _Row:
        rows = self._catalog.query(f"SELECT {_COLUMNS} FROM hub_uploads WHERE id = ?", [upload_id])  # noqa: S608
        if not rows or _row(rows[0]).owner != _owner(who):
            raise UnknownUploadError(f"there is no upload {upload_id!r}")
        return _row(rows[0])

    def _head(self, dataset: RepoId) -> Digest | None:
        try:
            return self._repos.resolve(dataset, f"refs/heads/{MAIN}").id
        except (RepoNotFoundError, RevisionNotFoundError):
            return None

    def _read_manifest(self, upload_id: str) -> dict[Digest, list[ManifestFile]]:
        """The manifest by digest: it is read once, not once per file of a hundred thousand."""
        try:
            document = (self._folder / upload_id / _MANIFEST).read_bytes()
        except FileNotFoundError:
            raise UnknownUploadError(f"there is no upload {upload_id!r}; send the manifest again") from None
        found: dict[Digest, list[ManifestFile]] = {}
        for file in _decode_manifest(document):
            found.setdefault(file.sha256, []).append(file)
        return found

    def _lock(self, name: str) -> threading.Lock:
        return self._locks[zlib.crc32(name.encode()) % len(self._locks)]

    def forget_stale(self, leapt: float = 0.0) -> int:
        """Remove uploads that nobody went on with for a week, and folders that no upload names. Gives their number.

        The clock leapt ahead by `leapt` seconds lately.

        Others may use this object meanwhile. Raises CatalogError, DiskFullError.
        """
        now = self._now() - leapt
        rows = self._catalog.query("SELECT id, created_at FROM hub_uploads WHERE commit IS NULL")
        made = dict(rows)
        gone = 0
        for place in list(self._folder.iterdir()):
            # A folder without a row may be of an upload that begins just now.
            if place.name not in made and _newest(place) < now - UNNAMED_SECONDS:
                shutil.rmtree(place, ignore_errors=True)
                gone += 1
        for upload_id, created_at in made.items():
            place = self._folder / upload_id
            newest = _newest(place) if place.is_dir() else 0.0
            if (newest or created_at) >= now - (STALE_SECONDS if newest else UNNAMED_SECONDS):
                continue
            with self._lock(upload_id):  # not while it is committed
                with self._catalog.write() as db:
                    db.execute("DELETE FROM hub_uploads WHERE id = ? AND commit IS NULL", [upload_id])
                shutil.rmtree(place, ignore_errors=True)
            gone += 1
        return gone


def _newest(place: Path) -> float:
    """When something in a folder was last written (epoch seconds)."""
    times = []
    with contextlib.suppress(OSError):  # it goes just now
        times.append(place.stat().st_mtime)
        times += [path.stat().st_mtime for path in place.iterdir()]
    return max(times, default=0.0)


_decode_manifest = msgspec.json.Decoder(list[ManifestFile]).decode


def _row(values: tuple[Any, ...]) -> _Row:
    return _Row(*values)


def _owner(who: Identity) -> str:
    return f"user:{who.user}" if who.user else f"token:{who.name}"
