"""Where published blobs lie: a local folder, or an object store. The store itself is `registry.blobs`."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from registry.blobs.disk import is_full
from registry.durable import sync_folder, write_file
from registry.errors import BlobNotFoundError, BlobStoreError, DiskFullError
from registry.types import Digest, check_digest

_PARALLEL = 16
_PROMISED_SECONDS: Final = 24 * 3600.0
MARK: Final = "store.json"
"""A place's mark lies beside its blobs."""
MAX_MARK: Final = 4096
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that a place holds: its size in bytes, and when it was last stored or promised (epoch seconds)."""

    sha256: Digest
    size: int
    renewed_at: float


class Place(Protocol):
    """What a store needs of a place. Every method raises BlobStoreError if the place itself fails."""

    def publish(self, staged: Path, sha256: Digest, size: int) -> None:
        """Make a staged, checked and fsynced file visible under its digest, durably and in one atomic step."""

    def size(self, sha256: Digest) -> int | None:
        """In bytes; None if it is not there."""

    def sizes(self, digests: Sequence[Digest]) -> list[int | None]:
        """As `size`, for many at once, and a promise: the grace period of those that are there begins anew."""

    def all(self) -> Iterator[Stored]:
        """All blobs, by digest; those that come or go meanwhile may be among them or not."""

    def read(self, sha256: Digest, start: int, stop: int, chunk: int) -> Iterator[bytes]:
        """The bytes [start, stop), which lie inside the blob and are at least one. Raises BlobNotFoundError."""

    def mark(self) -> str | None:
        """The text of the place's mark, None if it has none."""

    def set_mark(self, text: str) -> None:
        """Leave a mark, durably."""

    def local_path(self, sha256: Digest) -> Path | None:
        """The blob's file on this machine, if it has one."""

    def delete(self, sha256: Digest) -> None:
        """Let go of the blob's bytes; a no-op if it is not there."""

    def delete_older(self, sha256: Digest, before: float) -> int | None:
        """Let go of a blob that was neither stored nor promised since; its size, or None if it stays or is gone."""


class Source(Protocol):
    """Blobs that a place does not hold, but that can be put together from what something else holds."""

    def size(self, sha256: Digest) -> int | None:
        """As a place's."""

    def sizes(self, digests: Sequence[Digest]) -> list[int | None]:
        """As a place's. Asked before the blobs are committed, and so a promise that they stay for a while."""

    def read(self, sha256: Digest, start: int, stop: int, chunk: int) -> Iterator[bytes]:
        """As a place's."""


def key_of(sha256: Digest) -> str:
    """The blob's key below the place's root. Raises InvalidValueError."""
    check_digest(sha256)
    return f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"


