"""`parcelhub bench engines`: what runs the forward pass best on this machine."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from benchmarks.cli.bench_common import base_option, json_file, machine, numbers, say, write_figures
from hub.cli.common import out, table
from hub.settings import SHIPPED


@click.command("engines")
@base_option
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A dataset to compare answers on [default: scenes].",
)
@click.option("--images", type=click.IntRange(1), default=28, show_default=True, help="Pictures to compare answers on.")
@click.option("--batches", default="1,8,32", show_default=True, help="Sizes of batches.")
@click.option("--rounds", type=click.IntRange(2), default=9, show_default=True, help="Repetitions of each figure.")
@click.option("--compile", "compiled", is_flag=True, help="torch.compile as well: minutes, needs a C++ compiler.")
@json_file
def engines(
    base_dir: Path | None,
    data: Path | None,
    images: int,
    batches: str,
    rounds: int,
    compiled: bool,
    target: Path | None,
) -> None:
    """Eager, ONNX Runtime and OpenVINO in float32 and bfloat16: speed, memory, what adapters cost, the same masks?

    Times are processor milliseconds on one thread; each engine runs in a process of its own.

    \b
    Example:
      parcelhub bench engines --json engines.json
      parcelhub bench engines --data ./dock-7 --batches 1,8 --rounds 3
    """
    from benchmarks.hub.engines import compare_engines

    sizes = numbers(batches, most=32)
    rows = compare_engines(
        base_dir or SHIPPED, data=data, images=images, batches=sizes, rounds=rounds, compiled=compiled, say=say
    )
    write_figures({"machine": machine("after"), "rows": rows}, target)
    heads = [f"batch {size}, ms" for size in sizes] + [f"mixed {size}" for size in sizes]
    shown = table("engines", "engine", "load s", *heads, "memory MB", "IoU (median)", "score", "AP")
    for row in rows:
        if "error" in row:
            shown.add_row(row["engine"], row["error"][:60], *[""] * (len(heads) + 4))
            continue
        times = [str(row[f"batch_{size}"]["cpu_ms"]) for size in sizes]
        ratios = [f"{row[f'mixed_{size}_ratio']:.3f}" if f"mixed_{size}_ratio" in row else "-" for size in sizes]
        agreed = [f"{row['mean_iou']:.4f} ({row['median_iou']:.4f})", f"{row['score_mean']:.4f}", f"{row['ap']:.4f}"]
        shown.add_row(row["engine"], str(row["load_cpu_s"]), *times, *ratios, str(row["resident_mb"]), *agreed)
    out.print(shown)
