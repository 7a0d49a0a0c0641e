"""A base from scratch, on scenes made while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import EomtForUniversalSegmentation, TrainingArguments

from finetune.model import Architecture, load_base, new_base
from finetune.scenes import BROAD, LABELS, Look, SceneGenerator
from finetune.training.examples import MASK_STRIDE, Example, collate
from finetune.training.loop import (
    AverageWeights,
    Budget,
    BudgetCallback,
    BudgetTrainer,
    MaskAnnealing,
    Tick,
    latest_checkpoint,
    spent_seconds,
)


@dataclass(frozen=True, slots=True)
class BaseRecipe:
    """How a base is trained. `max_seconds` None means by steps alone; `start` is a base folder to go on from."""

    architecture: Architecture = field(default_factory=Architecture)
    start: Path | None = None
    look: Look = BROAD
    max_steps: int = 100_000
    max_seconds: float | None = None
    batch_size: int = 8
    learning_rate: float = 2.5e-4
    repeat_until: float = 0.45  # share of the budget in which every instance is matched to several queries
    weight_decay: float = 0.05
    seed: int = 1
    workers: int = 2
    save_steps: int = 500


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
) -> EomtForUniversalSegmentation:
    """Train a base and return it with averaged weights, in eval mode on the CPU.

    Checkpoints go to `workspace`; a run that finds one there goes on from it. Raises TrainingError when the
    loss diverges.
    """
    model = load_base(recipe.start) if recipe.start else new_base(recipe.architecture, LABELS, seed=recipe.seed)
    model.attn_mask_probs.fill_(1.0)
    cuda = torch.cuda.is_available()
    budget = Budget(max_steps=recipe.max_steps, max_seconds=recipe.max_seconds)
    average = AverageWeights(model)
    progress = BudgetCallback(budget, every=20, report=report, should_stop=should_stop, batch_images=recipe.batch_size)
    arguments = TrainingArguments(
        output_dir=str(workspace),
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not cuda,
        dataloader_num_workers=recipe.workers,
        dataloader_prefetch_factor=4 if recipe.workers else None,
        dataloader_pin_memory=cuda,
        train_sampling_strategy="sequential",
        save_steps=recipe.save_steps,
        save_total_limit=2,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        seed=recipe.seed,
    )
    examples = SceneExamples(
        recipe.look,
        size=recipe.architecture.image_size,
        seed=recipe.seed,
        count=recipe.max_steps * recipe.batch_size,
    )
    trainer = BudgetTrainer(
        budget=budget,
        repeat_until=recipe.repeat_until,
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=collate,
        callbacks=[MaskAnnealing(model, budget), average, progress],
    )
    progress.trainer = trainer
    checkpoint = latest_checkpoint(workspace)
    if checkpoint is not None:
        average.load(checkpoint)
    budget.start(spent_seconds(checkpoint) if checkpoint else 0.0)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    average.apply()
    model.attn_mask_probs.zero_()
    return model.cpu().eval()
