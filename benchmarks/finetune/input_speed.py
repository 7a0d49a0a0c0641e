"""Does the input keep up? The whole training loop beside forward and backward alone, and what each part costs.

The loop is the real one (`fit`: Trainer, loader processes, optimizer, averaged weights); the yardstick is the same
network on one batch that is already there, again and again.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from finetune.models.model import new_base
from finetune.scenes import LABELS
from finetune.training.base import BaseRecipe, scene_examples
from finetune.training.examples import Example, collate
from finetune.training.fit import fit, optimizer_for
from finetune.training.initialisation import start_from_scratch
from finetune.training.learner import Learner, learner_for
from finetune.training.loop import AverageWeights, Tick, hold_then_fall
from serving.inference.precision import quick_bfloat16

WARM_UP = 4  # steps until loader processes have started and caches are warm
SCENES = 64  # what the network's start and the cached batch are drawn from


@dataclass(frozen=True, slots=True)
class InputSpeed:
    """Images a second by the clock, and CPU milliseconds an image.

    Attributes:
        loop: the whole loop; alone: forward and backward on a cached batch, the mean of before and after the loop.
        waited: share of the loop's time in which the network waited for its next batch.
        trainer_ms: CPU time an image of the training process, over the whole loop.
        parts_ms: CPU time an image of each part, measured one by one: `scene` and `collate` run in loader processes,
            `forward`, `backward`, `clip`, `optimizer` and `average` in the training process.
        threads, workers, batch_size: how it was run.
    """

    loop: float
    alone: float
    waited: float
    trainer_ms: float
    parts_ms: Mapping[str, float]
    threads: int
    workers: int
    batch_size: int

    @property
    def ratio(self) -> float:
        """The loop's images a second, of those of forward and backward alone."""
        return self.loop / self.alone

    @property
    def overhead_ms(self) -> float:
        """CPU time an image of the training process that is none of its parts: the Trainer and receiving batches."""
        own = sum(self.parts_ms[name] for name in ("forward", "backward", "clip", "optimizer", "average"))
        return self.trainer_ms - own


def measure_input(
    recipe: BaseRecipe, *, steps: int = 40, report: Callable[[str], None] = lambda _what: None
) -> InputSpeed:
    """Measure on a new network of the recipe's shape; nothing of it is kept.

    Takes about the time of 2.5 x `steps` training steps. Errors as of `train_base`.
    """
    examples = scene_examples(replace(recipe, max_steps=steps + WARM_UP))
    report("drawing scenes")
    start = time.process_time()
    drawn = [examples[k] for k in range(max(SCENES, recipe.batch_size))]
    scene_ms = (time.process_time() - start) / len(drawn) * 1000
    collate_ms = _cpu_ms(lambda: collate(drawn[: recipe.batch_size]), 5) / recipe.batch_size
    model = new_base(recipe.architecture, LABELS, seed=recipe.seed)
    start_from_scratch(model, drawn, seed=recipe.seed)
    learner = learner_for(model, scratch=True)
    learner.stage(1.0)  # where a part learns alone at first: the whole is what is measured
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = _moved(collate(drawn[: recipe.batch_size]), device)
    half = max(2, steps // 2)
    report("forward and backward alone")
    before, forward_ms, backward_ms = _alone(learner.to(device), batch, half)
    after_ms = _after_backward(learner, recipe)
    report("the whole loop")
    loop, waited, trainer_ms = _loop(learner.cpu(), examples, recipe, steps)
    report("forward and backward alone, again")
    again, *_ = _alone(learner.to(device), batch, half)
    parts = {"scene": scene_ms, "collate": collate_ms, "forward": forward_ms, "backward": backward_ms, **after_ms}
    return InputSpeed(
        loop=loop,
        alone=(before + again) / 2,
        waited=waited,
        trainer_ms=trainer_ms,
        parts_ms=parts,
        threads=torch.get_num_threads(),
        workers=recipe.workers,
        batch_size=recipe.batch_size,
    )


def _loop(learner: Learner, examples: Dataset[Example], recipe: BaseRecipe, steps: int) -> tuple[float, float, float]:
    """(images/s, share of waiting, CPU ms an image of this process) of `fit` behind its warm-up."""
    marks: list[tuple[Tick, float, float]] = []
    settings = replace(recipe, max_steps=steps + WARM_UP, max_seconds=None, report_every=1, save_steps=10**9)
    with tempfile.TemporaryDirectory(prefix="parcelhub-input-") as workspace:
        fit(
            learner,
            examples,
            settings,
            Path(workspace),
            report=lambda tick: marks.append((tick, time.perf_counter(), time.process_time())),
            schedule=hold_then_fall,
            hidden=learner.hidden,
        )
    (_, start, cpu), *rest = marks[WARM_UP - 1 :]
    _, end, cpu_end = rest[-1]
    images = len(rest) * recipe.batch_size * recipe.accumulate
    spans = [b[1] - a[1] for a, b in pairwise(marks[WARM_UP - 1 :])]
    waited = sum(tick.waited * span for (tick, *_), span in zip(rest, spans, strict=True))
    return images / (end - start), waited / (end - start), (cpu_end - cpu) / images * 1000


def _alone(learner: Learner, batch: dict[str, Any], steps: int) -> tuple[float, float, float]:
    """(images/s, CPU ms an image forward, backward) on one batch, autocast as the Trainer's."""
    device = batch["pixel_values"].device
    narrow = device.type != "cpu" or quick_bfloat16()
    learner.train()
    forward = backward = 0.0
    start = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            _wait(device)
            forward = backward = 0.0
            start = time.perf_counter()
        learner.zero_grad(set_to_none=True)
        begin = time.process_time()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=narrow):
            loss = learner(**batch)["loss"]
        middle = time.process_time()
        loss.backward()
        forward, backward = forward + middle - begin, backward + time.process_time() - middle
    _wait(device)
    images = steps * len(batch["pixel_values"])
    return images / (time.perf_counter() - start), forward / images * 1000, backward / images * 1000


def _after_backward(learner: Learner, recipe: BaseRecipe) -> dict[str, float]:
    """CPU ms an image of what follows the gradients of a step. Expects gradients, and moves the weights."""
    optimizer = optimizer_for(learner, recipe, learner.hidden) or torch.optim.AdamW(
        learner.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    average = AverageWeights(learner)
    images = recipe.batch_size * recipe.accumulate
    parts: dict[str, Callable[[], object]] = {
        "clip": lambda: nn.utils.clip_grad_norm_(learner.parameters(), 1.0),
        "optimizer": optimizer.step,
        "average": lambda: average.follow(100),
    }
    return {name: _cpu_ms(call, 5) / images for name, call in parts.items()}


def _cpu_ms(call: Callable[[], object], times: int) -> float:
    """Median CPU milliseconds of a call, after one to warm up."""
    call()
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return median(taken) * 1000


def _moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        name: value.to(device) if isinstance(value, Tensor) else [one.to(device) for one in value]
        for name, value in batch.items()
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
