"""Real workers and real job processes at a real hub: what is killed comes back, what is cancelled ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hub.client.client import HubClient
from hub.schemas.core import FinetuneIn, Job, JobEvent
from hub.settings import Settings
from hub.stack.processes import stop
from tests.hub.material import start_worker, wait_for, write_rectangles


@pytest.fixture
def client(live_hub: Settings) -> Iterator[HubClient]:
    with HubClient.of(live_hub) as client:
        yield client


@pytest.fixture
def job(client: HubClient, tmp_path: Path) -> Job:
    """A queued job whose dataset is none: its process has to import all of finetune before it finds out."""
    (tmp_path / "README.md").write_text("# No frames\n")
    client.push_folder("dataset", "acme/nothing", tmp_path, "nothing")
    if "dock-7" not in [cell.name for cell in client.cells()]:
        client.create_cell("dock-7")
    return client.finetune(FinetuneIn(cell="dock-7", dataset="acme/nothing"))


def job_process(worker: subprocess.Popen[bytes]) -> psutil.Process:
    """The worker's child that runs a job, once it does."""
    found: list[psutil.Process] = []

    def look() -> bool:
        found[:] = [c for c in psutil.Process(worker.pid).children() if "job" in c.cmdline()]
        return bool(found)

    wait_for(look)
    return found[0]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_killed_processes_come_back_and_a_cancelled_job_ends(live_hub: Settings, client: HubClient, job: Job) -> None:
    first = start_worker(live_hub)
    child = job_process(first)
    wait_for(lambda: client.job(job.id).attempt == 1)
    child.kill()
    wait_for(lambda: client.job(job.id).attempt == 2)
    assert client.job(job.id).crashes == 1
    reasons = [event.data.get("reason", "") for event in _events_now(client, job.id)]
    assert any("killed by signal 9" in reason for reason in reasons)

    child = job_process(first)
    first.kill()
    first.wait()
    wait_for(lambda: gone(child))
    second = start_worker(live_hub)
    try:
        wait_for(lambda: client.job(job.id).attempt == 3)
        assert client.job(job.id).crashes == 2
        child = job_process(second)
        client.cancel(job.id)
        wait_for(lambda: client.job(job.id).state == "cancelled")
        wait_for(lambda: gone(child))
    finally:
        assert stop(second, grace_seconds=60) == 0


def test_a_worker_that_is_told_to_stop_hands_its_job_back(live_hub: Settings, client: HubClient, job: Job) -> None:
    worker = start_worker(live_hub)
    child = job_process(worker)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    assert gone(child)
    after = client.job(job.id)
    assert (after.state, after.crashes) == ("queued", 0)
    client.cancel(job.id)


def test_a_job_that_cannot_succeed_fails_with_its_sentence(live_hub: Settings, client: HubClient, job: Job) -> None:
    worker = start_worker(live_hub)
    try:
        wait_for(lambda: client.job(job.id).state == "failed", seconds=280)
    finally:
        assert stop(worker, grace_seconds=60) == 0
    assert "no dataset found" in str(client.job(job.id).error)
    assert client.job(job.id).crashes == 0


def test_a_check_runs_in_a_process_of_its_own(live_hub: Settings, client: HubClient, tmp_path: Path) -> None:
    """A kind that only its module knows: the process has to know it before it reads the job."""
    client.push_folder("dataset", "acme/checked", write_rectangles(tmp_path / "frames", images=3), "three")
    job = client.ask_for_job("dataset-check", dataset="acme/checked")
    worker = start_worker(live_hub)
    try:
        wait_for(lambda: client.job(job.id).state in ("finished", "failed"), seconds=280)
    finally:
        assert stop(worker, grace_seconds=60) == 0
    after = client.job(job.id)
    assert (after.state, after.crashes) == ("finished", 0), after.error


def _events_now(client: HubClient, job_id: str) -> list[JobEvent]:
    found = []
    for event in client.events(job_id):
        found.append(event)
        if event.kind == "state" and event.data.get("attempt") == 2:
            break
    return found
