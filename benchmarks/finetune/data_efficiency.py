"""The claim: how many images from scratch is one fine-tuning image of the shared base worth?

The published figure is that a base fine-tuned on 1,000 images equals a model made from 26,000. Here the same question
is put to held-out cells: from scratch on N images against LoRA and full fine-tuning on n, several seeds each, all
measured on the same held-out pictures. A model from scratch may have a public foundation under it: what it lacks then
is what the base learnt of packages, and not what photographs taught its encoder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np

from benchmarks.finetune.experiments import Rows, held_out_cell, own_scenes
from benchmarks.finetune.fewshot import FewShot, train_and_measure, zero_shot
from finetune.datasets import read_dataset
from finetune.errors import DeckError
from finetune.report.charts import Curve, curves_chart
from finetune.scenes import CELLS
from finetune.training.adapt import Method, recipe_for
from finetune.training.loop import Tick
from serving.families.load import family_of

Metric = Literal["ap", "ap50", "ap75", "agnostic_ap50", "agnostic_ap75"]
METRICS: tuple[Metric, ...] = get_args(Metric)

ROWS = "rows.jsonl"
RESAMPLES = 200
ZERO_SHOT, FOUNDED = "zero-shot", "founded"
_CELL_SEED = 7_700
_HOLDOUT = 60


@dataclass(frozen=True, slots=True)
class Point:
    """One model of a claim: `method` is a fine-tune's, ZERO_SHOT or FOUNDED."""

    cell: str
    method: str
    images: int
    seed: int


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """What is run. Each training takes `seconds` (or `steps`), one from scratch `scratch_times` as long; without a GPU
    seconds are CPU time, so that other work on the machine favours none. `counts` are fine-tuning images,
    `scratch_counts` those from scratch, and with a `foundation` once more those from scratch on it. `own` scenes as the
    base learnt them measure what is forgotten."""

    cells: tuple[str, ...] = ("demo", "gantry")
    counts: tuple[int, ...] = (10, 25, 50, 100, 200, 500, 1000)
    scratch_counts: tuple[int, ...] = (40, 100, 250, 1000)
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[Method, ...] = ("lora", "full")
    foundation: str | None = None
    seconds: float | None = 300.0
    steps: int | None = None
    scratch_times: float = 1.0
    holdout: int = _HOLDOUT
    own: int = 60
    size: int = 384

    @classmethod
    def quick(cls) -> ClaimPlan:
        """The same code on next to nothing; its figures mean nothing."""
        return cls(("demo",), (4, 8), (8,), (0,), seconds=None, steps=3, holdout=6, own=4, size=96)


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One trained model: its scores (`agnostic` with all classes taken as one), their 95 % bootstrap intervals over
    images, and what it still reaches on scenes as the base learnt them. `base` is the start of the SHA-256 of the
    base's weights, `budget` what training was given; a row of another base or budget is none of this run.
    """

    cell: str
    method: str
    images: int
    seed: int
    steps: int
    seconds: float
    ap: float
    ap50: float
    ap75: float
    agnostic_ap50: float
    agnostic_ap75: float
    intervals: Mapping[str, tuple[float, float]]
    own: Mapping[str, float]
    base: str = ""
    budget: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """All rows, and the answers.

    Attributes:
        worth: for each number of fine-tuning images, how many images from scratch reach the same score, divided by it;
            None where not even the most images from scratch reach it. `founded_worth`: from scratch on the foundation.
        kept: LoRA's share of full fine-tuning's score, per number of images.
        forgotten: how much of its score the base loses on its own scenes, per method and number of images.
    """

    rows: tuple[ClaimRow, ...]
    worth: Mapping[int, float | None]
    kept: Mapping[int, float]
    forgotten: Mapping[str, Mapping[int, float]]
    metric: Metric
    founded_worth: Mapping[int, float | None] = field(default_factory=dict)


def run_claim(
    base_dir: Path,
    plan: ClaimPlan,
    out: Path,
    *,
    metric: Metric = "ap75",
    report: Callable[[str, float, int], None] = lambda _what, _done, _total: None,
) -> Claim:
    """Run the plan and write `rows.jsonl`, `claim.json` and `claim.svg` to `out`.

    A run that was interrupted goes on behind its last finished row. `report` is told (what runs, done, total), done
    with the share of a training that runs. Raises DeckError for an unknown cell, and what a fine-tune raises.
    """
    unknown = [name for name in plan.cells if name not in CELLS]
    if unknown:
        raise DeckError(f"there is no held-out cell {unknown[0]!r}; there are {', '.join(CELLS)}")
    out.mkdir(parents=True, exist_ok=True)
    rows = Rows(out / ROWS)
    work = _work(plan)
    with (base_dir / "model.safetensors").open("rb") as file:
        base = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    done = {
        point: row
        for row in (ClaimRow(**stored) for stored in rows)
        for point in [Point(row.cell, row.method, row.images, row.seed)]
        if (row.base, row.budget) == (base, _budget(plan, point))
    }
    train = max(*plan.counts, *plan.scratch_counts)
    for number, point in enumerate(work):
        what = f"{point.cell}: {point.method} {point.images or ''}"
        report(what, number, len(work))
        if point in done:
            continue
        cell, count, seed = point.cell, point.images, point.seed
        place = held_out_cell(
            out / "cells" / f"{cell}-{_pictures(plan)}",
            cell,
            train=train,
            holdout=plan.holdout,
            seed=_CELL_SEED,
            size=plan.size,
        )
        scenes = own_scenes(out / f"own-{plan.own}-{plan.size}", images=plan.own, size=plan.size)
        dataset, own = read_dataset(place), read_dataset(scenes)
        if point.method == ZERO_SHOT:
            row = zero_shot(base_dir, dataset, images=min(plan.counts), seed=seed, own=own, resamples=RESAMPLES)
        else:
            method = cast("Method", "scratch" if point.method == FOUNDED else point.method)
            recipe = recipe_for(
                method,
                family_of(base_dir),
                seconds=_seconds(plan, point),
                steps=plan.steps,
                seed=seed,
                cpu_seconds=True,
            )
            if point.method == FOUNDED:
                recipe = replace(recipe, foundation=plan.foundation)

            def tick(t: Tick, what: str = what, number: int = number) -> None:
                report(what, number + min(t.progress, 1.0), len(work))

            row = train_and_measure(
                base_dir, dataset, recipe, images=count, own=own, resamples=RESAMPLES, suit=True, report=tick
            )
        done[point] = _row(point, row, base, _budget(plan, point))
        rows.add(asdict(done[point]))
    report("drawing", len(work), len(work))
    claim = answer([done[point] for point in work], metric)
    (out / "claim.json").write_text(json.dumps(asdict(claim), indent=2) + "\n", encoding="utf-8")
    (out / "claim.svg").write_text(draw(claim), encoding="utf-8")
    return claim


def _work(plan: ClaimPlan) -> list[Point]:
    """All points of a plan, in the order in which they run: a seed of all methods before the next seed."""
    work: list[Point] = []
    for cell in plan.cells:
        work.append(Point(cell, ZERO_SHOT, 0, 0))
        for seed in plan.seeds:
            work += [Point(cell, method, count, seed) for method in plan.methods for count in plan.counts]
            fresh = ("scratch", FOUNDED) if plan.foundation else ("scratch",)
            work += [Point(cell, method, count, seed) for method in fresh for count in plan.scratch_counts]
    return work


def _seconds(plan: ClaimPlan, point: Point) -> float | None:
    if plan.seconds is None or point.method not in ("scratch", FOUNDED):
        return plan.seconds
    return plan.seconds * plan.scratch_times


def _budget(plan: ClaimPlan, point: Point) -> str:
    """What a point's training is given, and which pictures, in words."""
    if point.method == ZERO_SHOT:
        return f"{_pictures(plan)}-{min(plan.counts)}-{plan.own}"
    seconds = _seconds(plan, point)
    given = f"{plan.steps} steps" if seconds is None else f"{seconds:g} s"
    under = f" on {plan.foundation}" if point.method == FOUNDED else ""
    return f"{given}{under}, {_pictures(plan)}-{plan.own}"


