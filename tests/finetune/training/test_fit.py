"""The one training loop: accumulated batches, resuming to the same curve, what is kept of a run that diverges."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from finetune.errors import TrainingError
from finetune.models.model import new_base
from finetune.scenes import LABELS
from finetune.training.base import BaseRecipe, scene_examples
from finetune.training.examples import Example
from finetune.training.fit import FitSettings, fit
from finetune.training.learner import learner_for
from finetune.training.loop import AVERAGE_FILE, hold_then_fall, latest_checkpoint
from tests.finetune.training.test_training import TINY

SETTINGS = FitSettings(
    max_steps=6,
    max_seconds=None,
    batch_size=4,
    learning_rate=1e-2,
    muon_rate=None,
    weight_decay=0.0,
    average=0.9,
    seed=0,
    workers=0,
    save_steps=1000,
    report_every=1,
    keep=1,
)


class Greys(Dataset[Example]):
    """Example k is one even grey; which ones were asked for is kept."""

    def __init__(self, count: int = 200) -> None:
        self.count = count
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        self.asked.append(index)
        grey = np.full((8, 8, 3), (37 * index) % 256, np.uint8)
        return Example(grey, np.zeros((0, 4, 4), np.bool_), np.zeros(0, np.int64))


class Line(nn.Module):
    """Learns to say how bright a picture is. From step `breaks` on its gradient, or its loss, is no number."""

    def __init__(self, *, breaks: int = 10**9, where: str = "loss") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.1, 0.0]))
        self.breaks, self.where, self.calls = breaks, where, 0

    def forward(self, pixel_values, mask_labels, class_labels):
        self.calls += 1
        light = pixel_values.float().mean((1, 2, 3))
        loss = (self.weight[0] * light + self.weight[1] - light.abs()).square().mean()
        if self.calls >= self.breaks:
            # The root of nothing is nothing, and its slope is endless.
            loss = loss * math.nan if self.where == "loss" else loss + (self.weight[0] - self.weight[0]).abs().sqrt()
        return {"loss": loss}


def run(model, settings, folder, examples=None):
    ticks = []
    fit(model, examples if examples is not None else Greys(), settings, folder, report=ticks.append)
    return ticks


@pytest.mark.slow
def test_two_small_batches_a_step_are_one_large_one(tmp_path):
    large, small, short = Line(), Line(), Line()
    seen = Greys()
    run(large, SETTINGS, tmp_path / "large")
    halves = run(small, replace(SETTINGS, batch_size=2, accumulate=2), tmp_path / "small", seen)
    run(short, replace(SETTINGS, batch_size=2), tmp_path / "short")
    torch.testing.assert_close(small.weight, large.weight, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(short.weight, large.weight, atol=1e-4), "half the pictures teach something else"
    assert [t.step for t in halves] == [1, 2, 3, 4, 5, 6]
    assert sorted(seen.asked)[:24] == list(range(24)), "every step draws new pictures"


@pytest.mark.slow
def test_the_loss_that_is_told_does_not_depend_on_how_a_step_is_split(tmp_path):
    whole = run(Line(), SETTINGS, tmp_path / "large")
    halves = run(Line(), replace(SETTINGS, batch_size=2, accumulate=2), tmp_path / "small")
    assert [t.loss for t in halves] == pytest.approx([t.loss for t in whole], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("keep", [1, 2])
def test_a_diverged_run_keeps_its_last_good_checkpoint(tmp_path, where, keep):
    """It would be saved at the very step that breaks: the spoilt weights must not take the good ones' place."""
    settings = replace(SETTINGS, max_steps=9, save_steps=2, keep=keep)
    with pytest.raises(TrainingError, match=rf"the {where} is no longer finite at step 6; .*checkpoint-4"):
        run(Line(breaks=6, where=where), settings, tmp_path)
    kept = latest_checkpoint(tmp_path)
    assert kept is not None
    assert kept.name == "checkpoint-4"
    for file in ("model.safetensors", AVERAGE_FILE):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(kept / file).values())
    ticks = run(Line(), settings, tmp_path)
    assert [t.step for t in ticks] == [5, 6, 7, 8, 9], "and a mended run goes on from it"


@pytest.mark.slow
def test_a_run_that_diverges_at_once_has_nothing_to_keep(tmp_path):
    with pytest.raises(TrainingError, match="no checkpoint was saved yet"):
        run(Line(breaks=1), SETTINGS, tmp_path)


@pytest.mark.slow
def test_waiting_for_pictures_is_told(tmp_path):
    class Slow(Greys):
        def __getitem__(self, index):
            time.sleep(0.05)
            return super().__getitem__(index)

    assert run(Line(), SETTINGS, tmp_path / "slow", Slow())[-1].waited > 0.5
    assert all(0 <= tick.waited <= 1 for tick in run(Line(), SETTINGS, tmp_path / "quick"))


def train_tiny(folder, report, *, steps=9):
    """A real base in small, told of after every step. On one thread: sums depend on how many share them."""
    torch.set_num_threads(1)
    recipe = BaseRecipe(architecture=TINY, max_steps=steps, batch_size=2, workers=0, save_steps=3, report_every=1)
    model = new_base(TINY, LABELS, seed=recipe.seed)
    learner = learner_for(model, scratch=True)
    fit(
        learner,
        scene_examples(recipe),
        recipe,
        Path(folder),
        report=report,
        schedule=hold_then_fall,
        hidden=learner.hidden,
        on_progress=learner.stage,
    )
    return model


CHILD = """
import sys, time
from tests.finetune.training.test_fit import train_tiny

def report(tick):
    print(tick.step, flush=True)
    if tick.step == 4:
        time.sleep(600)

train_tiny(sys.argv[1], report)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_resumes_to_the_same_curve(tmp_path):
    root = Path(__file__).parents[3]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "killed")], cwd=root, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "4":
                break
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    kept = latest_checkpoint(tmp_path / "killed")
    assert kept is not None
    assert kept.name == "checkpoint-3"

    whole, resumed = [], []
    first = train_tiny(tmp_path / "whole", whole.append)
    second = train_tiny(tmp_path / "killed", resumed.append)
    assert [t.step for t in resumed] == list(range(4, 10))
    assert [t.loss for t in resumed] == pytest.approx([t.loss for t in whole[3:]], rel=1e-6)
    for (name, one), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other), f"{name}: averaged weights are the same, bit for bit"
