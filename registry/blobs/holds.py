"""Blobs that somebody is busy with: while one is held, no collection takes it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from registry.types import Digest

R = TypeVar("R")
_STRIPES: Final = 64


class Holds:
    """Who holds what, in this process, which is the one that owns the catalog. Use from any number of threads."""

    def __init__(self) -> None:
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._held: Counter[Digest] = Counter()
        self._counting = threading.Lock()

    @contextlib.contextmanager
    def hold(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Keep these from going while the block runs; waits for one that is just going."""
        kept = list(dict.fromkeys(digests))
        for digest in kept:
            with self._stripe(digest), self._counting:
                self._held[digest] += 1
        try:
            yield
        finally:
            with self._counting:
                for digest in kept:
                    self._held[digest] -= 1
                    if not self._held[digest]:
                        del self._held[digest]

    def unless_held(self, digest: Digest, remove: Callable[[], R]) -> R | None:
        """Remove, and let nobody hold it meanwhile; None if somebody holds it."""
        with self._stripe(digest):
            with self._counting:
                if digest in self._held:
                    return None
            return remove()

    def _stripe(self, digest: Digest) -> threading.Lock:
        return self._stripes[int(digest[:4], 16) % _STRIPES]
