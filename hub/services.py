"""The objects that one hub process works with, wired once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hub.bases import Bases
from hub.cells import Cells
from hub.finetunes import Finetunes
from hub.jobs import Jobs
from hub.locks import make_data_folder
from hub.promotions import Promotions
from hub.serving_folder import ServingFolder
from hub.settings import Settings
from hub.store import Store
from hub.tables import HUB
from hub.tokens import Tokens
from hub.variants import Variants
from registry.gates import EvidenceGate
from registry.registry import Registry


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
        )

    def close(self) -> None:
        self.registry.close()
