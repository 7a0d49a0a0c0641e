"""Staging a blob: bytes go to a local file and a hash at once, and are published when they are known good."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from registry.blobs.disk import Room
from registry.blobs.holds import Holds
from registry.blobs.places import Place, store_errors
from registry.errors import DigestMismatchError, TooLargeError
from registry.types import Digest


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob: its digest and its size in bytes."""

    sha256: Digest
    size: int


class BlobWriter:
    """A sink for one blob. Not shared by threads at the same time, but any thread may go on with it."""

    def __init__(
        self,
        staging: Path,
        place: Place,
        holds: Holds,
        *,
        expected: Digest | None,
        max_bytes: int | None,
        room: Room | None = None,
    ) -> None:
        self._room = room
        self._place = place
        self._holds = holds
        self._expected = expected
        self._max_bytes = max_bytes
        self._hasher = hashlib.sha256()
        self._path = staging / uuid.uuid4().hex
        with store_errors("stage a blob"):
            self._file = self._path.open("xb", buffering=0)
        self.size = 0
        """Bytes written so far."""

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Add bytes. Raises TooLargeError beyond the writer's limit, BlobStoreError if the disk fails."""
        view = memoryview(chunk).cast("B")
        if self._max_bytes is not None and self.size + len(view) > self._max_bytes:
            raise TooLargeError(self._max_bytes)
        if self._room is not None:
            self._room.for_file(len(view))
        self._hasher.update(view)
        self.size += len(view)
        with store_errors("stage a blob"):
            while view:  # an unbuffered file may take less than it is given
                view = view[self._file.write(view) :]

    @property
    def digest(self) -> Digest:
        """The sha256 of the bytes written so far."""
        return self._hasher.hexdigest()

    def commit(self) -> BlobInfo:
        """Check and publish. Raises DigestMismatchError, BlobStoreError."""
        actual = self._hasher.hexdigest()
        if self._expected is not None and actual != self._expected:
            raise DigestMismatchError(self._expected, actual)
        with store_errors("stage a blob"):
            os.fsync(self._file.fileno())
        with self._holds.hold([actual]):
            self._place.publish(self._path, actual, self.size)
        return BlobInfo(actual, self.size)

    def close(self) -> None:
        """Let go of the staged file, if it is still there."""
        self._file.close()
        self._path.unlink(missing_ok=True)
