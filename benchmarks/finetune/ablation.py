"""The recipe of a variant by evidence: one thing changed at a time, the same images, the same time, several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.finetune.experiments import Row, Rows, held_out_cell, own_scenes
from benchmarks.finetune.fewshot import train_and_measure, zero_shot
from finetune.datasets import Dataset, read_dataset
from finetune.errors import DeckError
from finetune.scenes import CELLS, HELD_OUT
from finetune.training.adapt import AdaptRecipe, recipe_for
from finetune.training.augment import Strength

ROWS = "ablation.jsonl"
_CELL_SEED = 8_900

LORA = recipe_for("lora", seconds=None)
MILD = Strength(plain=0.5, mosaic=0.0, paste=0.1, crop_area=(0.5, 1.0), zoom_out=0.1, brightness=0.25, contrast=0.2)
_PLAIN = Strength(plain=1.0, mosaic=0, paste=0, brightness=0, contrast=0, saturation=0, hue=0, blur=0, noise=0)

_STEM = r"(patch|stem)_embedding|stem\.\d+\.conv"
_PYRAMID = r"mix[48]\.conv|(class|shape)_tower\.\d+\.conv|(widen|lateral)[48]|prototypes"
_HEADS = r"class_predictor|box_head|mask_head"
_TRANSFORMER = r"layers\.\d+\.(attention\.(qkv|out_proj)|fc[12])"

RECIPES: Mapping[str, AdaptRecipe] = {
    "as shipped": LORA,
    "rank 4": replace(LORA, rank=4, alpha=8),
    "rank 16": replace(LORA, rank=16, alpha=32),
    "rate 5e-3": replace(LORA, learning_rate=5e-3),
    "rate 2e-2": replace(LORA, learning_rate=2e-2),
    "transformer and heads at 3e-3": replace(LORA, targets=f"{_TRANSFORMER}|{_HEADS}", learning_rate=3e-3),
    "transformer beside": replace(LORA, targets=f"{_STEM}|{_PYRAMID}|{_HEADS}|{_TRANSFORMER}"),
    "no stem": replace(LORA, targets=f"{_PYRAMID}|{_HEADS}"),
    "stem and heads": replace(LORA, targets=f"{_STEM}|{_HEADS}"),
    "heads alone": replace(LORA, targets=_HEADS),
    "rehearsal 25 %": replace(LORA, rehearsal=0.25),
    "no mosaic or paste": replace(LORA, strength=Strength(mosaic=0.0, paste=0.0)),
    "mild augmentation": replace(LORA, strength=MILD),
    "no augmentation": replace(LORA, strength=_PLAIN),
    "full fine-tuning": recipe_for("full", seconds=None),
}
"""What is compared, each with the shipped recipe in all but what its name says."""


@dataclass(frozen=True, slots=True)
class AblationPlan:
    """Each of `recipes` takes `seconds` (or `steps`; without a GPU seconds of CPU time) on `images` of each cell with
    each seed."""

    recipes: tuple[str, ...] = tuple(RECIPES)
    cells: tuple[str, ...] = tuple(HELD_OUT)
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 40
    seconds: float | None = 60.0
    steps: int | None = None
    holdout: int = 60
    size: int = 384


@dataclass(frozen=True, slots=True)
class AblationRow:
    """One trained variant: AP, AP50 and AP75 on the cell's holdout (`found`) and on scenes as the base learnt them
    (`own`)."""

    recipe: str
    cell: str
    seed: int
    steps: int
    found: tuple[float, float, float]
    own: tuple[float, float, float]


def run_ablation(
    base_dir: Path,
    plan: AblationPlan,
    out: Path,
    *,
    data: Sequence[Path] = (),
    report: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> list[AblationRow]:
    """Run the plan, on the datasets `data` beside the cells; `out` gets a line per finished variant, behind the last of
    which an interrupted run goes on. The first rows are the base alone. Raises DeckError for an unknown recipe or cell,
    and what a fine-tune raises.
    """
    for kind, names, known in (("recipe", plan.recipes, RECIPES), ("cell", plan.cells, CELLS)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise DeckError(f"there is no {kind} {unknown[0]!r}; there are {', '.join(known)}")
    out.mkdir(parents=True, exist_ok=True)
    rows = Rows(out / ROWS)
    done = {(row.recipe, row.cell, row.seed): row for row in map(_row, rows)}
    # Twice the images: each seed picks its own.
    sizes = {"train": 2 * plan.images, "holdout": plan.holdout, "size": plan.size, "seed": _CELL_SEED}
    places = {name: held_out_cell(out / "cells" / name, name, **sizes) for name in plan.cells}
    datasets = {name: read_dataset(place) for name, place in {**places, **{d.name: d for d in data}}.items()}
    own = read_dataset(own_scenes(out / "own", images=plan.holdout, size=plan.size))
    work = [("base alone", name, 0) for name in datasets]
    # Seeds outermost: a run cut short has all recipes with fewer seeds.
    work += [(recipe, name, seed) for seed in plan.seeds for name in datasets for recipe in plan.recipes]
    for number, key in enumerate(work):
        report(f"{key[0]}, {key[1]}", number, len(work))
        if key not in done:
            done[key] = _run(base_dir, plan, key, datasets[key[1]], own)
            rows.add(asdict(done[key]))
    report("done", len(work), len(work))
    return [done[key] for key in work]


def _run(base_dir: Path, plan: AblationPlan, key: tuple[str, str, int], dataset: Dataset, own: Dataset) -> AblationRow:
    name, cell, seed = key
    if name == "base alone":
        row = zero_shot(base_dir, dataset, images=plan.images, seed=seed, own=own)
    else:
        recipe = replace(RECIPES[name], max_seconds=plan.seconds, seed=seed, cpu_seconds=True)
        if plan.steps is not None:
            recipe = replace(recipe, max_steps=plan.steps)
        row = train_and_measure(base_dir, dataset, recipe, images=plan.images, own=own)
    found, kept = (
        (0.0, 0.0, 0.0) if e is None else (round(e.ap, 5), round(e.ap50, 5), round(e.ap75, 5))
        for e in (row.evaluation, row.own)
    )
    return AblationRow(name, cell, seed, row.steps, found, kept)


def table_of(rows: Sequence[AblationRow]) -> str:
    """Markdown: the mean over places and seeds, and what the recipe adds to the shipped one place by place and seed by
    seed (mean, and the standard error of that mean), since the same holdout and images make such pairs comparable."""
    shipped = {(row.cell, row.seed): row for row in rows if row.recipe == "as shipped"}
    lines = [
        "| recipe | variants | AP | AP50 | AP75 | AP75 beside the shipped one | AP75 on the base's own scenes |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.recipe for row in rows):
        of = [row for row in rows if row.recipe == name]
        ap, ap50, ap75 = (statistics.fmean(row.found[k] for row in of) for k in range(3))
        gains = [r.found[2] - shipped[r.cell, r.seed].found[2] for r in of if (r.cell, r.seed) in shipped]
        beside = f"{statistics.fmean(gains):+.3f}" if gains and name not in ("as shipped", "base alone") else ""
        if beside and len(gains) > 1:
            beside += f" ± {statistics.stdev(gains) / len(gains) ** 0.5:.3f}"
        own = statistics.fmean(row.own[2] for row in of)
        lines.append(f"| {name} | {len(of)} | {ap:.3f} | {ap50:.3f} | {ap75:.3f} | {beside} | {own:.3f} |")
    return "\n".join(lines)


def _row(stored: Row) -> AblationRow:
    return AblationRow(**stored | {name: tuple(stored[name]) for name in ("found", "own")})
