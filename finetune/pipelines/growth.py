"""A base that grows: what one contribution is worth, and the next base, each judged on cells' past decks.

Everything of a job lies in its workspace: trainings go on from their checkpoints, and one that has ended is not done
again, whatever was killed when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune.contract import Progress
from finetune.errors import TrainingError
from finetune.evaluation.evaluate import interval, rounded
from finetune.evaluation.past_decks import Model, PastDecks, compare
from finetune.growth_plan import GrowthPlan, value_verdict
from finetune.models.model import Architecture, architecture_of, base_labels, load_base, save_base
from finetune.pipelines.base_service import calibrate_base
from finetune.report.cards import base_card
from finetune.training.base import BaseRecipe, train_base
from finetune.training.contributed import Contributed
from finetune.training.loop import Tick
from registry.promotion.history import MOST_TOLERANCE, judge_slice
from serving.inference.segmenter import Segmenter

CALIBRATION_SCENES = 24
Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Material:
    """What a job has at hand: datasets by (name, commit), deck documents by digest, and the base to go on from."""

    datasets: Mapping[tuple[str, str], Path]
    decks: Mapping[str, bytes]
    base_dir: Path
    base_name: str


@dataclass(frozen=True, slots=True)
class GrownBase:
    """The next base: its folder, and what it did where (`metrics`, as JSON values)."""

    folder: Path
    metrics: dict[str, Any]


def recipe_of(plan: GrowthPlan, material: Material, *, contributed: bool) -> BaseRecipe:
    """How a training of the plan goes: on from the base, at rates that a base which has learnt can take."""
    theirs = tuple(
        Contributed(material.datasets[(one.dataset, one.commit)], one.group, one.files) for one in plan.contributions
    )
    architecture = architecture_of(load_base(material.base_dir), Architecture())
    return BaseRecipe(
        architecture=architecture,
        start=material.base_dir,
        max_steps=plan.steps,
        batch_size=plan.batch,
        learning_rate=2e-4,
        muon_rate=0.002,
        average=0.98,
        seed=plan.seed,
        workers=0,
        save_steps=max(10, plan.steps // 10),
        report_every=5,
        contributed=theirs if contributed else (),
        contributed_share=plan.share,
    )


def run_value_test(
    plan: GrowthPlan,
    material: Material,
    workspace: Path,
    *,
    report: Report,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train the base with the contribution and without, the same seeds and steps, and compare both zero-shot on cells
    that it is not from. Returns the verdict with its interval, and the figures of each cell.

    Raises DatasetError for a contribution that cannot be learnt from, TrainingError on divergence and when stopped.
    """
    folders = []
    for number, (name, contributed) in enumerate((("without", False), ("with", True))):
        recipe = recipe_of(plan, material, contributed=contributed)
        folders.append(_trained(recipe, workspace / name, report, should_stop, f"training {name} it", number, 2))
    before, after = (Segmenter.load(folder, slots=2) for folder in folders)
    cells, drawn = judged_cells(plan, material, before, after, report, should_stop)
    if not cells:
        told = "No other cell has a holdout that could tell."
        return {"verdict": "unsure", "difference": 0.0, "low": 0.0, "high": 0.0, "cells": [], "told": told}
    values = np.mean(np.stack(drawn), axis=0)
    low, high = interval(values)
    difference = float(np.mean([one["difference"] for one in cells]))
    verdict = value_verdict(low, high)
    words = {"helps": "It helps", "unsure": "The test does not tell whether it helps", "hurts": "It hurts"}[verdict]
    images = sum(one["images"] for one in cells)
    told = (
        f"{words}: AP50 {difference:+.3f} ({low:+.3f} to {high:+.3f}), zero-shot on {images} pictures of {len(cells)}"
        f" other cell{'' if len(cells) == 1 else 's'}, after {plan.steps} steps with it and without"
    )
    found = {"verdict": verdict, "difference": difference, "low": low, "high": high, "cells": cells, "told": told}
    return dict(rounded(found))


