"""Fine-tunes, refreshes and refits: kinds of jobs that train a variant of a cell."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.contract import Earlier, FinetuneRequest, FinetuneResult, Start
from hub.errors import HubAnswerError
from hub.jobs.kinds import Done, Fact, Fragment, JobKind, JobStoppedError, Work, downloads, register
from hub.kinds.growth import ADAPTER_FILES, refit_from
from hub.schemas import core as s
from registry.types import RepoId

if TYPE_CHECKING:
    from hub.accounts.tokens import Identity
    from hub.client.client import HubClient
    from hub.services import Services

log = logging.getLogger("parcelhub.job")

MAX_EARLIER_BYTES = 4 * 1024**3
"""Of the dataset that the variant before this one was made of: more is not downloaded for a comparison."""
VARIANT_FILES = (
    *(*ADAPTER_FILES, "README.md"),
    *("report.json", "report.html", "predictions.json", "history.json", "novelty.safetensors"),
)


def run(work: Work) -> Done:
    """Download, train, upload the variant as a commit of its cell's repository. Raises JobStoppedError, HubError and
    finetune's errors."""
    from finetune.pipelines.service import run_finetune  # here: it brings torch along, the contract does not

    client, job, workspace, reporter = work.client, work.job, work.workspace, work.report
    spec = job.spec
    assert isinstance(spec, s.FinetuneSpec)  # noqa: S101  # the kind's own
    downloading = downloads(work)
    dataset_dir, base_dir = workspace / "dataset", workspace / "base"
    tree = client.download_tree("dataset", spec.dataset, spec.dataset_commit, dataset_dir, downloading("dataset"))
    base_repo, _, _ = spec.base.partition("@")
    client.download_tree("model", base_repo, spec.base_commit, base_dir, downloading("base"))
    here = {file.sha256: dataset_dir / file.path for file in tree.files}
    earlier = _earlier(client, spec, workspace, here, downloading("cell's earlier data"))
    start = _start(client, spec, workspace / "start")
    refit = refit_from(client, spec, workspace, downloading) if spec.growth is not None else None

    result = run_finetune(
        FinetuneRequest(
            cell=spec.cell,
            dataset_ref=f"{spec.dataset}@{spec.dataset_commit}",
            base_ref=spec.base,
            base_commit=spec.base_commit,
            images=spec.images,
            max_seconds=spec.max_seconds,
            seed=spec.seed,
            class_map=spec.class_map,
            image_size=spec.image_size,
            refresh=spec.refresh is not None,
            refit=spec.growth,
        ),
        dataset_dir=dataset_dir,
        base_dir=base_dir,
        workspace=workspace,
        report=reporter,
        should_stop=work.should_stop,
        earlier=earlier,
        start=start,
        refit=refit,
    )
    if work.should_stop():
        raise JobStoppedError
    commit, deck = _publish(client, job, result)
    rest = (dataset_dir, base_dir, workspace / "earlier", workspace / "start", workspace / "past")  # the hub has them
    return Done(json.loads(json.dumps(result.metrics)), commit, deck, rest)


def _start(client: HubClient, spec: s.FinetuneSpec, folder: Path) -> Start | None:
    """The variant that a refresh goes on from; None for the base, and for a job that is no refresh."""
    if spec.refresh is None or (was := spec.refresh.start) is None:
        return None
    for name in ADAPTER_FILES:
        client.download("model", f"cells/{spec.cell}", was.commit, name, folder / name)
    return Start(was.version, folder)


