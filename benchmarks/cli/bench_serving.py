"""`parcelhub bench serving` and `bench batching`: the robots' server, measured as robots see it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import rich_click as click

from benchmarks.cli.bench_common import (
    base_option,
    filled_serving,
    json_file,
    machine,
    numbers,
    say,
    threads_option,
    workplace,
    write_figures,
)
from hub.cli.common import out, table
from hub.settings import SHIPPED


@click.command("serving")
@base_option
@click.option(
    "--variants", type=click.IntRange(3, 100_000), default=100, show_default=True, help="Registered variants."
)
@click.option("--hot", type=click.IntRange(1), default=64, show_default=True, help="Of them in memory.")
@click.option("--rank", type=click.IntRange(1, 16), default=8, show_default=True)
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Of each load.")
@click.option("--cycles", type=click.IntRange(1), default=1000, show_default=True, help="Promotions and rollbacks.")
@click.option("--swaps", type=click.IntRange(1), default=10_000, show_default=True, help="Requests of the memory part.")
@click.option("--cells", default="1,8,32,128,256", show_default=True, help="Numbers of cells to compare ways at.")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Repetitions of ratios and ways.")
@click.option(
    "--processes", type=click.IntRange(1), default=32, show_default=True, help="At most so many for a model per cell."
)
@click.option(
    "--part",
    type=click.Choice(["all", "server", "variants"]),
    default="all",
    show_default=True,
    help="What to measure.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the ways as a PNG.")
@threads_option
@json_file
def serving(
    base_dir: Path | None,
    variants: int,
    hot: int,
    rank: int,
    seconds: float,
    cycles: int,
    swaps: int,
    cells: str,
    rounds: int,
    processes: int,
    part: str,
    plot: Path | None,
    threads: int | None,
    target: Path | None,
) -> None:
    """What adapters cost beside the base and beside other ways to serve variants; then, on one server, latency at 70 %
    of capacity, promotions under load, cold variants and memory over swaps.

    \b
    Example:
      parcelhub bench serving --json serving.json
      parcelhub bench serving --variants 1000 --hot 64 --cycles 100 --swaps 2000
      parcelhub bench serving --part variants --cells 1,8 --rounds 3 --plot ways.png
    """
    report: dict[str, Any] = {"machine": machine("before")}
    if part != "server":
        report |= _variants(base_dir or SHIPPED, cells, rank, rounds, processes, plot)
        write_figures(report, target)  # the server's part takes long; these are kept whatever becomes of it
    if part == "variants":
        return
    from benchmarks.serving.scenarios import run_all

    with filled_serving(base_dir, variants=variants, rank=rank, hot=hot, threads=threads) as (config, folder, routing):
        report |= run_all(config, folder, routing, seconds=seconds, cycles=cycles, swaps=swaps, say=say)
    write_figures(report, target)
    shown = table("the robots' server", "what", "figure")
    load, rollout, memory = report["load_all_hot"], report["rollout"], report["memory"]
    shown.add_row("one robot, p50", f"{load['one_robot']['p50_ms']} ms")
    shown.add_row("capacity with 16 robots", f"{load['capacity_16_robots']['per_second']} /s")
    opened = load["open_loop_at_0.7"]
    shown.add_row("open loop at 70 %, p50 / p99", f"{opened['p50_ms']} / {opened['p99_ms']} ms")
    if "cold" in report:
        cold = report["cold"]
        shown.add_row("a cold variant, p50 / p99", f"{cold['cold_p50_ms']} / {cold['cold_p99_ms']} ms")
    failed, foreign = rollout["failed_requests"], rollout["answers_never_routed"]
    shown.add_row(f"{rollout['cycles']} promotions", f"{failed} failed requests, {foreign} answers never routed")
    shown.add_row("seen by robots after (p99)", f"{rollout['visible_p99_ms']} ms")
    shown.add_row(f"memory over {memory['requests']} requests", f"{memory['growth']:+.1%}")
    out.print(shown)


def _variants(base: Path, cells: str, rank: int, rounds: int, processes: int, plot: Path | None) -> dict[str, Any]:
    from benchmarks.serving.variants import LABELS, draw_ways, measure_variants
    from serving.inference.runners import EngineChoice

    counts = numbers(cells, most=4096)
    choice = EngineChoice.read(os.environ)
    with workplace() as place:
        found = measure_variants(
            base, place, cells=counts, rank=rank, rounds=rounds, processes=processes, choice=choice, say=say
        )
    shown = table(f"mixed batches on {found['engine']}", "rows", "of the base's throughput", "quartiles")
    for rows in (1, 8, 32):
        low, high = found[f"mixed_{rows}"]["quartiles"]
        shown.add_row(str(rows), f"{found[f'mixed_{rows}_ratio']:.1%}", f"{low:.1%} to {high:.1%}")
    out.print(shown)
    shown = table("ways to serve variants", "way", "cells", "images / CPU s", "p99 ms", "memory MB")
    for way, entries in found["ways"].items():
        for row in entries:
            if "error" in row:
                shown.add_row(LABELS[way], str(row["cells"]), row["error"][:50], "", "")
                continue
            memory = f"{row['resident_mb']}{' (from ' + str(row['processes']) + ')' if row.get('extrapolated') else ''}"
            shown.add_row(LABELS[way], str(row["cells"]), str(row["per_cpu_second"]), str(row["p99_ms"]), memory)
    out.print(shown)
    if plot is not None:
        draw_ways(found, plot)
    return found


@click.command("batching")
@base_option
@click.option("--variants", type=click.IntRange(1, 32), default=16, show_default=True)
@click.option("--rows", default="1,2,4,8,32", show_default=True, help="Most frames in one batch.")
@click.option("--share", type=click.FloatRange(0.05, 0.95), default=0.7, show_default=True, help="Of the capacity.")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Of each load.")
@threads_option
@json_file
def batching(
    base_dir: Path | None,
    variants: int,
    rows: str,
    share: float,
    seconds: float,
    threads: int | None,
    target: Path | None,
) -> None:
    """Find the best size of batches on this machine: capacity, and p50 and p99 of the same open loop for each.

    \b
    Example:
      parcelhub bench batching --rows 1,4,16 --seconds 20
    """
    from benchmarks.serving.scenarios import batching_sweep, best_batching

    choices = numbers(rows, most=1024)
    with filled_serving(base_dir, variants=variants, hot=variants, threads=threads) as (config, _, _):
        found = batching_sweep(config, choices=choices, cells=variants, seconds=seconds, share=share, say=say)
    chosen = best_batching(found)
    write_figures({"machine": machine("after"), "rows": found, "chosen": chosen}, target)
    shown = table("batches", "rows at most", "1 robot p50 ms", "16 robots /s", "open loop p50 ms", "p99 ms")
    for row in found:
        mark = " *" if row is chosen else ""
        opened = row["open_loop"]
        figures = (row["robots_1"]["p50_ms"], row["robots_16"]["per_second"], opened["p50_ms"], opened["p99_ms"])
        shown.add_row(f"{row['rows']}{mark}", *map(str, figures))
    out.print(shown)
