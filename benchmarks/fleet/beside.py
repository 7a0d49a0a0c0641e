"""What all the watching costs the answers: two real servers side by side, one that watches and one that does not.

    python -m benchmarks.fleet.beside --blocks 12 --requests 25

Robots ask both by turns, in blocks that change places each time, so whatever else the machine does falls on both. The
ratio of throughput and of p99 is over all blocks; its interval comes from drawing pairs of blocks again (bootstrap).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from benchmarks.fleet.cameras import CellCamera
from benchmarks.serving.folder import make_folder
from hub.locks import free_ports
from serving.robot.client import RobotClient
from serving.triton.config import TritonConfig
from serving.triton.launcher import TritonServer

BASE = Path(__file__).parents[2] / "finetune" / "bases" / "universal"
WARM = 120
"""Requests first: the camera is learnt in a hundred."""


@dataclass(slots=True)
class Side:
    """What robots measured of one server, block by block: seconds a block took, and of each request."""

    blocks: list[float] = field(default_factory=list)
    requests: list[list[float]] = field(default_factory=list)

    def throughput(self, chosen: np.ndarray) -> float:
        """Answers a second."""
        return float(sum(len(self.requests[k]) for k in chosen) / sum(self.blocks[k] for k in chosen))

    def p99(self, chosen: np.ndarray) -> float:
        """The slowest hundredth, in milliseconds."""
        return float(np.quantile(np.concatenate([self.requests[k] for k in chosen]), 0.99))


def ask(url: str, frames: Sequence[bytes], count: int, robots: int) -> tuple[float, list[float]]:
    """`count` requests by `robots` at once: (seconds in all, seconds of each)."""

    def one(robot: int) -> list[float]:
        spent = []
        with RobotClient(url, cell="cell-0", line=f"line-{robot}", timeout_s=60) as client:
            for k in range(robot, count, robots):
                begun = time.perf_counter()
                client.segment(frames[k % len(frames)])
                spent.append(time.perf_counter() - begun)
        return spent

    begun = time.perf_counter()
    with ThreadPoolExecutor(robots) as pool:
        spent = [value for each in pool.map(one, range(robots)) for value in each]
    return time.perf_counter() - begun, spent


def ratios(on: Side, off: Side, *, draws: int = 2000) -> dict[str, tuple[float, float, float]]:
    """(ratio, low, high at 95 %) of on to off, of throughput and of p99."""
    rng, count = np.random.default_rng(0), len(on.blocks)
    found = {}
    for name in ("throughput", "p99"):

        def ratio(chosen: np.ndarray, name: str = name) -> float:
            return float(getattr(on, name)(chosen) / getattr(off, name)(chosen))

        drawn = [ratio(rng.integers(0, count, count)) for _ in range(draws)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        found[name] = (ratio(np.arange(count)), float(low), float(high))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--requests", type=int, default=25, help="of each block")
    parser.add_argument("--robots", type=int, default=2)
    parser.add_argument("--size", type=int, default=320, help="pixels of a frame's side")
    asked = parser.parse_args(arguments)
    camera = CellCamera(20_000, size=asked.size)
    frames = [cv2.imencode(".jpg", camera.shot(k).image[..., ::-1])[1].tobytes() for k in range(12)]
    sides = {True: Side(), False: Side()}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_folder(root / "serving", BASE, variants=1)
        servers = {}
        for watched in sides:
            grpc, http, metrics = free_ports("127.0.0.1", 3)
            telemetry = root / f"telemetry-{watched}"
            config = TritonConfig(
                root / f"data-{watched}", root / "serving", grpc_port=grpc, http_port=http, metrics_port=metrics,
                torch_threads=1, telemetry=telemetry, observe=watched,
            )  # fmt: skip
            servers[watched] = TritonServer(config)
        try:
            for server in servers.values():
                server.start()
            for server in servers.values():
                server.wait_ready(300)
                ask(server.config.url, frames, WARM, asked.robots)
                sys.stderr.write("warm\n")
            for block in range(asked.blocks):
                for watched in (True, False) if block % 2 else (False, True):
                    seconds, spent = ask(servers[watched].config.url, frames, asked.requests, asked.robots)
                    sides[watched].blocks.append(seconds)
                    sides[watched].requests.append(spent)
                sys.stderr.write(f"block {block + 1} of {asked.blocks}\n")
        finally:
            for server in servers.values():
                server.stop()
        looked = len(list((root / "telemetry-True" / "ring").glob("*.frame")))
    everything = np.arange(asked.blocks)
    for watched, side in sides.items():
        sys.stdout.write(
            f"watching {'on' if watched else 'off'}: {side.throughput(everything):.1f} answers a second,"
            f" p99 {1000 * side.p99(everything):.0f} ms\n"
        )
    for name, (ratio, low, high) in ratios(sides[True], sides[False]).items():
        sys.stdout.write(f"{name}, on beside off: {ratio:.3f} (95 %: {low:.3f} to {high:.3f})\n")
    sys.stdout.write(f"frames looked at for novelty meanwhile: {looked}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
