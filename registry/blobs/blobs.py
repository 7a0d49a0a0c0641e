"""Blobs: immutable bytes named by their sha256, in a local folder or an object store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

from registry.blobs.disk import Room
from registry.blobs.holds import Holds
from registry.blobs.places import Backed, Bucket, Folder, Place, Source, Stored, store_errors
from registry.blobs.writer import BlobInfo, BlobWriter
from registry.errors import BlobNotFoundError, DigestMismatchError, InvalidRangeError
from registry.types import Digest, check_digest

CHUNK = 1 << 20
"""Bytes per chunk when reading: large enough to keep a disk busy, small enough for many readers."""

_STALE_SECONDS = 24 * 3600.0


class BlobStore:
    """A content-addressed store. Use from any number of threads.

    A blob lies at `sha256/ab/cd/abcd...`, so no folder holds more than 1/65,536 of the blobs. What is written is
    first staged in a local file, where it is hashed and checked; only then it is published in one atomic step
    (rename, or an upload that completes or does not exist). So no reader ever meets half a blob, and no more
    than a chunk of a file is ever in memory.
    """

    def __init__(self, place: Place, staging: Path, holds: Holds | None = None, room: Room | None = None) -> None:
        self._room = room
        self._place = place
        self._staging = staging
        self._holds = holds or Holds()

    @classmethod
    def open(cls, location: str | Path, *, staging: Path | None = None, room: Room | None = None) -> Self:
        """Open the store at a folder or at a URL (`s3://bucket/prefix`, `gs://…`, `az://…`, `file://…`).

        Credentials of an object store come from its usual environment variables. `staging` is where uploads to an
        object store are gathered (default: under the system's temporary folder); a local store has its own. What
        a killed process left there a day ago or earlier is removed. Raises BlobStoreError.
        """
        text = str(location)
        place: Place
        if isinstance(location, Path) or "://" not in text or text.startswith("file://"):
            root = Path(url2pathname(urlsplit(text).path)) if text.startswith("file://") else Path(location)
            place = Folder(root.resolve())
            staging = root.resolve() / "staging"  # a rename is atomic only within one file system
        else:
            place = Bucket(text)
            staging = staging or Path(tempfile.gettempdir()) / f"parcelhub-{os.getuid()}"
        with store_errors(f"use the staging folder {staging}"):
            staging.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = cls(place, staging, room=room)
        store.forget_staged()
        return store

    def forget_staged(self) -> None:
        """Remove what somebody began to stage a day ago or earlier and never stored. Raises BlobStoreError."""
        with store_errors(f"use the staging folder {self._staging}"):
            for leftover in list(self._staging.iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    if leftover.is_file() and leftover.stat().st_mtime < time.time() - _STALE_SECONDS:
                        leftover.unlink()

    def backed_by(self, source: Source) -> Self:
        """The same store, able to read the source's blobs as if they were its own."""
        return type(self)(Backed(self._place, source), self._staging, self._holds, self._room)

    def check_room(self, size: int = 0) -> None:
        """Raise DiskFullError unless the disk has room for a client's file of so many bytes."""
        if self._room is not None:
            self._room.for_file(size)

    @contextlib.contextmanager
    def writer(self, *, expected: Digest | None = None, max_bytes: int | None = None) -> Iterator[BlobWriter]:
        """A sink for callers that push: `write` chunks, then `commit`; leaving the block before discards all."""
        if expected is not None:
            check_digest(expected)
        self.check_room()
        writer = BlobWriter(
            self._staging, self._place, self._holds, expected=expected, max_bytes=max_bytes, room=self._room
        )
        try:
            yield writer
        finally:
            writer.close()

    def put_stream(
        self,
        chunks: Iterable[bytes | bytearray | memoryview],
        *,
        expected: Digest | None = None,
        max_bytes: int | None = None,
    ) -> BlobInfo:
        """Store the chunks as one blob; durable when it returns, a no-op for bytes already there.

        Raises DigestMismatchError if they do not hash to `expected`, TooLargeError beyond `max_bytes`, and
        BlobStoreError; whatever is raised, also by `chunks` itself, nothing is left behind.
        """
        with self.writer(expected=expected, max_bytes=max_bytes) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()

    def put_bytes(self, data: bytes, *, expected: Digest | None = None) -> BlobInfo:
        """Store `data`; as `put_stream`."""
        return self.put_stream((data,), expected=expected)

    def exists(self, sha256: Digest) -> bool:
        """Whether the blob is stored. Raises BlobStoreError."""
        return self._place.size(sha256) is not None

    def size(self, sha256: Digest) -> int:
        """The blob's size in bytes. Raises BlobNotFoundError, BlobStoreError."""
        size = self._place.size(sha256)
        if size is None:
            raise BlobNotFoundError(sha256)
        return size

    def sizes(self, digests: Sequence[Digest]) -> dict[Digest, int | None]:
        """The size in bytes of each blob, None for one not stored; a collection spares those for a grace period anew.

        Ask so before you tell somebody that they need not send the bytes. Raises BlobStoreError.
        """
        unique = list(dict.fromkeys(digests))
        return dict(zip(unique, self._place.sizes(unique), strict=True))

    def read(self, sha256: Digest) -> bytes:
        """The whole blob, checked against its digest: for records and manifests, not for weights.

        Raises BlobNotFoundError, DigestMismatchError, BlobStoreError.
        """
        data = b"".join(self.iter_range(sha256))
        actual = hashlib.sha256(data).hexdigest()
        if actual != sha256:
            raise DigestMismatchError(sha256, actual)
        return data

    def iter_range(self, sha256: Digest, start: int = 0, end: int | None = None, chunk: int = CHUNK) -> Iterator[bytes]:
        """The bytes [start, end) in chunks of at most `chunk` bytes; `end` None means to the end.

        The range is checked at once, not at the first chunk. Raises BlobNotFoundError, InvalidRangeError,
        BlobStoreError. The digest is not checked: a range has none.
        """
        size = self.size(sha256)
        stop = size if end is None else end
        if not 0 <= start <= stop <= size:
            raise InvalidRangeError(sha256, start, end, size)
        # Object stores refuse to read no bytes at all.
        return iter(()) if start == stop else self._place.read(sha256, start, stop, chunk)

    def checked(self, sha256: Digest, chunk: int = CHUNK) -> Iterator[bytes]:
        """The whole blob in chunks, for one who throws all away if the end raises DigestMismatchError.

        Raises BlobNotFoundError at once, BlobStoreError.
        """
        return _checked(sha256, self.iter_range(sha256, chunk=chunk))

    def delete(self, sha256: Digest) -> None:
        """Remove the blob; a no-op if it is not stored. For owners of a store who know that nothing names it.

        Raises BlobStoreError.
        """
        self._place.delete(sha256)

    def mark(self) -> str | None:
        """What the store is marked with, None if nothing. Raises BlobStoreError."""
        return self._place.mark()

    def set_mark(self, text: str) -> None:
        """Mark the store, durably. Raises BlobStoreError."""
        self._place.set_mark(text)

    def all(self) -> Iterator[Stored]:
        """All blobs that lie here themselves (not those of a source), by digest. Raises BlobStoreError."""
        return self._place.all()

    def holding(self, digests: Iterable[Digest]) -> contextlib.AbstractContextManager[None]:
        """While the block runs, `discard` leaves these alone: check them, and write down that they are needed."""
        return self._holds.hold(digests)

    def discard(self, sha256: Digest, before: float, *, unless: Callable[[], bool] = lambda: False) -> int | None:
        """Remove a blob that is not held, and was neither stored nor promised since `before` (epoch seconds).

        `unless` is asked while nobody can hold it.

        Gives its size in bytes, None if it stays or is gone. Raises BlobStoreError.
        """
        return self._holds.unless_held(sha256, lambda: None if unless() else self._place.delete_older(sha256, before))

    def local_path(self, sha256: Digest) -> Path | None:
        """Where the blob lies on this machine; None if it is not stored, or not here. Never write to it."""
        return self._place.local_path(sha256)

    def export_to(self, sha256: Digest, target: Path, *, link: bool = True) -> BlobInfo:
        """Put the blob at `target`, atomically, checked against its digest on the way.

        With `link` a hard link is made where the file system allows: no copy, but the file is then the store's
        own (and read-only). Not fsynced: an exported file can be made again. Raises BlobNotFoundError,
        DigestMismatchError, BlobStoreError.
        """
        size = self.size(sha256)
        source = self.local_path(sha256)
        staged = target.with_name(f".{uuid.uuid4().hex}")
        with store_errors(f"export blob {sha256} to {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if link and source and _linked(source, staged):
                    with staged.open("rb") as file:
                        actual = hashlib.file_digest(file, "sha256").hexdigest()
                else:
                    actual = self._copy(sha256, staged)
                if actual != sha256:
                    raise DigestMismatchError(sha256, actual)
                staged.replace(target)
            finally:
                # Also after success: renaming one hard link of a file onto another leaves both.
                staged.unlink(missing_ok=True)
        return BlobInfo(sha256, size)

    def _copy(self, sha256: Digest, staged: Path) -> Digest:
        hasher = hashlib.sha256()
        with staged.open("xb") as file:
            for chunk in self.iter_range(sha256):
                hasher.update(chunk)
                file.write(chunk)
        return hasher.hexdigest()


def _checked(sha256: Digest, chunks: Iterator[bytes]) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk
    if hasher.hexdigest() != sha256:
        raise DigestMismatchError(sha256, hasher.hexdigest())


def _linked(source: Path, staged: Path) -> bool:
    try:
        staged.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        return False
    return True
