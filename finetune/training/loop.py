"""The `transformers` Trainer, told how long it may take.

Teams think in minutes, not in epochs, so the learning-rate schedule follows whichever part of the budget
(steps or seconds) is
further along; a slow machine gets a shorter training with a complete schedule instead of one cut off in the middle.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.errors import TrainingError

BUDGET_FILE = "budget.json"
AVERAGE_FILE = "average.safetensors"


class Budget:
    """Steps and seconds that a training may spend; seconds spent before an interruption count.

    `clock` tells the seconds: by default the wall's; `time.process_time` for comparisons on a machine that has other
    work, where every training is to get as much of a processor as the next.
    """

    def __init__(
        self, *, max_steps: int, max_seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.max_steps = max_steps
        self.max_seconds = max_seconds
        self.step = 0
        self._clock = clock
        self._spent_before = 0.0
        self._started = clock()
        self._told: float | None = None

    def start(self, spent_before: float = 0.0) -> None:
        """Start the clock; `spent_before` seconds were spent by an interrupted run."""
        self._spent_before = spent_before
        self._started = self._clock()

    @property
    def seconds(self) -> float:
        """Seconds spent so far."""
        return self._spent_before + self._clock() - self._started

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1; with several processes, as the first one last told."""
        return self._own_progress() if self._told is None else self._told

    def agree(self) -> None:
        """Take the first process's word for the progress. Clocks differ, but rates, stages and the end of a training
        must be the same everywhere; every process calls this at the same points."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            told = torch.tensor([self._own_progress()], device="cuda" if torch.cuda.is_available() else "cpu")
            torch.distributed.broadcast(told, src=0)
            self._told = float(told)

    def _own_progress(self) -> float:
        by_time = self.seconds / self.max_seconds if self.max_seconds else 0.0
        return min(1.0, max(self.step / self.max_steps, by_time))


def warm_cosine(progress: float, *, warmup: float = 0.04, floor: float = 0.01) -> float:
    """Learning-rate factor at a share of the budget: linear warm-up, then half a cosine down to `floor`."""
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def hold_then_fall(progress: float, *, warmup: float = 0.02, fall: float = 0.5, floor: float = 0.005) -> float:
    """Learning-rate factor of a long training: warm-up, a plateau, and from `1 - fall` on a straight line down to
    `floor` (Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", arXiv
    2405.18392).
    """
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    return max(floor, min(1.0, (1.0 - progress) / fall))


@dataclass(frozen=True, slots=True)
class Tick:
    """One report of a running training; `loss` is the mean since the last tick, `eta_seconds` to the end of
    the budget, `seconds` spent so far, before an interruption too; `waited` is the share of the time since the last
    tick in which the network waited for pictures.
    """

    step: int
    progress: float
    loss: float
    images_per_second: float
    eta_seconds: float
    seconds: float
    waited: float = 0.0


class BudgetTrainer(Trainer):
    """A Trainer that follows a Budget and stops with a TrainingError when the loss is not finite any more."""

    def __init__(
        self,
        *,
        budget: Budget,
        schedule: Callable[[float], float] = warm_cosine,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)  # progress goes through BudgetCallback, nothing to stdout
        self.budget = budget
        self._schedule = schedule
        # EoMT's forward takes **kwargs but not the token count that Trainer would hand on for language models.
        self.model_accepts_loss_kwargs = False
        self._losses: list[torch.Tensor] = []
        self.waited = 0.0
        """Seconds that steps have waited for their batches."""

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """The schedule of the learning rate by the budget's progress; the number of steps is not asked."""
        # The first rate is set here, before the first step: it too must be the same in every process.
        self.budget.agree()
        scheduler = LambdaLR(optimizer or self.optimizer, lambda _: self._schedule(self.budget.progress))
        self.lr_scheduler: LambdaLR | None = scheduler
        return scheduler

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's; the seconds that it took are added to `waited`."""
        start = time.monotonic()
        batches = super().get_batch_samples(*args, **kwargs)
        self.waited += time.monotonic() - start
        return batches

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """As the Trainer's, with the loss kept for the next report. Raises TrainingError when it is not finite."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise diverged("the loss", self.args, self.state)
        # The Trainer has divided it by the batches of a step, for the gradient's sake.
        self._losses.append(loss.detach() * self.current_gradient_accumulation_steps)
        return loss

    def mean_loss(self) -> float:
        """Mean loss of the steps since the last call."""
        if not self._losses:
            return math.nan
        mean = torch.stack(self._losses).float().mean().item()
        self._losses.clear()
        return mean


def diverged(what: str, args: TrainingArguments, state: TrainerState) -> TrainingError:
    """The error of a training whose numbers are no longer finite."""
    kept = latest_checkpoint(Path(args.output_dir))
    where = f"the last good checkpoint is {kept}" if kept else f"no checkpoint was saved yet in {args.output_dir}"
    return TrainingError(
        f"{what} is no longer finite at step {state.global_step + 1}; {where}. A lower learning rate or a look at the "
        "newest images usually helps"
    )


def core(model: nn.Module) -> nn.Module:
    """The transformers model inside PEFT and data-parallel wrappers."""
    inner: nn.Module = getattr(model, "module", model)
    get_base = getattr(inner, "get_base_model", None)
    return get_base() if get_base is not None else inner


class BudgetCallback(TrainerCallback):
    """Keeps the budget's step, saves its seconds beside each checkpoint, stops in time, reports."""

    def __init__(
        self,
        budget: Budget,
        *,
        every: int,
        report: Callable[[Tick], None],
        should_stop: Callable[[], bool],
        batch_images: int,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self.on_progress = on_progress
        self.budget = budget
        self.every = every
        self.report = report
        self.should_stop = should_stop
        self.batch_images = batch_images
        self.trainer: BudgetTrainer | None = None
        self._mark = (0, 0.0, 0.0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start to count from the step that the run goes on from."""
        self.budget.step = state.global_step
        self._mark = (state.global_step, self.budget.seconds, 0.0)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Let all processes agree on the progress, and tell it."""
        self.budget.agree()
        if self.on_progress is not None:
            self.on_progress(self.budget.progress)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **_: Any
    ) -> None:
        """Raises TrainingError when the norm of all gradients is not finite."""
        # A gradient can overflow where the loss does not. Such a step would spoil the weights, and a checkpoint saved
        # after it would take the place of the last good one.
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        if not torch.isfinite(norm):
            raise diverged("the gradient", args, state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the step, report every `every` steps, and end the training when the budget is spent or a stop was
        asked."""
        budget = self.budget
        budget.step = state.global_step
        budget.agree()
        if budget.progress >= 1.0 or self.should_stop():
            control.should_training_stop = True
        if self.trainer is not None and (state.global_step % self.every == 0 or control.should_training_stop):
            step, second, waited = self._mark
            now = budget.seconds
            passed = max(now - second, 1e-6)
            self._mark = (state.global_step, now, self.trainer.waited)
            share = max(budget.progress, 1e-6)
            self.report(
                Tick(
                    step=state.global_step,
                    progress=budget.progress,
                    loss=self.trainer.mean_loss(),
                    images_per_second=(state.global_step - step) / passed * self.batch_images,
                    eta_seconds=budget.seconds / share * (1 - share),
                    seconds=now,
                    waited=min(1.0, (self.trainer.waited - waited) / passed),
                )
            )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the seconds that were used beside the checkpoint, once for all processes."""
        if state.is_world_process_zero:  # another's word that the checkpoint is whole would come before it is
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / BUDGET_FILE).write_text(json.dumps({"seconds": self.budget.seconds}))


class AverageWeights(TrainerCallback):
    """Exponential moving average of the trained weights, saved beside each checkpoint and put in place at the end."""

    def __init__(self, model: nn.Module, *, decay: float = 0.999) -> None:
        self.decay = decay
        self._live = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._mean = {n: p.detach().clone() for n, p in self._live.items()}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Follow the weights of the step."""
        self.follow(state.global_step)

    def follow(self, step: int) -> None:
        """Take in the weights after step number `step`."""
        # Early on the average follows closely, so that the random start is soon forgotten.
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            live = [p.to(m.device) for p, m in zip(self._live.values(), self._mean.values(), strict=True)]
            torch._foreach_lerp_(list(self._mean.values()), live, 1 - decay)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the average beside the checkpoint, once for all processes."""
        if state.is_world_process_zero:
            save_file(self._mean, Path(args.output_dir) / f"checkpoint-{state.global_step}" / AVERAGE_FILE)

    def load(self, checkpoint: Path) -> None:
        """Go on from the average saved beside a checkpoint."""
        for name, tensor in load_file(checkpoint / AVERAGE_FILE).items():
            self._mean[name].copy_(tensor)

    def apply(self) -> None:
        """Put the averaged weights into the model."""
        with torch.no_grad():
            for name, parameter in self._live.items():
                parameter.copy_(self._mean[name])


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a Trainer's output folder: the one that holds a saved budget, since
    that is written last.
    """
    found = [p for p in folder.glob("checkpoint-*") if (p / BUDGET_FILE).is_file()]
    return max(found, key=lambda p: int(p.name.rsplit("-", 1)[1]), default=None)


def spent_seconds(checkpoint: Path) -> float:
    """Seconds that the run behind a checkpoint had spent when it was saved."""
    return float(json.loads((checkpoint / BUDGET_FILE).read_text())["seconds"])
