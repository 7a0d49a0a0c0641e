"""One training from start to end: settings, resuming, averaging. Bases and variants both go through here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import TrainingArguments

from finetune.training.examples import Example, collate
from finetune.training.loop import (
    AverageWeights,
    Budget,
    BudgetCallback,
    BudgetTrainer,
    Tick,
    latest_checkpoint,
    spent_seconds,
    warm_cosine,
)
from finetune.training.optimizer import MuonAdamW, split_parameters
from serving.inference.precision import quick_bfloat16


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What every training has. `max_seconds` None means by steps alone; `muon_rate` None means AdamW for everything,
    otherwise Muon takes the matrices of the encoder's layers and AdamW the rest at `learning_rate`. `average` is the
    decay of the averaged weights, `report_every` and `save_steps` are steps, each of `accumulate` batches a process.
    `cpu_seconds`: seconds are this process's CPU time; for comparisons on a machine without a GPU that has other work.
    """

    max_steps: int
    max_seconds: float | None
    batch_size: int
    learning_rate: float
    muon_rate: float | None
    weight_decay: float
    average: float
    seed: int
    workers: int
    save_steps: int
    report_every: int = 5
    keep: int = 1
    accumulate: int = 1
    cpu_seconds: bool = False

    @property
    def most_examples(self) -> int:
        """How many examples a process draws in all steps."""
        return self.max_steps * self.batch_size * self.accumulate


class Arguments(TrainingArguments):  # type: ignore[misc]  # untyped in the library
    """The library's, on a CPU that several processes can train on and go on from a checkpoint."""

    @property
    def device(self) -> torch.device:
        """Where this process trains. The library says `cpu:0` of one process of several, which torch cannot load a
        checkpoint onto."""
        device: torch.device = super().device
        return torch.device("cpu") if device.type == "cpu" else device


def processes() -> int:
    """How many processes train this model, as torchrun tells them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the one that writes and tells; always so without torchrun."""
    return int(os.environ.get("RANK", "0")) == 0


def optimizer_for(
    model: nn.Module, settings: FitSettings, hidden: str, pretrained: str | None = None
) -> MuonAdamW | None:
    """The optimizer of a training, None where the Trainer's AdamW takes all of it. Parameters whose names begin with
    `pretrained` move slowly (`MuonAdamW`)."""
    if settings.muon_rate is None:
        return None
    inner, others = split_parameters(model, hidden)
    if not inner:  # a network of convolutions
        return None
    careful = {id(p) for name, p in model.named_parameters() if pretrained and name.startswith(pretrained)}
    return MuonAdamW(
        inner,
        [p for p in others if id(p) not in careful],
        muon_rate=settings.muon_rate,
        adam_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        pretrained=[p for p in others if id(p) in careful],
    )


def fit(
    model: nn.Module,
    examples: Dataset[Example],
    settings: FitSettings,
    workspace: Path,
    *,
    report: Callable[[Tick], None],
    should_stop: Callable[[], bool] = lambda: False,
    schedule: Callable[[float], float] = warm_cosine,
    hidden: str = "layers.",
    pretrained: str | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Train `model` in place and leave it on the CPU in eval mode with its averaged weights.

    `hidden` is the prefix of the parameters that Muon takes, `pretrained` of those that are to move slowly;
    `on_progress` is told the spent share of the budget before each step. Checkpoints go to `workspace`, and a
    run that finds one there goes on from it. Raises TrainingError when the loss diverges.
    """
    cuda = torch.cuda.is_available()
    clock = time.process_time if settings.cpu_seconds and not cuda else time.monotonic
    budget = Budget(max_steps=settings.max_steps, max_seconds=settings.max_seconds, clock=clock)
    average = AverageWeights(model, decay=settings.average)
    progress = BudgetCallback(
        budget,
        every=settings.report_every,
        report=report,
        should_stop=should_stop,
        batch_images=settings.batch_size * settings.accumulate * processes(),
        on_progress=on_progress,
    )
    arguments = Arguments(
        output_dir=str(workspace),
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        gradient_accumulation_steps=settings.accumulate,
        max_grad_norm=1.0,
        bf16=cuda or quick_bfloat16(),
        use_cpu=not cuda,
        ddp_backend="gloo" if processes() > 1 and not cuda else None,
        # While an encoder learns alone, the rest has no gradient.
        ddp_find_unused_parameters=not getattr(model, "all_used", False) if processes() > 1 else None,
        dataloader_num_workers=settings.workers,
        dataloader_prefetch_factor=4 if settings.workers else None,
        dataloader_pin_memory=cuda,
        train_sampling_strategy="sequential",
        save_steps=settings.save_steps,
        save_total_limit=settings.keep,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        seed=settings.seed,
    )
    trainer = BudgetTrainer(
        budget=budget,
        schedule=schedule,
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=collate,
        callbacks=[average, progress],
        optimizers=(optimizer_for(model, settings, hidden, pretrained), None),
    )
    progress.trainer = trainer
    checkpoint = latest_checkpoint(workspace)
    if checkpoint is not None:
        average.load(checkpoint)
    budget.start(spent_seconds(checkpoint) if checkpoint else 0.0)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    average.apply()
    model.cpu().eval()
