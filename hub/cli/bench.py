"""`parcelhub bench`: figures that a person can make again, each beside what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import err, json_option, out, print_json, table
from hub.settings import SHIPPED

if TYPE_CHECKING:
    from finetune.training.loop import Tick


@click.group()
def bench() -> None:
    """Benchmarks: the generator's speed, and what the shared base is worth."""


@bench.command("fewshot")
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--base", "base_dir", type=click.Path(path_type=Path, exists=True), help="The shipped base by default.")
@click.option("--images", type=int, default=40, show_default=True, help="Training images.")
@click.option("--minutes", type=float, default=5.0, show_default=True, help="Training time of each method.")
@click.option("--seeds", type=int, default=1, show_default=True, help="How many seeds.")
@click.option("--methods", default="lora,full,scratch", show_default=True, help="Comma-separated: lora, full, scratch.")
@json_option
def fewshot(
    data: Path, base_dir: Path | None, images: int, minutes: float, seeds: int, methods: str, as_json: bool
) -> None:
    """LoRA on the base, full fine-tuning and training from scratch: same images, same time, same holdout.

    \b
    Example:
      parcelhub bench fewshot --data ./dock-7 --images 40 --minutes 5
    """
    from finetune.fewshot import compare_methods, parse_methods

    chosen = parse_methods(methods)
    rounds = seeds * len(chosen)

    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("zero-shot", total=float(rounds))
        done: list[str] = []

        def report(method: str, tick: Tick) -> None:
            bar.update(task, description=method, completed=len(done) + tick.progress)
            if tick.progress >= 1.0:
                done.append(method)

        rows = compare_methods(
            data=data,
            base_dir=base_dir or SHIPPED,
            images=images,
            seconds=60 * minutes,
            methods=chosen,
            seeds=range(seeds),
            report=report,
        )
    if as_json:
        print_json(
            [
                {"method": r.method, "seed": r.seed, "steps": r.steps, "ap": r.evaluation.ap, "ap50": r.evaluation.ap50}
                | {"ap75": r.evaluation.ap75, "images_train": images, "images_holdout": r.evaluation.images}
                for r in rows
            ]
        )
        return
    shown = table(f"{images} images, {minutes:g} minutes each", "method", "seed", "steps", "AP", "AP50", "AP75")
    for row in rows:
        found = row.evaluation
        shown.add_row(
            row.method, str(row.seed), str(row.steps), *(f"{v:.3f}" for v in (found.ap, found.ap50, found.ap75))
        )
    out.print(shown)


@bench.command("scenes")
@click.option("--size", type=int, default=256, show_default=True, help="Pixels a side.")
@click.option("--count", type=int, default=300, show_default=True)
@json_option
def scenes(size: int, count: int, as_json: bool) -> None:
    """How many scenes a second one core makes.

    \b
    Example:
      parcelhub bench scenes --size 256
    """
    from finetune.scenes.speed import measure_speed

    found = measure_speed(size=size, count=count)
    if as_json:
        print_json(found)
        return
    rate, packages = found["images_per_second"], found["instances"]
    out.print(f"{rate:.0f} scenes/s of {size} pixels on one core, {packages:.1f} packages each")
