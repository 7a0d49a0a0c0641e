"""`parcelhub worker`: claim queued jobs, run each as a child process, keep its lease, end it when told to."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hub.client.client import HubClient
from hub.errors import HubAnswerError, HubError, HubUnavailableError
from hub.jobs.kinds import job_kinds
from hub.jobs.logs import decode_piece
from hub.jobs.plain_text import plain
from hub.schemas.core import Claim
from hub.schemas.resources import LogIn
from hub.settings import Settings
from hub.stack.processes import parcelhub_command, spawn, stop

log = logging.getLogger("parcelhub.worker")

POLL_SECONDS = 1.0
LONGEST_PAUSE = 30.0
"""Between two tries, while the hub is away or refuses."""
LOG_PIECE = 64 * 1024
GRACE_SECONDS = 15.0
"""What a job process gets between SIGTERM and SIGKILL: enough to write a checkpoint."""
OVERTIME_SECONDS = 600.0
"""Beyond its training budget a job also downloads, evaluates and uploads; after that it hangs."""


_LEASE_LOST = frozenset({401, 403, 404, 409})
"""What the hub answers a run that no longer speaks for its job."""


class _Ending(NamedTuple):
    """Why a run of a job ended without an answer."""

    reason: str
    crashed: bool


class LogShipper:
    """Sends what a run's process prints to the hub. The log is a help: what cannot be sent stops nothing."""

    def __init__(self, client: HubClient, claim: Claim, worker: str, path: Path, start: int) -> None:
        self._client = client
        self._job = claim.job
        self._worker = worker
        self._path = path
        self._at = start
        """Where the file is sent up to; this run began there."""
        self._there: int | None = None
        """Where the hub's log is written up to; runs on other machines may be in it."""

    def ship(self, *, final: bool = False) -> None:
        """Send what is new; `final`: nothing follows, so that half a character at the end goes as well."""
        try:
            if self._there is None:
                self._there = self._send(0, "")
            while (piece := self._read(final=final))[1]:
                text, taken = piece
                behind = self._there
                self._there = self._send(behind, text)
                if self._there < behind:  # the hub lost the end of its log: this piece follows what it has
                    continue
                if self._there < behind + len(text.encode()):  # the hub keeps no more of it
                    return
                self._at += taken
        except (HubUnavailableError, HubAnswerError) as error:
            log.debug("the log of job %s waits: %s", self._job.id, error)

    def _send(self, offset: int, text: str) -> int:
        piece = LogIn(worker=self._worker, attempt=self._job.attempt, offset=offset, text=text)
        return self._client.add_log(self._job.id, piece)

    def _read(self, *, final: bool) -> tuple[str, int]:
        """Text, and how many bytes of the file it stands for: what is no UTF-8 comes as U+FFFD, which has three."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read(LOG_PIECE)
        return decode_piece(data, final=final and len(data) < LOG_PIECE)


class Worker:
    """Runs one job at a time: a fine-tune wants all cores (or the GPU) for itself. `kinds` are those that it claims
    (None: all that this process knows); `lane` tells two workers of one process apart."""

    def __init__(
        self, settings: Settings, client: HubClient, *, kinds: Sequence[str] | None = None, lane: str = ""
    ) -> None:
        self.name = f"{platform.node()}:{os.getpid()}{lane and '-'}{lane}"
        self._kinds = sorted(job_kinds()) if kinds is None else list(kinds)
        self._settings = settings
        self._client = client
        self._stopping = threading.Event()

    def request_stop(self) -> None:
        """Stop after handing the current job back; safe to call from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Work until `request_stop`. A hub that is away or refuses is waited for; nothing that it says ends us."""
        said, pause = "", POLL_SECONDS
        while not self._stopping.is_set():
            try:
                claim = self._client.claim(self.name, self._kinds)
                if said:
                    log.info("the hub is back")
                said, pause = "", POLL_SECONDS
                if claim is not None:
                    self._run_job(claim)
                    continue
            except Exception as error:  # whatever it is, the next job may go well
                if str(error) != said:
                    known = isinstance(error, HubError)
                    log.warning("%s; trying again", error, exc_info=None if known else error)
                said, pause = str(error), min(pause * 2, LONGEST_PAUSE)
            self._stopping.wait(pause)

    def _run_job(self, claim: Claim) -> None:
        """Run a job to its end. What goes wrong here, a full disk for instance, hands it back."""
        try:
            self._run_process(claim)
        except Exception as error:
            self._release(claim, _Ending(f"the worker could not run it: {error}", crashed=True))
            raise

    def _run_process(self, claim: Claim) -> None:
        job = claim.job
        folder = self._settings.jobs_folder / job.id
        folder.mkdir(parents=True, exist_ok=True)
        log_path = folder / "log.txt"
        log.info("job %s (%s of %s), attempt %d", job.id, job.spec.kind, job.spec.cell or job.spec.dataset, job.attempt)
        env = {
            **self._settings.environment(),
            "PARCELHUB_TOKEN": claim.token,
            "PARCELHUB_HUB_URL": self._settings.url,
        }
        start = log_path.stat().st_size if log_path.exists() else 0
        with log_path.open("ab") as log_file:
            # A process takes minutes to say anything on a machine that is busy: nobody should look at an empty log.
            log_file.write(f"{_now()} attempt {job.attempt}: {self.name} starts the job's process\n".encode())
            log_file.flush()
            process = spawn(parcelhub_command("job", "run", job.id), env=env, stdout=log_file)
        shipper = LogShipper(self._client, claim, self.name, log_path, start)
        ending = self._watch(process, claim, shipper)
        status = stop(process, grace_seconds=GRACE_SECONDS)
        shipper.ship(final=True)
        if ending is None and status == 0:
            log.info("job %s ended", job.id)
            return
        if ending is None:
            ending = _Ending(f"the job's process {_death(status)}; {_last_line(log_path)}", crashed=True)
        log.warning("job %s: %s", job.id, ending.reason)
        self._release(claim, ending)

    def _watch(self, process: subprocess.Popen[bytes], claim: Claim, shipper: LogShipper) -> _Ending | None:
        """Keep the lease while the process lives. Returns why it must be stopped, None if it ended itself."""
        job = claim.job
        deadline = time.monotonic() + job.spec.max_seconds + OVERTIME_SECONDS
        next_beat = 0.0
        while process.poll() is None:
            now = time.monotonic()
            if self._stopping.is_set():
                return _Ending("the worker is stopping", crashed=False)
            if now > deadline:
                reason = f"still running {OVERTIME_SECONDS:.0f} s after its training budget"
                return _Ending(reason, crashed=True)
            if now >= next_beat:
                next_beat = now + min(claim.lease_seconds / 3, 2.0)
                shipper.ship()
                try:
                    if self._client.heartbeat(job.id, self.name, job.attempt).stop:
                        return _Ending("cancelled", crashed=False)
                except HubUnavailableError:
                    log.warning("job %s runs on; the hub does not answer", job.id)
                except HubAnswerError as error:
                    if error.status not in _LEASE_LOST:  # the hub has troubles of its own, such as a full disk
                        log.warning("job %s runs on; the hub answers: %s", job.id, error)
                        continue
                    return _Ending(f"lease lost: {error}", crashed=False)
            self._stopping.wait(0.1)
        return None

    def _release(self, claim: Claim, ending: _Ending) -> None:
        job = claim.job
        try:
            self._client.release(job.id, self.name, job.attempt, ending.reason, crashed=ending.crashed)
        except HubError as error:  # its lease will expire, which has the same effect
            log.warning("job %s could not be handed back: %s", job.id, error)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _death(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"


def _last_line(path: Path) -> str:
    """The end of a log says best what happened."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2000))
        lines = plain(file.read().decode(errors="replace")).strip().splitlines()
    return f"its last words: {lines[-1]}" if lines else "it said nothing"


class Workers:
    """One lane for jobs that want the machine for themselves, and one beside it for light ones: a dataset is checked
    in a minute, and nobody should wait for a training before they hear what came of it."""

    def __init__(self, settings: Settings, client: HubClient) -> None:
        known = job_kinds()
        light = [name for name, kind in known.items() if kind.spec.light]
        self._heavy = Worker(settings, client, kinds=[name for name in known if name not in light])
        self._light = Worker(settings, client, kinds=light, lane="light")

    def request_stop(self) -> None:
        """Stop after handing the current jobs back; safe to call from a signal handler."""
        self._heavy.request_stop()
        self._light.request_stop()

    def run(self) -> None:
        """Work until `request_stop`, in this thread and another."""
        beside = threading.Thread(target=self._light.run, name="worker-light")
        beside.start()
        try:
            self._heavy.run()
        finally:
            self._light.request_stop()
            beside.join()
