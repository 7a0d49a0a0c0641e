"""A cell's model from a cell's pictures: LoRA on the base, and the two yardsticks it is compared with.

LoRA: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685, by PEFT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import EomtForUniversalSegmentation, TrainingArguments

from finetune.errors import DeckError
from finetune.model import random_model
from finetune.training.augment import AugmentedExamples, Source, Strength
from finetune.training.examples import collate
from finetune.training.loop import (
    AverageWeights,
    Budget,
    BudgetCallback,
    BudgetTrainer,
    Tick,
    latest_checkpoint,
    spent_seconds,
)

Method = Literal["lora", "full", "scratch"]

# Every linear layer of the network: the backbone's attention and MLPs, the mask head and the class head.
# Convolutions, norms and
# query embeddings stay the base's, so that variants can share a batch.
TARGETS = r"layers\.\d+\.(attention\.(q_proj|k_proj|v_proj|out_proj)|mlp\.(fc1|fc2))|mask_head\.fc[123]|class_predictor"


@dataclass(frozen=True, slots=True)
class AdaptRecipe:
    """How a cell's model is trained. `method` "full" trains every weight of the base, "scratch" starts from
    random ones.
    """

    method: Method = "lora"
    rank: int = 16
    alpha: int = 16
    max_steps: int = 4000
    max_seconds: float | None = 300.0
    batch_size: int = 8
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    deep_supervision: bool = False
    average: float = 0.99
    seed: int = 0
    workers: int = 1
    save_steps: int = 200
    strength: Strength = field(default_factory=Strength)


def adapt(
    base: EomtForUniversalSegmentation,
    sources: Sequence[Source],
    recipe: AdaptRecipe,
    workspace: Path,
    *,
    weights: Sequence[float] | None = None,
    report: Callable[[Tick], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Train on `sources` (classes already in the base's label indices; `weights` as the deck has them) and return the
    model in eval mode on the CPU.

    With LoRA that is a `PeftModel` around `base`, from scratch a new model of its shape, otherwise `base`
    itself. Goes on from a checkpoint in `workspace`.
    Raises DeckError without sources, TrainingError when the loss diverges.
    """
    if not sources:
        raise DeckError("there is no picture to train on")
    model: nn.Module = base
    if recipe.method == "lora":
        config = LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, target_modules=TARGETS, lora_dropout=0.0, bias="none"
        )
        torch.manual_seed(recipe.seed)
        model = get_peft_model(base, config)
    elif recipe.method == "scratch":
        model = random_model(base.config, seed=recipe.seed)
    cuda = torch.cuda.is_available()
    budget = Budget(max_steps=recipe.max_steps, max_seconds=recipe.max_seconds)
    average = AverageWeights(model, decay=recipe.average)
    progress = BudgetCallback(budget, every=5, report=report, should_stop=should_stop, batch_images=recipe.batch_size)
    arguments = TrainingArguments(
        output_dir=str(workspace),
        max_steps=recipe.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not cuda,
        dataloader_num_workers=recipe.workers,
        dataloader_prefetch_factor=4 if recipe.workers else None,
        dataloader_pin_memory=cuda,
        train_sampling_strategy="sequential",
        save_steps=recipe.save_steps,
        save_total_limit=1,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        seed=recipe.seed,
    )
    examples = AugmentedExamples(
        sources,
        size=int(base.config.image_size),
        count=recipe.max_steps * recipe.batch_size,
        seed=recipe.seed,
        weights=weights,
        strength=recipe.strength,
    )
    trainer = BudgetTrainer(
        budget=budget,
        deep_supervision=recipe.deep_supervision,
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=collate,
        callbacks=[average, progress],
    )
    progress.trainer = trainer
    checkpoint = latest_checkpoint(workspace)
    if checkpoint is not None:
        average.load(checkpoint)
    budget.start(spent_seconds(checkpoint) if checkpoint else 0.0)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    average.apply()
    return model.cpu().eval()
