"""`parcelhub bench rollout|fuzz|variants|transport` on a tiny base: a real hub and a real Triton each time."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hub.rollout import Fault, run_faults
from benchmarks.serving.fuzz import Fuzzer
from hub.cli.main import run
from serving.errors import TritonNotFound
from serving.triton.installation import Installation
from tests.hub.material import write_tiny_base
from tests.scale import scaled

try:
    Installation.find()
    needs_triton = pytest.mark.triton
except TritonNotFound:
    needs_triton = pytest.mark.skip("no tritonserver on this machine")

CYCLES, PICKS, WRONG = scaled(3, 40), scaled(4_000, 200_000), scaled(100, 2000)

pytestmark = [needs_triton, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


def figures(base: Path, folder: Path, *words: str) -> dict[str, Any]:
    target = folder / "figures.json"
    assert run(["bench", *words, "--base", str(base), "--json", str(target)]) == 0
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def test_promotions_and_rollbacks_under_load(base: Path, tmp_path: Path) -> None:
    words = f"rollout --cycles {CYCLES} --robots 3 --picks {PICKS}"
    found = figures(base, tmp_path, *words.split())
    assert (found["cycles"], found["failed_requests"], found["answers_never_routed"]) == (CYCLES, 0, 0)
    assert found["changes_never_seen"] == 0
    assert set(found["served"]) == {f"{name} on base/universal@v1" for name in ("moving@v1", "moving@v2", "steady@v1")}
    assert 0 < found["visible_ms"]["p50"] <= found["visible_ms"]["max"]


def test_robots_come_back_by_themselves(base: Path, tmp_path: Path) -> None:
    """At night the stub is frozen; tests/serving/triton/test_operations.py freezes one each time."""
    struck = Fault("stub struck", "triton_python_backend_stub", scaled(signal.SIGKILL, signal.SIGSTOP))
    lost, killed = run_faults(
        tmp_path, base, robots=2, timeout_s=5.0, faults=(struck, Fault("hub killed", "hub", signal.SIGKILL))
    )
    assert set(lost.errors) <= {"DeadlineExceeded", "ServerUnavailable"}, lost.figures()
    assert (killed.lost, killed.errors) == (0, {}), "robots do without the hub"


def test_wrong_requests_among_right_ones(base: Path, tmp_path: Path) -> None:
    found = figures(base, tmp_path, "fuzz", "--requests", str(WRONG), "--clients", "3")
    assert (found["requests"], found["neighbours"]) == (WRONG, 2 * WRONG)
    assert set(found["refused_by_kind"]) == set(Fuzzer.KINDS)
    assert (found["answered_by_kind"], found["unanswered"], found["first_of_both"]) == ({}, [], [])
    assert found["server_restarts"] == 0
    assert min(found["instances_compared_in_each"]) > 0
    assert found["batches_with_wrong_and_right"] > 0


def test_more_variants_than_fit(base: Path, tmp_path: Path) -> None:
    words = "variants --variants 12 --hot 3 --rank 2 --swaps 10 --seconds 1"
    found = figures(base, tmp_path, *words.split())
    assert (found["variants"], found["hot"]) == (12, 3)
    assert found["memory"]["adapters_read"] >= 10 and found["memory"]["errors"] == 0
    assert found["cold"]["cold_p99_ms"] >= found["cold"]["cold_p50_ms"] > 0
    assert {name: found["traffic"][name]["errors"] for name in ("hot", "zipf", "uniform")} == {
        "hot": {}, "zipf": {}, "uniform": {}
    }  # fmt: skip


def test_what_a_robot_waits_beyond_the_engine(base: Path, tmp_path: Path) -> None:
    found = figures(base, tmp_path, "transport", "--requests", "10", "--seconds", "1")
    for name in ("jpeg", "pixels", "pixels in shared memory"):
        way = found["ways"][name]
        assert way["robot_p50_ms"] > 0 and way["engine_p50_ms"] > 0
        assert set(way["cpu_ms_per_request"]) == {"server", "stub", "robot"}
        assert way["mean_ms"]["backend"] > 0
    assert found["load"]["open_loop_at_0.7"]["errors"] == {}


def test_loads_below_and_beyond_the_capacity(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "load.png"
    words = "load --shares 0.3,4 --capacity 20 --seconds 2 --wait 5 --cells 2"
    found = figures(base, tmp_path, *words.split(), "--plot", str(plot))
    below, beyond = found["loads"]
    assert (below["asked_per_second"], beyond["asked_per_second"]) == (6, 80)
    assert below["errors"] == {} and below["answers"] > 0
    assert set(beyond["errors"]) <= {"Overloaded", "DeadlineExceeded"}
    assert plot.read_bytes().startswith(b"\x89PNG")
    for wrong in ("a,b", "0", "-1,2"):
        assert run(["bench", "load", "--shares", wrong]) == 2
        assert "--shares wants numbers" in capsys.readouterr().err
