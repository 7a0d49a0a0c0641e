"""`parcelhub bench bakeoff`: which family makes the best base in the same time."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import rich_click as click

from hub.cli.common import err, json_option, out, print_json


@click.command("bakeoff")
@click.option(
    "--out", "target", required=True, type=click.Path(path_type=Path), help="Bases and bakeoff.json; resumes."
)
@click.option("--minutes", type=float, default=12.0, show_default=True, help="Training of each family from scratch.")
@click.option(
    "--lora-minutes", type=float, default=2.0, show_default=True, help="LoRA of each family on a held-out cell."
)
@click.option("--families", default="", help="Comma-separated; all by default.")
@click.option("--seed", type=int, default=1, show_default=True)
@json_option
def bakeoff(target: Path, minutes: float, lora_minutes: float, families: str, seed: int, as_json: bool) -> None:
    """Every family of networks from random weights for the same time, judged on the held-out cells.

    \b
    Example:
      parcelhub bench bakeoff --minutes 12 --out ./bakeoff
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from benchmarks.finetune.bakeoff import BakeOffPlan, run_bakeoff, table_of

    plan = BakeOffPlan(seconds=minutes * 60, lora_seconds=lora_minutes * 60, seed=seed)
    if families:
        plan = replace(plan, families=tuple(name.strip() for name in families.split(",")))
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=1.0)
        rows = run_bakeoff(plan, target, report=lambda what, share: bar.update(task, description=what, completed=share))
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    out.print(table_of(rows), soft_wrap=True)
