"""A file as something to read pieces of: its beginning is kept, other pieces are fetched when asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Buffer

ReadRange: TypeAlias = Callable[[int, int], bytes]
"""The bytes [start, stop) of a file."""

HEAD = 256 * 1024


class Window:
    """A file of `size` bytes, read through `fetch`. Not for several threads."""

    def __init__(self, size: int, fetch: ReadRange) -> None:
        self.size = size
        self._fetch = fetch
        self.head = fetch(0, min(size, HEAD))

    @classmethod
    def of(cls, data: bytes) -> Window:
        """The window of bytes in memory."""
        return cls(len(data), lambda start, stop: data[start:stop])

    def read(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop), cut off at the file's end."""
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        return self.head[start:stop] if stop <= len(self.head) else self._fetch(start, stop)

    def file(self) -> io.BufferedReader:
        """The whole as a seekable file object, for libraries that want one."""
        return io.BufferedReader(_Reader(self), buffer_size=64 * 1024)


class _Reader(io.RawIOBase):
    def __init__(self, window: Window) -> None:
        self._window = window
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._window.size}[whence]
        if start + offset < 0:
            raise OSError("before the beginning")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._window.read(self._at, self._at + len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
