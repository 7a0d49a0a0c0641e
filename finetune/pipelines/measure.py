"""What a new variant is worth: it and its base on the holdout, by the segmenter that serves both; and whether it can be
served at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from finetune.contract import FinetuneRequest, Progress, Start
from finetune.datasets import Sample
from finetune.datasets.deck import Deck
from finetune.errors import TrainingError
from finetune.evaluation.calibration import best_pivot, store_pivot
from finetune.report.report import Judged
from finetune.report.service import judge, keep_best
from serving.errors import AdapterError
from serving.inference.adapter_files import VARIANT
from serving.inference.first_look import look
from serving.inference.score_calibration import LEAST, answered
from serving.inference.segmenter import Segmenter

NAME = "candidate"  # the variant's name inside this process; it gets its real one when the hub publishes it


def refuse_useless(segmenter: Segmenter) -> None:
    """Raise TrainingError for a variant that the robots' server would refuse for what it says: here somebody waits who
    can act on it, there a cell would be answered by the base."""
    if found := look(segmenter, NAME):
        raise _not_servable(found)


def _not_servable(found: str) -> TrainingError:
    return TrainingError(
        f"the variant cannot be served: {found}. Its training has diverged; train again with a lower learning rate, and"
        " look at the images' labels"
    )


def measure(
    base_dir: Path,
    variant_dir: Path,
    request: FinetuneRequest,
    deck: Deck,
    holdout: Sequence[Sample],
    report: Callable[[Progress], None],
    start: Start | None = None,
) -> tuple[Segmenter, Judged, float]:
    """Base and variant on the holdout through serving's segmenter; what is measured is what is served.

    How much of what it learnt the variant keeps is chosen here, and so is its pivot: from now on its scores are
    answered with that. Both are stored with it. Raises TrainingError for a variant that cannot be served.
    """
    repo, _, revision = request.base_ref.partition("@")
    segmenter = Segmenter.load(base_dir, base_name=f"{repo.removeprefix('base/')}@{revision}")
    try:
        segmenter.add_variant(NAME, variant_dir)
    except AdapterError as error:
        raise _not_servable(error.reason) from error

    def progress(title: str, done: int, total: int) -> None:
        report(Progress("evaluate", done, total, message=f"{title} on the holdout"))

    judged = judge(segmenter, NAME, holdout, deck, progress)
    began = None if start is None else start.folder
    kept, judged = keep_best(segmenter, NAME, variant_dir, judged, deck, progress, began)
    pivot = best_pivot(judged.truths, judged.variant)
    if pivot is None:
        refuse_useless(segmenter)
        return segmenter, judged, kept
    store_pivot(variant_dir / VARIANT, pivot)
    segmenter.add_variant(NAME, variant_dir)
    refuse_useless(segmenter)
    mine, said = (
        tuple(one.rescored(answered(one.scores, pivot)).filter(LEAST) for one in all_of)
        for all_of in (judged.variant, judged.variant_said)
    )
    return segmenter, replace(judged, variant=mine, variant_said=said), kept
