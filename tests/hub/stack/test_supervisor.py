"""Parts start in order, come back when they die, and are all gone after a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hub.errors import StackError
from hub.stack import supervisor as supervisor_module
from hub.stack.processes import PARENT_VARIABLE, spawn, stop
from hub.stack.supervisor import Part, Supervisor
from tests.hub.material import wait_for


def part(name: str, script: str, ready: Callable[[], bool] = lambda: True, seconds: float = 10.0) -> Part:
    return Part(name, lambda: spawn(["sh", "-c", script], stdout=subprocess.PIPE), ready, seconds)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(supervisor_module, "POLL_SECONDS", 0.02)


def test_parts_start_in_order_and_stop_without_a_rest(tmp_path: Path) -> None:
    lines: list[tuple[str, str]] = []
    flag = tmp_path / "ready"
    parts = [
        part("one", f"echo hello; sleep 0.2; touch {flag}; sleep 60", flag.exists),
        part("two", "sleep 60 & sleep 60 & wait"),
    ]
    one = Supervisor(parts, show=lambda name, line: lines.append((name, line)))
    one.start()
    assert flag.exists()
    wait_for(lambda: len(psutil.Process(one.pids["two"]).children()) == 2)
    family = [psutil.Process(one.pids["one"]), *psutil.Process(one.pids["two"]).children()]
    one.stop()
    assert ("one", "hello") in lines
    wait_for(lambda: not any(process.is_running() for process in family))
    assert one.pids == {}


def test_a_part_that_does_not_come_up_stops_the_others_and_says_why() -> None:
    started: list[int] = []

    def start() -> subprocess.Popen[bytes]:
        process = spawn(["sleep", "60"], stdout=subprocess.PIPE)
        started.append(process.pid)
        return process

    parts = [
        Part("good", start, lambda: True),
        part("bad", "echo port 1 is taken; exit 7", lambda: False),
    ]
    with pytest.raises(StackError, match=r"bad ended with exit status 7:\nport 1 is taken"):
        Supervisor(parts, show=lambda *_: None).start()
    assert not psutil.pid_exists(started[0])


def test_a_part_that_is_never_ready_is_named() -> None:
    with pytest.raises(StackError, match="slow was not ready"):
        Supervisor([part("slow", "sleep 60", lambda: False, 0.1)], show=lambda *_: None).start()


def test_a_dead_part_is_started_again() -> None:
    one = Supervisor([part("one", "sleep 60")], show=lambda *_: None)
    one.start()
    watching = threading.Thread(target=one.watch)
    watching.start()
    before = one.pids["one"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: one.pids["one"] != before)
    one.request_stop()
    watching.join(timeout=60)
    one.stop()
    assert not watching.is_alive()


def test_children_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = (
        "from hub.stack.processes import die_with_parent; die_with_parent();"
        f"import os, pathlib, time;"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    lines = (
        "import sys, time",
        "from hub.stack.processes import spawn",
        f"spawn([sys.executable, '-c', {child!r}])",
        "time.sleep(60)",
    )
    process = spawn([sys.executable, "-c", "\n".join(lines)])
    wait_for(lambda: pid_file.exists() and pid_file.read_text() != "")
    orphan = psutil.Process(int(pid_file.read_text()))
    process.kill()
    process.wait()
    wait_for(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)


def test_stop_escalates_to_kill(tmp_path: Path) -> None:
    deaf = "import pathlib, signal, sys, time; signal.signal(15, signal.SIG_IGN); pathlib.Path(sys.argv[1]).touch(); "
    process = spawn([sys.executable, "-c", deaf + "time.sleep(600)", str(tmp_path / "deaf")])
    wait_for((tmp_path / "deaf").exists)
    assert stop(process, grace_seconds=0.3) == -signal.SIGKILL
    assert PARENT_VARIABLE not in os.environ