def _pictures(plan: ClaimPlan) -> str:
    """Which pictures a cell's are: of more train images, other scenes are held out. `size` is that of the files."""
    return f"{max(*plan.counts, *plan.scratch_counts)}-{plan.holdout}-{plan.size}"


def answer(rows: Sequence[ClaimRow], metric: Metric = "ap75") -> Claim:
    """The two answers from finished rows."""
    mean = {
        method: {
            n: float(np.mean([getattr(r, metric) for r in rows if (r.method, r.images) == (method, n)])) for n in ns
        }
        for method in sorted({r.method for r in rows})
        for ns in [sorted({r.images for r in rows if r.method == method})]
    }
    lora, scratch = mean.get("lora", {}), mean.get("scratch", {})
    worth = {n: _worth(n, value, scratch) for n, value in lora.items()} if scratch else {}
    founded = mean.get(FOUNDED, {})
    founded_worth = {n: _worth(n, value, founded) for n, value in lora.items()} if founded else {}
    full = mean.get("full", {})
    kept = {n: lora[n] / full[n] for n in lora if full.get(n)}
    return Claim(tuple(rows), worth, kept, _forgotten(rows, metric), metric, founded_worth)


def _forgotten(rows: Sequence[ClaimRow], metric: Metric) -> dict[str, dict[int, float]]:
    before = [r.own[metric] for r in rows if r.method == "zero-shot" and r.own]
    after: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row.method in ("lora", "full") and row.own:
            after.setdefault(row.method, {}).setdefault(row.images, []).append(row.own[metric])
    if not before:
        return {}
    return {m: {n: float(np.mean(before) - np.mean(v)) for n, v in sorted(of.items())} for m, of in after.items()}


