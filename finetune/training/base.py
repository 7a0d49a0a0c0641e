"""A base from scratch, on scenes made while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch.utils.data import Dataset

from finetune.errors import BaseModelError
from finetune.models.model import Architecture, load_base, new_base, resize
from finetune.scenes import BROAD, LABELS, Look
from finetune.training.contributed import Contributed, contributed_examples
from finetune.training.examples import Example
from finetune.training.fit import FitSettings, fit
from finetune.training.foundation import fill_encoder, foundation_weights, inherit
from finetune.training.initialisation import start_from_scratch
from finetune.training.learner import learner_for
from finetune.training.loop import Tick, hold_then_fall, latest_checkpoint
from finetune.training.scene_examples import (
    MixedSizes,
    Mixture,
    SceneExamples,
    background_examples,
    photograph_examples,
    written_examples,
)
from serving.families.load import FAMILIES
from serving.families.parcelseg import ParcelSeg
from serving.families.types import InstanceModel
from serving.inference.picture_sizes import PictureSizes

FITTING_SCENES = 200  # of 1,024 cells and more each: plenty for some 400 features
WHITENING_SCENES = 200  # 256 patches each: plenty for a 768 x 768 covariance


@dataclass(frozen=True, slots=True)
class BaseRecipe(FitSettings):
    """How a base is trained. `start` is a base folder to go on from; of the `architecture` its pictures' size alone is
    then free.

    `foundation` names an encoder that learnt from photographs before (`finetune.training.foundation`); with a `start`
    too, its heads are kept. Such an encoder keeps its weights for the first `frozen` of the budget, and its stem and
    first `kept_stages` stages for all of it.

    `close_ups` is the share of scenes seen from close by, `greys` of those without colour; `written` are scene datasets
    on disk (slower tiers'), of which `written_share` of all examples come. `assets` is a folder with photographs of
    packages, cut out: `pasted` of the scenes that are not close-ups are made of these. `backgrounds` is a folder with
    photographs without packages, of which `background_share` of all examples come. `photographs` are datasets of
    labelled photographs, one for each site, of which `photograph_share` of all examples come.
    `contributed` are images that teams offered, of which `contributed_share` come, every group of them as often as
    another.

    `sizes` are sides in pixels of which each batch draws one, all alike; empty: the architecture's own for all. What
    the base is served at stays the architecture's.
    """

    max_steps: int = 100_000
    max_seconds: float | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    muon_rate: float | None = 0.015
    weight_decay: float = 0.05
    average: float = 0.999
    seed: int = 1
    workers: int = 2
    save_steps: int = 500
    report_every: int = 20
    keep: int = 2
    architecture: Architecture = field(default_factory=Architecture)
    start: Path | None = None
    foundation: str | None = None
    frozen: float = 0.3
    kept_stages: int = 2
    look: Look = BROAD
    close_ups: float = 0.25
    greys: float = 0.12
    written: tuple[Path, ...] = ()
    written_share: float = 0.2
    assets: Path | None = None
    pasted: float = 0.12
    backgrounds: Path | None = None
    background_share: float = 0.05
    photographs: tuple[Path, ...] = ()
    photograph_share: float = 0.25
    sizes: tuple[int, ...] = ()
    contributed: tuple[Contributed, ...] = ()
    contributed_share: float = 0.3


def scene_examples(recipe: BaseRecipe) -> Dataset[Example]:
    """All examples of a training. Raises DatasetError for a folder of written scenes that cannot be used,
    SceneToolError for assets without cutouts, BaseModelError for sizes that the family does not take."""
    if not recipe.sizes:
        return _of_size(recipe, recipe.architecture.image_size)
    own = PictureSizes(recipe.architecture.image_size, others=FAMILIES[recipe.architecture.family].any_size)
    try:
        sizes = [own.check(size) for size in recipe.sizes]
    except ValueError as error:
        raise BaseModelError(str(error)) from error
    return MixedSizes([_of_size(recipe, size) for size in sizes], batch=recipe.batch_size, seed=recipe.seed)


def _of_size(recipe: BaseRecipe, size: int) -> Dataset[Example]:
    count = recipe.most_examples
    examples: Dataset[Example] = SceneExamples(
        recipe.look,
        size=size,
        seed=recipe.seed,
        count=count,
        close_ups=recipe.close_ups,
        greys=recipe.greys,
        assets=recipe.assets,
        pasted=recipe.pasted,
    )
    if recipe.written:
        written = written_examples(recipe.written, size=size, count=count, seed=recipe.seed)
        examples = Mixture(examples, written, share=recipe.written_share, seed=recipe.seed, count=count)
    if recipe.photographs:
        seen = photograph_examples(recipe.photographs, size=size, count=count, seed=recipe.seed)
        examples = Mixture(examples, seen, share=recipe.photograph_share, seed=recipe.seed, count=count, draw=4)
    if recipe.contributed:
        theirs = contributed_examples(recipe.contributed, size=size, count=count, seed=recipe.seed)
        examples = Mixture(examples, theirs, share=recipe.contributed_share, seed=recipe.seed, count=count, draw=5)
    if recipe.backgrounds is not None:
        bare = background_examples(recipe.backgrounds, size=size, count=count, seed=recipe.seed)
        examples = Mixture(examples, bare, share=recipe.background_share, seed=recipe.seed, count=count, draw=3)
    return examples


def train_base(
    recipe: BaseRecipe,
    workspace: Path,
    *,
    report: Callable[[Tick], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> InstanceModel:
    """Train a base and return it with averaged weights, in eval mode on the CPU.

    Checkpoints go to `workspace`; a run that finds one there goes on from it. Raises TrainingError when the
    loss diverges, DatasetError for a folder of written scenes that cannot be used, BaseModelError for a `start` that is
    no base or takes no pictures of this size.
    """
    examples = scene_examples(recipe)
    # What weights are fitted on before the first step is of one size.
    first = _of_size(recipe, recipe.architecture.image_size) if recipe.sizes else examples
    model = first_model(recipe, first, goes_on=latest_checkpoint(workspace) is not None)
    scratch = recipe.start is None
    learner = learner_for(model, scratch=scratch, frozen=recipe.frozen, kept_stages=recipe.kept_stages)
    fit(
        learner,
        examples,
        recipe,
        workspace,
        report=report,
        should_stop=should_stop,
        schedule=hold_then_fall,
        hidden=learner.hidden,
        pretrained=learner.pretrained,
        on_progress=learner.stage,
    )
    return model


def first_model(recipe: BaseRecipe, examples: Dataset[Example], *, goes_on: bool = False) -> InstanceModel:
    """The network that a training begins with. One that `goes_on` takes all weights from a checkpoint: nothing is
    fitted on scenes before. Raises BaseModelError as `train_base` does.
    """
    size = recipe.architecture.image_size
    start = load_base(recipe.start) if recipe.start else None
    if start is not None:
        resize(start, size)
    if recipe.foundation is None:
        if start is not None:
            return start
        model = new_base(recipe.architecture, LABELS, seed=recipe.seed)
        if not goes_on:
            start_from_scratch(model, [examples[k] for k in range(WHITENING_SCENES)], seed=recipe.seed)
        return model
    if recipe.architecture.family != "parcelseg" or not isinstance(start, ParcelSeg | None):
        raise BaseModelError(f"a {recipe.architecture.family} takes no foundation; a parcelseg does")
    model = new_base(replace(recipe.architecture, encoder=recipe.foundation), LABELS, seed=recipe.seed)
    fill_encoder(model.encoder, foundation_weights(recipe.foundation))
    if start is not None and isinstance(model, ParcelSeg) and not goes_on:
        inherit(model, start, [examples[k] for k in range(FITTING_SCENES)])
    return model
