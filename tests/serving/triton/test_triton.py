"""The real tritonserver, end to end; and what the launcher says when it cannot start one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.serving.transport import metric_total
from hub.rollout.placement import Placement
from serving.errors import (
    LibraryMissing,
    PortInUse,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
    TritonNotFound,
)
from serving.folder.routing import CellRoute
from serving.inference.segmenter import Segmenter
from serving.robot.client import RobotClient
from serving.triton.installation import Installation
from serving.triton.launcher import TritonConfig, TritonServer
from tests.serving.conftest import encode, publish, scene
from tests.serving.inference.test_segmenter import same

try:
    Installation.find()
    needs_triton = pytest.mark.triton
except TritonNotFound:
    needs_triton = pytest.mark.skip("no tritonserver on this machine")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def config_for(data: Path, serving: Path) -> TritonConfig:
    grpc, http, metrics = free_ports(3)
    return TritonConfig(
        data, serving, grpc_port=grpc, http_port=http, metrics_port=metrics, torch_threads=1, grace_s=3.0
    )


def tree(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def gone(processes: list[psutil.Process], seconds: float = 8.0) -> bool:
    return not psutil.wait_procs(processes, seconds)[1]


@needs_triton
@pytest.mark.slow
def test_robots_are_answered_by_the_real_server(serving_folder: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    config = config_for(tmp_path / "data", serving_folder)
    server = TritonServer(config)
    others = set(tree(os.getpid()))  # what earlier tests left in this process, a resource tracker for example
    server.start()
    try:
        server.wait_ready(600)
        processes = [p for p in tree(os.getpid()) if p not in others]
        assert len(processes) >= 3, "guard, server, stub"
        with RobotClient(config.url, robot="r1") as robot:
            answers_are_the_segmenters_own(robot, segmenter)
            deadline = time.monotonic() + 60  # counts are published once a second
            while metric_total(config, "parcelhub_requests_total") < 6:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert metric_total(config, "parcelhub_errors_total") == 0, "the first of a variant waits, and no more"
            bad_requests_are_named(robot)
            mixed_requests_share_batches(robot, config, segmenter)
            routing_is_seen_within_a_second(robot, serving_folder)
            damage(serving_folder)
            publish(serving_folder, 5, DAMAGED)
            a_damaged_variant_is_told(robot, config, serving_folder, "north@v1 on base/universal@v1")
            with pytest.raises(PortInUse, match=str(config.grpc_port)):
                TritonServer(config).start()
            server.stop()
            assert gone(processes)
            assert not list(Path("/dev/shm").glob(f"parcelhub_{os.getpid()}_{config.grpc_port}_*"))  # noqa: S108
            with pytest.raises(ServerUnavailable):
                robot.segment(scene())
    finally:
        server.stop()


def answers_are_the_segmenters_own(robot: RobotClient, segmenter: Segmenter) -> None:
    image = scene()
    for asked, variant, served_by in (
        ({}, None, "base/universal@v1"),
        ({"cell": "south"}, None, "base/universal@v1"),
        ({"cell": "north"}, "north@v1", "north@v1 on base/universal@v1"),
        ({"variant": "south@v2"}, "south@v2", "south@v2 on base/universal@v1"),
    ):
        answer = robot.segment(image, request_id="frame-7", **asked)
        assert (answer.served_by, answer.request_id) == (served_by, "frame-7")
        same(answer.instances, segmenter.segment([image], [variant])[0])
    png = robot.segment(encode(image, ".png"), cell="north")
    same(png.instances, segmenter.segment([image], ["north@v1"])[0])
    assert png.request_id
    assert len(robot.segment(image, min_score=1.0).instances) == 0


def bad_requests_are_named(robot: RobotClient) -> None:
    jpeg = encode(scene())
    for image, asked, code in (
        (jpeg, {"cell": "west"}, "unknown_cell"),
        (jpeg, {"variant": "west@v1"}, "unknown_variant"),
        (jpeg, {"variant": "../../etc"}, "unknown_variant"),
        (jpeg, {"min_score": 2.0}, "request"),
        (jpeg[: len(jpeg) // 2], {}, "image"),
        (np.random.default_rng(0).bytes(10_000), {}, "image"),
    ):
        with pytest.raises(RequestRejected) as caught:
            robot.segment(image, **asked)
        assert caught.value.reason_code == code
    with pytest.raises(RequestRejected):
        robot.segment(b"")


def mixed_requests_share_batches(robot: RobotClient, config: TritonConfig, segmenter: Segmenter) -> None:
    images = [scene(90 + i, 130, seed=i) for i in range(6)]
    variants = [None, "north@v1", "south@v2"]
    jpeg = encode(scene())

    def ask(i: int) -> object:
        if i % 6 == 5:
            with pytest.raises(RequestRejected):
                robot.segment(jpeg[:400], cell="north")
            return None
        variant = variants[i % 3]
        answer = robot.segment(images[i % 6], variant=variant)
        same(answer.instances, segmenter.segment([images[i % 6]], [variant])[0])
        return answer

    with ThreadPoolExecutor(12) as pool:
        assert len(list(pool.map(ask, range(48)))) == 48
    deadline = time.monotonic() + 60
    while (found := batches(config))["parcelhub_batch_rows_total"] < 48:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found["parcelhub_batches_total"] < found["parcelhub_batch_rows_total"]


def batches(config: TritonConfig) -> dict[str, float]:
    names = ("parcelhub_batches_total", "parcelhub_batch_rows_total")
    return {name: metric_total(config, name) for name in names}


def routing_is_seen_within_a_second(robot: RobotClient, folder: Path) -> None:
    for version, variant in ((2, "south@v2"), (3, None), (4, "south@v2")):
        publish(folder, version, {"north": CellRoute(fleet="north@v1"), "south": CellRoute(fleet=variant)})
        started = time.monotonic()
        expected = f"{variant} on base/universal@v1" if variant else "base/universal@v1"
        while robot.segment(scene(), cell="south").served_by != expected:
            assert time.monotonic() - started < 1.0
            time.sleep(0.02)


DAMAGED: Final = {"north": CellRoute(fleet="north@v2"), "south": CellRoute(fleet="south@v2")}


def damage(folder: Path) -> None:
    """`north@v2` is of a type that the checks did not know."""
    bad = shutil.copytree(folder / "variants/north@v1", folder / "variants/north@v2")
    tensors = load_file(bad / "adapter_model.safetensors")
    save_file({name: one.to(torch.float8_e4m3fn) for name, one in tensors.items()}, bad / "adapter_model.safetensors")


def a_damaged_variant_is_told(robot: RobotClient, config: TritonConfig, folder: Path, served_by: str) -> None:
    """It costs nobody else an answer, and the server says so in its answers, its metrics and its status."""
    deadline = time.monotonic() + 60
    while robot.segment(scene(), cell="north").instead_of is None:  # south may have had its variant before
        assert time.monotonic() < deadline
    assert robot.segment(scene(), cell="south").served_by == "south@v2 on base/universal@v1"
    answer = robot.segment(scene(), cell="north")
    assert (answer.served_by, answer.instead_of) == (served_by, "north@v2")
    while metric_total(config, "parcelhub_variants_refused") < 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    version = json.loads((folder / "routing.json").read_text())["version"]
    place = Placement(folder, lambda: version).settled({"fleet": "north@v2"}, seconds=10)["fleet"]
    assert place.state == "promoted, not in place"
    assert "float8_e4m3fn" in place.reason
    assert Placement(folder, lambda: version).of({"fleet": "south@v2"})["fleet"].state == "in place"


@needs_triton
@pytest.mark.slow
def test_a_damaged_variant_is_told_after_a_restart_too(serving_folder: Path, tmp_path: Path) -> None:
    """The same while the server runs is a part of `test_robots_are_answered_by_the_real_server`."""
    damage(serving_folder)
    publish(serving_folder, 2, DAMAGED)
    config = config_for(tmp_path / "data", serving_folder)
    with TritonServer(config) as server:
        server.wait_ready(600)
        with RobotClient(config.url, robot="r1", timeout_s=20) as robot:
            a_damaged_variant_is_told(robot, config, serving_folder, "base/universal@v1")


LAUNCHER = """
import sys, time
from pathlib import Path
from serving.triton.launcher import TritonConfig, TritonServer
data, serving, grpc, http, metrics = sys.argv[1:]
server = TritonServer(TritonConfig(Path(data), Path(serving), grpc_port=int(grpc), http_port=int(http),
                                   metrics_port=int(metrics), torch_threads=1))