class Folder:
    """A local folder. Plain files, not obstore: that neither fsyncs nor links, and reads a hundred times slower."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()
        with store_errors(f"open the blob store {root}"):
            root.mkdir(parents=True, exist_ok=True)

    def publish(self, staged: Path, sha256: Digest, size: int) -> None:
        """By rename; the bytes, the name and the folders on the way to it are fsynced."""
        final = self._root / key_of(sha256)
        with store_errors(f"store blob {sha256}"):
            self._make_durable(final.parent)
            # One of the right length is kept. One of another length was torn by something outside: heal it.
            if self.size(sha256) == size:
                _renew(final)
            else:
                # Hard links of a blob lie in serving folders: nobody may write through them.
                staged.chmod(0o444)
                staged.replace(final)
            sync_folder(final.parent)

    def size(self, sha256: Digest) -> int | None:
        """From the file's entry in its folder."""
        with store_errors(f"look up blob {sha256}"):
            try:
                return (self._root / key_of(sha256)).stat().st_size
            except FileNotFoundError:
                return None

    def sizes(self, digests: Sequence[Digest]) -> list[int | None]:
        """One after another; a blob's time is its file's time."""
        return [self._renewed(digest) for digest in digests]

    def _renewed(self, sha256: Digest) -> int | None:
        path = self._root / key_of(sha256)
        with store_errors(f"look up blob {sha256}"):
            try:
                _renew(path)
                return path.stat().st_size
            except FileNotFoundError:
                return None

    def all(self) -> Iterator[Stored]:
        """Folder by folder, so that little is held at once."""
        with store_errors("list the blob store"):
            for first in _names(self._root / "sha256", 2):
                for second in _names(self._root / "sha256" / first, 2):
                    for entry in sorted(_entries(self._root / "sha256" / first / second), key=lambda one: one.name):
                        if _is_digest(entry.name):
                            with contextlib.suppress(FileNotFoundError):
                                stat = entry.stat()
                                yield Stored(entry.name, stat.st_size, stat.st_mtime)

    def read(self, sha256: Digest, start: int, stop: int, chunk: int) -> Iterator[bytes]:
        """As `Place` says; the file is open until the last byte is taken."""
        with store_errors(f"read blob {sha256}", missing=sha256), (self._root / key_of(sha256)).open("rb") as file:
            file.seek(start)
            left = stop - start
            while left > 0 and (data := file.read(min(chunk, left))):
                left -= len(data)
                yield data

    def mark(self) -> str | None:
        """From a file; what is longer than `MAX_MARK` bytes is cut."""
        with store_errors("read the mark of the blob store"):
            try:
                with (self._root / MARK).open("rb") as file:
                    return file.read(MAX_MARK).decode("utf-8", "replace")
            except FileNotFoundError:
                return None

    def set_mark(self, text: str) -> None:
        """By an atomic rename, fsynced."""
        with store_errors("mark the blob store"):
            write_file(self._root / MARK, text.encode())

    def local_path(self, sha256: Digest) -> Path | None:
        """The file; it must not be written to."""
        path = self._root / key_of(sha256)
        return path if path.is_file() else None

    def delete(self, sha256: Digest) -> None:
        """The name's going is fsynced."""
        with store_errors(f"delete blob {sha256}"):
            path = self._root / key_of(sha256)
            if path.exists():
                path.unlink()
                sync_folder(path.parent)

    def delete_older(self, sha256: Digest, before: float) -> int | None:
        """By the file's time."""
        path = self._root / key_of(sha256)
        with store_errors(f"delete blob {sha256}"):
            try:
                stat = path.stat()
                if stat.st_mtime >= before:
                    return None
                # Not fsynced: a blob that comes back after a power loss is garbage once more.
                path.unlink()
            except FileNotFoundError:
                return None
            return stat.st_size

    def _make_durable(self, folder: Path) -> None:
        """Make the folder and see to it that its own name, and its parents', survive a power loss."""
        if folder in self._durable:
            return
        if folder != self._root:
            self._make_durable(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
        self._durable.add(folder)


class Bucket:
    """An object store, which shows an object only once it is complete and durable."""

    def __init__(self, url: str) -> None:
        with store_errors(f"open the blob store {url}"):
            self._store: ObjectStore = from_url(url)
        # An object's time cannot be set. A restart forgets promises: a client then has to send the bytes after all.
        self._promised: dict[Digest, float] = {}
        self._promising = threading.Lock()

    def publish(self, staged: Path, sha256: Digest, size: int) -> None:
        """By upload, in parallel parts if it is large."""
        with store_errors(f"store blob {sha256}"):
            if self.size(sha256) != size:
                obstore.put(self._store, key_of(sha256), staged)
            else:
                self._promise([sha256])

    def size(self, sha256: Digest) -> int | None:
        """By one request."""
        key = key_of(sha256)
        with store_errors(f"look up blob {sha256}"):
            try:
                return obstore.head(self._store, key)["size"]
            except FileNotFoundError:
                return None

    def sizes(self, digests: Sequence[Digest]) -> list[int | None]:
        """One answer takes tens of milliseconds, but many questions may be open at once."""
        self._promise(digests)
        if len(digests) == 1:
            return [self.size(digests[0])]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return [*pool.map(self.size, digests)]

    def _promise(self, digests: Sequence[Digest]) -> None:
        now = time.time()
        with self._promising:
            for digest in digests:
                self._promised.pop(digest, None)  # so that the oldest stay first
                self._promised[digest] = now
            while self._promised and next(iter(self._promised.values())) < now - _PROMISED_SECONDS:
                del self._promised[next(iter(self._promised))]

    def all(self) -> Iterator[Stored]:
        """Page by page, as the store lists."""
        with store_errors("list the blob store"):
            for page in obstore.list(self._store, prefix="sha256/"):
                for meta in sorted(page, key=lambda one: one["path"]):
                    name = meta["path"].rpartition("/")[2]
                    if _is_digest(name) and meta["path"] == key_of(name):
                        yield Stored(name, meta["size"], meta["last_modified"].timestamp())

    def read(self, sha256: Digest, start: int, stop: int, chunk: int) -> Iterator[bytes]:
        """By one request; the bytes come as they are taken."""
        with store_errors(f"read blob {sha256}", missing=sha256):
            result = obstore.get(self._store, key_of(sha256), options={"range": (start, stop)})
            for part in result.stream(min_chunk_size=chunk):
                view = memoryview(part)
                for at in range(0, len(view), chunk):
                    yield bytes(view[at : at + chunk])

    def mark(self) -> str | None:
        """By one request; what is longer than `MAX_MARK` bytes is cut."""
        with store_errors("read the mark of the blob store"):
            try:
                return bytes(obstore.get(self._store, MARK).bytes())[:MAX_MARK].decode("utf-8", "replace")
            except FileNotFoundError:
                return None

    def set_mark(self, text: str) -> None:
        """By one request."""
        with store_errors("mark the blob store"):
            obstore.put(self._store, MARK, text.encode())

    def local_path(self, sha256: Digest) -> Path | None:
        """None: no object is a file of this machine."""
        check_digest(sha256)
        return None

    def delete(self, sha256: Digest) -> None:
        """By one request."""
        with store_errors(f"delete blob {sha256}"):
            obstore.delete(self._store, key_of(sha256))

    def delete_older(self, sha256: Digest, before: float) -> int | None:
        """By the object's time and the promises that this process gave."""
        key = key_of(sha256)
        with store_errors(f"delete blob {sha256}"):
            try:
                found = obstore.head(self._store, key)
            except FileNotFoundError:
                return None
            # Promises are asked last: one that was given while the store answered counts.
            with self._promising:
                promised = self._promised.get(sha256, 0.0)
            # An object's time has whole seconds.
            if max(found["last_modified"].timestamp() + 1, promised) >= before:
                return None
            obstore.delete(self._store, key)
            return found["size"]


class Backed:
    """A place that also answers for the blobs of a source; what is published goes to the place alone."""

    def __init__(self, place: Place, source: Source) -> None:
        self._place = place
        self._source = source

    def publish(self, staged: Path, sha256: Digest, size: int) -> None:
        """To the place."""
        self._place.publish(staged, sha256, size)

    def size(self, sha256: Digest) -> int | None:
        """Of the place's blob, or else of the source's."""
        size = self._place.size(sha256)
        return self._source.size(sha256) if size is None else size

    def sizes(self, digests: Sequence[Digest]) -> list[int | None]:
        """Of both; the source is asked only about what the place lacks."""
        found = self._place.sizes(digests)
        missing = [digest for digest, size in zip(digests, found, strict=True) if size is None]
        if not missing:
            return found
        more = dict(zip(missing, self._source.sizes(missing), strict=True))
        return [more[digest] if size is None else size for digest, size in zip(digests, found, strict=True)]

    def read(self, sha256: Digest, start: int, stop: int, chunk: int) -> Iterator[bytes]:
        """From the place, or else from the source."""
        place = self._source if self._place.size(sha256) is None else self._place
        return place.read(sha256, start, stop, chunk)

    def mark(self) -> str | None:
        """The place's."""
        return self._place.mark()

    def set_mark(self, text: str) -> None:
        """On the place."""
        self._place.set_mark(text)

    def local_path(self, sha256: Digest) -> Path | None:
        """The place's file; a blob of the source has none."""
        return self._place.local_path(sha256)

    def all(self) -> Iterator[Stored]:
        """The place's blobs alone."""
        return self._place.all()

    def delete(self, sha256: Digest) -> None:
        """From the place; what the source has stays."""
        self._place.delete(sha256)

    def delete_older(self, sha256: Digest, before: float) -> int | None:
        """From the place; what the source has stays."""
        return self._place.delete_older(sha256, before)


def _renew(path: Path) -> None:
    # The kernel's own idea of now may be some milliseconds old.
    now = time.time_ns()
    os.utime(path, ns=(now, now))


def _is_digest(name: str) -> bool:
    return len(name) == 64 and _HEX.fullmatch(name) is not None


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from entries


def _names(folder: Path, length: int) -> Sequence[str]:
    names = (entry.name for entry in _entries(folder))
    return sorted(name for name in names if len(name) == length and _HEX.fullmatch(name))


@contextlib.contextmanager
def store_errors(doing: str, *, missing: Digest | None = None) -> Iterator[None]:
    """Turn what files and stores raise into BlobNotFoundError (with `missing`), DiskFullError, BlobStoreError."""
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise BlobNotFoundError(missing) from error
        if is_full(error):
            raise DiskFullError from error
        # obstore adds a dump of its inner state after the first line.
        raise BlobStoreError(f"cannot {doing}: {str(error).partition(chr(10))[0]}") from error
