"""The registry as one thing: a folder with a catalog and, unless they live elsewhere, the blobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from registry.blobs import BlobStore
from registry.catalog import Catalog
from registry.directory import Directory
from registry.gates import EvidenceGate
from registry.git_ids import GitIds
from registry.lineage import Lineage
from registry.migrations import REGISTRY, MigrationSet
from registry.repos import Repos
from registry.stage_types import Gate
from registry.stages import Stages
from registry.xet.store import XetStore
from registry.xet.tables import XET

CATALOG_FILE = "catalog.duckdb"
BLOBS_FOLDER = "blobs"


class Registry:
    """All parts over one catalog and one blob store; made by `open`, closed by `close` or a `with` block."""

    def __init__(self, catalog: Catalog, blobs: BlobStore, xet: XetStore, gate: Gate) -> None:
        self.catalog = catalog
        self.blobs = blobs
        self.xet = xet
        self.repos = Repos(catalog, blobs)
        self.directory = Directory(catalog, self.repos)
        self.git_ids = GitIds(catalog, blobs)
        self.lineage = Lineage(catalog)
        self.stages = Stages(catalog, blobs, self.repos, gate)

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        blobs_url: str | None = None,
        extra_migrations: Sequence[MigrationSet] = (),
        gate: Gate | None = None,
    ) -> Self:
        """Open or create the registry in the folder `root`; blobs lie in `root/blobs` or at `blobs_url`.

        Without a `gate`, an EvidenceGate decides, and its policy is stored as a blob. Raises
        CatalogLockedError, CatalogTooNewError, CatalogError, BlobStoreError.
        """
        catalog = Catalog.open(root / CATALOG_FILE, (REGISTRY, XET, *extra_migrations))
        try:
            place = blobs_url or root / BLOBS_FOLDER
            xet = XetStore.open(catalog, place, staging=root / "staging")
            # A file that came in chunks is read like any other blob.
            blobs = BlobStore.open(place, staging=root / "staging").backed_by(xet)
            if gate is None:
                default = EvidenceGate()
                blobs.put_bytes(default.policy, expected=default.policy_digest)
                gate = default
            return cls(catalog, blobs, xet, gate)
        except BaseException:
            catalog.close()
            raise

    def close(self) -> None:
        """Give the catalog free for another process. Twice is fine."""
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
