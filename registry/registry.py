"""The registry as one thing: a folder with a catalog and, unless they live elsewhere, the blobs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.blobs.blobs import BlobStore
from registry.blobs.disk import Room
from registry.catalog import identity
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY, MigrationSet
from registry.folder import BLOBS_FOLDER, CATALOG_FILE, KEYS_FOLDER
from registry.lineage.lineage import Lineage
from registry.maintenance.collection import BlobsCollected, collect_blobs
from registry.maintenance.fsck import examine
from registry.maintenance.fsck_report import Progress, Report, silent
from registry.maintenance.row_collection import RowsCollected, collect_rows
from registry.promotion.gates import EvidenceGate
from registry.promotion.policies import Policies
from registry.promotion.policy import FIRST
from registry.promotion.stages import Stages
from registry.provenance.keys import KeyRing
from registry.provenance.statements import Statements
from registry.provenance.tables import PROVENANCE
from registry.repos import listing_cache
from registry.repos.directory import Directory
from registry.repos.git_ids import GitIds
from registry.repos.repos import Repos
from registry.stage_types import Gate
from registry.types import Digest
from registry.xet.store import Collected, XetStore
from registry.xet.tables import XET


class Registry:
    """All parts over one catalog and one blob store; made by `open`, closed by `close` or a `with` block."""

    def __init__(
        self, catalog: Catalog, blobs: BlobStore, xet: XetStore, keys: KeyRing, gate: Gate | None, room: Room
    ) -> None:
        self.room = room
        self.catalog = catalog
        self.blobs = blobs
        self.sweeping = threading.Lock()
        """Held by whoever removes blobs, and by whoever must not lose any meanwhile: a backup, an examination."""
        self.xet = xet
        # The first is what older registries started with: their decisions name it.
        self.pinned: set[Digest] = {EvidenceGate().policy_digest, FIRST.digest}
        """Blobs that no collection removes, although no row names them."""
        self.repos = Repos(catalog, blobs)
        self.directory = Directory(catalog, self.repos)
        self.git_ids = GitIds(catalog, blobs)
        self.lineage = Lineage(catalog)
        self.keys = keys
        self.statements = Statements(catalog, self.repos, keys)
        self.policies = Policies(catalog, blobs, FIRST.document)
        self.stages = Stages(catalog, blobs, self.repos, gate or self.policies, sign=keys.sign)

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        blobs_url: str | None = None,
        extra_migrations: Sequence[MigrationSet] = (),
        gate: Gate | None = None,
        reserve: int = 0,
    ) -> Self:
        """Open or create the registry in the folder `root`; blobs lie in `root/blobs` or at `blobs_url`.

        `reserve` bytes of the disk are kept free for maintenance (`registry.blobs.disk`). On a full disk that reserve
        is given back here, and nothing is written that is there already. The signing
        key in `root/keys` is made if there is none. Without a `gate`, the policy that a move names decides
        (`policies`). Raises StoreMismatchError if the catalog or the blobs are gone or not of one hub,
        CatalogLockedError, CatalogTooNewError, CatalogError, BlobStoreError, KeyRingError.
        """
        place = blobs_url or root / BLOBS_FOLDER
        root.mkdir(parents=True, exist_ok=True)
        room = Room(root, reserve)
        if room.is_low():
            room.give_back()
        own = BlobStore.open(place, staging=root / "staging", room=room)
        identity.check_catalog_there(root, own, place)
        catalog = Catalog.open(root / CATALOG_FILE, (REGISTRY, XET, PROVENANCE, *extra_migrations))
        try:
            xet = XetStore.open(catalog, place, staging=root / "staging", room=room)
            # A file that came in chunks is read like any other blob.
            blobs = own.backed_by(xet)
            identity.tie(catalog, blobs, root, place)
            if blobs.sizes([FIRST.digest])[FIRST.digest] is None:
                blobs.put_bytes(FIRST.document, expected=FIRST.digest)
            listing_cache.catch_up(catalog, blobs)
            keys = KeyRing.open(root / KEYS_FOLDER)
            opened = cls(catalog, blobs, xet, keys, gate, room)
        except BaseException:
            catalog.close()
            raise
        catalog.check_room = room.for_rows
        room.take()
        return opened

    def collect(
        self, grace: timedelta, xet_grace: timedelta, *, dry_run: bool = False, progress: Progress = silent
    ) -> tuple[BlobsCollected, Collected, RowsCollected]:
        """Remove the blobs, the chunks of Xet files, and the commits and trees that nothing needs, after their grace.

        Rows have the same `grace` as blobs, from when a collection first found that nothing reaches them.

        A dry run only counts, and of chunks not even that. Raises StoreMismatchError before anything
        goes; BlobStoreError, CatalogError: what is left over then, the next collection removes.
        """
        with self.sweeping, self.room.spending():
            identity.check(self.catalog, self.blobs)
            early = BlobsCollected(0, 0, 0)
            if self.room.is_low() and not dry_run:
                self.room.give_back()
                # Bytes before rows: they need no room to go.
                early = collect_blobs(self.catalog, self.blobs, grace, pinned=self.pinned, progress=progress)
            self.blobs.forget_staged()
            # Rows first: what they were the last to name can go with them.
            rows = collect_rows(self.catalog, self.blobs, grace, dry_run=dry_run, progress=progress)
            found = collect_blobs(
                self.catalog, self.blobs, grace, pinned=self.pinned, dry_run=dry_run, progress=progress
            )
            found = BlobsCollected(
                max(found.looked_at, early.looked_at), found.blobs + early.blobs, found.bytes + early.bytes
            )
            return found, Collected(0, 0, 0) if dry_run else self.xet.collect(xet_grace), rows

    def examine(self, *, quick: bool = False, progress: Progress = silent) -> Report:
        """fsck of the open registry (`registry.maintenance.fsck`). Raises BlobStoreError."""
        with self.sweeping:
            return examine(self.catalog, self.blobs, self.xet, quick=quick, progress=progress)

    def close(self) -> None:
        """Give the catalog free for another process. Twice is fine."""
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
