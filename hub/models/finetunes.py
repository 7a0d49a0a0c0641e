"""Fine-tunes: from a request to a pinned job, and from a job's answer to a variant with its lineage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from hub.accounts.quotas import Quotas
from hub.datasets.store import Store
from hub.errors import InputError
from hub.jobs.queue import Jobs
from hub.models.bases import Bases
from hub.models.cells import Cells
from hub.models.evaluations import Evaluations
from hub.models.signing import Vouching
from hub.models.variants import Variants
from hub.schemas.core import EarlierVariant, FinetuneIn, FinetuneSpec, FinishIn, Job
from registry.catalog.cursor import Cursor
from registry.errors import NotFoundError
from registry.types import RepoId

_LOOK_BACK = 5
"""Variants of the cell that are looked at for earlier data."""

_LATER = ("image_size", "growth")


class Finetunes:
    """What happens around a fine-tune job."""

    def __init__(
        self,
        store: Store,
        cells: Cells,
        bases: Bases,
        variants: Variants,
        jobs: Jobs,
        evaluations: Evaluations,
        vouching: Vouching,
        quotas: Quotas | None = None,
    ) -> None:
        self._quotas = quotas
        self._vouching = vouching
        self._evaluations = evaluations
        self._store = store
        self._cells = cells
        self._bases = bases
        self._variants = variants
        self._jobs = jobs

    def request(
        self,
        asked: FinetuneIn,
        created_by: str,
        *,
        may_read: Callable[[RepoId], bool] = lambda _: True,
        new_cell_of: str | None = None,
    ) -> Job:
        """Queue a job with every revision pinned to a commit, so that later pushes do not change it.

        `may_read` says which datasets the caller sees: the one that the cell's newest variant was made of is compared
        on if it is among them. `new_cell_of` is the team of a cell that is made with the job, in one transaction: a
        request that is refused leaves none behind. Raises QuotaError if the team has no room left for what comes of
        it, CellExistsError for a new cell that there is already.
        """
        cell, cell_team = asked.cell, new_cell_of
        if cell_team is None:
            cell_team = self._cells.get(cell).team
        repo = RepoId.parse(asked.dataset, "dataset")
        commit = self._store.repos.resolve(repo, asked.dataset_revision)
        base = self._bases.get(asked.base) if asked.base else self._bases.newest()
        spec = FinetuneSpec(
            cell=cell,
            dataset=asked.dataset,
            dataset_commit=commit.id,
            base=base.name,
            base_commit=base.commit,
            images=asked.images,
            max_seconds=asked.max_minutes * 60,
            seed=asked.seed,
            class_map=asked.class_map,
            image_size=asked.image_size,
        )
        # The same request while one is at work is that one: two jobs never run one request.
        request = request_of(spec)
        # Not a part of the request: a variant that is finished meanwhile does not make it another one.
        spec = msgspec.structs.replace(spec, earlier=self._earlier(cell, may_read))
        team = cell_team or repo.namespace
        if self._quotas is not None:
            self._quotas.check_bytes(team, 0)

        def make_cell(db: Cursor) -> None:
            if new_cell_of is not None:
                self._cells.insert(db, cell, "", new_cell_of)

        return self._jobs.create(spec, created_by, team=team, request=request, before=make_cell)

    def _earlier(self, cell: str, may_read: Callable[[RepoId], bool]) -> EarlierVariant | None:
        """The cell's newest variant that was made of a dataset which is still there, and the caller's to see."""
        for one in self._variants.page(limit=_LOOK_BACK, cell=cell):
            name, _, commit = one.dataset.partition("@")
            if not commit:
                continue
            repo = RepoId.parse(name, "dataset")
            if not may_read(repo):
                continue
            try:
                self._store.repos.resolve(repo, commit)
                self._store.blobs.size(one.deck)
            except NotFoundError:
                continue
            return EarlierVariant(
                version=one.name, commit=one.commit, deck=one.deck, dataset=name, dataset_commit=commit
            )
        return None

    def accept(self, job_id: str, answer: FinishIn) -> Job:
        """Give the uploaded variant its version and its lineage, then end the job. Raises InputError for a variant that
        is not of this job's base and deck."""
        job = self._jobs.require_running(job_id)
        if not (answer.commit and answer.deck):
            raise InputError("a fine-tune ends with the commit of its variant and with its deck")
        self._store.blobs.size(answer.deck)  # raises if the deck was not uploaded
        document = self._variants.document(job.spec.cell, answer.commit)
        if (document.base.commit, document.deck) != (job.spec.base_commit, answer.deck):
            raise InputError("variant.json names another base commit or deck than the job")
        version = self._variants.publish(job, answer)
        tag, dataset = version.partition("@")[2], f"{job.spec.dataset}@{job.spec.dataset_commit}"
        self._vouching.sign_variant(job.spec.cell, tag, answer.commit, run=job.id, dataset=dataset)
        done = self._jobs.finish(job_id, version, answer.metrics)
        self._keep_evaluations(done, answer)
        return done

    def _keep_evaluations(self, job: Job, answer: FinishIn) -> None:
        """What the job measured, of the variant and of the base it began with, on the holdout."""
        dataset = f"{job.spec.dataset}@{job.spec.dataset_commit}"
        for model, prefix in ((str(job.version), "variant_"), (job.spec.base, "base_")):
            numbers = {
                name.removeprefix(prefix): value
                for name, value in answer.metrics.items()
                if name.startswith(f"{prefix}ap") and isinstance(value, int | float)
            }
            if numbers:
                self._evaluations.add(
                    model,
                    numbers | {"images": answer.metrics.get("images_holdout"), "cell": job.spec.cell},
                    dataset=dataset,
                    deck=answer.deck,
                    created_by=f"job:{job.id}",
                )


def request_of(spec: FinetuneSpec) -> str:
    """What makes two requests the same: the sha256 of what is asked, as it was written before specs had a kind. Members
    that came later count where they say something."""
    told = msgspec.to_builtins(spec)
    told = {name: value for name, value in told.items() if name != "kind" and (name not in _LATER or value is not None)}
    told["class_map"] = dict(sorted(told["class_map"].items()))
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()
