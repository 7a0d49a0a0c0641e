"""The claim: how many images from scratch is one fine-tuning image of the shared base worth?

The published figure is that a base fine-tuned on 1,000 images equals a model made from 26,000. Here the same question
is put to held-out cells: from scratch on N images against LoRA and full fine-tuning on n, several seeds each, all
measured on the same held-out pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from finetune.charts import Curve, curves_chart
from finetune.datasets import Dataset, read_dataset
from finetune.errors import DeckError
from finetune.evaluate import Evaluation
from finetune.fewshot import train_and_measure, zero_shot
from finetune.scenes import HELD_OUT, write_cell
from finetune.training.adapt import Method

Metric = Literal["ap", "ap50", "ap75"]

ROWS = "rows.jsonl"
_CELL_SEED = 7_700
_HOLDOUT = 60


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """What is run. Each training takes `seconds` (or `steps`); `counts` are fine-tuning images, `scratch_counts` those
    from scratch."""

    cells: tuple[str, ...] = tuple(HELD_OUT)
    counts: tuple[int, ...] = (10, 25, 50, 100, 200, 500, 1000)
    scratch_counts: tuple[int, ...] = (40, 100, 250, 1000)
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[Method, ...] = ("lora", "full")
    seconds: float | None = 300.0
    steps: int | None = None
    holdout: int = _HOLDOUT
    size: int = 384

    @classmethod
    def quick(cls) -> ClaimPlan:
        """The same code on next to nothing; its figures mean nothing."""
        return cls(("demo",), (4, 8), (8,), (0,), seconds=None, steps=3, holdout=6, size=96)


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One trained model: its scores, with the bootstrap interval of AP75 where there is one."""

    cell: str
    method: str
    images: int
    seed: int
    steps: int
    seconds: float
    ap: float
    ap50: float
    ap75: float


@dataclass(frozen=True, slots=True)
class Claim:
    """All rows, and the two answers.

    Attributes:
        worth: for each number of fine-tuning images, how many images from scratch reach the same score, divided by it;
            None where not even the most images from scratch reach it.
        kept: LoRA's share of full fine-tuning's score, per number of images.
    """

    rows: tuple[ClaimRow, ...]
    worth: Mapping[int, float | None]
    kept: Mapping[int, float]
    metric: Metric


def run_claim(
    base_dir: Path,
    plan: ClaimPlan,
    out: Path,
    *,
    metric: Metric = "ap75",
    report: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> Claim:
    """Run the plan and write `rows.jsonl`, `claim.json` and `claim.svg` to `out`.

    A run that was interrupted goes on behind its last finished row. `report` is told (what runs, done, total).
    Raises DeckError for an unknown cell, and what a fine-tune raises.
    """
    unknown = [name for name in plan.cells if name not in HELD_OUT]
    if unknown:
        raise DeckError(f"there is no held-out cell {unknown[0]!r}; there are {', '.join(HELD_OUT)}")
    out.mkdir(parents=True, exist_ok=True)
    done = _read_rows(out / ROWS)
    work: list[tuple[str, Method | None, int, int]] = []
    for cell in plan.cells:
        work.append((cell, None, 0, 0))
        for seed in plan.seeds:
            work += [(cell, method, count, seed) for method in plan.methods for count in plan.counts]
            work += [(cell, "scratch", count, seed) for count in plan.scratch_counts]
    for number, (cell, method, count, seed) in enumerate(work):
        key = (cell, method or "zero-shot", count, seed)
        report(f"{cell}: {key[1]} {count or ''}", number, len(work))
        if key in done:
            continue
        dataset = _cell(out / "cells" / cell, cell, plan)
        if method is None:
            row = zero_shot(base_dir, dataset, images=min(plan.counts), seed=seed)
        else:
            row = train_and_measure(
                base_dir, dataset, method, images=count, seconds=plan.seconds, steps=plan.steps, seed=seed
            )
        done[key] = _row(cell, count, row.method, seed, row.steps, row.seconds, row.evaluation)
        with (out / ROWS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(done[key]), sort_keys=True) + "\n")
    report("drawing", len(work), len(work))
    claim = answer([done[cell, method or "zero-shot", count, seed] for cell, method, count, seed in work], metric)
    (out / "claim.json").write_text(json.dumps(asdict(claim), indent=2) + "\n", encoding="utf-8")
    (out / "claim.svg").write_text(draw(claim), encoding="utf-8")
    return claim


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
    full = mean.get("full", {})
    kept = {n: lora[n] / full[n] for n in lora if full.get(n)}
    return Claim(tuple(rows), worth, kept, metric)


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


def _cell(folder: Path, name: str, plan: ClaimPlan) -> Dataset:
    train = max(*plan.counts, *plan.scratch_counts)
    if not (folder / "README.md").is_file():  # written last
        share = plan.holdout / (train + plan.holdout)
        seed = _CELL_SEED + list(HELD_OUT).index(name)
        write_cell(folder, HELD_OUT[name], images=train + plan.holdout, seed=seed, size=plan.size, valid_share=share)
    return read_dataset(folder)


def _row(cell: str, images: int, method: str, seed: int, steps: int, seconds: float, e: Evaluation) -> ClaimRow:
    return ClaimRow(
        cell, method, images, seed, steps, round(seconds, 1), round(e.ap, 5), round(e.ap50, 5), round(e.ap75, 5)
    )


def _read_rows(path: Path) -> dict[tuple[str, str, int, int], ClaimRow]:
    found: dict[tuple[str, str, int, int], ClaimRow] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = ClaimRow(**json.loads(line))
            except (ValueError, TypeError):
                continue  # the half line of a run that was killed while it wrote
            found[row.cell, row.method, row.images, row.seed] = row
    return found
