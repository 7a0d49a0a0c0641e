"""What long comparisons share: the held-out cells, of whatever tier."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.finetune.experiments import held_out_cell
from finetune.datasets import read_dataset
from finetune.scenes import CELLS
from finetune.scenes.physical.backend import has

SEED = 40


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_held_out_cell_is_its_own_dataset_written_once(name: str, tmp_path: Path) -> None:
    if name in ("gantry", "dock") and not has("mujoco"):
        pytest.skip("mujoco is not installed")
    place = held_out_cell(tmp_path / name, name, train=2, holdout=1, seed=SEED, size=64)
    dataset = read_dataset(place)
    assert [sample.split for sample in dataset.samples] == ["train", "train", "valid"]
    assert set(dataset.classes) == set(CELLS[name].classes)
    assert f"seed {SEED + list(CELLS).index(name)}" in (place / "README.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    held_out_cell(place, name, train=2, holdout=1, seed=SEED, size=64)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
