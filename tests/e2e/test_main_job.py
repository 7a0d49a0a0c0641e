"""The main job, with everything real: a stack comes up, a team brings images, its variant serves its robots."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hub.cli.dataset import push_dataset, read
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.schemas.core import FinetuneIn
from hub.settings import Settings
from hub.stack.processes import stop
from hub.stack.stack import triton_ready
from serving.errors import RequestRejected
from serving.robot.client import RobotClient
from tests.hub.material import start, wait_for, write_rectangles, write_tiny_base

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("stack")
    base = write_tiny_base(folder / "base")
    return Settings.load({}, data=folder / "data", base_source=base, jobs_give_way=0).on_free_ports()


def start_stack(settings: Settings, log: str) -> subprocess.Popen[bytes]:
    """`parcelhub up` as a process whose Triton answers; its words are in `log` in the data folder."""
    return start("up", settings, settings.data / log, lambda: triton_ready(settings), seconds=600)


@pytest.fixture(scope="module")
def up(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    settings.data.mkdir(parents=True)
    process = start_stack(settings, "up.log")
    try:
        yield process
    finally:
        stop(process, grace_seconds=60)


@pytest.fixture(scope="module")
def client(settings: Settings, up: subprocess.Popen[bytes]) -> Iterator[HubClient]:
    with HubClient.of(settings) as client:
        yield client


@pytest.fixture(scope="module")
def robot(settings: Settings, up: subprocess.Popen[bytes]) -> Iterator[RobotClient]:
    with RobotClient(
        settings.triton_grpc, cell="dock-7", robot="r1", token=settings.local_robot_token(), timeout_s=20
    ) as robot:
        yield robot


def knows_its_cell(robot: RobotClient, frame: Path) -> bool:
    try:
        robot.segment(frame)
    except RequestRejected:
        return False
    return True


def served_within(robot: RobotClient, frame: Path, served_by: str, seconds: float) -> float:
    """Ask until the answer comes from there; the seconds it took."""
    started = time.monotonic()
    while robot.segment(frame).served_by != served_by:
        assert time.monotonic() - started < seconds, f"not served by {served_by}"
        time.sleep(0.02)
    return time.monotonic() - started


def test_a_team_gets_its_variant_and_its_robot_is_served_by_it(
    client: HubClient, robot: RobotClient, tmp_path: Path, settings: Settings
) -> None:
    frames = write_rectangles(tmp_path / "frames", images=10)
    frame = frames / "train" / "images" / "000.png"
    with pytest.raises(RequestRejected, match="dock-7"):
        robot.segment(frame)
    client.create_cell("dock-7")
    wait_for(lambda: knows_its_cell(robot, frame), seconds=3)
    assert robot.segment(frame).served_by == "base/universal@v1"

    seen: list[tuple[int, int]] = []
    push_dataset(client, read(frames), "acme/dock", "", progress=lambda *step: seen.append(step))
    assert seen[-1][0] == seen[-1][1]
    job = client.finetune(FinetuneIn(cell="dock-7", dataset="acme/dock", max_minutes=0.05))
    events = list(client.events(job.id))
    stages = {event.data["stage"] for event in events if event.kind == "progress"}
    assert {"download", "train", "evaluate"} <= stages
    done = client.job(job.id)
    assert done.state == "finished", (done.error, (settings.jobs_folder / job.id / "log.txt").read_text())
    assert done.version == "dock-7@v1"
    assert {"base_ap", "base_ap50", "variant_ap", "variant_ap50", "train_seconds"} <= set(done.metrics)
    assert done.metrics["images_train"] + done.metrics["images_holdout"] == 10

    one = client.variant("dock-7@v1")
    assert one.stage == "candidate" and one.dataset.startswith("acme/dock@")
    assert robot.segment(frame).served_by == "base/universal@v1", "nobody is served before a promotion"
    with pytest.raises(HubAnswerError, match="the verdict on it is not “ready”"):
        client.promote("dock-7@v1")  # a few seconds on a random base
    client.set_policy({"name": "anything goes", "rules": []})
    client.promote("dock-7@v1")
    took = served_within(robot, frame, "dock-7@v1 on base/universal@v1", 5.0)
    assert took < 3.0, "a second on an idle machine"
    assert set(robot.segment(frame, min_score=0.0).instances.labels) <= set(one.labels.values())

    client.rollback("dock-7")
    served_within(robot, frame, "base/universal@v1", 5.0)


def test_a_triton_that_was_killed_comes_back(
    up: subprocess.Popen[bytes], robot: RobotClient, settings: Settings
) -> None:
    victims = [p for p in psutil.Process(up.pid).children(recursive=True) if p.name() == "tritonserver"]
    assert victims
    for victim in victims:
        victim.kill()
    wait_for(lambda: not triton_ready(settings))
    wait_for(lambda: triton_ready(settings), seconds=600)


def test_a_stop_leaves_nothing_behind(up: subprocess.Popen[bytes], settings: Settings) -> None:
    family = psutil.Process(up.pid).children(recursive=True)
    assert len(family) >= 4
    os.kill(up.pid, signal.SIGINT)
    assert up.wait(timeout=60) == 0, (settings.data / "up.log").read_text()
    psutil.wait_procs(family, timeout=5)
    assert [process for process in family if process.is_running()] == []


def test_a_killed_stack_takes_its_children_with_it(settings: Settings) -> None:
    process = start_stack(settings, "again.log")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    # Each ends when its own work is done: Triton gives requests its grace, and is killed after it.
    _, alive = psutil.wait_procs(family, timeout=90)
    assert [one.as_dict(["pid", "cmdline", "status"]) for one in alive] == []
