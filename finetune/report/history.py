"""A refreshed variant beside the one that it went on from, on every earlier holdout of the cell and on the new images.

The document says for each slice how both did and how far that can be told (`registry.promotion.history`), and names,
example by example, the packages that were right before and are wrong now.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from finetune.contract import Start
from finetune.datasets import Dataset, Sample
from finetune.datasets.deck import Deck
from finetune.errors import DatasetError
from finetune.evaluation.evaluate import FOUND_SCORE, collect, rounded, score
from finetune.evaluation.ground_truth import match
from finetune.refresh_plan import RefreshPlan
from finetune.report.report import gain_of
from finetune.report.service import answers_of
from registry.promotion.history import MOST_TOLERANCE, band_of, judge_history, judge_slice
from serving.inference.segmenter import Segmenter
from serving.instances import Instances

FORMAT = 1
HISTORY = "history.json"
MAX_LOST = 200
"""Examples that are listed; all are counted."""
BEFORE = "before"
_Told = Callable[[str, int, int], None]


def measure_history(
    segmenter: Segmenter,
    variant: str,
    dataset: Dataset,
    deck: Deck,
    plan: RefreshPlan,
    start: Start | None,
    progress: _Told,
) -> dict[str, Any]:
    """The history document. `segmenter` holds the new variant as `variant`; `start` None: the base is what was before.

    Raises AdapterError where `start` is none of this base.
    """
    samples = {sample.name: sample for sample in dataset.samples}
    fresh = {name for names in plan.new for name in names}
    parts = [(one.name, one.variant, [samples[name] for name in one.files]) for one in plan.slices]
    new = [samples[name] for name in deck.holdout if name in fresh]
    wanted = list({one.name: one for one in (*(s for _, _, each in parts for s in each), *new)}.values())
    if start is not None:
        segmenter.add_variant(BEFORE, start.folder)
    try:
        answers = _Answers(segmenter, variant, start is not None, deck, wanted, progress)
    finally:
        if start is not None:
            segmenter.remove_variant(BEFORE)
    slices: list[dict[str, Any]] = []
    lost: list[dict[str, Any]] = []
    lost_count = won_count = 0
    for name, judged, each in parts:
        figures = answers.figures(name, each)
        if figures is None:
            continue
        slices.append(
            figures | {"variant": judged, "verdict": judge_slice(figures, min(plan.tolerance, MOST_TOLERANCE))}
        )
        gone, won = answers.changes(name, each)
        lost_count, won_count = lost_count + len(gone), won_count + won
        lost += gone[: MAX_LOST - len(lost)]
    document: dict[str, Any] = {
        "format": FORMAT,
        "run": plan.run,
        "start": plan.start,
        "tolerance": plan.tolerance,
        "slices": slices,
        "new": answers.figures("the new labels", new),
        "lost": lost,
        "lost_count": lost_count,
        "won_count": won_count,
        "new_kinds": dict(plan.new_kinds),
        "notes": list(plan.notes),
    }
    verdict = judge_history(document)
    return rounded(document | {"told": verdict.told, "worse": list(verdict.worse), "unsure": list(verdict.unsure)})


def write_history(folder: Path, history: dict[str, Any]) -> None:
    """Write `history.json` beside a variant."""
    text = json.dumps(history, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / HISTORY).write_text(text + "\n", "utf-8")


class _Answers:
    """What both said of images, each image asked once."""

    def __init__(
        self, segmenter: Segmenter, variant: str, varied: bool, deck: Deck, samples: Sequence[Sample], progress: _Told
    ) -> None:
        self._classes = deck.answered
        self._at = {sample.name: k for k, sample in enumerate(samples)}
        # A variant answers in the team's classes, the base in its own.
        mine = {name: deck.answers[name] for name in deck.class_map}
        before = (BEFORE, mine) if varied else (None, deck.label_map)
        self._truths: list[Instances] = []
        self._said: list[list[Instances]] = []
        for title, (who, labels) in (("before", before), ("after", (variant, mine))):
            if not samples:
                break
            try:
                self._truths, found = collect(
                    answers_of(segmenter, who, deck.label_map if who is None else ()),
                    samples,
                    self._classes,
                    label_map=labels,
                    names=deck.answers,
                    progress=partial(progress, f"history, {title}"),
                )
            except DatasetError:  # no image has a package: there is nothing to compare on
                self._at = {}
                break
            self._said.append(found)

    def _of(self, samples: Sequence[Sample]) -> tuple[list[Instances], list[Instances], list[Instances]]:
        at = [self._at[sample.name] for sample in samples if sample.name in self._at]
        return tuple([each[k] for k in at] for each in (self._truths, *self._said))  # type: ignore[return-value]

    def figures(self, name: str, samples: Sequence[Sample]) -> dict[str, Any] | None:
        """AP50 before and after with the difference; None where there is no package to measure on."""
        if not self._at:
            return None
        truths, before, after = self._of(samples)
        packages = sum(map(len, truths))
        if not packages:
            return None
        names = [sample.name for sample in samples]
        old, new = (score(truths, each, self._classes, names).ap50 for each in (before, after))
        _, low, high = gain_of(truths, before, after, self._classes)["ap50"]
        return {
            "name": name,
            "images": len(samples),
            "packages": packages,
            "ap50_before": old,
            "ap50_after": new,
            "difference": new - old,
            "low": low,
            "high": high,
            "band": band_of(low, high),
        }

    def changes(self, name: str, samples: Sequence[Sample]) -> tuple[list[dict[str, Any]], int]:
        """(packages that were right before and are wrong now, the number of those that became right)."""
        lost: list[dict[str, Any]] = []
        won = 0
        for sample, truth, before, after in zip(samples, *self._of(samples), strict=True):
            had, has = ({theirs for theirs, _ in match(truth, each.filter(FOUND_SCORE))} for each in (before, after))
            won += len(has - had)
            for k in sorted(had - has):
                box = [round(float(value)) for value in truth.boxes[k]]
                lost.append({"slice": name, "image": sample.name, "label": truth.labels[k], "box": box})
        return lost, won