def _earlier(
    client: HubClient,
    spec: s.FinetuneSpec,
    workspace: Path,
    here: Mapping[str, Path],
    progress: Callable[[int, int], None],
) -> Earlier | None:
    """What the cell's variant before this one was made of: its dataset, its deck, and its adapter. `here` are files
    that are downloaded already, by sha256. None where the cell has no variant, or what it was made of is gone or huge.
    """
    if (was := spec.earlier) is None:
        return None
    dataset_dir, variant_dir = workspace / "earlier" / "dataset", workspace / "earlier" / "variant"
    try:
        deck = client.blob(was.deck)
        tree = client.tree("dataset", was.dataset, was.dataset_commit)
        size = sum(file.size for file in tree.files if file.sha256 not in here)
        if size > MAX_EARLIER_BYTES:
            log.warning("forgetting on the cell's earlier data is not measured: %s bytes to download", f"{size:,}")
            return None
        for file in tree.files:
            target = dataset_dir / file.path
            if file.sha256 in here and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(here[file.sha256], target)
        client.download_tree("dataset", was.dataset, was.dataset_commit, dataset_dir, progress)
        for name in ADAPTER_FILES:
            client.download("model", f"cells/{spec.cell}", was.commit, name, variant_dir / name)
    except HubAnswerError as error:
        log.warning("forgetting on the cell's earlier data is not measured: %s", error)
        return None
    return Earlier(was.version, deck, dataset_dir, variant_dir)


def _publish(client: HubClient, job: s.Job, result: FinetuneResult) -> tuple[str, str]:
    """Upload the variant as a commit of its cell's repository, then the deck. Answers both.

    The hub tags the commit and records its lineage when it accepts the answer, so that a process that dies in
    here leaves a commit nobody points at.
    """
    repo = f"cells/{job.spec.cell}"
    client.ensure_repo("model", repo)
    operations = [
        {"op": "put", "path": path.name, "sha256": client.put_blob(path)}
        for path in sorted(result.variant_dir.iterdir())
        if path.name in VARIANT_FILES
    ]
    message = f"Fine-tune on {job.spec.dataset}@{job.spec.dataset_commit[:12]} (job {job.id})"
    commit = client.commit("model", repo, message, operations)
    return commit.id, client.put_blob(result.deck_json)


# --- the hub's side ---------------------------------------------------------------------------------------------------


def queue(services: Services, who: Identity, asked: s.FinetuneIn) -> s.Job:
    """Check that the cell and the dataset are the asker's to use, and queue the job. Raises UnknownCellError,
    ForbiddenError, RepoNotFoundError, GatedError, QuotaError."""
    cell = services.cells.get(asked.cell)  # a mistyped cell is told before its dataset is looked for
    who.require_team(cell.team, f"the cell {cell.name!r}")
    services.readable(RepoId.parse(asked.dataset, "dataset"), who, files=True)
    return services.finetunes.request(asked, who.owner, may_read=services.may_download(who))


def accept(services: Services, job: s.Job, answer: s.FinishIn) -> s.Job:
    """Give the variant its version and lineage, and end the job."""
    return services.finetunes.accept(job.id, answer)


STAGES = {
    "download": "fetch the images",
    "check": "read the dataset",
    "deck": "choose images to train and to judge",
    "train": "train",
    "evaluate": "measure on images it has not seen",
    "curve": "try with fewer images",
    "report": "write the report",
    "write": "finish",
}


def page(job: s.Job) -> Fragment:
    """A fine-tune's page: the cell, the data, the base, and the variant that came of it."""
    spec = job.spec
    assert isinstance(spec, s.FinetuneSpec)  # noqa: S101  # the kind's own
    where = f"/ui/datasets/{spec.dataset}?revision={spec.dataset_commit}"
    facts = [
        Fact("cell", spec.cell, f"/ui/cells/{spec.cell}"),
        Fact("dataset", f"{spec.dataset} at {spec.dataset_commit[:12]}"),
        Fact("base", f"{spec.base} at {spec.base_commit[:12]}"),
        Fact("images", str(spec.images or "all")),
        Fact("time", f"at most {round(spec.max_seconds / 60, 1)} minutes of training"),
        Fact("seed", str(spec.seed)),
    ]
    cell, _, version = (job.version or "").partition("@")
    links = [("See the variant", f"/ui/models/{cell}/{version}")] if job.version else []
    what = "Refresh" if spec.refresh else "Refit" if spec.growth else "Fine-tune"
    return Fragment(f"{what} of {spec.cell}", [Fact("on", spec.dataset, where)], facts, STAGES, links)


register(JobKind(s.FinetuneSpec, "fine-tune", run, page, s.FinetuneIn, queue, accept))
register(JobKind(s.RefreshTrainingSpec, "refresh", run, page, accept=accept))
register(JobKind(s.RefitSpec, "refit", run, page, accept=accept))
