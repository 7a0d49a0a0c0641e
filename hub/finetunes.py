"""Fine-tunes: from a request to a pinned job, and from a job's answer to a variant with its lineage."""

from __future__ import annotations

from hub.bases import Bases
from hub.cells import Cells
from hub.errors import InputError
from hub.jobs import Jobs
from hub.schemas import FinetuneIn, FinetuneSpec, FinishIn, Job
from hub.store import Store
from hub.variants import Variants
from registry.types import RepoId


class Finetunes:
    """What happens around a fine-tune job."""

    def __init__(self, store: Store, cells: Cells, bases: Bases, variants: Variants, jobs: Jobs) -> None:
        self._store = store
        self._cells = cells
        self._bases = bases
        self._variants = variants
        self._jobs = jobs

    def request(self, asked: FinetuneIn, created_by: str) -> Job:
        """Queue a job with every revision pinned to a commit, so that later pushes do not change it."""
        cell = self._cells.get(asked.cell)
        repo = RepoId.parse(asked.dataset, "dataset")
        commit = self._store.repos.resolve(repo, asked.dataset_revision)
        base = self._bases.get(asked.base) if asked.base else self._bases.newest()
        spec = FinetuneSpec(
            cell=cell.name,
            dataset=asked.dataset,
            dataset_commit=commit.id,
            base=base.name,
            base_commit=base.commit,
            images=asked.images,
            max_seconds=asked.max_minutes * 60,
            seed=asked.seed,
        )
        return self._jobs.create(spec, created_by)

    def accept(self, job_id: str, answer: FinishIn) -> Job:
        """Give the uploaded variant its version and its lineage, then end the job."""
        job = self._jobs.require_running(job_id)
        self._store.blobs.size(answer.deck)  # raises if the deck was not uploaded
        document = self._variants.document(job.spec.cell, answer.commit)
        if (document.base.commit, document.deck) != (job.spec.base_commit, answer.deck):
            raise InputError("variant.json names another base commit or deck than the job")
        version = self._variants.publish(job, answer)
        return self._jobs.finish(job_id, version, answer.metrics)
