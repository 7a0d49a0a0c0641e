"""A cache that is bounded by weight."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Keeps what was used last, up to a total weight. Use from any number of threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._weight = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._cleared = 0

    @property
    def generation(self) -> int:
        """How often the cache was emptied: ask before you look something up, and give it to `put`."""
        return self._cleared

    def get(self, key: K) -> V | None:
        """The value, which counts as used now; None if it is not there."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, weight: int, *, generation: int | None = None) -> None:
        """Keep `value`, unless it alone is heavier than the whole cache, or was looked up before the last `clear`."""
        with self._lock:
            if generation is not None and generation != self._cleared:
                return
            if (old := self._entries.pop(key, None)) is not None:
                self._weight -= old[1]
            if weight > self._capacity:
                return
            self._entries[key] = (value, weight)
            self._weight += weight
            while self._weight > self._capacity:
                _, (_, gone) = self._entries.popitem(last=False)
                self._weight -= gone

    def clear(self) -> None:
        """Forget all. What was being made meanwhile is not kept either."""
        with self._lock:
            self._cleared += 1
            self._entries.clear()
            self._weight = 0