def grow_base(
    plan: GrowthPlan,
    material: Material,
    workspace: Path,
    *,
    report: Report,
    should_stop: Callable[[], bool] = lambda: False,
) -> GrownBase:
    """Train the next base from the present one, calibrate it, and judge both zero-shot on every cell's past decks.

    Raises as `run_value_test`.
    """
    recipe = recipe_of(plan, material, contributed=True)
    folder = _trained(recipe, workspace / "next", report, should_stop, "training the next base", 0, 1)
    if not (folder / "calibrated").exists():
        report(Progress("calibrate", 0, 1, message="finding the score at which it does best"))
        calibrate_base(folder, scenes=CALIBRATION_SCENES)
        (folder / "calibrated").touch()
    before = Segmenter.load(material.base_dir, base_name=material.base_name, slots=2)
    cells, drawn = judged_cells(plan, material, before, Segmenter.load(folder, slots=2), report, should_stop)
    metrics: dict[str, Any] = {"cells": cells, "contributions": [one.id for one in plan.contributions]}
    if drawn:
        low, high = interval(np.mean(np.stack(drawn), axis=0))
        difference = float(np.mean([one["difference"] for one in cells]))
        metrics |= {"difference": difference, "low": low, "high": high}
    ticks = json.loads((workspace / "next" / "ended.json").read_text())
    card = base_card(recipe, base_labels(load_base(folder)), [], steps=ticks["steps"], seconds=ticks["seconds"])
    (folder / "README.md").write_text(_with_credits(card, plan), "utf-8")
    return GrownBase(folder, dict(rounded(metrics)))


def judged_cells(
    plan: GrowthPlan,
    material: Material,
    before: Segmenter,
    after: Segmenter,
    report: Report,
    should_stop: Callable[[], bool],
) -> tuple[list[dict[str, Any]], list[Any]]:
    """(what became of each cell's history under two bases zero-shot, float64 [R] differences of each)."""
    past = PastDecks(material.datasets, material.decks)
    cells: list[dict[str, Any]] = []
    drawn: list[Any] = []

    def progress(title: str, done: int, total: int) -> None:
        _stop(should_stop)
        report(Progress("judge", done, total, message=f"zero-shot on {title}"))

    for each in plan.judges:
        slices, mine = [], []
        for one in past.slices(each, most=max(1, plan.per_cell // max(1, len(each.decks)))):
            found = compare(one, one.deck, Model(before), Model(after), progress)
            if found is not None:
                verdict = judge_slice(found[0], min(plan.tolerance, MOST_TOLERANCE))
                slices.append(found[0] | {"verdict": verdict})
                mine.append(found[1])
        if not slices:
            continue
        values = np.mean(np.stack(mine), axis=0)
        low, high = interval(values)
        difference = float(np.mean([one["difference"] for one in slices]))
        images = sum(one["images"] for one in slices)
        cells.append({"cell": each.cell, "images": images, "difference": difference, "low": low, "high": high,
                      "slices": slices})  # fmt: skip
        drawn.append(values)
    return cells, drawn


def _trained(
    recipe: BaseRecipe, place: Path, report: Report, should_stop: Callable[[], bool], title: str, number: int, of: int
) -> Path:
    """The folder of a base that was trained; one that has ended before is taken as it is."""
    done, folder = place / "ended.json", place / "base"
    if done.exists():
        return folder
    last: list[Tick] = []

    def tick(t: Tick) -> None:
        last[:] = [t]
        share = (number + t.progress) / of
        note = f"{title}: step {t.step} of {recipe.max_steps}, loss {t.loss:.2f}"
        report(Progress("train", round(1000 * share), 1000, t.images_per_second, t.eta_seconds, note))

    model = train_base(recipe, place / "checkpoints", report=tick, should_stop=should_stop)
    _stop(should_stop)
    save_base(model, folder, card="")
    ended = {"steps": last[-1].step if last else recipe.max_steps, "seconds": last[-1].seconds if last else 0.0}
    draft = place / ".ended.json"
    draft.write_text(json.dumps(ended))
    draft.replace(done)
    return folder


def _stop(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise TrainingError("stopped on request; the checkpoint stays in the workspace")


def _with_credits(card: str, plan: GrowthPlan) -> str:
    """The card, which everybody reads, says how much was contributed and not by whom: some datasets are private."""
    count = len(plan.contributions)
    images = sum(len(one.files) for one in plan.contributions)
    line = f"Of all pictures {plan.share:.0%} were of {images:,} contributed ones ({count} contributions), by turns."
    return card.replace("## How good it is", f"{line}\n\n## How good it is", 1)
