"""From a dataset and a base to a variant with its evidence: the one function behind every fine-tune.

Stages, in order: `check` (read the dataset), `deck` (split and class map), `train`, `evaluate` (base and variant on the
holdout, through the same segmenter that serves), `curve` (short trainings on fewer images, where the budget has room),
`report` (what was learnt and forgotten, in words and pictures), `write` (the variant's folder).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.contract import Earlier, FinetuneRequest, FinetuneResult, Progress, RefitFrom, Start
from finetune.curation.reference import MAX_PICTURES, build_reference
from finetune.datasets import Dataset, Sample, read_dataset
from finetune.datasets.deck import Deck, make_deck
from finetune.datasets.nesting import labels_nest
from finetune.datasets.refresh_deck import refresh_deck
from finetune.errors import TrainingError
from finetune.evaluation.learning_curve import LearningCurve, budget, measure_curve
from finetune.evaluation.weight_interpolation import scale_adapter
from finetune.models.model import base_labels, load_base, picture_size
from finetune.pipelines.cell_recipe import size_for, suited
from finetune.pipelines.measure import NAME, measure
from finetune.pipelines.variant_files import save_variant
from finetune.refresh_plan import RefreshPlan
from finetune.report.cards import variant_card
from finetune.report.history import measure_history, write_history
from finetune.report.refit_history import refit_deck, refit_history
from finetune.report.report import Judged, evaluations
from finetune.report.service import Measured, Stopwatch, short_training, write_report
from finetune.training.adapt import AdaptRecipe, adapt, recipe_for
from finetune.training.augment import Source, fit_source
from finetune.training.loop import Tick
from finetune.training.picture_sizes import source_side
from serving.errors import BaseError
from serving.inference.embeddings import Embedder
from serving.inference.segmenter import Segmenter

__all__ = ["FinetuneRequest", "FinetuneResult", "Progress", "run_finetune"]


def run_finetune(
    request: FinetuneRequest,
    *,
    dataset_dir: Path,
    base_dir: Path,
    workspace: Path,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool] = lambda: False,
    earlier: Earlier | None = None,
    start: Start | None = None,
    refit: RefitFrom | None = None,
) -> FinetuneResult:
    """Fine-tune `request.cell`'s variant; `earlier` is what the report compares with.

    With `request.refresh` the dataset is that of a refresh: its plan deals the deck, training goes on from `start`
    (without it from the base), no learning curve is drawn, and `history.json` says what became of earlier holdouts.

    With `request.refit` the deck is that of `refit`, and `history.json` compares with the variant that it replaces.

    `workspace` holds checkpoints: an interrupted run that is started again there goes on where it was. Raises
    DatasetError or DeckError before anything is trained, BaseModelError for a bad base, TrainingError when training
    diverges or is stopped.
    """
    watch = Stopwatch()
    report(Progress("check", 0, 1, message="reading the dataset"))
    with watch("check"):
        dataset = read_dataset(dataset_dir)
    model = load_base(base_dir)
    labels = base_labels(model)
    report(Progress("deck", 0, 1, message=f"{len(dataset.samples)} images, classes {', '.join(dataset.classes)}"))
    plan = RefreshPlan.read(dataset_dir) if request.refresh else None
    if plan is not None:
        request = replace(request, curve_share=0.0)
        deck = refresh_deck(dataset, plan, base_labels=labels, seed=request.seed, dataset_ref=request.dataset_ref)
    elif refit is not None:
        request = replace(request, curve_share=0.0)
        deck = refit_deck(refit.deck_json, dataset, labels)
    else:
        deck = make_deck(
            dataset,
            base_labels=labels,
            images=request.images,
            seed=request.seed,
            class_map=request.class_map,
            dataset_ref=request.dataset_ref,
        )
    train, holdout = deck.select(dataset)
    size = size_for(model, request, train, start)
    sources = load_sources(train, deck, labels, source_side(size, train))

    seconds_each = budget(request.max_seconds, len(sources), share=request.curve_share)
    main_seconds = request.max_seconds * (1 - request.curve_share) if seconds_each else request.max_seconds
    recipe = recipe_for("lora", str(model.config.model_type), seconds=main_seconds, seed=request.seed)
    recipe = replace(recipe, image_size=size)
    known: float | None = None
    if start is None:
        with watch("knowledge"):
            recipe, known = suited(recipe, model, train, deck, size=size)
    disjoint = not labels_nest(train, deck.class_map)
    started = time.monotonic()
    losses: list[tuple[int, float]] = []

    def tick(t: Tick) -> None:
        losses.append((t.step, round(t.loss, 4)))
        report(
            Progress(
                "train",
                round(1000 * t.progress),
                1000,
                t.images_per_second,
                t.eta_seconds,
                f"step {t.step}, loss {t.loss:.3f}",
                {"loss": t.loss},
            )
        )

    adapted = adapt(
        model,
        sources,
        recipe,
        workspace / "checkpoints",
        weights=deck.weights,
        report=tick,
        should_stop=should_stop,
        start=None if start is None else start.folder,
    )
    _stop_if_asked(should_stop)
    train_seconds = time.monotonic() - started
    watch.seconds["train"] = round(train_seconds, 1)

    variant_dir = workspace / "variant"
    shutil.rmtree(variant_dir, ignore_errors=True)
    save_variant(adapted, variant_dir, request, deck, size=size, disjoint=disjoint)
    with watch("evaluate"):
        segmenter, judged, kept = measure(base_dir, variant_dir, request, deck, holdout, report, start)
        base_eval, variant_eval = evaluations(judged)
    history = None
    if plan is not None:
        with watch("history"):
            history = _history(segmenter, variant_dir, dataset, deck, plan, start, report)
    elif refit is not None and request.refit is not None:
        with watch("history"):
            history = refit_history(segmenter, NAME, request.refit, refit, deck, report)
            write_history(variant_dir, history)
    curve, curve_note = None, _why_no_curve(request, len(sources))
    if seconds_each and not kept:
        curve_note = (
            "No learning curve: the variant keeps nothing of what it learnt, and neither would shorter trainings."
        )
    elif seconds_each:
        with watch("curve"):
            curve = _curve(
                request,
                recipe,
                disjoint,
                base_dir,
                workspace,
                sources,
                deck,
                segmenter,
                judged,
                kept,
                report,
                should_stop,
            )
        curve_note = (
            f"Each point is one training of {seconds_each:.0f} s on evenly spread images, shorter than the variant's "
            "own; all are judged on the same holdout. The band is the holdout's uncertainty; another seed's would come "
            "on top."
        )
    metrics: dict[str, Any] = {
        "images_train": len(train),
        "images_holdout": len(holdout),
        "score_pivot": segmenter.pivot(NAME),
        "kept_share": kept,
        "image_size": size if kept or start is not None else picture_size(model),
        "base_known": known,
        "base_ap": base_eval.ap,
        "base_ap50": base_eval.ap50,
        "base_ap75": base_eval.ap75,
        "variant_ap": variant_eval.ap,
        "variant_ap50": variant_eval.ap50,
        "variant_ap75": variant_eval.ap75,
        "base_agnostic_ap50": base_eval.agnostic_ap50,
        "variant_agnostic_ap50": variant_eval.agnostic_ap50,
        "adapter_bytes": (variant_dir / "adapter_model.safetensors").stat().st_size,
        "base_bytes": (base_dir / "model.safetensors").stat().st_size,
        "train_seconds": round(train_seconds, 1),
        "steps": losses[-1][0] if losses else 0,
        "per_class": variant_eval.per_class,
        "losses": losses,
        "left_out": list(deck.left_out),
        "warnings": list(dataset.warnings),
    }
    with watch("reference"):
        metrics["novelty_reference"] = write_reference(base_dir, variant_dir, request, deck, [*train, *holdout])
    facts = write_report(
        Measured(segmenter, NAME, deck, dataset, judged, base_eval, variant_eval),
        variant_dir,
        cell=request.cell,
        recipe=_made_of(request, recipe, deck, metrics, variant_dir, base_dir, start),
        losses=losses,
        curve=curve,
        curve_note=curve_note,
        earlier=earlier,
        watch=watch,
        report=report,
        history=history,
    )
    if history is not None:
        # The examples stay in the report: decisions go by the slices.
        metrics["history"] = {name: value for name, value in history.items() if name != "lost"}
    metrics |= facts["measured"]  # what the verdict and a promotion ask
    metrics |= {name: facts[name] for name in ("verdict", "reason", "next_step", "against_base", "seconds")}
    metrics["summary"] = facts["sentences"]
    card = variant_card(request, recipe, deck, base_eval, variant_eval, metrics)
    (variant_dir / "README.md").write_text(card, encoding="utf-8")
    report(Progress("write", 1, 1, message="variant written"))
    return FinetuneResult(variant_dir, deck.to_json(), metrics)


def _history(
    segmenter: Segmenter,
    variant_dir: Path,
    dataset: Dataset,
    deck: Deck,
    plan: RefreshPlan,
    start: Start | None,
    report: Callable[[Progress], None],
) -> dict[str, Any]:
    """What became of the cell's history; it is written beside the variant."""

    def progress(title: str, done: int, total: int) -> None:
        report(Progress("history", done, total, message=title))

    history = measure_history(segmenter, NAME, dataset, deck, plan, start, progress)
    write_history(variant_dir, history)
    return history


