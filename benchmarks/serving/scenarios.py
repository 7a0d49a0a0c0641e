"""The measurements of `parcelhub bench serving`, each against a real Triton server. Figures come back as plain JSON."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]

from benchmarks.serving.load import closed_loop, open_loop, quantile
from serving.errors import ClientError
from serving.folder.routing import CellRoute, RoutingTable, write_routing
from serving.robot.client import RobotClient
from serving.triton.config import TritonConfig
from serving.triton.launcher import TritonServer
from serving.triton.scheduler import Batching

Say = Callable[[str], None]
READY_S = 600.0


def frames(count: int = 8, size: tuple[int, int] = (720, 1280)) -> list[bytes]:
    """JPEG frames of coloured rectangles, the same ones every time."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        ground = rng.integers(40, 200, (6, 8, 3), dtype=np.uint8)
        image = cv2.resize(ground, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        for _ in range(12):
            x, y = int(rng.integers(0, size[1])), int(rng.integers(0, size[0]))
            image[y : y + size[0] // 5, x : x + size[1] // 6] = rng.integers(0, 255, 3)
        made.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return made


def uniform(cells: int) -> Callable[[random.Random], str]:
    """Every cell as often as any other."""
    return lambda rng: f"cell-{rng.randrange(cells)}"


def zipf(cells: int) -> Callable[[random.Random], str]:
    """Cell k as often as 1 / (k + 1): a few busy ones and a long tail."""
    weights = [1 / (number + 1) for number in range(cells)]
    names = [f"cell-{number}" for number in range(cells)]
    return lambda rng: rng.choices(names, weights)[0]


def latency_under_load(url: str, *, cells: int, seconds: float, share: float = 0.7) -> dict[str, Any]:
    """Capacity in a closed loop, then an open loop at a share of it."""
    pictures = frames()
    asyncio.run(closed_loop(url, pictures, robots=4, seconds=min(seconds, 3), cell=uniform(cells)))
    single = asyncio.run(closed_loop(url, pictures, robots=1, seconds=seconds, cell=uniform(cells)))
    full = asyncio.run(closed_loop(url, pictures, robots=16, seconds=seconds, cell=uniform(cells)))
    loaded = asyncio.run(
        open_loop(url, pictures, per_second=max(share * full.rate, 0.5), seconds=seconds, cell=uniform(cells))
    )
    ratio = loaded.quantile(0.99) / loaded.quantile(0.5) if loaded.latencies else None
    return {
        "one_robot": single.summary(),
        "capacity_16_robots": full.summary(),
        f"open_loop_at_{share:g}": loaded.summary(),
        "p99_over_p50": None if ratio is None else round(ratio, 2),
    }


def rollout_cycles(url: str, folder: Path, table: RoutingTable, *, cycles: int) -> dict[str, Any]:
    """Promote and roll back one cell under load: each is seen, nobody fails or gets what was never routed."""
    stop, failures, served = threading.Event(), list[str](), set[str]()
    lock = threading.Lock()
    pictures = frames(2, (240, 320))

    def robot(cell: str) -> None:
        with RobotClient(url, cell=cell, timeout_s=60) as client:
            while not stop.is_set():
                try:
                    answer = client.segment(pictures[0])
                except ClientError as error:
                    with lock:
                        failures.append(str(error))
                    continue
                with lock:
                    served.add(answer.served_by)

    threads = [threading.Thread(target=robot, args=(f"cell-{number}",)) for number in (0, 0, 1)]
    for thread in threads:
        thread.start()
    seen = []
    variants = ["cell-0@v1", "cell-2@v1", None]
    version = table.version
    try:
        with RobotClient(url, cell="cell-0", timeout_s=60) as client:
            for cycle in range(cycles):
                variant = variants[(cycle + 1) % 3]
                version += 1
                cells = {**table.cells, "cell-0": CellRoute(fleet=variant)}
                write_routing(folder, replace(table, version=version, cells=cells))
                started, wanted = time.monotonic(), _served_by(table, variant)
                while client.segment(pictures[1]).served_by != wanted:
                    if time.monotonic() - started > 30:
                        failures.append(f"cycle {cycle}: not seen after 30 s")
                        break
                seen.append(time.monotonic() - started)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        write_routing(folder, replace(table, version=version + 1))
    allowed = {_served_by(table, variant) for variant in (*variants, "cell-1@v1")}
    return {
        "cycles": cycles,
        "failed_requests": len(failures),
        "first_failures": failures[:3],
        "answers_never_routed": len(served - allowed),
        "visible_p50_ms": round(1000 * quantile(seen, 0.5), 1),
        "visible_p99_ms": round(1000 * quantile(seen, 0.99), 1),
        "visible_max_ms": round(1000 * max(seen, default=0), 1),
    }


def _served_by(table: RoutingTable, variant: str | None) -> str:
    return f"base/{table.base}" if variant is None else f"{variant} on base/{table.base}"


def cold_variants(url: str, *, variants: int, hot: int, count: int) -> dict[str, Any]:
    """Time to the first answer of variants that are not in memory, while another robot asks for a hot one."""
    picture = frames(1, (240, 320))[0]
    stop, others = threading.Event(), list[float]()

    def neighbour() -> None:
        with RobotClient(url, cell="cell-0", timeout_s=60) as client:
            while not stop.is_set():
                others.append(client.segment(picture).round_trip_s)

    with RobotClient(url, timeout_s=60) as client:
        warm = [client.segment(picture, cell="cell-0").round_trip_s for _ in range(20)]
        thread = threading.Thread(target=neighbour)
        thread.start()
        try:
            # Least recently used: a sweep over more variants than fit finds each of them gone.
            order = [hot + number % max(variants - hot, 1) for number in range(count)]
            cold = [client.segment(picture, cell=f"cell-{number}").round_trip_s for number in order]
        finally:
            stop.set()
            thread.join()
    return {
        "variants": variants,
        "hot": hot,
        "warm_p50_ms": round(1000 * quantile(warm, 0.5), 1),
        "cold_p50_ms": round(1000 * quantile(cold, 0.5), 1),
        "cold_p99_ms": round(1000 * quantile(cold, 0.99), 1),
        "neighbour_p50_ms": round(1000 * quantile(others, 0.5), 1),
        "neighbour_p99_ms": round(1000 * quantile(others, 0.99), 1),
    }


def memory_over_swaps(config: TritonConfig, *, variants: int, swaps: int, seed: int = 0) -> dict[str, Any]:
    """Resident memory of server and backend before and after many adapters went in and out."""
    picture, rng = frames(1, (240, 320))[0], random.Random(seed)
    before_s = time.monotonic()
    with RobotClient(config.url, timeout_s=120) as client:
        for _ in range(min(3 * config.hot_variants, swaps)):  # fill the cache first: that is growth by design
            client.segment(picture, cell=f"cell-{rng.randrange(variants)}")
        before, marks = resident_bytes(), list[int]()
        for number in range(swaps):
            client.segment(picture, cell=f"cell-{rng.randrange(variants)}")
            if number % max(swaps // 5, 1) == 0:
                marks.append(resident_bytes())
    after = resident_bytes()
    return {
        "requests": swaps,
        "seconds": round(time.monotonic() - before_s, 1),
        "before_mb": round(before / 1e6, 1),
        "after_mb": round(after / 1e6, 1),
        "on_the_way_mb": [round(mark / 1e6, 1) for mark in marks],
        "growth": round(after / before - 1, 4) if before else None,
    }


def resident_bytes() -> int:
    """Resident memory of the Triton processes that this process started."""
    wanted = ("tritonserver", "triton_python_b")
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name().startswith(wanted):
                total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def batching_sweep(
    config: TritonConfig, *, choices: Sequence[int], cells: int, seconds: float, share: float, say: Say
) -> list[dict[str, Any]]:
    """Capacity of each size of batch, a server start each, and what robots then feel: the same open loop for all.

    Its rate is `share` of the best capacity, so that no size gains by having less of it.
    """
    pictures = frames()
    ways = {rows: replace(config, batching=Batching(rows), data=config.data / f"batching-{rows}") for rows in choices}
    found: dict[int, dict[str, Any]] = {}
    for rows, one in ways.items():
        with closing(_Running(one)):
            found[rows] = {"rows": rows}
            for robots in (1, 16):
                said = asyncio.run(closed_loop(one.url, pictures, robots=robots, seconds=seconds, cell=uniform(cells)))
                found[rows][f"robots_{robots}"] = said.summary()
        say(f"{rows} at most: {found[rows]['robots_16']['per_second']}/s with 16 robots")
    rate = share * max(one["robots_16"]["per_second"] for one in found.values())
    for rows, one in ways.items():
        with closing(_Running(one)):
            said = asyncio.run(open_loop(one.url, pictures, per_second=rate, seconds=4 * seconds, cell=uniform(cells)))
            found[rows]["open_loop"] = {"rate": round(rate, 2), **said.summary()}
        say(f"{rows} at most: p50 {said.quantile(0.5):.3f} s, p99 {said.quantile(0.99):.3f} s at {rate:.1f}/s")
    return list(found.values())


def best_batching(rows: Sequence[Mapping[str, Any]], *, slack: float = 0.05) -> Mapping[str, Any]:
    """The choice: of the sizes within `slack` of the best capacity, the one whose slowest answers are the quickest."""
    best = max(row["robots_16"]["per_second"] for row in rows)
    good = [row for row in rows if row["robots_16"]["per_second"] >= (1 - slack) * best]
    return min(good, key=lambda row: row["open_loop"]["p99_ms"])


def run_all(
    config: TritonConfig, folder: Path, table: RoutingTable, *, seconds: float, cycles: int, swaps: int, say: Say
) -> dict[str, Any]:
    """Every part on one server."""
    cells, hot = len(table.cells), config.hot_variants
    report: dict[str, Any] = {"variants": cells, "hot": hot}
    with closing(_Running(config)) as running:
        report["ready_s"] = running.ready_s
        say("latency under load")
        report["load_all_hot"] = latency_under_load(config.url, cells=min(cells, hot, 16), seconds=seconds)
        if cells > hot:
            say("cold variants and over-subscription")
            report["cold"] = cold_variants(config.url, variants=cells, hot=hot, count=min(cells - hot, 200))
            report["oversubscribed"] = oversubscribed(config.url, cells=cells, hot=hot, seconds=seconds)
        say("promotions under load")
        report["rollout"] = rollout_cycles(config.url, folder, table, cycles=cycles)
        say("memory over swaps")
        report["memory"] = memory_over_swaps(config, variants=cells, swaps=swaps)
    return report


def oversubscribed(url: str, *, cells: int, hot: int, seconds: float) -> dict[str, Any]:
    """p99 of uniform and zipf traffic over more variants than fit, beside that of the hot ones at the same rate."""
    pictures = frames()
    rate = 0.5 * asyncio.run(closed_loop(url, pictures, robots=8, seconds=seconds, cell=uniform(hot))).rate
    found = {
        name: asyncio.run(open_loop(url, pictures, per_second=max(rate, 0.5), seconds=seconds, cell=draw))
        for name, draw in (("hot", uniform(min(hot, cells))), ("zipf", zipf(cells)), ("uniform", uniform(cells)))
    }
    base = found["hot"].quantile(0.99)
    return {name: one.summary() for name, one in found.items()} | {
        f"{name}_p99_over_hot": round(one.quantile(0.99) / base, 2) if base else None
        for name, one in found.items()
        if name != "hot"
    }


class _Running:
    """A server that was waited for."""

    def __init__(self, config: TritonConfig) -> None:
        started = time.monotonic()
        self._server = TritonServer(config)
        try:
            self._server.start()
            self._server.wait_ready(READY_S)
        except BaseException:
            self._server.stop()
            raise
        self.ready_s = round(time.monotonic() - started, 1)

    def close(self) -> None:
        self._server.stop()
