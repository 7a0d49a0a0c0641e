"""What lies between a robot and the engine: the same frames through both in turn, and where the difference goes.

Robot and engine take turns in short blocks, so that whatever else the machine does falls on both alike. The backend's
metrics say how long a request waited for its batch and how long it was computed; the rest is the client, gRPC, Triton
and its way to the backend. CPU times of the processes say what that cost, whoever else had the cores meanwhile.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import psutil  # type: ignore[import-untyped]
import torch

from benchmarks.serving.load import quantile
from benchmarks.serving.scenarios import frames
from serving.errors import ServingError, TritonError
from serving.inference.preprocess import decode_image
from serving.inference.runners import EngineChoice
from serving.robot.client import RobotClient
from serving.triton.config import TritonConfig
from serving.triton.engine import Engine, Query, Reply

CELL: Final = "cell-0"
BLOCK: Final = 10
WARM: Final = 20
PUBLISHED_S: Final = 1.5
"""The backend hands its metrics to Triton once a second."""


@dataclass(slots=True)
class _Times:
    """Seconds of each request, and CPU seconds by process, of one way of sending frames."""

    robot: list[float] = field(default_factory=list)
    engine: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)


def transport(
    config: TritonConfig, *, requests: int, shared_memory: bool = False, report: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """p50 of one robot against the engine alone at batch 1, for JPEG and for raw pixels (and those in shared memory).

    The server runs already, on a folder of `benchmarks.serving.folder.make_folder`. The engine here reads that same
    folder, with as many threads as the server's.
    """
    if config.torch_threads:
        torch.set_num_threads(config.torch_threads)
    jpegs = frames()
    pixels = [decode_image(one) for one in jpegs]
    ways: dict[str, tuple[Sequence[Any], bool]] = {"jpeg": (jpegs, False), "pixels": (pixels, False)}
    if shared_memory:
        ways["pixels in shared memory"] = (pixels, True)
    # By the same variables as the server's backend, which inherits them.
    choice = EngineChoice.read(os.environ)
    engine = Engine(config.serving or config.data / "serving", hot=config.hot_variants, choice=choice)
    try:
        return {
            "requests_each": requests,
            "engine": engine.runs_on,
            "engine_threads": torch.get_num_threads(),
            **{name: _one_way(config, engine, sent, requests, shared, report) for name, (sent, shared) in ways.items()},
        }
    finally:
        engine.close()


def _one_way(
    config: TritonConfig,
    engine: Engine,
    sent: Sequence[Any],
    requests: int,
    shared: bool,
    report: Callable[[int], None],
) -> dict[str, Any]:
    times = _Times()
    with RobotClient(config.url, cell=CELL, timeout_s=120, shared_memory=shared) as robot:
        for number in range(WARM):
            robot.segment(sent[number % len(sent)])
            _ask(engine, sent[number % len(sent)])
        processes = _processes()
        before, cpu_before = _spent(config), _cpu(processes)
        own = 0.0
        for start in range(0, requests, BLOCK):
            block = [sent[number % len(sent)] for number in range(start, min(start + BLOCK, requests))]
            for one in block:
                began, used = time.perf_counter(), time.process_time()
                robot.segment(one)
                times.robot.append(time.perf_counter() - began)
                own += time.process_time() - used
            for one in block:
                began = time.perf_counter()
                _ask(engine, one)
                times.engine.append(time.perf_counter() - began)
            report(start + len(block))
        cpu_after, after = _cpu(processes), _spent(config)
    times.cpu = {name: (cpu_after[name] - cpu_before[name]) / requests for name in cpu_before} | {
        "robot": own / requests
    }
    times.parts = {name: (after[name] - before[name]) / requests for name in before}
    return _figures(times)


def _figures(times: _Times) -> dict[str, Any]:
    robot, engine, parts = quantile(times.robot, 0.5), quantile(times.engine, 0.5), times.parts
    mean = sum(times.robot) / len(times.robot)
    return {
        "robot_p50_ms": _ms(robot),
        "robot_p99_ms": _ms(quantile(times.robot, 0.99)),
        "engine_p50_ms": _ms(engine),
        "engine_p99_ms": _ms(quantile(times.engine, 0.99)),
        "robot_over_engine": round(robot / engine, 3) if engine else None,
        "mean_ms": {
            "round_trip": _ms(mean),
            "queue": _ms(parts["queue"]),
            "backend": _ms(parts["latency"] - parts["queue"]),
            "client_and_triton": _ms(mean - parts["latency"]),
            "engine_alone": _ms(sum(times.engine) / len(times.engine)),
        },
        "cpu_ms_per_request": {name: _ms(value) for name, value in times.cpu.items()},
    }


def _ask(engine: Engine, image: bytes | np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    (found,) = engine.answer([Query(image, cell=CELL)])
    if not isinstance(found, Reply):
        raise found if isinstance(found, ServingError) else TritonError("the engine gave no answer")


def _spent(config: TritonConfig) -> dict[str, float]:
    """Seconds that all requests so far waited, and that they took in all, as the backend counts them."""
    time.sleep(PUBLISHED_S)
    return {name: metric_total(config, f"parcelhub_{name}_seconds_sum") for name in ("queue", "latency")}


def _processes() -> dict[str, psutil.Process]:
    """Triton's server and stub among this process's descendants."""
    found = {}
    for one in psutil.Process().children(recursive=True):
        for name, start in (("server", "tritonserver"), ("stub", "triton_python_b")):
            if one.name().startswith(start):
                found[name] = one
    return found


def _cpu(processes: dict[str, psutil.Process]) -> dict[str, float]:
    return {name: sum(one.cpu_times()[:2]) for name, one in processes.items()}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def metric_total(config: TritonConfig, name: str) -> float:
    """The sum over all labels of one of Triton's Prometheus metrics."""
    address = f"{config.http_url.rpartition(':')[0]}:{config.metrics_port}/metrics"
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  # our own http:// address
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)
