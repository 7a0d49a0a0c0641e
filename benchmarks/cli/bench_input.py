"""`parcelhub bench input`: does the input of a base's training keep up?"""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from benchmarks.cli.bench_common import json_file, say, write_figures
from hub.cli.base import hidden_size_option, layers_option, written_option
from hub.cli.common import out, table


@click.command("input")
@click.option("--steps", type=click.IntRange(2), default=40, show_default=True, help="Steps of the loop.")
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True)
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Processes that make scenes.")
@click.option("--threads", type=click.IntRange(1), help="Of the training process; torch's choice by default.")
@hidden_size_option
@layers_option
@click.option("--image-size", type=click.IntRange(32), default=256, show_default=True, help="Pixels a side.")
@written_option
@json_file
def bench_input(
    steps: int,
    batch_size: int,
    workers: int,
    threads: int | None,
    hidden_size: int,
    layers: int,
    image_size: int,
    written: tuple[Path, ...],
    target: Path | None,
) -> None:
    """Images a second of the whole training loop against forward and backward alone on a cached batch.

    \b
    Example:
      parcelhub bench input --threads 1 --workers 1 --json input.json
    """
    from dataclasses import asdict

    import torch

    from benchmarks.finetune.input_speed import measure_input
    from finetune.models.model import Architecture
    from finetune.training.base import BaseRecipe

    if threads is not None:
        torch.set_num_threads(threads)
    heads = max(1, hidden_size // 32)
    architecture = Architecture(image_size=image_size, hidden_size=hidden_size, layers=layers, heads=heads)
    recipe = BaseRecipe(architecture=architecture, batch_size=batch_size, workers=workers, written=written)
    found = measure_input(recipe, steps=steps, report=say)
    facts = asdict(found) | {"ratio": found.ratio, "overhead_ms": found.overhead_ms, "steps": steps}
    write_figures(facts, target)
    rows = table("CPU ms an image", "part", "ms", "where")
    loaders = {"scene", "collate"}
    for name, value in found.parts_ms.items():
        rows.add_row(name, f"{value:.2f}", "loader process" if name in loaders else "training process")
    rows.add_row("all of the training process", f"{found.trainer_ms:.2f}", "")
    rows.add_row("of it the Trainer and receiving batches", f"{found.overhead_ms:.2f}", "")
    out.print(rows)
    out.print(
        f"loop {found.loop:.2f} images/s, forward and backward alone {found.alone:.2f}: ratio {found.ratio:.3f}; "
        f"{found.waited:.1%} of the loop's time waiting for batches ({found.threads} threads, {found.workers} workers)"
    )
