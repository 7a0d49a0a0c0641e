"""From a dataset and a base to a variant with its evidence: the one function behind every fine-tune.

Stages, in order: `check` (read the dataset), `deck` (split and class map), `train`, `evaluate` (base and variant on the
holdout, through the same segmenter that serves), `write` (the variant's folder).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.cards import variant_card
from finetune.contract import FinetuneRequest, FinetuneResult, Progress
from finetune.datasets import Sample, read_dataset
from finetune.deck import Deck, make_deck
from finetune.errors import TrainingError
from finetune.evaluate import Evaluation, evaluate
from finetune.model import base_labels, load_base
from finetune.training.adapt import AdaptRecipe, adapt
from finetune.training.augment import Source, fit_source
from finetune.training.loop import Tick
from serving.adapter_files import VARIANT
from serving.segmenter import Segmenter

SOURCE_SCALE = 1.5  # pictures are kept at this multiple of the model's size, so that crops have detail to show
__all__ = ["FinetuneRequest", "FinetuneResult", "Progress", "run_finetune"]

NAME = "candidate"  # the variant's name inside this process; it gets its real one when the hub publishes it


def run_finetune(
    request: FinetuneRequest,
    *,
    dataset_dir: Path,
    base_dir: Path,
    workspace: Path,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> FinetuneResult:
    """Fine-tune `request.cell`'s variant.

    `workspace` holds checkpoints: an interrupted run that is started again there goes on where it was. Raises
    DatasetError or
    DeckError before anything is trained, BaseModelError for a bad base, TrainingError when training diverges
    or is stopped.
    """
    report(Progress("check", 0, 1, message="reading the dataset"))
    dataset = read_dataset(dataset_dir)
    model = load_base(base_dir)
    labels = base_labels(model)
    report(Progress("deck", 0, 1, message=f"{len(dataset.samples)} images, classes {', '.join(dataset.classes)}"))
    deck = make_deck(
        dataset, base_labels=labels, images=request.images, seed=request.seed, dataset_ref=request.dataset_ref
    )
    train, holdout = deck.select(dataset)
    side = int(model.config.image_size * SOURCE_SCALE)
    sources = load_sources(train, deck, labels, side)

    started = time.monotonic()
    recipe = AdaptRecipe(max_seconds=request.max_seconds, seed=request.seed)
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
        model, sources, recipe, workspace / "checkpoints", weights=deck.weights, report=tick, should_stop=should_stop
    )
    if should_stop():
        raise TrainingError("stopped on request; the checkpoint stays in the workspace")
    train_seconds = time.monotonic() - started

    variant_dir = workspace / "variant"
    shutil.rmtree(variant_dir, ignore_errors=True)
    save_variant(adapted, variant_dir, request, deck)
    base_eval, variant_eval = measure(base_dir, variant_dir, request, deck, holdout, report)
    metrics: dict[str, Any] = {
        "images_train": len(train),
        "images_holdout": len(holdout),
        "base_ap": base_eval.ap,
        "base_ap50": base_eval.ap50,
        "base_ap75": base_eval.ap75,
        "variant_ap": variant_eval.ap,
        "variant_ap50": variant_eval.ap50,
        "variant_ap75": variant_eval.ap75,
        "adapter_bytes": (variant_dir / "adapter_model.safetensors").stat().st_size,
        "base_bytes": (base_dir / "model.safetensors").stat().st_size,
        "train_seconds": round(train_seconds, 1),
        "steps": losses[-1][0] if losses else 0,
        "per_class": variant_eval.per_class,
        "losses": losses,
        "left_out": list(deck.left_out),
        "warnings": list(dataset.warnings),
    }
    card = variant_card(request, recipe, deck, base_eval, variant_eval, metrics)
    (variant_dir / "README.md").write_text(card, encoding="utf-8")
    report(Progress("write", 1, 1, message="variant written"))
    return FinetuneResult(variant_dir, deck.to_json(), metrics)


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
        sources.append(fit_source(Source(sample.read_image(), truth.decode_masks()[kept], classes), side))
    return sources


def save_variant(model: Any, folder: Path, request: FinetuneRequest, deck: Deck) -> None:  # noqa: ANN401 - a PeftModel
    """Write the adapter in half precision and `variant.json`; B matrices of a small rank lose nothing that a
    mask shows.
    """
    state = {name: tensor.half() for name, tensor in _adapter_state(model).items()}
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    repo, _, revision = request.base_ref.partition("@")
    config["base_model_name_or_path"], config["revision"] = repo, revision
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    document = {
        "base": {"repo": repo, "revision": revision, "commit": request.base_commit},
        "labels": dict(sorted(deck.label_map.items())),
        "rank": config["r"],
        "deck": deck.digest,
    }
    (folder / VARIANT).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def _adapter_state(model: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}


def measure(
    base_dir: Path,
    variant_dir: Path,
    request: FinetuneRequest,
    deck: Deck,
    holdout: Sequence[Sample],
    report: Callable[[Progress], None],
) -> tuple[Evaluation, Evaluation]:
    """Evaluate base and variant on the holdout through serving's segmenter; what is measured is what is served."""
    repo, _, revision = request.base_ref.partition("@")
    segmenter = Segmenter.load(base_dir, base_name=f"{repo.removeprefix('base/')}@{revision}")
    segmenter.add_variant(NAME, variant_dir)

    def judge(variant: str | None, title: str, label_map: Mapping[str, str]) -> Evaluation:
        return evaluate(
            lambda images: segmenter.segment(images, [variant] * len(images)),
            holdout,
            classes,
            label_map=label_map,
            progress=lambda done, total: report(Progress("evaluate", done, total, message=f"{title} on the holdout")),
        )

    # Classes that no train image shows are not what this variant was asked to learn.
    classes = tuple(deck.class_map)
    # The base answers in its own labels, the variant in the team's.
    same = {team: team for team in deck.class_map}
    return judge(None, "base", deck.label_map), judge(NAME, "variant", same)
