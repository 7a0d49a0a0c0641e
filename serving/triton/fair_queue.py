"""First come, first served for each cell, and the cells by turns: one that floods the server waits for itself.

Round robin between lines, after Nagle, "On packet switches with infinite storage" (RFC 970, 1985).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Lines by key. Where every key has one entry at most, it is a plain queue. Not thread-safe."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, key: str, entry: T) -> None:
        """Add an entry at the end of its key's line."""
        self._lines.setdefault(key, deque()).append(entry)
        self._count += 1

    def pop(self) -> T:
        """The oldest entry of the key whose turn it is; the key's next turn comes after all others'.

        Raises KeyError where nothing waits.
        """
        key, line = self._lines.popitem(last=False)
        entry = line.popleft()
        if line:
            self._lines[key] = line
        self._count -= 1
        return entry

    def ahead(self, key: str) -> int:
        """How many entries leave at most before one that this key would add now."""
        own = self.waiting(key)
        return own + sum(min(len(line), own + 1) for other, line in self._lines.items() if other != key)

    def waiting(self, key: str) -> int:
        """How many entries a key has."""
        return len(self._lines.get(key, ()))

    def drop(self, *, longer_than: int = 0) -> T | None:
        """Take out the newest entry of the longest line, where that is longer than so many."""
        line = max(self._lines.values(), key=len, default=deque[T]())
        if len(line) <= longer_than:
            return None
        entry = line.pop()
        if not line:
            self._lines = OrderedDict((key, other) for key, other in self._lines.items() if other)
        self._count -= 1
        return entry
