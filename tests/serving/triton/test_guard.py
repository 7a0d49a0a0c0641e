"""The guard with real processes in Triton's place: what it lets be, and what it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from serving.triton.guard import Heart, Probe
from serving.triton.heartbeat import Heartbeat

GUARD = Path(__file__).resolve().parents[3] / "serving/triton/guard.py"
CHILD = """
import sys, time
from pathlib import Path
from serving.triton.heartbeat import Heartbeat
heart = Heartbeat(Path(sys.argv[1]), every_s=0.05)
if sys.argv[2] == "stuck":
    with heart.batch():
        time.sleep(600)
while True:
    with heart.batch():
        time.sleep(0.01)
    time.sleep(0.05)
"""
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Runs the guard over a child that beats; options of the guard come first."""
    running: list[subprocess.Popen[bytes]] = []

    def run(*options: str, what: str = "beats") -> subprocess.Popen[bytes]:
        beat = str(tmp_path / "beat")
        child = [sys.executable, "-c", CHILD, beat, what]
        command = [sys.executable, "-I", str(GUARD), "--grace", "2", "--heartbeat", beat, *options, "--", *child]
        root = GUARD.parents[2]
        running.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd=root)
        )
        return running[-1]

    yield run
    for process in running:
        if process.stdin is not None:
            process.stdin.close()  # which ends the child as well
        process.wait(60)


def child_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    deadline = time.monotonic() + 60
    while not (children := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return children[0]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


@pytest.mark.slow
def test_a_frozen_child_is_ended_with_the_whole_group(start: Start, tmp_path: Path) -> None:
    guard = start("--hang", "3")
    child = child_of(guard)
    until(lambda: len(said := words(tmp_path / "beat")) == 2 and int(said[0]) > 20)
    assert guard.poll() is None
    child.send_signal(signal.SIGSTOP)
    assert guard.wait(60) == -signal.SIGKILL, "the guard goes with its group"
    assert guard.stderr is not None
    assert b"no sign of life" in guard.stderr.read()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_batch_without_end_is_ended(start: Start) -> None:
    guard = start("--hang", "60", "--stuck", "1", what="stuck")
    assert guard.wait(60) == -signal.SIGKILL
    assert guard.stderr is not None
    assert b"at one batch for" in guard.stderr.read()


def test_a_child_that_never_beats_has_its_time_to_start(start: Start, tmp_path: Path) -> None:
    guard = start("--start", "1", "--heartbeat", str(tmp_path / "another"))
    assert guard.wait(60) == -signal.SIGKILL
    assert guard.stderr is not None
    assert b"does not come up" in guard.stderr.read()


def test_a_server_that_stops_answering_its_probe_is_noticed() -> None:
    """The probe waits for a first answer; while the stub starts, the heartbeat sees to a server that gives none."""
    probe = Probe("", 10.0)
    assert probe.wrong(100.0, stub_is_up=False) == ""
    probe._answers = 1
    assert probe.wrong(101.0, stub_is_up=True) == ""
    assert probe.wrong(111.5, stub_is_up=True) == "the server has not answered for 10 s"
    probe._answers = 2
    assert probe.wrong(112.0, stub_is_up=True) == ""


def test_a_server_that_never_answers_though_its_stub_is_up_is_noticed() -> None:
    probe = Probe("", 10.0)
    assert probe.wrong(500.0, stub_is_up=False) == ""
    assert probe.wrong(550.0, stub_is_up=True) == ""
    assert probe.wrong(561.0, stub_is_up=True) == "the server has not answered for 61 s"


def test_waiting_counts_from_the_last_beat(tmp_path: Path) -> None:
    file = tmp_path / "beat"
    heart = Heart(str(file), hang_s=10.0, stuck_s=60.0, start_s=600.0)
    steps = [
        (0.0, None, False),
        (599.0, None, False),
        (599.5, "1 0", False),
        (609.0, "1 0", False),
        (609.4, "2 1", False),
        (619.0, "", False),  # in the middle of a write: what was read last stands
        (619.3, "3 1", False),
        (629.0, "4 1", False),
        (639.0, "5 1", False),
        (649.0, "6 1", False),
        (659.0, "7 1", False),
        (669.0, "8 2", False),  # the next batch
        (679.5, "8 2", True),
    ]
    for awake, text, wrong in steps:
        if text is not None:
            file.write_text(text)
        assert bool(heart.wrong(awake)) is wrong, (awake, text)
    assert Heart("", 1.0, 1.0, 1.0).wrong(1e9) == ""


def test_a_heartbeat_says_which_batch_it_is_at(tmp_path: Path) -> None:
    file = tmp_path / "beat"
    heart = Heartbeat(file, every_s=0.01)
    with heart.batch():
        until(lambda: words(file)[1:] == ["1"])
    until(lambda: words(file)[1:] == ["0"])
    with heart.batch():
        until(lambda: words(file)[1:] == ["2"])
    heart.close()
    heart.close()
    Heartbeat(None).close()
