"""`parcelhub bench rollout|faults|fuzz|variants|transport`: what operating the robots' server comes to, in figures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from benchmarks.cli.bench_common import (
    base_option,
    filled_serving,
    json_file,
    machine,
    say,
    threads_option,
    workplace,
    write_figures,
)
from hub.cli.common import counting, err, out, table
from hub.error_table import EXIT_FAILURE
from hub.errors import InputError
from hub.settings import SHIPPED

if TYPE_CHECKING:
    from serving.triton.config import TritonConfig
    from serving.triton.launcher import TritonServer


@click.command("rollout")
@base_option
@click.option("--cycles", type=click.IntRange(1), default=1000, show_default=True, help="A promotion and a rollback.")
@click.option("--robots", type=click.IntRange(1, 64), default=3, show_default=True, help="That ask all the time.")
@click.option(
    "--picks", type=click.IntRange(0), default=200_000, show_default=True, help="On record at a look; 0: none."
)
@json_file
def rollout(base_dir: Path | None, cycles: int, robots: int, picks: int, target: Path | None) -> int:
    """Promote and roll back through a real hub while robots ask a real Triton: who fails, and how soon it is seen.

    \b
    Example:
      parcelhub bench rollout --cycles 1000 --json rollout.json
    """
    from benchmarks.hub.looks import run_looks
    from benchmarks.hub.rollout import run_rollout

    with workplace() as place:
        looks = run_looks(place / "looks", picks, say=err.print) if picks else None
    with workplace() as place, counting("cycles") as progress:
        found = run_rollout(
            place, base_dir or SHIPPED, cycles=cycles, robots=robots, report=lambda done: progress(done, cycles)
        )
    figures = {"machine": machine("after"), **found.figures(), "looks": looks}
    write_figures(figures, target)
    shown = table("promotions and rollbacks under load", "what", "figure")
    shown.add_row("cycles, requests", f"{found.cycles}, {found.requests}")
    shown.add_row("failed requests", str(len(found.failed)))
    shown.add_row("answers by what was never routed", str(len(found.never_routed)))
    shown.add_row("answers by what was before, after its second", str(found.late))
    for name, key in (("visible after the hub's answer", "visible_ms"), ("after the call", "asked_to_visible_ms")):
        one = figures[key]
        shown.add_row(f"{name}, p50 / p99 / most", f"{one['p50']} / {one['p99']} / {one['max']} ms")
    if looks:
        shown.add_row(
            f"a trial's look at {looks['picks']:,} picks, p50 / p99",
            f"{looks['look_ms']['p50']} / {looks['look_ms']['p99']} ms",
        )
        shown.add_row("reading all of them again", f"{looks['all_again_ms']} ms ({looks['ratio']} x)")
    out.print(shown)
    return 0 if found.sound else EXIT_FAILURE


@click.command("faults")
@base_option
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Each does every fault once.")
@click.option("--robots", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--timeout", "timeout_s", type=float, default=2.0, show_default=True, help="Of a robot's request.")
@json_file
def faults(base_dir: Path | None, rounds: int, robots: int, timeout_s: float, target: Path | None) -> None:
    """Kill and freeze Triton, its Python stub and the hub under load: how soon robots are answered again.

    \b
    Example:
      parcelhub bench faults --rounds 3 --json faults.json
    """
    from benchmarks.hub.rollout import run_faults

    with workplace() as place:
        found = run_faults(place, base_dir or SHIPPED, rounds=rounds, robots=robots, timeout_s=timeout_s, say=say)
    write_figures({"machine": machine("after"), "faults": [one.figures() for one in found]}, target)
    shown = table("faults under load", "fault", "ready after s", "robots after that s", "longest gap s", "lost frames")
    for one in found:
        row = one.figures()
        shown.add_row(
            one.fault,
            *(str(row[key]) for key in ("ready_after_s", "recovered_after_s", "longest_gap_s", "lost_frames")),
        )
    out.print(shown)


@click.command("fuzz")
@base_option
@click.option("--requests", type=click.IntRange(1), default=10_000, show_default=True, help="Wrong ones, of all kinds.")
@click.option("--clients", type=click.IntRange(1, 64), default=4, show_default=True, help="That send at a time.")
@click.option("--seed", type=int, default=0, show_default=True)
@threads_option
@json_file
def fuzz(
    base_dir: Path | None, requests: int, clients: int, seed: int, threads: int | None, target: Path | None
) -> int:
    """Send wrong requests beside right ones: each gets an error, its neighbours their answers, and the server lives.

    \b
    Example:
      parcelhub bench fuzz --requests 10000 --json fuzz.json
    """
    from benchmarks.serving.fuzz import run_fuzz

    with (
        _running(base_dir, variants=2, hot=2, threads=threads) as (config, server),
        counting("wrong requests") as progress,
    ):
        found = run_fuzz(
            config.url,
            requests=requests,
            telemetry=config.telemetry,
            seed=seed,
            clients=clients,
            pid=lambda: server.pid,
            report=lambda done: progress(done, requests),
        )
    figures = {"machine": machine("after"), **found.figures()}
    write_figures(figures, target)
    shown = table("wrong requests", "what", "figure")
    for name, value in (
        ("refused", sum(found.refused.values())),
        ("answered all the same", sum(found.answered.values())),
        ("not answered at all", len(found.unanswered)),
        ("right ones beside them", found.neighbours),
        ("of them without an answer", len(found.neighbours_failed)),
        ("of them with another answer", len(found.neighbours_wrong)),
        ("batches with wrong and right", found.mixed_batches),
        ("server restarts", found.restarts),
        ("memory growth in the second half", figures["growth_in_second_half"]),
    ):
        shown.add_row(name, str(value))
    out.print(shown)
    for text in [*found.unanswered, *found.neighbours_failed, *found.neighbours_wrong][:10]:
        err.print(text, style="red", markup=False)
    return 0 if found.sound else EXIT_FAILURE


@click.command("doors")
@click.option(
    "--requests", type=click.IntRange(1), default=20_000, show_default=True, help="Wrong ones, at all routes."
)
@click.option("--clients", type=click.IntRange(1, 64), default=3, show_default=True, help="That send at a time.")
@click.option("--seconds", type=click.FloatRange(min=1.0), help="Stop after so long, however many were sent.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_file
def doors(requests: int, clients: int, seconds: float | None, seed: int, target: Path | None) -> int:
    """Send wrong requests to every route of a real hub from one team, and count what another team feels of it.

    \b
    Example:
      parcelhub bench doors --requests 20000 --json doors.json
    """
    from benchmarks.hub.doors import run_doors

    with workplace() as place, counting("requests") as progress:
        found = run_doors(
            place,
            requests=requests,
            clients=clients,
            seed=seed,
            seconds=seconds or math.inf,
            report=lambda done: progress(done, requests),
        )
    figures = found.figures()
    write_figures({"machine": machine("after"), **figures}, target)
    shown = table("wrong requests at every route", "what", "figure")
    shown.add_row("requests, routes", f"{found.requests:,}, {len(found.routes)}")
    shown.add_row("answers by status", ", ".join(f"{status}: {count}" for status, count in figures["statuses"].items()))
    shown.add_row("answers 5xx, tracebacks in the log", f"{sum(found.failed.values())}, {found.tracebacks}")
    shown.add_row("without an answer, empty", f"{sum(found.unanswered.values())}, {sum(found.empty.values())}")
    shown.add_row("looks of another team, what it found changed", f"{found.others_asked}, {len(found.others_hurt)}")
    out.print(shown)
    for where, example in list(found.examples.items())[:10]:
        err.print(f"{where}: {example}", style="red", markup=False)
    return 0 if found.sound else EXIT_FAILURE


@click.command("variants")
@base_option
@click.option("--variants", type=click.IntRange(3, 100_000), default=1000, show_default=True, help="Registered.")
@click.option("--hot", type=click.IntRange(2), default=64, show_default=True, help="Of them in memory.")
@click.option("--rank", type=click.IntRange(1, 16), default=8, show_default=True)
@click.option("--swaps", type=click.IntRange(1), default=10_000, show_default=True, help="Adapters read from disk.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="Of each kind of traffic.")
@threads_option
@json_file
def variants(
    base_dir: Path | None,
    variants: int,
    hot: int,
    rank: int,
    swaps: int,
    seconds: float,
    threads: int | None,
    target: Path | None,
) -> None:
    """More variants than fit into memory: p99 against all-hot, a cold variant's answer, memory over many swaps.

    \b
    Example:
      parcelhub bench variants --variants 1000 --hot 64 --swaps 10000 --json variants.json
    """
    from benchmarks.serving.swaps import measure_swaps

    if hot >= variants:
        raise InputError("--hot must be less than --variants: there is nothing to swap otherwise")
    with _running(base_dir, variants=variants, hot=hot, threads=threads, rank=rank) as (config, _):
        report = {
            "machine": machine("after"),
            **measure_swaps(config, variants=variants, swaps=swaps, seconds=seconds, say=say),
        }
    write_figures(report, target)
    traffic, cold, memory = report["traffic"], report["cold"], report["memory"]
    shown = table(f"{variants} variants, {hot} of them hot", "what", "figure")
    for name in ("hot", "zipf", "uniform"):
        shown.add_row(f"{name} traffic, p50 / p99", f"{traffic[name]['p50_ms']} / {traffic[name]['p99_ms']} ms")
    shown.add_row(
        "p99 over all-hot, zipf / uniform", f"{traffic['zipf_p99_over_hot']} / {traffic['uniform_p99_over_hot']}"
    )
    shown.add_row("a cold variant, p50 / p99", f"{cold['cold_p50_ms']} / {cold['cold_p99_ms']} ms")
    shown.add_row("its neighbour meanwhile, p50 / p99", f"{cold['neighbour_p50_ms']} / {cold['neighbour_p99_ms']} ms")
    shown.add_row(
        f"memory over {memory['adapters_read']} swaps",
        f"{memory['before_mb']} to {memory['after_mb']} MB ({memory['growth']:+.2%})",
    )
    out.print(shown)


@click.command("transport")
@base_option
@click.option("--requests", type=click.IntRange(10), default=300, show_default=True, help="Of each way, and engine.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="Of each load; 0: no load.")
@click.option("--share", type=click.FloatRange(0.05, 0.95), default=0.7, show_default=True, help="Of the capacity.")
@click.option("--rows", type=click.IntRange(1, 1024), help="Most frames in one batch [default: the server's].")
@threads_option
@json_file
def transport(
    base_dir: Path | None,
    requests: int,
    seconds: float,
    share: float,
    rows: int | None,
    threads: int | None,
    target: Path | None,
) -> None:
    """What a robot waits beyond the engine's own time at batch 1, and its p99 under an open-loop load.

    \b
    Example:
      parcelhub bench transport --json transport.json
      parcelhub bench transport --seconds 120 --rows 8
    """
    from benchmarks.serving import scenarios
    from benchmarks.serving.transport import transport as measure

    with _running(base_dir, variants=4, hot=4, threads=threads, rows=rows, shared=True) as (config, _):
        with counting("requests") as progress:
            report: dict[str, Any] = {
                "machine": machine("after"),
                "rows": config.batching.rows,
                "ways": measure(
                    config, requests=requests, shared_memory=True, report=lambda done: progress(done, requests)
                ),
            }
        if seconds:
            say(f"capacity, then an open loop at {share:.0%} of it")
            report["load"] = scenarios.latency_under_load(config.url, cells=4, seconds=seconds, share=share)
    write_figures(report, target)
    shown = table("one robot, ms", "frames", "robot p50", "engine p50", "ratio", "queue", "backend", "rest")
    for name, one in report["ways"].items():
        if isinstance(one, dict):
            mean = one["mean_ms"]
            figures = [one[key] for key in ("robot_p50_ms", "engine_p50_ms", "robot_over_engine")]
            figures += [mean[key] for key in ("queue", "backend", "client_and_triton")]
            shown.add_row(name, *map(str, figures))
    out.print(shown)
    if seconds:
        load = report["load"]
        opened = load[f"open_loop_at_{share:g}"]
        out.print(
            f"{load['capacity_16_robots']['per_second']}/s at most; at {share:.0%} of it p50 {opened['p50_ms']} ms, "
            f"p99 {opened['p99_ms']} ms, ratio {load['p99_over_p50']}"
        )


@click.command("load")
@base_option
@click.option("--cells", type=click.IntRange(1, 256), default=4, show_default=True)
@click.option("--shares", default="0.1,0.3,0.5,0.7,0.9,1.2,1.5", show_default=True, help="Of the capacity.")
@click.option("--capacity", type=click.FloatRange(0.1), help="Frames a second [default: measured with 16 robots].")
@click.option("--seconds", type=float, default=45.0, show_default=True, help="Of each load.")
@click.option("--wait", type=click.FloatRange(0.05), default=2.0, show_default=True, help="Seconds that a robot waits.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw it as a PNG.")
@threads_option
@json_file
def load(
    base_dir: Path | None,
    cells: int,
    shares: str,
    capacity: float | None,
    seconds: float,
    wait: float,
    plot: Path | None,
    threads: int | None,
    target: Path | None,
) -> None:
    """What robots wait at loads below and beyond the capacity: requests at random times, none waits for another.

    \b
    Example:
      parcelhub bench load --plot load.png --json load.json
      parcelhub bench load --shares 0.5,1.5 --wait 0.5
    """
    from benchmarks.serving.curve import draw_curve, latency_curve

    try:
        wanted = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise InputError(f"--shares wants numbers separated by commas: {error}") from error
    if not all(0 < share <= 10 for share in wanted):
        raise InputError(f"--shares wants numbers above 0 and up to 10, not {shares!r}")
    with _running(base_dir, variants=cells, hot=cells, threads=threads) as (config, _), counting("loads") as progress:
        found = latency_curve(
            config.url,
            cells=cells,
            shares=wanted,
            seconds=seconds,
            timeout_s=wait,
            capacity=capacity,
            report=lambda done: progress(done, len(wanted)),
        )
    write_figures({"machine": machine("after"), **found}, target)
    shown = table(
        f"capacity {found['capacity_per_second']}/s", "asked /s", "in time /s", "p50 ms", "p90 ms", "p99 ms", "others"
    )
    for row in found["loads"]:
        figures = [row[name] for name in ("asked_per_second", "per_second", "p50_ms", "p90_ms", "p99_ms")]
        others = ", ".join(f"{count} {kind}" for kind, count in row["errors"].items())
        shown.add_row(f"{row['share']:.0%}", *map(str, figures), others)
    out.print(shown)
    if plot is not None:
        draw_curve(found, plot)


@contextmanager
def _running(
    base_dir: Path | None,
    *,
    variants: int,
    hot: int,
    threads: int | None,
    rank: int = 8,
    rows: int | None = None,
    shared: bool = False,
) -> Iterator[tuple[TritonConfig, TritonServer]]:
    """Triton over a serving folder with so many random variants, in a temporary place, ready."""
    from benchmarks.serving.scenarios import READY_S
    from serving.triton.launcher import TritonServer

    with (
        filled_serving(
            base_dir,
            variants=variants,
            hot=hot,
            threads=threads,
            rank=rank,
            rows=rows,
            shared=shared,
        ) as (config, _, _),
        TritonServer(config) as server,
    ):
        server.wait_ready(READY_S)
        yield config, server


COMMANDS = (rollout, faults, fuzz, doors, variants, transport, load)
