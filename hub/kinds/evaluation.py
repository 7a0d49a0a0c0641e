"""An evaluation: a kind of job that measures a base or a variant on a dataset, and keeps the figures at the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from hub.jobs.kinds import Done, Fact, Fragment, JobKind, JobStoppedError, Work, downloads, register
from hub.schemas.jobs import JobSpec
from registry.types import RepoId

if TYPE_CHECKING:
    from finetune.report.examine import Examined
    from hub.accounts.tokens import Identity
    from hub.schemas.core import FinishIn, Job
    from hub.services import Services

STAGES = {"download": "fetch the model and the images", "evaluate": "measure", "write": "finish"}


class EvaluationJobIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked."""

    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][^@\s]{0,150}@[^@\s]{1,100}$")]
    """`<cell>@v3` or `base/universal@v1`"""
    dataset: Annotated[str, Meta(pattern=r"^[^/@\s]+/[^/@\s]+$", max_length=200)]
    """`team/name`"""
    revision: Annotated[str, Meta(max_length=200)] = "main"
    split: Annotated[str, Meta(max_length=40)] = "valid"
    """The split to measure on, where the dataset has it; `all`: every image."""
    max_minutes: Annotated[float, Meta(gt=0, le=24 * 60)] = 30.0


class EvaluationSpec(Struct, JobSpec, frozen=True, kw_only=True, tag_field="kind", tag="evaluation"):
    """What is queued: `model` at `model_commit` of `repo`, with its base where it is a variant."""

    model: str
    repo: str
    model_commit: str
    base: str
    base_commit: str
    dataset: str
    dataset_commit: str
    split: str
    max_seconds: float

    def reads(self) -> list[str]:
        """The dataset, the base and the model's repository."""
        return list(
            dict.fromkeys([f"dataset/{self.dataset}", f"model/{self.base.partition('@')[0]}", f"model/{self.repo}"])
        )


def run(work: Work) -> Done:
    """Download the model and the dataset, and measure. Raises JobStoppedError, HubError and finetune's errors."""
    from finetune.contract import Progress
    from finetune.report.examine import examine

    spec = work.job.spec
    assert isinstance(spec, EvaluationSpec)  # noqa: S101  # the kind's own
    telling, at = downloads(work), work.workspace
    data, base, model = at / spec.dataset.partition("/")[2], at / "base", at / "model" / spec.model.replace("/", "-")
    work.client.download_tree("dataset", spec.dataset, spec.dataset_commit, data, telling("dataset"))
    work.client.download_tree("model", spec.base.partition("@")[0], spec.base_commit, base, telling("base"))
    variant = spec.repo != spec.base.partition("@")[0]
    if variant:
        work.client.download_tree("model", spec.repo, spec.model_commit, model, telling("variant"))

    def tell(done: int, of: int) -> None:
        if work.should_stop():
            raise JobStoppedError
        work.report(Progress("evaluate", done, of))

    found = examine(
        model if variant else base,
        data,
        base=base if variant else None,
        split=None if spec.split == "all" else spec.split,
        progress=tell,
    )
    return Done(figures(found), rest=(data, base, at / "model"))


def figures(found: Examined) -> dict[str, Any]:
    """What the hub keeps of an examination: shares from 0 to 1, and the number of images."""
    facts = found.facts()
    measured = facts["evaluation"]
    kept = {name: value for name, value in measured.items() if isinstance(value, int | float)}
    return kept | {"boundary_ap": facts["boundary"], "best_score": facts["best_score"], "by_box": facts["by_box"]}


def queue(services: Services, who: Identity, asked: EvaluationJobIn) -> Job:
    """Pin every revision and queue the job. Raises UnknownBaseError, UnknownCellError, UnknownVariantError,
    ForbiddenError, NotFoundError, GatedError and QuotaError."""
    repo = RepoId.parse(asked.dataset, "dataset")
    services.readable(repo, who, files=True)
    commit = services.store.repos.resolve(repo, asked.revision).id
    name, _, version = asked.model.partition("@")
    team = repo.namespace if who.owns(repo.namespace) else who.home
    if "/" in name:
        base = services.bases.get(asked.model)
        where, model_commit = name, base.commit
    else:
        cell = services.cells.get(name)
        who.require_team(cell.team, f"the cell {name!r}")
        services.require_variant(who, name, version)
        one = services.variants.get(name, version)
        base, where, model_commit, team = services.bases.get(one.base), f"cells/{name}", one.commit, cell.team or team
    spec = EvaluationSpec(
        model=asked.model,
        repo=where,
        model_commit=model_commit,
        base=base.name,
        base_commit=base.commit,
        dataset=str(repo),
        dataset_commit=commit,
        split=asked.split,
        max_seconds=asked.max_minutes * 60,
    )
    # Another team's job is no answer: they would be told of it, and could not look at it.
    request = f"evaluation:{team.lower()}:{model_commit}:{commit}:{asked.split}:{repo}"
    return services.jobs.create(spec, who.owner, team=team, request=request)


def accept(services: Services, job: Job, answer: FinishIn) -> Job:
    """Keep the figures as an evaluation of the model, and end the job. Those of a dataset that is not everybody's stay
    with the job, which its team alone sees: how many pictures it has and how they come out is as private as they."""
    spec = job.spec
    assert isinstance(spec, EvaluationSpec)  # noqa: S101  # the kind's own
    info = services.registry.repos.get(RepoId.parse(spec.dataset, "dataset"))
    if not info.private and info.gated == "no":
        dataset = f"{spec.dataset}@{spec.dataset_commit}"
        services.evaluations.add(spec.model, answer.metrics, dataset=dataset, deck="", created_by=job.created_by)
    return services.jobs.finish(job.id, None, answer.metrics)


def page(job: Job) -> Fragment:
    """The page of an evaluation: the model, the data, and the figures once there are some."""
    spec = job.spec
    assert isinstance(spec, EvaluationSpec)  # noqa: S101  # the kind's own
    cell, _, version = spec.model.partition("@")
    model = "" if "/" in cell else f"/ui/models/{cell}/{version}"
    facts = [
        Fact("model", spec.model, model),
        Fact("dataset", f"{spec.dataset} at {spec.dataset_commit[:12]}", f"/ui/datasets/{spec.dataset}"),
        Fact("split", spec.split),
    ]
    facts += [Fact(name, f"{job.metrics[name]:.3f}") for name in ("ap", "ap50", "ap75") if name in job.metrics]
    return Fragment(f"Evaluation of {spec.model}", [Fact("on", spec.dataset)], facts, STAGES)


register(JobKind(EvaluationSpec, "evaluation", run, page, EvaluationJobIn, queue, accept))