def write_reference(
    base_dir: Path, variant_dir: Path, request: FinetuneRequest, deck: Deck, samples: Sequence[Sample]
) -> bool:
    """Write what the deck's packages look like to the base beside the variant, for novelty; whether that could be."""
    repo, _, revision = request.base_ref.partition("@")
    try:
        embedder = Embedder.load(base_dir, base_name=f"{repo.removeprefix('base/')}@{revision}")
    except BaseError:
        return False  # of a family that has no embeddings to offer
    step = -(-len(samples) // MAX_PICTURES)
    pictures = ((one.read_image(), one.truth()) for one in samples[:: max(step, 1)])
    return build_reference(embedder, pictures, variant_dir, deck=deck.digest) is not None


def _stop_if_asked(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise TrainingError("stopped on request; the checkpoint stays in the workspace")


def _why_no_curve(request: FinetuneRequest, images: int) -> str:
    return (
        f"No learning curve: {images} images and {request.max_seconds:.0f} s are too little for short trainings on "
        "parts of them."
    )


def _curve(
    request: FinetuneRequest,
    recipe: AdaptRecipe,
    disjoint: bool,
    base_dir: Path,
    workspace: Path,
    sources: Sequence[Source],
    deck: Deck,
    segmenter: Segmenter,
    judged: Judged,
    kept: float,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> LearningCurve:
    """Short trainings on nested subsets, each from the base anew; they keep as much as the variant does."""

    def train(chosen: Sequence[int], seconds: float) -> tuple[float, npt.NDArray[np.float64]]:
        title = f"a short training on {len(chosen)} images, for the learning curve"

        def tick(t: Tick) -> None:
            report(Progress("curve", round(1000 * t.progress), 1000, t.images_per_second, t.eta_seconds, title))

        place = workspace / f"curve-{len(chosen)}"
        shutil.rmtree(place, ignore_errors=True)
        short = adapt(
            load_base(base_dir),
            [sources[k] for k in chosen],
            replace(recipe, max_seconds=seconds),
            place / "checkpoints",
            weights=[deck.weights[k] for k in chosen],
            report=tick,
            should_stop=should_stop,
        )
        _stop_if_asked(should_stop)
        save_variant(short, place / "variant", request, deck, size=recipe.image_size, disjoint=disjoint)
        scale_adapter(place / "variant", kept)
        try:
            return short_training(segmenter, place / "variant", judged, deck)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    seconds = budget(request.max_seconds, len(sources), share=request.curve_share)
    return measure_curve(len(sources), seconds or 0.0, train, keep=workspace / "curve")


def _made_of(
    request: FinetuneRequest,
    recipe: AdaptRecipe,
    deck: Deck,
    metrics: Mapping[str, Any],
    variant_dir: Path,
    base_dir: Path,
    start: Start | None,
) -> dict[str, Any]:
    """All that decides about the variant: names, digests, seeds and settings."""
    return {
        "base": request.base_ref,
        "base_commit": request.base_commit,
        "base_weights_sha256": _sha256(base_dir / "model.safetensors"),
        "dataset": request.dataset_ref,
        "deck_sha256": deck.digest,
        "adapter_sha256": _sha256(variant_dir / "adapter_model.safetensors"),
        "images_train": metrics["images_train"],
        "images_holdout": metrics["images_holdout"],
        "steps": metrics["steps"],
        "train_seconds": metrics["train_seconds"],
        "max_seconds": recipe.max_seconds,
        "method": recipe.method,
        "rank": recipe.rank,
        "alpha": recipe.alpha,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "rehearsal": recipe.rehearsal,
        "weight_decay": recipe.weight_decay,
        "average": recipe.average,
        "kept_share": metrics["kept_share"],
        "image_size": metrics["image_size"],
        "seed": request.seed,
        "class_map": json.dumps(dict(deck.class_map), ensure_ascii=False, sort_keys=True),
    } | ({"base_known": metrics["base_known"]} if start is None else {"start": start.name})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_sources(samples: Sequence[Sample], deck: Deck, labels: Sequence[str], side: int) -> list[Source]:
    """Training pictures in memory, long edge at most `side` pixels, classes as indices into the base's `labels`.

    Instances of classes that the deck leaves out are dropped.
    """
    index = {label: k for k, label in enumerate(labels)}
    sources: list[Source] = []
    for sample in samples:
        truth = sample.truth()
        mapped = [deck.class_map.get(name) for name in truth.labels]
        kept = np.array([label is not None for label in mapped], np.bool_)
        classes = np.array([index[label] for label in mapped if label is not None], np.int64)
        boxed = np.array(sample.box_only, np.bool_)[kept]
        masks = truth.decode_masks()[kept]
        source = Source(sample.read_image(), masks, classes, boxed if boxed.any() else None)
        sources.append(fit_source(source, side))
    return sources
