"""A kind of job: it adds up what the files of a dataset weigh."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct

from hub.jobs.kinds import Done, Fact, Fragment, JobKind, Work, register
from hub.schemas.jobs import JobSpec
from registry.types import RepoId

if TYPE_CHECKING:
    from hub.accounts.tokens import Identity
    from hub.schemas.core import Job
    from hub.services import Services


class WeighingIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked."""

    dataset: str


class WeighingSpec(Struct, JobSpec, frozen=True, kw_only=True, tag_field="kind", tag="weighing"):
    """What is queued: the dataset at one commit. The process may read `dataset`, which is what `reads` says of it."""

    light: ClassVar[bool] = True
    dataset: str
    dataset_commit: str


def run(work: Work) -> Done:
    """In a process of its own, with a token that may read the dataset and nothing else."""
    tree = work.client.tree("dataset", work.job.spec.dataset, work.job.spec.dataset_commit)
    return Done({"bytes": sum(file.size for file in tree.files), "files": len(tree.files)})


def queue(services: Services, who: Identity, asked: WeighingIn) -> Job:
    """In the hub: check what the asker may, pin the revision, queue."""
    repo = RepoId.parse(asked.dataset, "dataset")
    services.readable(repo, who, files=True)
    spec = WeighingSpec(dataset=str(repo), dataset_commit=services.store.repos.resolve(repo, "main").id)
    return services.jobs.create(spec, who.owner, team=repo.namespace, request=f"weighing:{spec.dataset_commit}")


def page(job: Job) -> Fragment:
    """What the job's page says."""
    found = [Fact(name, f"{job.metrics[name]:,}") for name in ("files", "bytes") if name in job.metrics]
    return Fragment(f"Weighing of {job.spec.dataset}", facts=[Fact("dataset", job.spec.dataset), *found])


register(JobKind(WeighingSpec, "weighing", run, page, WeighingIn, queue))
