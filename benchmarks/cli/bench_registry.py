"""`parcelhub bench registry|crash|clients`: the registry's figures, each made on a hub of its own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from benchmarks.cli.bench_common import json_file, workplace, write_figures
from hub.cli.common import counting, err, out, table
from hub.error_table import EXIT_FAILURE

if TYPE_CHECKING:
    from benchmarks.hub.crash import CrashResult

_folder = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Where its hub keeps its data; kept, and reused."
)


@click.command("registry")
@click.option("--models", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--versions", type=click.IntRange(1), default=100, show_default=True, help="Of each model.")
@click.option("--calls", type=click.IntRange(1), default=200, show_default=True, help="Of each kind.")
@_folder
@json_file
def registry(models: int, versions: int, calls: int, folder: Path | None, target: Path | None) -> None:
    """Fill a registry and time what it is asked most: over HTTP, and without.

    \b
    Example:
      parcelhub bench registry --json registry.json
      parcelhub bench registry --models 100 --versions 10
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from benchmarks.hub.queries import bench_registry

    columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with workplace(folder) as place, Progress(*columns, console=err) as bar:
        task = bar.add_task("", total=None)
        found = bench_registry(
            place,
            models=models,
            versions=versions,
            calls=calls,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    write_figures(asdict(found), target)
    filled = found.filled
    out.print(
        f"{filled.models} models x {filled.versions} versions, filled in {filled.seconds:.0f} s (commits "
        f"{filled.commit_seconds:.0f} s), catalog {found.catalog_bytes / 1e6:.0f} MB, load {found.load:.1f}; "
        f"the hub started in {found.start_seconds:.1f} s and read all cards in {found.cards_seconds:.0f} s"
    )
    for title, rows in (("Without HTTP, ms", found.direct), ("Over HTTP, ms", found.http)):
        shown = table(title, "call", "p50", "p99", "most")
        for name, timed in rows.items():
            shown.add_row(name, f"{timed.p50:.1f}", f"{timed.p99:.1f}", f"{timed.most:.1f}")
        out.print(shown)


@click.command("crash")
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True, help="How often the hub is killed.")
@click.option("--clients", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--longest", type=float, default=3.0, show_default=True, help="Seconds of load before a kill, at most.")
@_folder
@json_file
def crash(rounds: int, clients: int, seed: int, longest: float, folder: Path | None, target: Path | None) -> int:
    """Kill a hub at random moments under load, and look for everything that it acknowledged.

    The load: uploads (commits, LFS, Xet), outcomes, promotions, and changes of who is in which team. Exit code 1 if
    anything was lost, torn or damaged. The file of --json is written after each round.

    \b
    Example:
      parcelhub bench crash --rounds 200 --json crash.json
    """
    from benchmarks.hub.crash import run_crashes

    with workplace(folder) as place, counting("kills") as tell:

        def report(number: int, so_far: CrashResult) -> None:
            tell(number, rounds)
            write_figures(asdict(so_far), target)

        found = run_crashes(place, rounds=rounds, clients=clients, seed=seed, longest=longest, report=report)
    write_figures(asdict(found), target)
    times, computed = sorted(found.restart_seconds), sorted(found.restart_cpu_seconds)
    out.print(
        f"{found.rounds} kills, {found.acknowledged} acknowledged commits ({found.by_way}), {found.outcomes} outcomes, "
        f"{found.promotions} promotions, {found.memberships} changes of teams, {found.cut_off} uploads cut off: "
        f"{len(found.lost)} lost, {len(found.torn_refs)} torn refs, {len(found.damage)} damaged; first start "
        f"{found.first_start_seconds:.1f} s, restarts p50 {times[len(times) // 2]:.1f} s, most {times[-1]:.1f} s "
        f"(CPU time {computed[len(computed) // 2]:.1f} and {computed[-1]:.1f} s)"
    )
    for one in [*found.lost, *found.torn_refs, *found.damage][:20]:
        err.print(one, style="red", markup=False)
    return 0 if found.sound else EXIT_FAILURE


@click.command("clients")
@click.option("--clients", type=click.IntRange(2), default=50, show_default=True)
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Of one client, and of all of them.")
@click.option(
    "--large", type=click.IntRange(0), default=1024, show_default=True, help="MiB of the large file; 0: none."
)
@_folder
@json_file
def clients(clients: int, seconds: float, large: int, folder: Path | None, target: Path | None) -> int:
    """Commit from many clients at once, then move a large file; watch errors, rates and the hub's memory.

    \b
    Example:
      parcelhub bench clients --clients 50 --large 1024
    """
    from benchmarks.hub.clients import MIB, bench_clients

    with workplace(folder) as place:
        found = bench_clients(
            place, clients=clients, seconds=seconds, large_mib=large, report=lambda what: err.print(f"{what} …")
        )
    write_figures(asdict(found), target)
    out.print(
        f"one client {found.one_rate:.1f} commits/s, {found.clients} clients {found.all_rate:.1f}; "
        f"{len(found.errors)} errors, {len(found.damage)} damaged of {found.commits} commits"
    )
    if found.large_bytes:
        out.print(
            f"{found.large_bytes / MIB:.0f} MiB: up {found.upload_mib_s:.0f} MiB/s, down {found.download_mib_s:.0f}, "
            f"copy with SHA-256 {found.copy_mib_s:.0f}"
        )
    out.print(
        f"memory of the hub: {found.memory_start / MIB:.0f} MiB at the start, {found.memory_clients / MIB:.0f} at most "
        f"with {found.clients} clients, {found.memory_large / MIB:.0f} with the large file"
    )
    for one in [*found.errors, *found.damage][:20]:
        err.print(one, style="red", markup=False)
    return EXIT_FAILURE if found.errors or found.damage else 0
