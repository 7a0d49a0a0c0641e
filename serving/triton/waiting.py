"""Requests that wait for their variant to be read."""

from __future__ import annotations

import threading

from serving.errors import VariantWarming
from serving.triton.queries import MAX_HELD, MAX_HELD_BYTES, Held


class Waiting:
    """Who waits for which variant. Bounded in number and in bytes of frames; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loading: dict[str, list[Held]] = {}
        self._closed = False

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._loading.values()))

    def join(self, variant: str, held: Held | None) -> bool:
        """Wait for a variant, or (with None) only want it; whether it has to be read, since nobody wanted it before.

        Raises VariantWarming where too many wait already.
        """
        with self._lock:
            if held is not None and not self._has_room(held):
                raise VariantWarming("too many requests wait for variants to be read; ask again")
            fresh = variant not in self._loading
            waiting = self._loading.setdefault(variant, [])
            if held is not None:
                waiting.append(held)
            return fresh

    def tell(self, variant: str) -> None:
        """It was read, or could not be: whoever waits for it asks again."""
        with self._lock:
            waiting = self._loading.pop(variant, [])
        for one in waiting:
            one.later()

    def close(self) -> None:
        """Nobody else may wait."""
        with self._lock:
            self._closed = True

    def tell_all(self) -> None:
        """No variant will come any more."""
        for variant in tuple(self._loading):
            self.tell(variant)

    def _has_room(self, one: Held) -> bool:
        sizes = [other.size for waiting in self._loading.values() for other in waiting]
        small = not sizes or sum(sizes) + one.size <= MAX_HELD_BYTES
        return len(sizes) < MAX_HELD and small and not self._closed
