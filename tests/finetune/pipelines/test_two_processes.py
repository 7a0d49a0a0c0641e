"""Two processes of one machine that train one base, as torchrun starts them: one model, one card, and after a kill the
last checkpoint goes on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune.training.loop import latest_checkpoint

ROOT = Path(__file__).parents[3]
SCRIPT = """
import os, sys
from pathlib import Path
from tests.finetune.training.test_training import TINY
from finetune.pipelines import base_service
from finetune.training import base
from finetune.training.base import BaseRecipe, train_base
base.WHITENING_SCENES = 24  # a network that is 32 wide; the usual 200 take longer to draw than the steps
folder, rank, seconds, steps = Path(sys.argv[1]), os.environ["RANK"], float(sys.argv[2]), int(sys.argv[3])
recipe = BaseRecipe(
    architecture=TINY, max_seconds=seconds or None, max_steps=steps, batch_size=2, workers=0, save_steps=2,
    report_every=1,
)
told, ticks = [], []
(folder / f"pid{rank}").write_text(str(os.getpid()))

def train(recipe, workspace, *, report, should_stop):
    model = train_base(recipe, workspace, report=lambda t: (ticks.append(t.step), report(t)), should_stop=should_stop)
    weights = sum(p.double().abs().sum().item() for p in model.parameters())
    (folder / f"rank{rank}").write_text(f"{ticks[0]} {ticks[-1]} {weights!r}")
    return model

base_service.train_base = train
found = base_service.make_base(
    recipe, workspace=folder / "work", out=folder / f"base{rank}", report=told.append, scenes=1
)
assert bool(found) == bool(told) == (rank == "0"), "one process judges and tells"
"""


def start(folder: Path, *, seconds: float = 0.0, steps: int = 100_000) -> subprocess.Popen[bytes]:
    """What the processes say is in `log`."""
    script = folder / "two.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [*command, str(folder), str(seconds), str(steps)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finish(folder: Path, *, seconds: float = 0.0, steps: int = 100_000) -> None:
    """Train to the end; a failure shows what the processes said."""
    code = start(folder, seconds=seconds, steps=steps).wait(800)
    assert code == 0, (folder / "log").read_text()[-4000:]


def ends_of(folder: Path) -> tuple[int, int]:
    """The first and the last step of both processes, which ended with the same weights."""
    first, second = ((folder / f"rank{rank}").read_text() for rank in (0, 1))
    assert first == second, "the same steps, the same weights"
    begin, end, _weights = first.split()
    return int(begin), int(end)


@pytest.mark.slow
@pytest.mark.nightly
def test_two_processes_end_when_their_time_is_over(tmp_path):
    finish(tmp_path, seconds=2.0)
    one_model(tmp_path)
    assert ends_of(tmp_path)[1] > 1


def one_model(folder: Path) -> None:
    """One process writes, and of the scenes of both."""
    _, steps = ends_of(folder)
    assert not (folder / "base1").exists(), "one process writes"
    assert f"{steps * 2 * 2:,} scenes" in (folder / "base0" / "README.md").read_text(), "the scenes of both"


@pytest.mark.slow
def test_two_processes_train_one_model_and_go_on_after_one_is_killed(tmp_path):
    run = start(tmp_path)
    try:
        patience = time.monotonic() + 700
        while latest_checkpoint(tmp_path / "work") is None:
            assert run.poll() is None
            assert time.monotonic() < patience
            time.sleep(0.1)
        os.kill(int((tmp_path / "pid1").read_text()), signal.SIGKILL)
        assert run.wait(600) != 0
    finally:
        run.terminate()  # it ends its processes; without a step limit they would never end by themselves
    checkpoint = latest_checkpoint(tmp_path / "work")
    assert checkpoint is not None
    at = int(checkpoint.name.rpartition("-")[2])
    finish(tmp_path, steps=at + 3)
    assert ends_of(tmp_path) == (at + 1, at + 3)
    one_model(tmp_path)
