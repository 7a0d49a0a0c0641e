"""Removes blobs that nothing needs any more: uploads that no commit came to name, files of deleted repos.

A blob is needed if a commit's tree or a repo's history holds it, or if any other table of the catalog so much as
mentions its digest, in whatever column: tables of other floors count without being known here, and so do policies,
decks, decision records and statements. A record that is needed so keeps what it mentions in its turn. What is not
needed stays for a grace period from the time when it was last stored, or when somebody was told that it is there
(`BlobStore.sizes`).

Beside commits it is safe without regard to the grace: a commit holds its blobs from looking at them until its rows are
written (`BlobStore.holding`), and a removal looks for such rows once more while nobody can hold the blob. A process
that dies here leaves nothing half done: what is left over, the next collection finds.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.errors import DiskFullError
from registry.maintenance.fsck_report import Progress, silent
from registry.maintenance.references import mentions
from registry.types import Digest

_SLICE: Final = 20_000
_BATCH: Final = 64
_PARALLEL: Final = 8

_IN_TREES = (
    "SELECT DISTINCT w.sha256 FROM (SELECT DISTINCT unnest(p.sha256s) AS sha256 FROM tree_pages p WHERE p.digest IN "
    "(SELECT unnest(t.pages) FROM trees t WHERE t.digest IN (SELECT tree FROM commits))) w "
    "SEMI JOIN gc_unneeded g ON g.sha256 = w.sha256"
)


@dataclass(frozen=True, slots=True)
class Unneeded:
    """A blob that nothing needs, and its size in bytes."""

    sha256: Digest
    size: int


@dataclass(frozen=True, slots=True)
class BlobsCollected:
    """What a collection of blobs removed, or would; `looked_at` counts the blobs that were old enough to go."""

    looked_at: int
    blobs: int
    bytes: int


def collect_blobs(
    catalog: Catalog,
    blobs: BlobStore,
    grace: timedelta,
    *,
    pinned: Iterable[Digest] = (),
    dry_run: bool = False,
    progress: Progress = silent,
) -> BlobsCollected:
    """Remove what nothing needs, is not `pinned`, and is older than `grace`.

    Let no backup run meanwhile (`Registry.sweeping`). Raises BlobStoreError, CatalogError; what is left over then, the
    next collection removes.
    """
    before = time.time() - grace.total_seconds()
    looked_at, found = _unneeded(catalog, blobs, before, pinned, progress)
    if dry_run:
        return BlobsCollected(looked_at, len(found), sum(one.size for one in found))
    count = size = 0
    for at in range(0, len(found), _BATCH):
        progress("removed", at, len(found))
        gone = _discard(catalog, blobs, [one.sha256 for one in found[at : at + _BATCH]], before)
        count += len(gone)
        size += sum(gone)
    progress("removed", len(found), len(found))
    return BlobsCollected(looked_at, count, size)


def _unneeded(
    catalog: Catalog, blobs: BlobStore, before: float, pinned: Iterable[Digest], progress: Progress
) -> tuple[int, list[Unneeded]]:
    """How many blobs are old enough, and those of them that nothing needs."""
    looked_at = 0
    suspects: dict[Digest, int] = {}
    listed = (one for one in blobs.all() if one.renewed_at < before)
    while some := list(itertools.islice(listed, _SLICE)):
        looked_at += len(some)
        progress("looked at", looked_at, 0)
        rows = catalog.query(
            "SELECT x.sha256, x.size FROM (SELECT unnest(?::VARCHAR[]) AS sha256, unnest(?::BIGINT[]) AS size) x "
            "ANTI JOIN repo_blobs b ON b.sha256 = x.sha256",
            [[one.sha256 for one in some], [one.size for one in some]],
        )
        suspects |= dict(rows)
    if not suspects:
        return looked_at, []
    with catalog.read() as tx:
        tx.execute("CREATE OR REPLACE TEMP TABLE gc_unneeded AS SELECT unnest(?::VARCHAR[]) AS sha256", [[*suspects]])
        for (needed,) in tx.execute(_IN_TREES).fetchall():
            suspects.pop(needed, None)
        seen = mentions(tx, blobs, pinned=pinned)
    found = [Unneeded(sha256, size) for sha256, size in sorted(suspects.items()) if sha256 not in seen]
    return looked_at, found


def _discard(catalog: Catalog, blobs: BlobStore, digests: Sequence[Digest], before: float) -> list[int]:
    """Remove those that no commit has come to name; gives the sizes of what went.

    An object store takes its time, and no writer waits for it: while a blob goes, nobody can hold that one, and who
    held it before has committed its rows, which are looked for then.
    """

    def unnamed(sha256: Digest) -> bool:
        return not catalog.query("SELECT 1 FROM repo_blobs WHERE sha256 = ? LIMIT 1", [sha256])

    with ThreadPoolExecutor(_PARALLEL) as pool:
        sizes = list(pool.map(lambda one: blobs.discard(one, before, unless=lambda: not unnamed(one)), digests))
    removed = [one for one, size in zip(digests, sizes, strict=True) if size is not None]
    if removed:
        # On a full disk they stay: git's name of bytes is right for ever.
        with contextlib.suppress(DiskFullError), catalog.write() as tx:
            tx.execute("DELETE FROM blob_git_ids WHERE list_contains(?::VARCHAR[], sha256)", [removed])
    return [size for size in sizes if size is not None]
