"""The Xet store: xorbs as blobs of their own, files as runs of chunks in them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TypeAlias

import numpy as np

from registry.blobs.blobs import CHUNK, BlobStore
from registry.blobs.disk import Room
from registry.blobs.writer import BlobWriter
from registry.catalog.catalog import Catalog, to_db
from registry.catalog.cursor import Cursor
from registry.errors import InvalidRangeError, ShardWorkError, TooLargeError, XetFileNotFoundError
from registry.repos.caches import BoundedCache
from registry.types import Digest, check_digest
from registry.xet import hashes, rows
from registry.xet.hashes import XetHash
from registry.xet.keyed import keyed_shard, landmarks
from registry.xet.plan import Reconstruction, Run, StoredXorb, cut, reconstruction
from registry.xet.registration import Registration, file_hash
from registry.xet.rows import XetFile
from registry.xet.shards import check_work, parse_shard
from registry.xet.xorbs import ChunkTable, XorbCheck, read_chunks

XORBS_FOLDER: Final = "xorbs"
MAX_HASHED: Final = 64 * 1024**3
"""Bytes of new files that one shard may make us read: a few minutes of one thread."""
Admit: TypeAlias = Callable[[Mapping[XetHash, int], Sequence[XetHash]], None]
_STRIPES: Final = 64
_FRESH: Final = timedelta(minutes=1)
_CACHED_CHUNKS: Final = 500_000  # 40 bytes each
_CACHED_NAMES: Final = 200_000  # some 250 bytes each
_CACHED_RUNS: Final = 200_000  # some 150 bytes each


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed; `bytes` are stored ones."""

    files: int
    xorbs: int
    bytes: int


def xorbs_location(blobs_location: str | Path) -> str | Path:
    """Where xorbs lie beside the blobs at a folder or URL."""
    if isinstance(blobs_location, Path):
        return blobs_location / XORBS_FOLDER
    slash = "" if blobs_location.endswith("/") else "/"
    return f"{blobs_location}{slash}{XORBS_FOLDER}"


