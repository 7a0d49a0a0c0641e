"""How much, and how often: a team's bytes and a caller's requests, refused with what stock clients understand.

Too many bytes are a 413, which no client tries again; too many requests a 429 with the headers that say when to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hub.accounts.quotas import Quotas
from hub.errors import HubError, QuotaError
from hub.errors import StorageFullError as StorageFullError
from registry.repos.directory import Directory
from registry.types import Digest

FRESH_SECONDS: Final = 60.0
"""A team's use is counted again after so long, or when what is left of it seems too little."""
WINDOW_SECONDS: Final = 60.0
MAX_CALLERS: Final = 50_000


class TooManyRequestsError(HubError):
    """Raised when a caller asks more often than the hub allows; `headers` say when to ask again."""

    def __init__(self, limit: int, seconds: int) -> None:
        self.headers = {
            "Retry-After": str(seconds),
            "RateLimit": f'"api";r=0;t={seconds}',
            "RateLimit-Policy": f'"fixed window";"api";q={limit};w={int(WINDOW_SECONDS)}',
        }
        super().__init__(f"more than {limit} requests a minute; ask again in {seconds} s")


@dataclass(slots=True)
class _Room:
    counted_at: float
    bytes: int


class UploadQuota:
    """The bytes that teams may store. Use from any number of threads."""

    def __init__(self, quotas: Quotas | None, directory: Directory, *, now: Callable[[], float] = time.time) -> None:
        self._quotas = quotas
        self._directory = directory
        self._now = now
        self._rooms: dict[str, _Room] = {}
        self._lock = threading.Lock()

    def check(self, namespace: str, files: Mapping[Digest, int]) -> None:
        """Raises StorageFullError if a team may not store these blobs (sha256 to bytes) as well.

        Counting a team's bytes takes a moment, so it is done once a minute, and when the room that was left then
        does not do: what the team has already is free.
        """
        team, more = namespace.lower(), sum(files.values())
        if self._quotas is None or not more:
            return
        with self._lock:
            room = self._rooms.get(team)
            if room is not None and abs(self._now() - room.counted_at) < FRESH_SECONDS and room.bytes >= more:
                return
        quota = self._quotas.get(team)
        left = quota.bytes - quota.bytes_used
        if more > left:
            more = sum(size for sha256, size in files.items() if not self._has(team, sha256))
        if more > left:
            raise StorageFullError(
                f"{namespace} stores {quota.bytes_used:,} of the {quota.bytes:,} bytes that it may;"
                f" these files are {more:,} more"
            )
        with self._lock:
            self._rooms[team] = _Room(self._now(), left)

    def reserve(
        self, namespace: str, owner: str, contents: Mapping[str, int], *, instead_of: Sequence[str] = ()
    ) -> None:
        """Reserve room for bytes on their way in, for all doors in one place. Raises StorageFullError."""
        if self._quotas is None:
            return
        try:
            self._quotas.reserve(namespace, owner, contents, instead_of=instead_of)
        except QuotaError as error:
            raise StorageFullError(str(error)) from error

    def release(self, namespace: str, owner: str, contents: Iterable[str]) -> None:
        """Give back what did not arrive."""
        if self._quotas is not None:
            self._quotas.release(namespace, owner, contents)

    def took(self, namespace: str, files: Mapping[Digest, int]) -> None:
        """A commit was made: what it brought is counted as if it were new."""
        with self._lock:
            room = self._rooms.get(namespace.lower())
            if room is not None:
                room.bytes -= sum(files.values())

    def _has(self, team: str, sha256: Digest) -> bool:
        return any(info.id.namespace.lower() == team for info, _ in self._directory.holders(sha256))


class RequestRate:
    """At most so many requests a caller and minute; 0: as many as they like. Counted in this process alone."""

    def __init__(self, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._now = now
        self._counts: dict[str, int] = {}
        self._began = now()

    def count(self, caller: str) -> None:
        """One more request. Raises TooManyRequestsError. For the event loop's thread alone."""
        if not self.per_minute:
            return
        now = self._now()
        if now - self._began >= WINDOW_SECONDS or len(self._counts) > MAX_CALLERS:
            self._counts, self._began = {}, now
        asked = self._counts.get(caller, 0) + 1
        self._counts[caller] = asked
        if asked > self.per_minute:
            raise TooManyRequestsError(self.per_minute, max(1, round(self._began + WINDOW_SECONDS - now)))
