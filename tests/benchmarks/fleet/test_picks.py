"""The fleet's robots, small: a stated truth, and verdicts that follow it where the evidence is clean."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fleet import picks
from benchmarks.fleet.cameras import CellCamera
from benchmarks.fleet.picks import Confusion, judged
from benchmarks.fleet.picks_model import DAMAGES, Failed, Robot, cause_of, damage, truth_of
from serving.observed.failures import Pick
from serving.observed.second_looks import Look


def test_damage_and_truth_agree() -> None:
    """With looks that show the truth, the verdict is what was damaged; and each kind of damage occurs."""
    table, seen = Confusion(), set[str]()
    for seed in range(4):
        camera, rng = CellCamera(seed, size=128), np.random.default_rng(seed)
        for index in range(4):
            shot = camera.shot(index, packages=(4, 10))
            truth = truth_of(shot.ids, shot.labels)
            served, _ = damage(truth, rng)
            looks = [Look(f"truth {n}", truth) for n in range(4)]
            for failed in Robot(rng).picks(truth, served, looks):
                table.add(failed.truth, judged(failed))
                seen.add(failed.truth)
    assert {name for name in DAMAGES if name != "none"} <= seen
    assert table.rate(without=("camera_fault",)).value is not None
    assert (table.rate(without=("camera_fault",)).value or 0) >= 0.85, "\n".join(table.lines())


def test_the_cause_is_what_the_masks_say() -> None:
    real = np.zeros((2, 40, 80), np.bool_)
    real[0, 5:35, 5:35] = True
    real[1, 5:35, 40:75] = True
    both, half, loose, nothing = (np.zeros((40, 80), np.bool_) for _ in range(4))
    both[5:35, 5:75] = True
    half[5:35, 5:18] = True
    rest = real[0] & ~half
    loose[5:35, 5:26] = True
    nothing[0:4, 0:20] = True
    labels = ("box", "bag")

    def cause(mask: np.ndarray, label: str, *others: np.ndarray) -> str:  # type: ignore[type-arg]
        return cause_of(mask, label, np.stack([mask, *others]), real, labels, 0)

    assert cause(both, "box") == "merged"
    assert cause(half, "box", rest) == "split"
    assert cause(half, "box") == "loose_edge"
    assert cause(loose, "box") == "loose_edge"
    assert cause(nothing, "box") == "false_package"
    assert cause(real[0], "bag") == "wrong_class"
    assert cause(real[0], "box") == "not_vision"


@pytest.mark.slow
def test_a_small_run_prints_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert picks.main(["--seeds", "5", "--cells", "1", "--frames", "1", "--size", "128"]) == 0
    said = capsys.readouterr().out
    for stream in picks.STREAMS:
        assert f"{stream}: seeds [5], 1 cells, 1 frames each" in said
    assert said.count("named as the truth has it, all:") == 2


def test_an_empty_table_says_nothing() -> None:
    assert Confusion().lines()[-1] == "named as the truth has it, without camera faults: - of 0"
    table = Confusion()
    table.add("merged", "split")
    table.add("merged", "merged")
    assert table.rate().value == 0.5
    assert Failed("merged", None, Pick("miss"), ()).camera is None  # type: ignore[arg-type]