server.start()
server.supervise()
server.wait_ready(600)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def launcher(serving_folder: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    ports = free_ports(3)
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path / "data"), str(serving_folder), *map(str, ports)]
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)
    yield process, ports[0]
    process.kill()
    process.wait()


@needs_triton
@pytest.mark.slow
def test_a_dead_server_comes_back_and_kill_9_leaves_nothing(launcher: tuple[subprocess.Popen[bytes], int]) -> None:
    process, port = launcher
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    with RobotClient(f"127.0.0.1:{port}") as robot:
        first = tree(process.pid)
        server = next(child for child in first if child.name() == "tritonserver")
        server.kill()
        assert gone(first), "guard and stub go with the server"
        deadline = time.monotonic() + 60
        while not robot.ready():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert len(robot.segment(scene()).instances) > 0
    second = tree(process.pid)
    assert len(second) >= 3
    process.send_signal(signal.SIGKILL)
    assert gone(second), "nothing outlives the launcher"


@needs_triton
@pytest.mark.slow
def test_a_server_that_cannot_load_says_why(tmp_path: Path) -> None:
    server = TritonServer(config_for(tmp_path / "data", tmp_path / "nothing"))
    with server, pytest.raises(ServerFailed, match=r"routing\.json cannot be read"):
        server.wait_ready(60)
    assert not server.running


def test_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TritonNotFound, match="not an executable file"):
        Installation.find({"PARCELHUB_TRITONSERVER": str(tmp_path / "no")})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TritonNotFound, match="nvidia-pytriton"):
        Installation.find({"PATH": str(tmp_path)})
    binary = tmp_path / "tritonserver"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert Installation.find({"PATH": str(tmp_path)}) == Installation(binary, None)
    assert Installation(binary, None).prepare_backends(tmp_path / "b") is None


@needs_triton
def test_a_missing_library_is_named(tmp_path: Path) -> None:
    installation = Installation.find()
    backends = installation.prepare_backends(tmp_path / "backends")
    if backends is None:
        pytest.skip("a system installation brings its own libraries")
    bare = {"PATH": os.environ["PATH"]}
    with pytest.raises(LibraryMissing) as caught:
        installation.check_libraries(backends, bare)
    assert caught.value.missing


def test_a_robot_without_a_server_is_told_so() -> None:
    with RobotClient(f"127.0.0.1:{free_ports(1)[0]}", timeout_s=0.5) as robot:
        assert not robot.ready()
        with pytest.raises(ServerUnavailable):
            robot.segment(scene())
        with pytest.raises(RequestRejected):
            robot.segment(np.zeros((4, 4), np.uint8))
