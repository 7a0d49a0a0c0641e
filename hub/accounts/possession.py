"""Who has proven to possess which bytes. Knowing a hash must give nobody another team's file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hub.accounts.access import Access
from hub.accounts.tokens import Identity, Kind, Scope
from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.repos.directory import Directory
from registry.types import Digest, check_digest

_ROWS = 1000


class UploadLedger:
    """Possession of blobs: by upload (the bytes were sent and hashed), or by a history that the caller may read.

    Every way in records here: LFS uploads, files inside commits, registered Xet shards.
    """

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        directory: Directory,
        access: Access,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._directory = directory
        self._access = access
        self._now = now

    def record(self, who: Identity, sha256: Digest, size: int, how: str) -> None:
        """`who` has sent (or proven, chunk by chunk) the bytes of this sha256; `how` is for the operator's eyes."""
        check_digest(sha256)
        with self._catalog.write() as tx:
            tx.execute(
                "INSERT OR IGNORE INTO hub_possessions VALUES (?, ?, ?, ?, ?)",
                [sha256, owner_of(who), size, how, self._now()],
            )

    def size_of(self, who: Identity, sha256: Digest) -> int | None:
        """The size in bytes of a stored blob that `who` possesses; None if they do not, or it is not stored."""
        return self.sizes_of(who, [sha256])[sha256]

    def sizes_of(self, who: Identity, digests: Sequence[Digest]) -> dict[Digest, int | None]:
        """As `size_of`, for many at once."""
        stored = self._blobs.sizes(digests)
        proven = self._proven(who, [digest for digest, size in stored.items() if size is not None])
        return {digest: size if digest in proven else None for digest, size in stored.items()}

    def sizes_for(self, who: Identity) -> Callable[[Sequence[Digest]], dict[Digest, int | None]]:
        """`sizes_of` for one caller of the REST routes: the operator's tokens are trusted."""
        trusted = who.sees_all
        return self._blobs.sizes if trusted else lambda digests: self.sizes_of(who, digests)

    def _proven(self, who: Identity, digests: Sequence[Digest]) -> set[Digest]:
        if who.kind is Kind.OPERATOR and who.may(Scope.ADMIN):
            return set(digests)
        proven: set[Digest] = set(who.blobs & set(digests))
        for at in range(0, len(digests), _ROWS):
            rows = self._catalog.query(
                "SELECT sha256 FROM hub_possessions WHERE sha256 IN (SELECT unnest(?::VARCHAR[])) AND owner = ?",
                [list(digests[at : at + _ROWS]), owner_of(who)],
            )
            proven.update(row[0] for row in rows)
        for digest in digests:
            if digest not in proven and any(
                self._access.may_download(who, info) for info, _ in self._directory.holders(digest)
            ):
                proven.add(digest)
        return proven


def owner_of(who: Identity) -> str:
    """Who possesses what a caller sends, as the table has it."""
    # A user's name and the name of an operator's token are different worlds.
    return f"user:{who.user}" if who.user else f"token:{who.owner}"