class XorbSink:
    """Takes a xorb's bytes as they come; made by `XetStore.xorb_writer`."""

    def __init__(self, store: XetStore, name: XetHash, writer: BlobWriter) -> None:
        self._store = store
        self._name = name
        self._writer = writer
        self._check = XorbCheck()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes, which are checked at once. Raises XetFormatError, BlobStoreError."""
        self._writer.write(self._check.feed(data))

    def commit(self) -> bool:
        """Store the xorb, durably; False if it was stored before. Raises XetFormatError, BlobStoreError."""
        table = self._check.finish(self._name)
        self._writer.write(table.to_bytes())
        return self._store._publish(self._name, table, self._writer)


class XetStore:
    """Xorbs and files. Use from any number of threads, of the one process that owns the catalog.

    What is acknowledged is on disk: a xorb as a fsynced blob (its chunks, then its chunk table), a file as a row of
    the catalog. Nothing is stored before all its hashes were checked: of chunks and xorb while the xorb arrives, of
    terms, file and sha256 while the shard is registered.
    """

    def __init__(self, catalog: Catalog, xorbs: BlobStore) -> None:
        self._catalog = catalog
        self._xorbs = xorbs
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._tables: BoundedCache[int, ChunkTable] = BoundedCache(_CACHED_CHUNKS)
        self._names: BoundedCache[Digest, XetHash] = BoundedCache(_CACHED_NAMES)
        self._naming = threading.Lock()
        self._changes = 0
        self._runs: BoundedCache[XetHash, tuple[XetFile, tuple[Run, ...]]] = BoundedCache(_CACHED_RUNS)

    @classmethod
    def open(
        cls, catalog: Catalog, blobs_location: str | Path, *, staging: Path | None = None, room: Room | None = None
    ) -> Self:
        """Open the store beside the blobs at a folder or URL. Raises BlobStoreError, CatalogError."""
        xorbs = BlobStore.open(xorbs_location(blobs_location), staging=staging, room=room)
        with catalog.write() as tx:
            rows.ensure_identity(tx)
        return cls(catalog, xorbs)

    @property
    def xorbs(self) -> BlobStore:
        """Where the bytes of xorbs lie. For those who examine or copy the store; write nothing there."""
        return self._xorbs

    # Xorbs

    @contextlib.contextmanager
    def xorb_writer(self, name: XetHash) -> Iterator[XorbSink]:
        """A sink for the xorb of this hash; leaving the block before `commit` discards all."""
        check_digest(name)
        with self._xorbs.writer() as writer:
            yield XorbSink(self, name, writer)

    def put_xorb(self, name: XetHash, pieces: Iterable[bytes]) -> bool:
        """Store a xorb; False if it was stored before. Raises XetFormatError, BlobStoreError, InvalidValueError."""
        with self.xorb_writer(name) as sink:
            for piece in pieces:
                sink.write(piece)
            return sink.commit()

    def touch_xorb(self, name: XetHash) -> bool:
        """Whether the xorb is stored; if so, its grace period begins anew. Raises InvalidValueError."""
        check_digest(name)
        return self._catalog.run(lambda tx: rows.touch(tx, [name])) == {name}

    def read_xorb(self, name: XetHash, first: int, stop: int) -> Iterator[bytes]:
        """The stored bytes [first, stop) of a xorb's chunks, in pieces of at most a mebibyte.

        Raises BlobNotFoundError, InvalidRangeError at once, BlobStoreError later as well.
        """
        xorb = rows.xorb_of_hash(self._catalog, name)
        if not 0 <= first <= stop <= xorb.packed:
            raise InvalidRangeError(name, first, stop, xorb.packed)
        return self._xorbs.iter_range(xorb.blob, first, stop)

    def table(self, xorb: StoredXorb) -> ChunkTable:
        """The chunk table of a stored xorb. Raises BlobNotFoundError, BlobStoreError."""
        generation = self._tables.generation
        if (found := self._tables.get(xorb.key)) is None:
            found = ChunkTable.from_bytes(b"".join(self._xorbs.iter_range(xorb.blob, xorb.packed)))
            self._tables.put(xorb.key, found, len(found), generation=generation)
        return found

    def _publish(self, name: XetHash, table: ChunkTable, writer: BlobWriter) -> bool:
        with self._stripe(name):
            # Announced first: if we die in between, a later collection finds the bytes by this row.
            before = self._catalog.run(lambda tx: rows.announce(tx, name, writer.digest, table))
            if before.stored:
                return False
            blob = writer.commit().sha256
            self._catalog.run(lambda tx: rows.set_stored(tx, name))
            if before.blob not in (None, blob):  # the same chunks, packed otherwise, were about to leave
                self._xorbs.delete(before.blob)
        return True

    def _stripe(self, name: XetHash) -> threading.Lock:
        return self._stripes[int(name[:4], 16) % _STRIPES]

    # Files

    def register(
        self, shard: bytes, *, max_bytes: int | None = None, admit: Admit = lambda _, __: None
    ) -> tuple[XetFile, ...]:
        """Check a shard and make its files known; gives those files, whose bytes the sender has proven to know.

        All or nothing, and durable when it returns. Every byte of a new file is read once for its sha256. Raises
        XetFormatError, XetProofError, UnknownXorbError (upload those xorbs, then the shard), BlobStoreError, and
        TooLargeError for a file of more than `max_bytes`, ShardWorkError for a shard that asks for more work than one
        request may. `admit` is called with the new files' sizes in bytes and the shard's xorbs before a byte is read;
        what it raises ends the registration.
        """
        parsed = parse_shard(shard)
        if max_bytes is not None and any(file.size > max_bytes for file in parsed.files):
            raise TooLargeError(max_bytes)
        check_work(parsed)
        there = rows.files_of_hashes(self._catalog, [file.hash for file in parsed.files])
        new_files = {file.hash: file.size for file in parsed.files if file.hash not in there}
        if sum(new_files.values()) > MAX_HASHED:
            raise ShardWorkError(f"its new files have {sum(new_files.values()):,} bytes to hash", f"{MAX_HASHED:,}")
        known = Registration(self._catalog, self.table).check(parsed)
        admit(new_files, [xorb.hash for xorb in parsed.xorbs])
        files = []
        for new in known:
            found = there.get(new.file.hash)
            sha256 = found.sha256 if found else self._sha256(new.runs)
            new.check_sha256(sha256)
            files.append(XetFile(new.file.hash, sha256, new.file.size))
        marks = [landmarks(new.runs, self.table) for new in known]

        def write(tx: Cursor) -> None:
            rows.touch_or_refuse(tx, [xorb.hash for new in known for xorb in new.xorbs])
            for file, new, marks_of_file in zip(files, known, marks, strict=True):
                rows.insert_file(tx, file, new.runs, marks_of_file)

        self._catalog.run(write)
        self._forget_names()
        return tuple(files)

    def file(self, name: XetHash) -> XetFile:
        """Raises XetFileNotFoundError, InvalidValueError."""
        check_digest(name)
        found = rows.file_of_hash(self._catalog, name)
        if found is None:
            raise XetFileNotFoundError(name)
        return found

    def hash_of(self, sha256: Digest) -> XetHash | None:
        """The Xet hash of the file with this sha256, if it is here."""
        return self.hashes_of([sha256]).get(sha256)

    def hashes_of(self, digests: Sequence[Digest]) -> dict[Digest, XetHash]:
        """As `hash_of`, for many at once; the ones that are not here are left out.

        One statement at most, and none for those that were asked for before: listings ask for every file.
        """
        kept = {digest: self._names.get(digest) for digest in digests}
        unknown = [digest for digest, name in kept.items() if name is None]
        if unknown:
            before = self._changes
            found = {file.sha256: file.hash for file in rows.files_of_sha256s(self._catalog, unknown)}
            with self._naming:
                for digest in unknown if before == self._changes else ():
                    self._names.put(digest, found.get(digest, ""), 1)
            kept |= found
        return {digest: name for digest, name in kept.items() if name}

    def _forget_names(self) -> None:
        with self._naming:
            self._changes += 1
            self._names.clear()

    def files_with(self, chunk: XetHash, limit: int = 32) -> tuple[XetFile, ...]:
        """Files that begin with this chunk, or hold it if it is one of those (1 in 1024) that clients ask about."""
        return tuple(rows.files_of_landmark(self._catalog, check_digest(chunk), limit))

    def keyed_shard(self, name: XetHash, chunk: XetHash, *, key: bytes, seconds: int) -> bytes:
        """A shard that lets clients who have chunks of this file find them stored, from `chunk` on.

        Chunk hashes are under `key` (32 bytes); good for so many seconds. Raises XetFileNotFoundError.
        """
        runs = self.file_and_runs(name)[1]
        raw = hashes.from_text(chunk)
        first = next((at for at, run in enumerate(runs) if self._holds(run, raw)), 0)
        now = int(time.time())
        return keyed_shard([*runs[first:], *runs[:first]], self.table, key=key, made=now, until=now + seconds)

    def _holds(self, run: Run, raw: bytes) -> bool:
        part = self.table(run.xorb).hashes[run.start : run.end]
        return bool((part == np.frombuffer(raw, np.uint8)).all(axis=1).any())

    def plan(self, name: XetHash, start: int = 0, stop: int | None = None) -> Reconstruction:
        """How to put the bytes [start, stop) of a file together; `stop` may lie beyond its end.

        Raises XetFileNotFoundError, and InvalidRangeError if there is no such byte.
        """
        file, runs = self.file_and_runs(name)
        end = file.size if stop is None else min(stop, file.size)
        if not 0 <= start < end:
            raise InvalidRangeError(file.sha256, start, stop, file.size)
        skip, chosen = cut(runs, self.table, start, end)
        return reconstruction(skip, chosen, self.table)

    # Files as blobs: what `BlobStore.backed_by` wants

    def size(self, sha256: Digest) -> int | None:
        """The size in bytes of the file of this sha256, None if it is not here."""
        return next((file.size for file in rows.files_of_sha256s(self._catalog, [sha256])), None)

    def sizes(self, digests: Sequence[Digest]) -> list[int | None]:
        """As `size`, for many at once, and their grace period begins anew.

        A commit asks before it names them; without that, a collection in between could take a file that the commit
        was told of. Raises CatalogError inside a write.
        """
        found = rows.files_of_sha256s(self._catalog, digests)
        if old := rows.registered_before(self._catalog, [file.hash for file in found], _now() - _FRESH):
            self._catalog.run(lambda tx: rows.touch_files(tx, old))
            # One that a collection took before we touched it is gone.
            found = rows.files_of_sha256s(self._catalog, digests)
        sizes = {file.sha256: file.size for file in found}
        return [sizes.get(digest) for digest in digests]

    def read(self, sha256: Digest, start: int, stop: int, chunk: int = CHUNK) -> Iterator[bytes]:
        """The bytes [start, stop), in pieces of at most `chunk`; holds a few pieces at a time.

        Raises XetFileNotFoundError, InvalidRangeError at once; BlobStoreError, XetFormatError (damage) later too.
        """
        name = self.hashes_of([sha256]).get(sha256)
        if name is None:
            raise XetFileNotFoundError(sha256)
        file, runs = self.file_and_runs(name)
        if not 0 <= start <= stop <= file.size:
            raise InvalidRangeError(sha256, start, stop, file.size)
        if start == stop:
            return iter(())
        skip, chosen = cut(runs, self.table, start, stop)
        return _clipped(self._unpacked(chosen), skip, stop - start, chunk)

    def file_and_runs(self, name: XetHash) -> tuple[XetFile, tuple[Run, ...]]:
        """A file and what it is made of. Raises XetFileNotFoundError, InvalidValueError."""
        generation = self._runs.generation
        if (found := self._runs.get(name)) is None:
            found = rows.runs_of_file(self._catalog, check_digest(name))
            self._runs.put(name, found, len(found[1]), generation=generation)
        return found

    def _unpacked(self, runs: Iterable[Run]) -> Iterator[bytes | memoryview]:
        for run in runs:
            first, stop = self.table(run.xorb).span(run.start, run.end)
            yield from read_chunks(self._xorbs.iter_range(run.xorb.blob, first, stop))

    def _sha256(self, runs: Sequence[Run]) -> Digest:
        return rows.sha256_of_pieces(self._unpacked(runs))

    def recompute(self, runs: Sequence[Run]) -> XetFile:
        """What the file of these runs is by the bytes that are stored. Raises BlobNotFoundError, XetFormatError."""
        tables = [self.table(run.xorb) for run in runs]
        parts = [table.hashes[run.start : run.end] for table, run in zip(tables, runs, strict=True)]
        lengths = [table.lengths[run.start : run.end] for table, run in zip(tables, runs, strict=True)]
        return XetFile(file_hash(parts, lengths), self._sha256(runs), sum(run.length for run in runs))

    # Time

    def epoch(self, holder: str) -> str:
        """A word that changes when clients of this holder (a user) must forget which xorbs they think are stored.

        Clients keep that knowledge per address of the store: the word belongs into the address.
        """
        return rows.epoch(self._catalog, holder)

    def renew_epoch(self, holder: str) -> None:
        """Let the holder's clients start anew; a shard of theirs built on xorbs that are gone."""
        with self._catalog.write() as tx:
            rows.renew_epoch(tx, holder)

    def collect(self, grace: timedelta) -> Collected:
        """Remove what no commit needs: files, then xorbs, both untouched for `grace` at least.

        A file counts as needed while a repo's history holds its sha256. Clients go on using what they uploaded for
        three weeks without telling us; with a shorter grace their next upload may fail once, and then starts anew.
        Raises BlobStoreError; what is left over then, the next collection removes.
        """
        before = to_db(_now() - grace)
        with self._catalog.write() as tx:
            files = rows.drop_files(tx, before)
            if rows.mark_leaving(tx, before):
                rows.renew_epoch(tx, rows.EVERYBODY)
        self._forget_names()
        self._runs.clear()
        xorbs = size = 0
        for name in rows.leaving(self._catalog):
            with self._stripe(name), contextlib.suppress(rows.Returned):
                gone = rows.still_leaving(self._catalog, name)
                size += self._xorbs.sizes([gone.blob])[gone.blob] or 0
                self._xorbs.delete(gone.blob)
                with self._catalog.write() as tx:
                    rows.drop_xorb(tx, gone)
                xorbs += 1
        self._tables.clear()
        return Collected(files, xorbs, size)


def _now() -> datetime:
    return datetime.now(UTC)


def _clipped(pieces: Iterator[bytes | memoryview], skip: int, length: int, chunk: int) -> Iterator[bytes]:
    """`length` bytes after the first `skip`, small pieces gathered: a chunk may be a few bytes or 128 KiB."""
    gathered: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        part = memoryview(piece)[skip : skip + length]
        skip = max(0, skip - len(piece))
        length -= len(part)
        while size + len(part) >= chunk:
            gathered.append(part[: chunk - size])
            part = part[chunk - size :]
            yield b"".join(gathered)
            gathered, size = [], 0
        if part:
            gathered.append(part)
            size += len(part)
        if not length:
            break
    if gathered:
        yield b"".join(gathered)
