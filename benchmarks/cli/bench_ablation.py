"""`parcelhub bench ablation`: which recipe makes the best variants."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from hub.cli.common import err, json_option, out, print_json
from hub.settings import SHIPPED


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@click.command("ablation")
@click.option("--out", "target", required=True, type=click.Path(path_type=Path), help="Rows and datasets; resumes.")
@click.option("--base", "base_dir", type=click.Path(path_type=Path, exists=True), help="The shipped base by default.")
@click.option("--recipes", default="", help="Comma-separated; all by default.")
@click.option("--cells", default="demo,robin,cardinal", show_default=True, help="Held-out cells; may be empty.")
@click.option("--data", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False), help="Datasets.")
@click.option("--images", type=click.IntRange(2), default=40, show_default=True, help="Training images.")
@click.option("--minutes", type=float, default=1.0, show_default=True, help="Training of each variant.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@json_option
def ablation(
    target: Path,
    base_dir: Path | None,
    recipes: str,
    cells: str,
    data: tuple[Path, ...],
    images: int,
    minutes: float,
    seeds: int,
    as_json: bool,
) -> None:
    """Rank, targets, rate, rehearsal and augmentation of LoRA: one change at a time, on cells no base has seen.

    \b
    Example:
      parcelhub bench ablation --out ./ablation --minutes 1
      parcelhub bench ablation --out ./rank --recipes 'as shipped,rank 4,rank 16' --cells demo --data ./dock-7
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from benchmarks.finetune.ablation import RECIPES, AblationPlan, run_ablation, table_of

    plan = AblationPlan(
        recipes=_names(recipes) or tuple(RECIPES),
        cells=_names(cells),
        seeds=tuple(range(seeds)),
        images=images,
        seconds=60 * minutes,
    )
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=None)
        rows = run_ablation(
            base_dir or SHIPPED,
            plan,
            target,
            data=data,
            report=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    out.print(table_of(rows), soft_wrap=True)
