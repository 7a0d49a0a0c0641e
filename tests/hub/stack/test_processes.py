"""What child processes are told of the cores that they share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hub.cli.main import run

GIVEN_WAY = """
import os, subprocess, sys
from hub.stack.processes import give_way
give_way()
child = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
print(os.nice(0), os.sched_getscheduler(0), int(subprocess.run(child, capture_output=True, check=True).stdout))
"""
CORES = """
import os, sys
import hub.cli
print(os.environ["GOMP_SPINCOUNT"], os.environ["OPENBLAS_NUM_THREADS"], bool({"numpy", "torch"} & set(sys.modules)))
"""


GROUP = Path("/proc/self/autogroup")
OWN_GROUP = """
from pathlib import Path
from hub.stack.processes import give_way
give_way()
print(Path("/proc/self/autogroup").read_text().split()[-1])
"""


def said(code: str, *, session: bool = False, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        start_new_session=session,
    )
    return done.stdout.split()


def idle_class() -> bool:
    """Whether a process may put itself into the idle class here."""
    tried = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))"
    return subprocess.run([sys.executable, "-c", tried], capture_output=True).returncode == 0


@pytest.mark.skipif(not idle_class(), reason="this machine lets no process into the idle class")
def test_a_job_and_what_it_starts_run_where_nothing_else_does() -> None:
    niceness, own, childs = map(int, said(GIVEN_WAY))
    assert niceness >= 10
    assert (own, childs) == (os.SCHED_IDLE, os.SCHED_IDLE)


@pytest.mark.parametrize(("setting", "calls"), [("1", 1), ("0", 0)])
def test_a_setting_says_whether_jobs_give_way(
    setting: str, calls: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: list[str] = []
    monkeypatch.setenv("PARCELHUB_JOBS_GIVE_WAY", setting)
    monkeypatch.setattr("hub.stack.processes.give_way", lambda: called.append("gave way"))
    monkeypatch.setattr("hub.jobs.run.run_job", lambda _settings, _job: 0)
    assert run(["job", "run", "j1", "--data", str(tmp_path)]) == 0
    assert len(called) == calls


def has_group() -> bool:
    """Whether the kernel groups processes by session here: it may not know how, or not do it in this container."""
    return os.access(GROUP, os.W_OK) and bool(GROUP.read_text().split())


@pytest.mark.skipif(not has_group(), reason="this kernel lets no session be made light")
def test_a_job_makes_its_own_session_light_and_no_other() -> None:
    assert said(OWN_GROUP, session=True) == ["19"]
    ours = GROUP.read_text().split()[-1]
    assert said(OWN_GROUP) == [ours] == [GROUP.read_text().split()[-1]]


def test_a_command_says_how_threads_wait_before_there_are_any() -> None:
    assert said(CORES, GOMP_SPINCOUNT="7", OPENBLAS_NUM_THREADS="3") == ["7", "3", "False"]
    assert said(CORES)[2] == "False"
