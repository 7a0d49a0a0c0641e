"""Git's names for blobs: the sha1 that git would give a file, kept so that it is worked out once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import DiskFullError
from registry.types import Digest, FileEntry

_ROWS = 1000


def header(size: int) -> bytes:
    """What git hashes before a blob's bytes."""
    return b"blob %d\0" % size


def pointer(sha256: Digest, size: int) -> bytes:
    """The Git LFS pointer that stands in a git tree for a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_sha1(data: bytes) -> str:
    """The name git gives these bytes, 40 lower-case hex characters."""
    return hashlib.sha1(header(len(data)) + data, usedforsecurity=False).hexdigest()


def insert_ids(tx: Cursor, ids: Mapping[Digest, str]) -> None:
    """Keep what is known of these blobs (sha256 to sha1)."""
    if ids:
        tx.execute(
            "INSERT OR IGNORE INTO blob_git_ids (sha256, git_sha1) SELECT unnest(?), unnest(?)",
            [list(ids), list(ids.values())],
        )


class GitIds:
    """Git's names of stored blobs. Use from any number of threads."""

    def __init__(self, catalog: Catalog, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._blobs = blobs

    def of(self, entries: Iterable[FileEntry]) -> dict[Digest, str]:
        """The sha1 of each file's bytes, by sha256; those not known yet are worked out, a chunk in memory.

        Raises BlobNotFoundError, BlobStoreError.
        """
        wanted = {entry.sha256: entry.size for entry in entries}
        known = self._known(list(wanted))
        fresh = {sha256: self._work_out(sha256, size) for sha256, size in wanted.items() if sha256 not in known}
        self.record(fresh)
        return known | fresh

    def record(self, ids: Mapping[Digest, str]) -> None:
        """Keep what somebody has worked out while the bytes passed; on a full disk it is worked out again each time."""
        if ids:
            with contextlib.suppress(DiskFullError):
                self._catalog.run(lambda tx: insert_ids(tx, ids))

    def _known(self, digests: list[Digest]) -> dict[Digest, str]:
        found: dict[Digest, str] = {}
        for at in range(0, len(digests), _ROWS):
            found |= dict(
                self._catalog.query(
                    "SELECT sha256, git_sha1 FROM blob_git_ids WHERE sha256 IN (SELECT unnest(?::VARCHAR[]))",
                    [digests[at : at + _ROWS]],
                )
            )
        return found

    def _work_out(self, sha256: Digest, size: int) -> str:
        hasher = hashlib.sha1(header(size), usedforsecurity=False)
        for chunk in self._blobs.iter_range(sha256):
            hasher.update(chunk)
        return hasher.hexdigest()