def _worth(images: int, value: float, scratch: Mapping[int, float]) -> float | None:
    """Images from scratch (interpolated over their logarithm) that reach `value`, divided by `images`."""
    counts = sorted(scratch)
    # More images never hurt but by luck; a running maximum makes the curve invertible.
    best = np.maximum.accumulate([scratch[n] for n in counts])
    if value > best[-1]:
        return None
    if value <= best[0]:
        return counts[0] / images
    above = int(np.argmax(best >= value))
    low, high = best[above - 1], best[above]
    share = (value - low) / (high - low) if high > low else 1.0
    log = np.log(counts[above - 1]) * (1 - share) + np.log(counts[above]) * share
    return float(np.exp(log) / images)


def draw(claim: Claim) -> str:
    """The curve as SVG: the mean over cells and seeds, with a band of one standard error."""
    titles = {"lora": "base + LoRA", "full": "base + full fine-tuning", "scratch": "from scratch"}
    titles[FOUNDED] = "from scratch on the foundation"
    curves: dict[str, Curve] = {}
    for method, title in titles.items():
        counts = sorted({r.images for r in claim.rows if r.method == method})
        groups = [[getattr(r, claim.metric) for r in claim.rows if (r.method, r.images) == (method, n)] for n in counts]
        if groups:
            means = [float(np.mean(g)) for g in groups]
            errors = [float(np.std(g, ddof=1) / len(g) ** 0.5) if len(g) > 1 else 0.0 for g in groups]
            low, high = zip(*((m - e, m + e) for m, e in zip(means, errors, strict=True)), strict=True)
            curves[title] = Curve(counts, means, low, high)
    zero = [getattr(r, claim.metric) for r in claim.rows if r.method == "zero-shot"]
    label = claim.metric.upper()
    levels = {"base, zero-shot": float(np.mean(zero))} if zero else {}
    return curves_chart(curves, x_label="training images of the cell", y_label=f"mask {label}", levels=levels)


def _row(point: Point, row: FewShot, base: str, budget: str) -> ClaimRow:
    found = row.evaluation
    intervals = {name: (round(low, 5), round(high, 5)) for name, (low, high) in found.intervals.items()}
    scores: dict[str, float] = {name: round(getattr(found, name), 5) for name in METRICS}
    own: dict[str, float] = {name: round(getattr(row.own, name), 5) for name in METRICS} if row.own is not None else {}
    seconds = round(row.seconds, 1)
    return ClaimRow(
        point.cell,
        point.method,
        point.images,
        point.seed,
        row.steps,
        seconds,
        **scores,
        intervals=intervals,
        own=own,
        base=base,
        budget=budget,
    )
