"""`parcelhub job run <id>`: one job as one process. It talks to the hub over REST only.

Everything it makes lies in `<data>/jobs/<id>/work/`, which outlives the process: a second attempt finds the
downloads and the last checkpoint there.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from finetune.contract import Earlier, FinetuneRequest, FinetuneResult, Progress, Start
from hub.client.client import HubClient
from hub.error_table import is_expected
from hub.errors import HubAnswerError, HubError, HubUnavailableError
from hub.schemas import core as s
from hub.settings import Settings

log = logging.getLogger("parcelhub.job")

REPORT_SECONDS = 0.5
MAX_EARLIER_BYTES = 4 * 1024**3
"""Of the dataset that the variant before this one was made of: more is not downloaded for a comparison."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "variant.json")
VARIANT_FILES = (
    *(*ADAPTER_FILES, "README.md"),
    *("report.json", "report.html", "predictions.json", "history.json", "novelty.safetensors"),
)


class JobStoppedError(Exception):
    """Raised to leave a job that was cancelled, or whose worker is going down. Not an error of the job."""


class Reporter:
    """Sends progress to the hub, at most every half second, and learns from the answers whether to stop."""

    def __init__(self, client: HubClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._stop = threading.Event()
        self._last_stage = ""
        self._next = 0.0

    def request_stop(self) -> None:
        self._stop.set()

    def should_stop(self) -> bool:
        return self._stop.is_set()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage == self._last_stage and now < self._next and progress.step < progress.total:
            return
        self._last_stage, self._next = progress.stage, now + REPORT_SECONDS
        try:
            answer = self._client.report(
                self._job_id,
                s.ProgressIn(
                    stage=progress.stage,
                    step=progress.step,
                    total=progress.total,
                    images_per_second=progress.images_per_second,
                    eta_seconds=progress.eta_seconds,
                    message=progress.message,
                    metrics=dict(progress.metrics),
                ),
            )
        except HubUnavailableError:
            log.warning("no progress report: the hub does not answer")  # it may be restarting; the work goes on
            return
        if answer.stop:
            self._stop.set()


def run_job(settings: Settings, job_id: str) -> int:
    """Run the job and tell the hub how it ended. Returns the exit status: 0 once the hub has an answer."""
    with HubClient.of(settings) as client:
        reporter = Reporter(client, job_id)
        signal.signal(signal.SIGTERM, lambda *_: reporter.request_stop())
        job = client.job(job_id)
        workspace = settings.jobs_folder / job_id / "work"
        workspace.mkdir(parents=True, exist_ok=True)
        try:
            _run(client, job, workspace, reporter)
        except JobStoppedError:
            log.info("stopped; the workspace keeps the checkpoint")
            return 1
        except HubError:
            raise  # the hub is away or took the job from us: the worker hands it back
        except Exception as error:
            if reporter.should_stop():
                log.info("stopped (%s); the workspace keeps the checkpoint", error)
                return 1
            if not is_expected(error):
                raise  # a crash: the worker hands the job back for another attempt
            log.exception("the job failed")
            client.fail(job_id, str(error))
        return 0


def _run(client: HubClient, job: s.Job, workspace: Path, reporter: Reporter) -> None:
    from finetune.pipelines.service import run_finetune  # here: it brings torch along, the contract does not

    spec = job.spec
    downloading = _download_progress(reporter)
    dataset_dir, base_dir = workspace / "dataset", workspace / "base"
    tree = client.download_tree("dataset", spec.dataset, spec.dataset_commit, dataset_dir, downloading("dataset"))
    base_repo, _, _ = spec.base.partition("@")
    client.download_tree("model", base_repo, spec.base_commit, base_dir, downloading("base"))
    here = {file.sha256: dataset_dir / file.path for file in tree.files}
    earlier = _earlier(client, spec, workspace, here, downloading("cell's earlier data"))
    start = _start(client, spec, workspace / "start")

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
            refresh=spec.refresh is not None,
        ),
        dataset_dir=dataset_dir,
        base_dir=base_dir,
        workspace=workspace,
        report=reporter,
        should_stop=reporter.should_stop,
        earlier=earlier,
        start=start,
    )
    if reporter.should_stop():
        raise JobStoppedError
    job_ended = _publish(client, job, result)
    log.info("made %s", job_ended.version)
    for folder in (dataset_dir, base_dir, workspace / "earlier", workspace / "start"):  # the hub has them
        shutil.rmtree(folder, ignore_errors=True)


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


def _publish(client: HubClient, job: s.Job, result: FinetuneResult) -> s.Job:
    """Upload the variant as a commit of its cell's repository, then the deck, then the answer.

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
    deck = client.put_blob(result.deck_json)
    metrics: dict[str, Any] = json.loads(json.dumps(result.metrics))
    return client.finish(job.id, commit=commit.id, deck=deck, metrics=metrics)


def _download_progress(reporter: Reporter) -> Callable[[str], Callable[[int, int], None]]:
    def of(what: str) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            if reporter.should_stop():
                raise JobStoppedError
            reporter(Progress("download", done, total, message=f"downloading the {what}"))

        return report

    return of
