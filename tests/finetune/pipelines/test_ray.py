"""A base trained by two workers of Ray Train on this machine: the real cluster, the real training, in small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray.train", reason="Ray is not installed (extra: ray)")

from finetune.pipelines.ray_board import Board
from finetune.training.base import BaseRecipe, train_base
from finetune.training.loop import Tick
from tests.finetune.training.test_training import TINY

ROOT = Path(__file__).parents[3]

RUN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from finetune.errors import TrainingError
from finetune.training.base import BaseRecipe
from finetune.pipelines.ray_train import RayPlan, make_base_on_ray
from tests.finetune.training.test_training import TINY

folder, steps, rate = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
recipe = BaseRecipe(
    architecture=TINY, max_steps=steps, batch_size=2, workers=0, save_steps=3, learning_rate=rate, muon_rate=rate
)
try:
    found = make_base_on_ray(
        recipe,
        RayPlan(workers=2, retries=1),
        workspace=folder / "work",
        out=folder / "base",
        report=lambda tick: print("tick", tick.step, flush=True),
        scenes=1,
    )
    print("judged", len(found))
except TrainingError as error:
    print("error", error)
"""


def run(folder: Path, steps: int, rate: float = 1e-3) -> list[str]:
    """The lines that a run in a process of its own prints; a cluster ends with its process."""
    # Ray's processes give way to all others by themselves: beside other tests they would hardly move.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), str(steps), str(rate)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.slow
def test_two_workers_go_on_from_a_checkpoint_and_end_with_a_judged_base(tmp_path: Path) -> None:
    """The checkpoint is that of a training in one process: workers on Ray run the same one."""
    recipe = BaseRecipe(
        architecture=TINY, max_steps=4, batch_size=2, workers=0, save_steps=3, learning_rate=1e-3, muon_rate=1e-3
    )
    train_base(recipe, tmp_path / "work", report=lambda _: None)
    said = run(tmp_path, 6)
    assert "tick 6" in said
    assert "tick 4" not in said, "it goes on from the checkpoint"
    assert said[-1].startswith("judged")
    assert int(said[-1].split()[1]) >= 4
    assert "24 scenes" in (tmp_path / "base" / "README.md").read_text(), "6 steps of 2 workers with 2 pictures each"
    assert (tmp_path / "work" / "checkpoint-6").is_dir()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(3000)
def test_two_workers_train_and_a_second_run_goes_on(tmp_path: Path) -> None:
    """From the start on Ray, twice a cluster; each takes more than a minute to come up and import."""
    first = run(tmp_path, 4)
    assert "tick 4" in first
    assert first[-1].startswith("judged")
    assert int(first[-1].split()[1]) >= 4
    assert "16 scenes" in (tmp_path / "base" / "README.md").read_text(), "4 steps of 2 workers with 2 pictures each"
    assert (tmp_path / "work" / "checkpoint-4").is_dir()
    second = run(tmp_path, 6)
    assert "tick 6" in second
    assert "tick 4" not in second, "it goes on from the checkpoint"


def test_a_board_keeps_the_first_verdict() -> None:
    board = Board()
    for step in (20, 40):
        board.tell({"step": step})
    assert board.told(1) == [{"step": 40}]
    board.give_up("TrainingError", "no longer finite")
    board.give_up("DatasetError", "later")
    assert board.verdict() == ("TrainingError", "no longer finite")
    assert board.result() is None
    board.finish([("demo", b"{}")])
    assert board.result() == [("demo", b"{}")]


def test_ticks_cross_the_border_as_plain_values() -> None:
    from dataclasses import asdict

    tick = Tick(step=3, progress=0.1, loss=2.0, images_per_second=4.0, eta_seconds=9.0, seconds=1.0, waited=0.2)
    assert Tick(**asdict(tick)) == tick
