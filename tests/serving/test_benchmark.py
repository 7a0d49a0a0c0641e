"""The parts of the benchmark that need no server."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from serving.benchmark.folder import make_folder
from serving.benchmark.load import Figures, quantile
from serving.benchmark.parts import best_batching, uniform, zipf
from serving.triton.engine import Engine, Query, Reply
from tests.serving.conftest import scene


def test_random_variants_are_served(base_dir: Path, tmp_path: Path) -> None:
    table = make_folder(tmp_path, base_dir, variants=3, rank=4)
    engine = Engine(tmp_path, check_every_s=0.02)
    try:
        replies = engine.answer([Query(scene(), cell=f"cell-{number}") for number in range(3)])
        assert [r.variant for r in replies if isinstance(r, Reply)] == [f"cell-{number}@v1" for number in range(3)]
    finally:
        engine.close()
    assert len(table.cells) == 3


def test_the_choice_is_fast_for_one_robot_among_those_with_the_capacity() -> None:
    def row(delay: int, capacity: float, alone: float) -> dict[str, object]:
        return {"queue_delay_us": delay, "robots_16": {"per_second": capacity}, "robots_1": {"p50_ms": alone}}

    rows = [row(0, 90.0, 9.0), row(500, 99.0, 10.0), row(1000, 100.0, 10.5), row(5000, 98.0, 15.0)]
    assert best_batching(rows)["queue_delay_us"] == 500


def test_figures() -> None:
    assert quantile([], 0.5) == 0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    figures = Figures(2.0, [0.1, 0.2, 0.3, 0.4])
    assert figures.rate == 2.0
    assert figures.summary()["p99_ms"] == 400.0
    rng = random.Random(0)
    drawn = [zipf(10)(rng) for _ in range(2000)]
    assert drawn.count("cell-0") / len(drawn) == pytest.approx(0.34, abs=0.04)
    assert {uniform(3)(rng) for _ in range(100)} == {"cell-0", "cell-1", "cell-2"}
