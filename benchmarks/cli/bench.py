"""`parcelhub bench`: figures that a person can make again, each beside what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from benchmarks.cli import bench_registry
from benchmarks.cli.bench_ablation import ablation
from benchmarks.cli.bench_bakeoff import bakeoff
from benchmarks.cli.bench_common import json_file, numbers, write_figures
from benchmarks.cli.bench_engines import engines
from benchmarks.cli.bench_false_packages import false_packages
from benchmarks.cli.bench_input import bench_input
from benchmarks.cli.bench_operations import COMMANDS as OPERATIONS
from benchmarks.cli.bench_serving import batching, serving
from hub.cli.common import err, json_option, out, print_json, table
from hub.errors import InputError
from hub.settings import SHIPPED

if TYPE_CHECKING:
    from benchmarks.finetune.data_efficiency import Metric
    from finetune.training.loop import Tick


@click.group()
def bench() -> None:
    """Benchmarks: the generator, the registry, what the shared base is worth."""


bench.add_command(ablation)
bench.add_command(bakeoff)
bench.add_command(bench_input)
bench.add_command(false_packages)
bench.add_command(serving)
bench.add_command(engines)
bench.add_command(batching)


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
    from benchmarks.finetune.fewshot import compare_methods, parse_methods

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


@bench.command("claim")
@click.option(
    "--out", "target", required=True, type=click.Path(path_type=Path), help="Rows, figure, datasets; resumes."
)
@click.option("--base", "base_dir", type=click.Path(path_type=Path, exists=True), help="The shipped base by default.")
@click.option("--minutes", type=float, default=5.0, show_default=True, help="Training time of each model.")
@click.option("--scratch-times", type=float, default=1.0, show_default=True, help="From scratch: so much longer.")
@click.option("--cells", default="demo,gantry", show_default=True, help="Held-out cells of any tier.")
@click.option("--counts", default="10,25,50,100,200,500,1000", show_default=True, help="Fine-tuning images.")
@click.option("--scratch-counts", default="40,100,250,1000", show_default=True, help="Images from scratch.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--methods", default="lora,full", show_default=True)
@click.option("--foundation", help="From scratch once more with this under it: efficientnet-lite0 (extra: foundation).")
@click.option(
    "--metric",
    type=click.Choice(["ap", "ap50", "ap75", "agnostic_ap50", "agnostic_ap75"]),
    default="ap75",
    show_default=True,
    help="What the answers are about; agnostic: all classes taken as one.",
)
@click.option("--quick", is_flag=True, help="The same code on next to nothing; its figures mean nothing.")
@json_option
def claim(
    target: Path,
    base_dir: Path | None,
    minutes: float,
    scratch_times: float,
    cells: str,
    counts: str,
    scratch_counts: str,
    seeds: int,
    methods: str,
    foundation: str | None,
    metric: Metric,
    quick: bool,
    as_json: bool,
) -> None:
    """How many images from scratch one fine-tuning image is worth, and what LoRA keeps of full fine-tuning.

    \b
    Example:
      parcelhub bench claim --out ./claim --minutes 5
      parcelhub bench claim --base ./my-base --foundation efficientnet-lite0 --out ./mine
      parcelhub bench claim --out ./small --cells demo --counts 25,100 --scratch-counts 40,400 --seeds 1 --minutes 3
    """
    from dataclasses import asdict

    from benchmarks.finetune.data_efficiency import METRICS, ClaimPlan, run_claim
    from benchmarks.finetune.fewshot import parse_methods

    plan = ClaimPlan(
        cells=tuple(name.strip() for name in cells.split(",")),
        counts=tuple(sorted(numbers(counts))),
        scratch_counts=tuple(sorted(numbers(scratch_counts))),
        seeds=tuple(range(seeds)),
        methods=parse_methods(methods),
        foundation=foundation,
        seconds=60 * minutes,
        scratch_times=scratch_times,
    )
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=None)
        found = run_claim(
            base_dir or SHIPPED,
            ClaimPlan.quick() if quick else plan,
            target,
            metric=metric,
            report=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    if as_json:
        print_json(asdict(found))
        return
    shown = table(
        "means over cells and seeds", "method", "images", "models", "AP", "AP50", "AP75", "agnostic AP50", "AP75"
    )
    for method, images in sorted({(r.method, r.images) for r in found.rows}):
        rows = [r for r in found.rows if (r.method, r.images) == (method, images)]
        means = (sum(getattr(r, name) for r in rows) / len(rows) for name in METRICS)
        shown.add_row(method, str(images or ""), str(len(rows)), *(f"{value:.3f}" for value in means))
    out.print(shown)
    for method, worth in (("scratch", found.worth), ("founded", found.founded_worth)):
        most = max((row.images for row in found.rows if row.method == method), default=0)
        for images, times in worth.items():
            # None: the most images from scratch that were tried do not get there.
            said = f"{times:.1f}" if times else f"more than {most / images:g}"
            where = " on the foundation" if method == "founded" else ""
            out.print(f"{images} fine-tuning images are worth {said} images from scratch{where} each")
    for images, share in found.kept.items():
        out.print(f"at {images} images LoRA keeps {share:.0%} of full fine-tuning's {found.metric.upper()}")
    for method, lost in found.forgotten.items():
        said = ", ".join(f"{value:+.3f} with {images}" for images, value in ((n, -v) for n, v in lost.items()))
        out.print(f"{method}: {found.metric.upper()} on the base's own scenes changes by {said} images")
    out.print(f"figure: {target / 'claim.svg'}")


@bench.command("api")
@click.option("--variants", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--datasets", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--images", type=click.IntRange(1), default=1_000_000, show_default=True, help="Of all datasets.")
@click.option("--calls", type=click.IntRange(1), default=300, show_default=True, help="Of each kind.")
@click.option("--keep", type=click.Path(path_type=Path), help="Fill this folder, or use what an earlier run filled.")
@json_file
def api(variants: int, datasets: int, images: int, calls: int, keep: Path | None, target: Path | None) -> None:
    """How long lists and lookups take over HTTP, with a catalog of this size behind them.

    \b
    Example:
      parcelhub bench api --json api.json
      parcelhub bench api --variants 100 --datasets 20 --images 2000 --calls 50
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from benchmarks.hub.api import Size, as_json, run

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=None)
        found = run(
            Size(variants, datasets, images),
            calls=calls,
            keep=keep,
            report=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    write_figures(as_json(found), target)
    shown = table(f"{calls} calls of each kind, ms", "call", "p50", "p99", "worst")
    for timing in found.timings:
        shown.add_row(timing.name, *(f"{value:.1f}" for value in (timing.p50, timing.p99, timing.worst)))
    out.print(shown)
    out.print(f"filled in {found.fill_seconds:.0f} s; catalog of {found.catalog_bytes / 1e6:.0f} MB")


@bench.command("scenes")
@click.option("--size", type=int, default=256, show_default=True, help="Pixels a side.")
@click.option("--count", type=int, default=300, show_default=True, help="Scenes of the fast tier; others make fewer.")
@click.option("--tiers", help="Comma-separated: fast, physical, path [default: those whose libraries are installed].")
@json_option
def scenes(size: int, count: int, tiers: str | None, as_json: bool) -> None:
    """How many scenes a second one process makes, and what the steps of the physical tiers take.

    \b
    Example:
      parcelhub bench scenes --size 256
      parcelhub bench scenes --tiers physical,path --size 384 --count 200
    """
    from benchmarks.finetune.scene_speed import measure_speed, measure_steps
    from finetune.scenes import TIERS
    from finetune.scenes.physical.backend import has

    needs = {"fast": (), "physical": ("mujoco",), "path": ("mujoco", "mitsuba")}
    fewer = {"fast": 1, "physical": 10, "path": 60}
    chosen = [t for t in TIERS if all(has(m) for m in needs[t])] if tiers is None else tiers.split(",")
    unknown = set(chosen) - set(TIERS)
    if unknown:
        raise InputError(f"there is no tier {sorted(unknown)[0]!r}; there are {', '.join(TIERS)}")
    rows: list[dict[str, object]] = []
    for tier in TIERS:
        if tier in chosen:
            rows.append({"tier": tier, **measure_speed(size=size, count=max(2, count // fewer[tier]), tier=tier)})
    steps = measure_steps(traced="path" in chosen) if {"physical", "path"} & set(chosen) else {}
    if as_json:
        print_json({"tiers": rows, "steps": steps})
        return
    for row in rows:
        out.print(
            f"{row['tier']}: {row['images_per_second']:.3g} scenes/s of {size} pixels in one process, "
            f"{row['instances']:.1f} packages each"
        )
    if steps:
        parts = ", ".join(f"{name} {steps[name]:.0f} ms" for name in ("make", "drop", "picture", "ids"))
        out.print(f"25 packages at 384 pixels: {parts}")
    if "path_seconds" in steps:
        out.print(f"path-traced, 384 pixels, 24 samples: {steps['path_seconds']:.1f} s a picture")


for command in (bench_registry.registry, bench_registry.crash, bench_registry.clients, *OPERATIONS):
    bench.add_command(command)
