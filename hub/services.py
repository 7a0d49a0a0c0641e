"""The objects that one hub process works with, wired once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hub.bases import Bases
from hub.cells import Cells
from hub.finetunes import Finetunes
from hub.hf.lfs import remove_stale_parts
from hub.hf.service import HubProtocol
from hub.hf.xet_access import XetAccess
from hub.jobs import Jobs
from hub.locks import make_data_folder
from hub.promotions import Promotions
from hub.serving_folder import ServingFolder
from hub.settings import Settings
from hub.store import Store
from hub.tables import HUB
from hub.tokens import Identity, Tokens
from hub.users import Users
from hub.variants import Variants
from registry.gates import EvidenceGate
from registry.registry import Registry
from registry.types import RepoId


@dataclass(frozen=True, slots=True)
class Services:
    """All of the hub over one data folder."""

    settings: Settings
    registry: Registry
    store: Store
    tokens: Tokens
    cells: Cells
    jobs: Jobs
    bases: Bases
    variants: Variants
    finetunes: Finetunes
    serving_folder: ServingFolder
    promotions: Promotions
    users: Users
    hf: HubProtocol
    xet: XetAccess

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the data folder: publish the shipped base if it is new, and bring the serving folder up to date."""
        make_data_folder(settings.data)
        gate = EvidenceGate()
        registry = Registry.open(settings.data, blobs_url=settings.blobs or None, extra_migrations=[HUB], gate=gate)
        try:
            return cls._wire(settings, registry, gate)
        except BaseException:
            registry.close()
            raise

    @classmethod
    def _wire(cls, settings: Settings, registry: Registry, gate: EvidenceGate) -> Self:
        catalog, stages = registry.catalog, registry.stages
        policy = registry.blobs.put_bytes(gate.policy).sha256
        store = Store(registry.repos, registry.blobs)
        tokens = Tokens(catalog)
        jobs = Jobs(catalog, tokens, lease_seconds=settings.lease_seconds, max_attempts=settings.max_attempts)
        cells, bases = Cells(catalog), Bases(store)
        variants = Variants(store, registry.lineage, stages, jobs, policy=policy)
        folder = ServingFolder(settings.serving_folder, store, stages, cells, bases, variants)
        users = Users(catalog)
        hf = HubProtocol.over(
            registry,
            users,
            settings.data,
            anonymous=bool(settings.anonymous_read),
            max_file_bytes=settings.max_blob_bytes,
            public_url=settings.hub_url,
            xet_hash_of=registry.xet.hash_of,
        )
        remove_stale_parts(hf.parts_folder)
        tokens.ensure_admin(settings.admin_token_file)
        bases.publish(settings.base_source)
        folder.sync()
        return cls(
            settings=settings,
            registry=registry,
            store=store,
            tokens=tokens,
            cells=cells,
            jobs=jobs,
            bases=bases,
            variants=variants,
            finetunes=Finetunes(store, cells, bases, variants, jobs),
            serving_folder=folder,
            promotions=Promotions(cells, variants, stages, folder, policy=policy),
            users=users,
            hf=hf,
            xet=XetAccess(
                registry.xet, registry.directory, hf.ledger, hf.signer, max_file_bytes=settings.max_blob_bytes
            ),
        )

    def readable(self, repo: RepoId, who: Identity, *, files: bool = False) -> None:
        """Raise RepoNotFoundError unless `who` may see the repo, GatedError if `files` are what they may not have."""
        self.hf.access.find(repo, who, "download" if files else "read")

    def close(self) -> None:
        self.registry.close()
