"""What end-to-end tests of the loop share: a hub that may be killed, with a worker beside it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psutil
import pytest

from hub.settings import Settings
from hub.stack.processes import stop
from tests.hub.material import start_hub, start_worker


@pytest.fixture(scope="module")
def hubs(settings: Settings) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The hub process, and those that follow when it is killed; beside it a worker, which outlives them."""
    settings.data.mkdir(parents=True)
    running = [start_hub(settings, settings.data / "hub.log")]
    worker = start_worker(settings)
    try:
        yield running
    finally:
        stop(worker, grace_seconds=60)
        stop(running[-1], grace_seconds=60)


def job_process(job: str) -> psutil.Process | None:
    """The process that works on a job; None while there is none."""
    for each in psutil.process_iter(["cmdline"]):
        words = each.info["cmdline"] or []
        if words[-3:] == ["job", "run", job]:
            return each
    return None
