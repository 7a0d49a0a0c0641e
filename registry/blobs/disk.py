"""Room on the disk: a reserve that can be given back, and the words for a disk that is full."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from registry.errors import DiskFullError

log = logging.getLogger(__name__)

RESERVE_FILE: Final = "reserve"
_SHARE: Final = 32
"""On a small disk the reserve is one part in so many of it."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_WORDS: Final = ("No space left on device", "Disk quota exceeded")


class Room:
    """The room on the disk of a data folder. Use from any number of threads.

    The reserve is a file of real blocks. Files of clients never come nearer to the end of the disk than its size, so
    that it can be made again once it was given back; rows of the catalog are small and may come nearer. With a
    `reserve` of 0 bytes there is no reserve and no limit.
    """

    def __init__(self, folder: Path, reserve: int) -> None:
        self._file = folder / RESERVE_FILE
        self._folder = folder
        self._lock = threading.Lock()
        self._spending = 0
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            reserve = min(reserve, found.f_blocks * found.f_frsize // _SHARE)
        self.size = max(0, reserve)
        """Bytes that the reserve has, or would have."""

    def free(self) -> int:
        """Bytes that can be written now."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    @property
    def held(self) -> int:
        """Bytes that the reserve holds now: 0 once it was given back."""
        try:
            return self._file.stat().st_size
        except OSError:
            return 0

    def for_file(self, size: int = 0) -> None:
        """Raise DiskFullError unless a client's file of so many bytes may be written."""
        if self.size and self.free() + self.held - size < self.size + self.size // 4:
            raise DiskFullError

    def for_rows(self) -> None:
        """Raise DiskFullError unless rows may be written; maintenance gets the reserve for it."""
        if not self.size or self.free() >= self.size // 8:
            return
        if self._spending:
            self.give_back()
            return  # what is not enough, the disk itself says
        raise DiskFullError

    def give_back(self) -> int:
        """Let go of the reserve; gives how many bytes are free by that."""
        with self._lock:
            size = self.held
            if size:
                try:
                    self._file.unlink()
                except OSError as error:  # a folder that is read-only, for instance
                    log.warning("the reserve %s cannot be given back: %s", self._file, error.strerror)
                    return 0
                log.warning("disk full: the reserve of %d bytes is given back", size)
            return size

    def take(self) -> bool:
        """Make the reserve if it is not there and there is room for three times as much. Whether it is there now."""
        with self._lock:
            if not self.size or self.held == self.size:
                return bool(self.size)
            try:
                if self.free() + self.held < 3 * self.size:
                    return False
                with self._file.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, self.size)
            except OSError as error:
                with contextlib.suppress(OSError):
                    self._file.unlink(missing_ok=True)
                if error.errno not in _FULL:
                    log.warning("no reserve of %d bytes: %s", self.size, error.strerror)
                return False
            return True

    @contextlib.contextmanager
    def spending(self) -> Iterator[None]:
        """While the block runs, the reserve is given back if rows need it; afterwards it is made again if it fits."""
        with self._lock:
            self._spending += 1
        try:
            yield
        finally:
            with self._lock:
                self._spending -= 1
            self.take()

    def is_low(self) -> bool:
        """Whether rows cannot be written without the reserve."""
        return bool(self.size) and self.free() < self.size // 8


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that the disk is full."""
    return any(isinstance(one, DiskFullError) for one in _chain(error)) or _says(error, _FULL, _WORDS)


def is_read_only(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that the disk is read-only."""
    return _says(error, frozenset({errno.EROFS}), ("Read-only file system",))


def _says(error: BaseException | None, numbers: frozenset[int], words: tuple[str, ...]) -> bool:
    return any(
        (isinstance(one, OSError) and one.errno in numbers) or any(word in str(one) for word in words)
        for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
