"""What a trial's look costs with many picks on record, beside reading every pick again, and what reports wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.serving.load import quantile
from hub.rollout.statistics import SequentialTest
from hub.rollout.telemetry import Telemetry, wanted_of
from serving.observed.telemetry import INCOMING, PREDICTIONS, write_segment

CELL, VARIANT, STAGE = "dock-7", "dock-7@v1", "fleet"
_AT_ONCE = 5000
_LOOKS = 200


def run_looks(folder: Path, picks: int, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Put `picks` picks on record, then look with one new pick at a time, while another thread reports.

    Times in milliseconds, CPU seconds of this process for the look that reads all.
    """
    telemetry = Telemetry(folder)
    test = SequentialTest(0.9, 0.85, alpha=1e-12, repeat=True)
    wanted = wanted_of(CELL, VARIANT, STAGE, 0.0)
    for first in range(0, picks, _AT_ONCE):
        _report(telemetry, range(first, min(first + _AT_ONCE, picks)))
        say(f"{first:,} picks")
    telemetry.rates([])
    looks, reports, ended = [], [], threading.Event()

    def robot() -> None:
        number = picks + _LOOKS
        while not ended.is_set():
            begun = time.perf_counter()
            telemetry.add_outcomes([_outcome(number)], reporter="robot:b")
            reports.append(1000 * (time.perf_counter() - begun))
            number += 1

    telemetry.progress("t", wanted, test)
    for number in range(picks, picks + _LOOKS):
        _report(telemetry, range(number, number + 1))
        begun = time.perf_counter()
        telemetry.look(wait=True)
        found = telemetry.progress("t", wanted, test).result
        looks.append(1000 * (time.perf_counter() - begun))
        telemetry.tidy()
    thread = threading.Thread(target=robot)
    thread.start()
    wall, cpu = time.perf_counter(), time.process_time()
    again = test.run(success for _, success in telemetry.picks(CELL, VARIANT, STAGE, 0.0))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ended.set()
    thread.join()
    telemetry.close()
    return {
        "picks": picks + _LOOKS,
        "look_ms": {"p50": round(quantile(looks, 0.5), 3), "p99": round(quantile(looks, 0.99), 3)},
        "all_again_ms": round(1000 * wall, 1),
        "all_again_cpu_s": round(cpu, 3),
        "ratio": round(1000 * wall / quantile(looks, 0.5), 1),
        "report_beside_all_again_ms": {"p50": round(quantile(reports, 0.5), 2), "max": round(max(reports), 2)},
        "same": again == found,
    }


def _report(telemetry: Telemetry, numbers: range) -> None:
    rows = [
        {
            "request_id": f"r{number}", "at": time.time(), "cell": CELL, "variant": VARIANT, "stage": STAGE,
            "base": "universal@v1", "instances": 1,
        }
        for number in numbers
    ]  # fmt: skip
    write_segment(telemetry.folder / INCOMING, PREDICTIONS, rows)
    telemetry.look(wait=True)
    telemetry.add_outcomes([_outcome(number) for number in numbers], reporter="robot:a")


def _outcome(number: int) -> dict[str, Any]:
    outcome = "drop" if number % 12 == 0 else "success"
    return {"request_id": f"r{number}", "outcome": outcome, "picked_at": time.time(), "cell": CELL}
