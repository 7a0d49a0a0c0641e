"""A variant that was put on another base, beside the one that it takes the place of, on the cell's history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from finetune.contract import Progress, RefitFrom
from finetune.datasets import Dataset
from finetune.datasets.deck import Deck
from finetune.errors import DeckError
from finetune.evaluation.evaluate import rounded
from finetune.evaluation.past_decks import Model, PastDecks, compare, digest_of
from finetune.growth_plan import GrowthPlan
from registry.promotion.history import MOST_TOLERANCE, judge_history, judge_slice
from serving.inference.segmenter import Segmenter

FORMAT = 1
BEFORE = "before"


def refit_deck(document: bytes, dataset: Dataset, labels: Sequence[str]) -> Deck:
    """The deck of the variant that is put on another base, as it was; without images that are gone from the dataset.

    Raises DeckError where the base lacks one of its labels, or nothing is left.
    """
    deck = Deck.from_json(document)
    missing = sorted(set(deck.class_map.values()) - set(labels))
    if missing:
        raise DeckError(f"the new base has no label {', '.join(missing)}, which the cell's deck uses")
    here = {sample.name for sample in dataset.samples}
    kept = [k for k, name in enumerate(deck.train) if name in here]
    return replace(
        deck,
        train=tuple(deck.train[k] for k in kept),
        weights=tuple(deck.weights[k] for k in kept),
        holdout=tuple(name for name in deck.holdout if name in here),
    )


def refit_history(
    segmenter: Segmenter, variant: str, plan: GrowthPlan, before: RefitFrom, deck: Deck, report: Callable[..., None]
) -> dict[str, Any]:
    """The history document, as `finetune.report.history` writes it: the noise band of each slice, and its verdict.

    `segmenter` holds the new variant as `variant`. Raises AdapterError where the old one is not of its base.
    """
    past = PastDecks(before.datasets, before.decks)
    own = past.dataset((plan.judges[0].decks[0].dataset, plan.judges[0].decks[0].commit))
    learnt = {digest_of(sample) for sample in own.samples if sample.name in set(deck.train)}
    old = Segmenter.load(before.base_dir, base_name=before.base_name, slots=2)
    old.add_variant(BEFORE, before.start.folder)

    def progress(title: str, done: int, total: int) -> None:
        report(Progress("history", done, total, message=title))

    slices = []
    for each in past.slices(plan.judges[0], most=plan.per_cell, apart=learnt):
        found = compare(each, deck, Model(old, BEFORE), Model(segmenter, variant), progress)
        if found is not None:
            figures, _ = found
            verdict = judge_slice(figures, min(plan.tolerance, MOST_TOLERANCE))
            slices.append(figures | {"variant": each.name, "verdict": verdict})
    document: dict[str, Any] = {
        "format": FORMAT,
        "run": plan.run,
        "start": before.start.name,
        "tolerance": plan.tolerance,
        "slices": slices,
        "new": None,
        "lost": [],
        "lost_count": 0,
        "won_count": 0,
        "new_kinds": {},
        "notes": [f"{before.start.name} answered on {before.base_name}, its own base."],
    }
    whole = judge_history(document)
    return rounded(document | {"told": whole.told, "worse": list(whole.worse), "unsure": list(whole.unsure)})
