"""The parts of the benchmark that need no server."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.baselines import BaselineSpec, run_baseline
from benchmarks.serving.folder import BASE, make_folder
from benchmarks.serving.fuzz import Fuzzer, png_bomb, same_answer
from benchmarks.serving.load import Figures, quantile
from benchmarks.serving.mixing import by_turns, mixed_ratios
from benchmarks.serving.probe import agreement
from benchmarks.serving.robots import History, RobotRequest
from benchmarks.serving.scenarios import best_batching, uniform, zipf
from serving.errors import ServingError
from serving.image_header import image_size
from serving.inference.segmenter import Segmenter
from serving.instances import Instances
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


def test_the_choice_is_the_size_with_the_quickest_slow_answers_among_those_with_the_capacity() -> None:
    def row(size: int, capacity: float, slow: float) -> dict[str, object]:
        return {"rows": size, "robots_16": {"per_second": capacity}, "open_loop": {"p99_ms": slow}}

    rows = [row(1, 90.0, 90.0), row(2, 96.0, 110.0), row(4, 99.0, 100.0), row(8, 100.0, 150.0)]
    assert best_batching(rows)["rows"] == 4


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


@pytest.mark.parametrize(
    ("started", "ended", "served_by", "verdict"),
    [
        (1.0, 2.0, "v1", "right"),
        (1.0, 2.0, "v2", "never"),  # nobody had asked for it yet
        (1.0, 2.0, "v9", "never"),
        (9.0, 10.1, "v2", "right"),  # asked for at 10, and not confirmed yet
        (10.6, 11.0, "v2", "right"),
        (11.4, 12.0, "v1", "right"),  # its second is not over
        (11.6, 12.0, "v1", "late"),
        (9.9, 15.0, "v1", "right"),  # a batch finishes on the table that it began with
        (20.2, 20.3, "v1", "right"),  # rolled back
        (21.4, 21.5, "v2", "right"),
        (21.6, 22.0, "v2", "late"),
        (30.0, 31.0, "v1", "right"),
    ],
)
def test_an_answer_is_judged_by_what_was_routed_meanwhile(
    started: float, ended: float, served_by: str, verdict: str
) -> None:
    history = History("v1", grace_s=1.0)
    history.changed("v2", 10.0, 10.5)
    history.changed("v1", 20.0, 20.5)
    assert history.judge(RobotRequest(0, "cell", started, ended, served_by)) == verdict


def test_every_kind_of_wrong_request_can_be_made() -> None:
    fuzzer = Fuzzer(3, cell="north", variant="north@v1", pixels=scene(), bomb=b"a bomb")
    assert {fuzzer.make(kind).kind for kind in Fuzzer.KINDS} == set(Fuzzer.KINDS)
    again = Fuzzer(3, cell="north", variant="north@v1", pixels=scene(), bomb=b"a bomb")
    other = Fuzzer(3, cell="north", variant="north@v1", pixels=scene(), bomb=b"a bomb")
    assert [again.make().kind for _ in range(50)] == [other.make().kind for _ in range(50)]
    assert image_size(png_bomb(100, 50)) == ("png", 50, 100)


def test_answers_are_the_same_but_for_rounding() -> None:
    def found(score: float, left: int, label: str = "box") -> Instances:
        masks = np.zeros((3, 40, 60), np.bool_)
        masks[0, 5:25, left : left + 30] = True
        masks[1, 30:33, 1:4] = True
        masks[2, 36:39, 1:4] = True
        return Instances.from_masks(masks, [label, "bag", "bag"], [score, 0.1, 0.1])

    one = found(0.9, 10)
    assert same_answer(one, found(0.905, 10))
    assert not same_answer(one, found(0.8, 10))
    assert not same_answer(one, found(0.9, 14))
    assert not same_answer(one, found(0.9, 10, "tube"))


def test_a_robot_alone_and_many_get_the_same(base_dir: Path, tmp_path: Path) -> None:
    """One query is decoded on the caller's own thread, several on others."""
    make_folder(tmp_path, base_dir, variants=2, rank=4)
    engine = Engine(tmp_path, check_every_s=0.02)
    try:
        (alone,) = engine.answer([Query(scene(), cell="cell-1")])
        beside, wrong = engine.answer([Query(scene(), cell="cell-1"), Query(b"no image", cell="cell-1")])
        (refused,) = engine.answer([Query(b"no image", cell="cell-1")])
    finally:
        engine.close()
    assert isinstance(alone, Reply) and isinstance(beside, Reply)
    assert same_answer(alone.instances, beside.instances)
    assert isinstance(wrong, ServingError) and isinstance(refused, ServingError)
    assert (wrong.code, str(wrong)) == (refused.code, str(refused))


def test_ratios_are_of_neighbours() -> None:
    now = [0.0]

    def work(seconds: float) -> None:
        now[0] += seconds

    # Every round the machine gets slower; the ratio does not see it.
    slow = iter(1.0 + k // 2 for k in range(100))
    ratio = by_turns(lambda: work(9.7 * next(slow)), lambda: work(10.0 * next(slow)), rounds=4, clock=lambda: now[0])
    assert ratio.median == pytest.approx(0.97)
    assert ratio.rounds == 4
    assert ratio.summary()["quartiles"] == [pytest.approx(0.97), pytest.approx(0.97)]


def test_mixed_batches_are_measured_beside_the_base(segmenter: Segmenter) -> None:
    found = mixed_ratios(segmenter, ["north@v1", "south@v2"], batches=(1, 2), rounds=1)
    assert found["mixed_2_ratio"] > 0
    assert found["mixed_1"]["rounds"] == 3
    with pytest.raises(ValueError, match="2 variants"):
        mixed_ratios(segmenter, ["north@v1"], batches=(2,))


def test_agreement_of_answers(segmenter: Segmenter) -> None:
    answers = segmenter.segment([scene(seed=k) for k in range(3)])
    same = agreement(answers, answers, least=0.05)
    assert (same["mean_iou"], same["share_at_0.99"], same["score_max"]) == (1.0, 1.0, 0.0)
    assert same["compared"] == sum(len(answer) for answer in answers)
    nothing = [Instances.empty(answer.height, answer.width) for answer in answers]
    assert agreement(nothing, answers, least=0.05)["mean_iou"] == 0.0


@pytest.mark.slow
def test_ways_of_serving_answer_in_processes_of_their_own(base_dir: Path, tmp_path: Path) -> None:
    make_folder(tmp_path, base_dir, variants=2, rank=2)
    folders = tuple(str(tmp_path / "variants" / f"cell-{number}@v1") for number in range(2))
    base = str(tmp_path / "base" / BASE)
    for way in ("bank", "peft_mixed", "merged_processes"):
        found = run_baseline(BaselineSpec(way, base, BASE, folders, rounds=1, processes=1))  # type: ignore[arg-type]
        assert "error" not in found, found
        assert found["per_cpu_second"] > 0
        assert found["resident_mb"] > 50
    assert found["extrapolated"]
    assert found["processes"] == 1
    wrong = run_baseline(BaselineSpec("bank", base, BASE, (*folders, str(tmp_path / "none@v1")), rounds=1))
    assert "none@v1" in wrong["error"]
