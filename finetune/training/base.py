"""A base from scratch, on scenes made while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from finetune.model import Architecture, load_base, new_base
from finetune.scenes import BROAD, LABELS, Look, SceneGenerator
from finetune.training.examples import MASK_STRIDE, Example
from finetune.training.fit import FitSettings, fit
from finetune.training.learner import learner_for
from finetune.training.loop import Tick, hold_then_fall
from finetune.training.start import start_from_scratch
from serving.families.types import InstanceModel

WHITENING_SCENES = 200  # 256 patches each: plenty for a 768 x 768 covariance


@dataclass(frozen=True, slots=True)
class BaseRecipe:
    """How a base is trained. `max_seconds` None means by steps alone; `start` is a base folder to go on from."""

    architecture: Architecture = field(default_factory=Architecture)
    start: Path | None = None
    look: Look = BROAD
    max_steps: int = 100_000
    max_seconds: float | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    muon_rate: float = 0.015
    weight_decay: float = 0.05
    seed: int = 1
    workers: int = 2
    save_steps: int = 500
    accumulate: int = 1  # batches a step


class SceneExamples(Dataset[Example]):
    """Example k is scene k of a generator; nothing is stored."""

    def __init__(self, look: Look, *, size: int, seed: int, count: int) -> None:
        self._generator = SceneGenerator(look, size=size, seed=seed)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        # A scene whose packages all fell outside the picture teaches nothing; the next seeds are far apart.
        for attempt in range(20):
            scene = self._generator.scene(index + attempt * self._count)
            if scene.labels:
                break
        half = scene.masks()[:, ::MASK_STRIDE, ::MASK_STRIDE]
        classes = np.array([LABELS.index(label) for label in scene.labels], np.int64)
        return Example(scene.image, half, classes)


def train_base(
    recipe: BaseRecipe,
    workspace: Path,
    *,
    report: Callable[[Tick], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> InstanceModel:
    """Train a base and return it with averaged weights, in eval mode on the CPU.

    Checkpoints go to `workspace`; a run that finds one there goes on from it. Raises TrainingError when the
    loss diverges.
    """
    size = recipe.architecture.image_size
    examples = SceneExamples(
        recipe.look, size=size, seed=recipe.seed, count=recipe.max_steps * recipe.batch_size * recipe.accumulate
    )
    if recipe.start:
        model = load_base(recipe.start)
    else:
        model = new_base(recipe.architecture, LABELS, seed=recipe.seed)
        start_from_scratch(model, [examples[k] for k in range(WHITENING_SCENES)], seed=recipe.seed)
    learner = learner_for(model, scratch=recipe.start is None)
    settings = FitSettings(
        max_steps=recipe.max_steps,
        max_seconds=recipe.max_seconds,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        muon_rate=recipe.muon_rate,
        weight_decay=recipe.weight_decay,
        average=0.999,
        seed=recipe.seed,
        workers=recipe.workers,
        save_steps=recipe.save_steps,
        report_every=20,
        keep=2,
        accumulate=recipe.accumulate,
    )
    fit(
        learner,
        examples,
        settings,
        workspace,
        report=report,
        should_stop=should_stop,
        schedule=hold_then_fall,
        hidden=learner.hidden,
        on_progress=learner.stage,
    )
    return model
