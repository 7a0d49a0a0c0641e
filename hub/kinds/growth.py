"""The growth of the base as a kind of job: value tests, and the training of the next base. The hub publishes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.contract import RefitFrom, Start
from finetune.growth_plan import GrowthPlan
from hub.errors import HubAnswerError
from hub.jobs.kinds import Done, Fact, Fragment, JobKind, JobStoppedError, Work, downloads, register
from hub.schemas import core as s

if TYPE_CHECKING:
    from hub.client.client import HubClient
    from hub.services import Services

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "variant.json")
BASE_FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "README.md")
Downloading = Callable[[str], Callable[[int, int], None]]


def run(work: Work) -> Done:
    """Run a value test or the training of a base. Raises JobStoppedError, HubError and finetune's errors."""
    from finetune.pipelines.growth import Material, grow_base, run_value_test  # it brings torch along

    spec, client, workspace = work.job.spec, work.client, work.workspace
    assert isinstance(spec, s.GrowthSpec)  # noqa: S101  # the kind's own
    plan, downloading = spec.growth, downloads(work)
    base_dir = workspace / "base"
    client.download_tree("model", spec.base.partition("@")[0], spec.base_commit, base_dir, downloading("base"))
    datasets, decks = _past(client, plan, workspace, downloading)
    material = Material(datasets, decks, base_dir, _short(spec.base))
    files: dict[str, str] = {}
    if plan.kind == "value":
        found = run_value_test(plan, material, workspace, report=work.report, should_stop=work.should_stop)
    else:
        grown = grow_base(plan, material, workspace, report=work.report, should_stop=work.should_stop)
        found = grown.metrics
        files = {name: client.put_blob(grown.folder / name) for name in BASE_FILES if (grown.folder / name).is_file()}
    if work.should_stop():
        raise JobStoppedError
    return Done(json.loads(json.dumps(found)), rest=(base_dir, workspace / "past"), files=files)


def refit_from(client: HubClient, spec: s.FinetuneSpec, workspace: Path, downloading: Downloading) -> RefitFrom:
    """What a refit takes the place of: the variant with its base, and the cell's past decks."""
    plan = spec.growth
    assert plan is not None and plan.start is not None  # noqa: S101  # a refit has a start
    place = workspace / "past"
    was = plan.start
    for name in ADAPTER_FILES:
        client.download("model", f"cells/{spec.cell}", was.commit, name, place / "variant" / name)
    base_dir = place / "base"
    client.download_tree("model", was.base.partition("@")[0], was.base_commit, base_dir, downloading("present base"))
    datasets, decks = _past(client, plan, workspace, downloading)
    return RefitFrom(Start(was.version, place / "variant"), base_dir, _short(was.base), client.blob(was.deck), datasets,
                     decks)  # fmt: skip


def _past(
    client: HubClient, plan: GrowthPlan, workspace: Path, downloading: Downloading
) -> tuple[dict[tuple[str, str], Path], dict[str, bytes]]:
    """The datasets and deck documents of a plan; what judges and is gone is left out, what teaches must be there."""
    needed = {(one.dataset, one.commit) for one in plan.contributions}
    datasets: dict[tuple[str, str], Path] = {}
    for number, key in enumerate(plan.datasets()):
        folder = workspace / "past" / str(number)
        try:
            client.download_tree("dataset", *key, folder, downloading("pictures"))
        except HubAnswerError:
            if key in needed:
                raise
            continue
        datasets[key] = folder
    decks = {}
    for digest in plan.decks():
        try:
            decks[digest] = client.blob(digest)
        except HubAnswerError:
            continue
    return datasets, decks


def _short(base: str) -> str:
    repo, _, revision = base.partition("@")
    return f"{repo.removeprefix('base/')}@{revision}"


# --- the hub's side ---------------------------------------------------------------------------------------------------


def accept(services: Services, job: s.Job, answer: s.FinishIn) -> s.Job:
    """Keep what was measured, publish the base, end the job."""
    return services.growth.answer(job.id, answer)


STAGES = {"download": "fetch the pictures", "train": "train", "evaluate": "judge on the cells' history"}


def page(job: s.Job) -> Fragment:
    """The page of a value test or of the training of a base; it is the operator's."""
    spec = job.spec
    assert isinstance(spec, s.GrowthSpec)  # noqa: S101  # the kind's own
    plan = spec.growth
    facts = [
        Fact("base", f"{spec.base} at {spec.base_commit[:12]}"),
        Fact("learns from", f"{sum(len(one.files) for one in plan.contributions):,} images"),
        Fact("judged by", f"{len(plan.judges)} cells"),
        Fact("steps", f"{plan.steps:,} of {plan.batch} pictures"),
        Fact("seed", str(spec.seed)),
    ]
    what = "Value test of a contribution" if plan.kind == "value" else "Training of the next base"
    return Fragment(what, [Fact("from", spec.base)], facts, STAGES)


register(JobKind(s.GrowthSpec, "growth", run, page, accept=accept))
