"""`parcelhub job run <id>`: one job as one process. It talks to the hub over REST only.

Everything it makes lies in `<data>/jobs/<id>/work/`, which outlives the process: a second attempt finds the
downloads and the last checkpoint there.
"""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import time

from finetune.contract import Progress
from hub.client.client import HubClient
from hub.error_table import is_expected
from hub.errors import HubError, HubUnavailableError
from hub.jobs.kinds import JobStoppedError, Work, job_kinds, kind_of
from hub.schemas import core as s
from hub.settings import Settings

log = logging.getLogger("parcelhub.job")

REPORT_SECONDS = 0.5


class Reporter:
    """Sends progress to the hub, at most every half second, and learns from the answers whether to stop."""

    def __init__(self, client: HubClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._stop = threading.Event()
        self._last_stage = ""
        self._next = 0.0

    def request_stop(self) -> None:
        """Ask the work to stop at its next look. From any thread or signal handler; safe to repeat."""
        self._stop.set()

    def should_stop(self) -> bool:
        """Whether somebody asked for a stop: the hub, or a signal."""
        return self._stop.is_set()

    def __call__(self, progress: Progress) -> None:
        """Send the progress, unless the stage had a report just now. Where the hub does not answer, it is lost: no
        error."""
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
        job_kinds()  # before the job is read: what its kind was asked is told by its register
        job = client.job(job_id)
        workspace = settings.jobs_folder / job_id / "work"
        workspace.mkdir(parents=True, exist_ok=True)
        try:
            done = kind_of(job.spec).run(Work(client, job, workspace, reporter, reporter.should_stop))
            ended = client.finish(
                job_id, commit=done.commit, deck=done.deck, files=dict(done.files), metrics=dict(done.metrics)
            )
            log.info("finished%s", f" as {ended.version}" if ended.version else "")
            for folder in done.rest:
                shutil.rmtree(folder, ignore_errors=True)
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
