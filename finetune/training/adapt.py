"""A cell's model from a cell's pictures: LoRA on the base, and the two yardsticks it is compared with.

LoRA: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685, by PEFT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from peft import LoraConfig, PeftConfig, get_peft_model, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from finetune.errors import BaseModelError, DeckError
from finetune.models.families import LORA_RATE, training_of
from finetune.models.model import picture_size, random_model
from finetune.scenes import BROAD
from finetune.training.augment import AugmentedExamples, Source, Strength
from finetune.training.examples import Example
from finetune.training.fit import FitSettings, fit
from finetune.training.foundation import fill_encoder, foundation_weights
from finetune.training.initialisation import start_from_scratch
from finetune.training.learner import learner_for
from finetune.training.loop import Tick
from finetune.training.merged_convs import train_merged
from finetune.training.scene_examples import Mixture, SceneExamples
from serving.families.parcelseg import ParcelSeg
from serving.families.types import InstanceModel
from serving.inference.adapter_files import WEIGHTS

Method = Literal["lora", "full", "scratch"]
METHODS: tuple[Method, ...] = get_args(Method)

# AdamW's rates (and Muon's) that suit each method. Small matrices take larger steps than whole weights do, and those of
# convolutions larger ones than those of attention (docs/history/variants.md, "The recipe of a variant"); adapters'
# rates are in `finetune.models.families`.
FULL_RATE = 3e-4
SCRATCH_RATES = (1e-3, 0.02)
REHEARSAL_SEED = 40_000_000  # scenes that no base and no judge draws


@dataclass(frozen=True, slots=True)
class AdaptRecipe(FitSettings):
    """How a cell's model is trained. `method` "full" trains every weight of the base, "scratch" starts from
    random ones, with a `foundation` all but its encoder's (`finetune.training.foundation`).

    `targets` is a regular expression for the layers that get adapters, by default those that the family tunes;
    `rehearsal` is the share of examples that are scenes as the base learnt them. `image_size` is the side of the
    pictures in pixels, the base's own by default.
    """

    max_steps: int = 4000
    max_seconds: float | None = 300.0
    batch_size: int = 8
    learning_rate: float = 1e-2
    muon_rate: float | None = None
    weight_decay: float = 0.01
    average: float = 0.99
    seed: int = 0
    workers: int = 1
    save_steps: int = 200
    method: Method = "lora"
    rank: int = 8
    alpha: int = 16
    targets: str | None = None
    rehearsal: float = 0.0
    image_size: int | None = None
    foundation: str | None = None
    strength: Strength = field(default_factory=Strength)


def recipe_for(
    method: Method,
    family: str = "parcelseg",
    *,
    seconds: float | None,
    steps: int | None = None,
    seed: int = 0,
    cpu_seconds: bool = False,
) -> AdaptRecipe:
    """The recipe of a method with the rates that suit it on bases of `family`, for `seconds` (or `steps`)."""
    muon: float | None = None
    if method == "scratch":
        adam, muon = SCRATCH_RATES
    else:
        known = training_of(family)
        adam = FULL_RATE if method == "full" else known.lora_rate if known else LORA_RATE
    recipe = AdaptRecipe(
        method=method, learning_rate=adam, muon_rate=muon, max_seconds=seconds, seed=seed, cpu_seconds=cpu_seconds
    )
    return recipe if steps is None else replace(recipe, max_steps=steps)


def adapt(
    base: InstanceModel,
    sources: Sequence[Source],
    recipe: AdaptRecipe,
    workspace: Path,
    *,
    weights: Sequence[float] | None = None,
    report: Callable[[Tick], None],
    should_stop: Callable[[], bool] = lambda: False,
    start: Path | None = None,
) -> nn.Module:
    """Train on `sources` (classes already in the base's label indices; `weights` as the deck has them) and return the
    model in eval mode on the CPU.

    With LoRA that is a `PeftModel` around `base`, from scratch a new model of its shape, otherwise `base`
    itself. Goes on from a checkpoint in `workspace`. `start` is the folder of an adapter to go on from, with LoRA: its
    rank, alpha and layers count then.
    Raises DeckError without sources, BaseModelError where the base's family takes no adapters or `start` is none of
    this base, TrainingError when the loss diverges.
    """
    if not sources:
        raise DeckError("there is no picture to train on")
    size, count = recipe.image_size or picture_size(base), recipe.most_examples
    examples: Dataset[Example] = AugmentedExamples(
        sources, size=size, count=count, seed=recipe.seed, weights=weights, strength=recipe.strength
    )
    if recipe.rehearsal:
        scenes = SceneExamples(BROAD, size=size, seed=REHEARSAL_SEED + recipe.seed, count=count)
        examples = Mixture(examples, scenes, share=recipe.rehearsal, seed=recipe.seed, count=count)
    model: nn.Module = base
    if recipe.method == "lora":
        if base.adapter_targets is None:
            raise BaseModelError(f"a {base.config.model_type} base takes no LoRA adapters")
        targets = recipe.targets or base.tuned_targets or base.adapter_targets
        shape = (recipe.rank, recipe.alpha, targets) if start is None else _shape_of(start)
        config = LoraConfig(r=shape[0], lora_alpha=shape[1], target_modules=shape[2], lora_dropout=0.0, bias="none")
        torch.manual_seed(recipe.seed)
        model = get_peft_model(base, config)  # puts the adapters into `base` itself
        if start is not None:
            _go_on_from(model, start)
        train_merged(model)
        learner = learner_for(base, scratch=False)
    elif recipe.method == "scratch":
        # All that helps a base learn from scratch helps here too, or the comparison would flatter the base.
        fresh = _fresh(base, recipe)
        start_from_scratch(fresh, [examples[k] for k in range(min(200, count))], seed=recipe.seed)
        model, learner = fresh, learner_for(fresh, scratch=True)
    else:
        learner = learner_for(base, scratch=False)

    fit(
        learner,
        examples,
        recipe,
        workspace,
        report=report,
        should_stop=should_stop,
        hidden=learner.hidden,
        pretrained=learner.pretrained,
        on_progress=learner.stage,
    )
    return model


def _fresh(base: InstanceModel, recipe: AdaptRecipe) -> InstanceModel:
    """A network of the base's family and size with random weights, but for its encoder where there is a foundation.

    Without one a ParcelSeg sees with convolutions of its family's own: an encoder whose norms are folded away does not
    learn from random weights. Raises BaseModelError for a family that takes no foundation.
    """
    config = deepcopy(base.config)
    if isinstance(base, ParcelSeg):
        config.encoder = recipe.foundation or "stem"
    elif recipe.foundation:
        raise BaseModelError(f"a {config.model_type} takes no foundation; a parcelseg does")
    fresh = random_model(type(base), config, seed=recipe.seed)
    if recipe.foundation and isinstance(fresh, ParcelSeg):
        fill_encoder(fresh.encoder, foundation_weights(recipe.foundation))
    return fresh


def _shape_of(start: Path) -> tuple[int, int, str | list[str]]:
    """Rank, alpha and layers of a stored adapter. Raises BaseModelError."""
    try:
        config = PeftConfig.from_pretrained(str(start))
        targets = config.target_modules
        return int(config.r), int(config.lora_alpha), targets if isinstance(targets, str) else sorted(targets)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BaseModelError(f"the adapter to go on from cannot be read: {error}") from error


def _go_on_from(model: nn.Module, start: Path) -> None:
    """Put a stored adapter's weights into a model of its shape. Raises BaseModelError unless each has its place."""
    try:
        state = load_file(start / WEIGHTS)
        missed = set_peft_model_state_dict(model, {name: tensor.float() for name, tensor in state.items()})
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BaseModelError(f"the adapter to go on from is none of this base: {error}") from error
    lost = [name for name in missed.missing_keys if "lora_" in name]
    if missed.unexpected_keys or lost:
        raise BaseModelError(
            f"the adapter to go on from is none of this base: {len(missed.unexpected_keys)} of its weights have no "
            f"place, {len(lost)} places no weight"
        )
