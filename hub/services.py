"""The objects that one hub process works with, wired once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from hub.accounts.audit import AuditLog
from hub.accounts.possession import owner_of
from hub.accounts.privacy import CellPrivacy
from hub.accounts.quotas import Limits, Quotas
from hub.accounts.tokens import Identity, Tokens
from hub.accounts.users import Users
from hub.datasets.datasets import Datasets
from hub.datasets.forgetting import Forgetting
from hub.datasets.image_index import ImageIndex
from hub.datasets.quality_reports import QualityReports
from hub.datasets.store import Store
from hub.datasets.uploads import Uploads
from hub.errors import GatedError, UnknownCellError, UnknownVariantError
from hub.jobs.kinds import job_kinds
from hub.jobs.logs import JobLogs
from hub.jobs.queue import Jobs
from hub.locks import make_data_folder
from hub.loop.expected_gain import ExpectedGain
from hub.loop.growth.checks import Checks
from hub.loop.growth.contributions import Contributions
from hub.loop.growth.credits import Credits
from hub.loop.growth.grower import Grower
from hub.loop.growth.moving import Mover
from hub.loop.growth.planning import Planner
from hub.loop.growth.publishing import Publisher
from hub.loop.labelling.service import Labelling
from hub.loop.refresh_material import Materials
from hub.loop.refreshes import Refreshes
from hub.loop.timeline import Timeline
from hub.maintenance.housekeeping import UPLOADS_S, Housekeeping
from hub.maintenance.maintenance import Maintenance
from hub.migrations.all import MIGRATIONS
from hub.models import remains
from hub.models.base_lineage import BaseLineage
from hub.models.bases import Bases
from hub.models.cells import Cells
from hub.models.evaluations import Evaluations
from hub.models.finetunes import Finetunes
from hub.models.lineages import Lineages
from hub.models.signing import Vouching
from hub.models.variants import NAMESPACE, Variants, repo_of
from hub.outbound import Guard
from hub.protocol.service import HubProtocol
from hub.protocol.upload_parts import remove_stale_parts
from hub.protocol.xet_access import XetAccess
from hub.rollout.production import Production
from hub.rollout.promoter import Promoter
from hub.rollout.promotions import Promotions
from hub.rollout.serving_folder import ServingFolder
from hub.rollout.verification import Verification
from hub.settings import Settings
from hub.webhooks.events import WebhookEvents
from hub.webhooks.hooks import Webhooks
from registry.errors import NotFoundError, RepoNotFoundError
from registry.registry import Registry
from registry.types import RepoId
from serving import extensions

MAX_JOB_BYTES = 1024**3
"""What one job may upload: an adapter, its report, its deck."""


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
    audit: AuditLog
    quotas: Quotas
    job_logs: JobLogs
    datasets: Datasets
    uploads: Uploads
    evaluations: Evaluations
    vouching: Vouching
    verification: Verification
    lineages: Lineages
    production: Production
    maintenance: Maintenance
    privacy: CellPrivacy
    housekeeping: Housekeeping
    webhooks: Webhooks
    events: WebhookEvents
    refreshes: Refreshes
    promoter: Promoter
    timeline: Timeline
    forgetting: Forgetting
    labelling: Labelling
    quality: QualityReports
    growth: Grower
    credits: Credits

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the data folder: publish the shipped base if it is new, and bring the serving folder up to date."""
        extensions.load(settings.extensions)
        job_kinds()  # the queue reads what each kind was asked
        make_data_folder(settings.data)
        registry = Registry.open(
            settings.data,
            blobs_url=settings.blobs or None,
            extra_migrations=MIGRATIONS,
            reserve=settings.reserve_bytes,
        )
        try:
            return cls._wire(settings, registry)
        except BaseException:
            registry.close()
            raise

    @classmethod
    def _wire(cls, settings: Settings, registry: Registry) -> Self:
        catalog, stages = registry.catalog, registry.stages
        store = Store(registry.repos, registry.blobs)
        tokens = Tokens(catalog)
        quotas = Quotas(
            catalog,
            Limits(settings.quota_running, settings.quota_queued, settings.quota_bytes, settings.quota_minutes_per_day),
            grace_seconds=settings.blob_grace_days * 86_400.0,
        )
        jobs = Jobs(
            catalog,
            tokens,
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            quotas=quotas,
        )
        privacy = CellPrivacy(catalog)
        privacy.watch(registry)
        jobs.claim_hooks.append(privacy.record)
        jobs.admission.append(remains.require_parts)
        registry.repos.delete_guards += [remains.keep_for_jobs, remains.keep_bases]
        registry.repos.tag_guards.append(remains.keep_base_version)
        registry.repos.on_delete.append(remains.forget_repo)
        evaluations = Evaluations(catalog)
        bases = Bases(store)
        cells = Cells(catalog, bases)
        variants = Variants(catalog, store, registry.lineage, stages, jobs, registry.policies)
        vouching = Vouching(registry.statements, registry.repos, bases, variants, registry.lineage)
        folder = ServingFolder(settings.serving_folder, store, stages, cells, bases, variants, registry.statements)
        users = Users(catalog)
        hf = HubProtocol.over(
            registry,
            users,
            settings.data,
            anonymous=bool(settings.anonymous_read),
            max_file_bytes=settings.max_blob_bytes,
            public_url=settings.public_url,
            xet_hashes_of=registry.xet.hashes_of,
            quotas=quotas,
            requests_per_minute=settings.requests_per_minute,
            cells=privacy,
        )
        webhooks = Webhooks(catalog, hf.signer, hf.access, privacy, Guard.of(settings.webhook_allow))
        users.gone_hooks.append(webhooks.forget)
        events = WebhookEvents(webhooks, catalog)
        events.watch(registry, hf.discussions, jobs)
        maintenance = Maintenance.of(registry, settings)
        leapt = maintenance.elapsed.leapt(UPLOADS_S)
        remove_stale_parts(hf.parts_folder, leapt)
        tokens.ensure_admin(settings.admin_token_file)
        variants.catch_up()
        if registry.keys.fresh:
            vouching.adopt(stages)
        bases.publish(settings.base_source)
        origins = BaseLineage(registry, bases)
        origins.catch_up()
        vouching.shipped_base(bases.shipped(settings.base_source))
        promotions = Promotions(cells, variants, stages, folder, registry.policies)
        cells.before_delete.append(lambda cell: _delete_repo(registry, cell))
        cells.on_delete.append(remains.forget_cell)
        cells.on_create.append(remains.begin_cell)
        production = Production.over(settings, registry, tokens, cells, folder, promotions)
        events.watch_trials(production.trials)
        events.watch_alerts(production.alerts)
        forgetting = Forgetting(
            registry, production.captures, privacy.works_in, privacy.hidden, settings.data / "web" / "pictures"
        )
        forgetting.hooks += [production.failures.forget_capture, production.events.forget_capture_in]
        events.watch_events(production.events)
        folder.sync()
        images = ImageIndex(catalog, registry.repos, registry.blobs)
        datasets = Datasets(registry, hf.access, images)
        materials = Materials(catalog, store, images, variants)
        refreshes = Refreshes(
            registry,
            store,
            cells,
            bases,
            variants,
            jobs,
            materials,
            check_new=quotas.check_new,
        )
        refreshes.take_back = promotions.put_away
        refreshes.gains.append(ExpectedGain(catalog, production.telemetry.picks_of_cell))
        promotions.evidence_sources.append(refreshes.evidence_for)
        promoter = Promoter(
            catalog, refreshes.policies, promotions, production.trials, stages, registry.policies,
            production.rollouts.plan,
        )  # fmt: skip
        refreshes.promotion = promoter.says
        cells.on_delete += [refreshes.forget, promoter.forget]
        growth = Grower(
            catalog,
            Planner(catalog, cells, bases, materials, Contributions(registry, hf.access, images)),
            jobs,
            Checks(registry, settings),
            Publisher(registry, bases, origins, vouching),
            Mover(catalog, jobs, variants, promotions, lambda cell: cells.get(cell).team),
        )
        promotions.evidence_sources.append(growth.evidence_for)
        uploads = Uploads(
            catalog,
            registry.repos,
            registry.blobs,
            hf.ledger,
            quotas,
            settings.data / "dataset-uploads",
            max_file_bytes=settings.max_blob_bytes,
            leapt=leapt,
        )
        labelling = Labelling.over(
            registry, images, production.captures, hf.ledger, quotas, hf.access, privacy,
            classes_of=lambda cell: cells.get(cell).classes or cells.choices(),
            gains_of=production.events.gains, outcomes_of=production.telemetry.outcome_of,
        )  # fmt: skip
        cells.on_delete.append(labelling.queue.forget_cell)
        production.alerts.forgot.append(labelling.forget_capture)
        forgetting.hooks.append(labelling.forget_capture_in)
        return cls(
            settings=settings,
            registry=registry,
            store=store,
            tokens=tokens,
            cells=cells,
            jobs=jobs,
            bases=bases,
            variants=variants,
            finetunes=Finetunes(store, cells, bases, variants, jobs, evaluations, vouching, quotas),
            serving_folder=folder,
            promotions=promotions,
            users=users,
            hf=hf,
            xet=XetAccess(
                registry.xet,
                registry.directory,
                hf.ledger,
                hf.signer,
                max_file_bytes=settings.max_blob_bytes,
                quota=hf.quota,
            ),
            audit=AuditLog(catalog),
            quotas=quotas,
            job_logs=JobLogs(settings.data / "job-logs"),
            datasets=datasets,
            uploads=uploads,
            evaluations=evaluations,
            vouching=vouching,
            verification=Verification(registry, bases, cells, variants, folder),
            lineages=Lineages(registry, bases, datasets.readable_names, origins, privacy),
            production=production,
            maintenance=maintenance,
            privacy=privacy,
            housekeeping=Housekeeping(
                settings.jobs_folder,
                ended=jobs.ended,
                known=jobs.known,
                forget_uploads=uploads.forget_stale,
                forget_parts=lambda leapt: remove_stale_parts(hf.parts_folder, leapt),
                workspace_grace=timedelta(days=settings.workspace_days),
                elapsed=maintenance.elapsed,
            ),
            webhooks=webhooks,
            events=events,
            refreshes=refreshes,
            promoter=promoter,
            timeline=Timeline(catalog),
            forgetting=forgetting,
            labelling=labelling,
            quality=QualityReports(settings.data / "web" / "quality", registry.repos),
            growth=growth,
            credits=Credits(catalog),
        )

    def readable(self, repo: RepoId, who: Identity, *, files: bool = False) -> None:
        """Raise RepoNotFoundError unless `who` may see the repo, GatedError if `files` are what they may not have."""
        self.hf.access.find(repo, who, "download" if files else "read")

    def require_variant(self, who: Identity, cell: str, version: str) -> None:
        """Raise UnknownVariantError where the variants of the cell do not exist for `who`, as if it was not there."""
        if not self.privacy.sees(who, cell):
            raise UnknownVariantError(f"the cell {cell!r} has no variant {version!r}")

    def require_production(self, who: Identity, cell: str) -> None:
        """Raise UnknownCellError unless `who` may look at the production of the cell."""
        if not self.privacy.works_in(who, cell):
            raise UnknownCellError(f"there is no cell {cell!r} of yours")

    def may_download(self, who: Identity) -> Callable[[RepoId], bool]:
        """Which repos `who` may have the files of; those that do not exist are not among them."""

        def may(repo: RepoId) -> bool:
            try:
                self.readable(repo, who, files=True)
            except (NotFoundError, GatedError):
                return False
            return True

        return may

    def check_commit(self, repo: RepoId, sha256s: Sequence[str], who: Identity) -> None:
        """Raises QuotaError if the team whose repository this is may not store what a commit brings."""
        team = self.team_of(repo)
        if team and who.job is None:  # a job that was let in may keep what it made
            sizes = self.hf.ledger.sizes_for(who)(sha256s)
            self.quotas.check_new(team, {digest: size for digest, size in sizes.items() if size is not None})

    def delete_cell(self, name: str) -> None:
        """Forget a cell that has no variant, and make robots' table and tokens say so. UnknownCellError, InUseError."""
        self.cells.delete(name)
        self.production.robots.sync()
        self.serving_folder.sync()

    def room_for_blobs(self, who: Identity, announced: int) -> int:
        """The most bytes that the caller may send now as blobs. Raises QuotaError if it is less than `announced`."""
        if who.sees_all:
            return self.settings.max_blob_bytes  # the operator's own tokens have no team; commits are checked
        room = self.quotas.room(who.namespaces) if who.job is None else MAX_JOB_BYTES
        since = time.time() - self.settings.blob_grace_days * 86_400
        return self.quotas.check_pending(owner_of(who), room, announced, since=since)

    def team_of(self, repo: RepoId) -> str:
        """Whose quota a repository counts for; "" for the operator's: bases, and cells without a team."""
        if repo.type == "model" and repo.namespace == NAMESPACE:
            try:
                return self.cells.get(repo.name).team
            except UnknownCellError:
                return ""
        return "" if repo.type == "model" and repo.namespace == "base" else repo.namespace

    def close(self) -> None:
        """End the threads, then let go of the catalog. Nothing of the hub can be used after it."""
        self.production.close()
        self.registry.close()


def _delete_repo(registry: Registry, cell: str) -> None:
    """What jobs of the cell committed and no variant came of: files of the data that they were trained on."""
    with contextlib.suppress(RepoNotFoundError):
        registry.repos.delete(repo_of(cell))
