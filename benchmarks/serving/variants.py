"""The part of `parcelhub bench serving` that needs no server: what adapters cost, and other ways to serve them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.baselines import BASELINES, Baseline, BaselineSpec, run_baseline
from benchmarks.serving.folder import BASE, make_folder
from benchmarks.serving.mixing import mixed_ratios
from serving.inference.runners import EngineChoice
from serving.inference.segmenter import Segmenter

LABELS = {
    "bank": "parcelhub, mixed batches",
    "merged_models": "merged model per cell, one process",
    "merged_processes": "merged model per cell, a process each",
    "peft_mixed": "PEFT adapter_names",
    "peft_switching": "PEFT set_adapter",
}


def measure_variants(
    base: Path,
    place: Path,
    *,
    cells: Sequence[int],
    rank: int,
    rounds: int,
    processes: int,
    ways: Sequence[Baseline] = BASELINES,
    choice: EngineChoice,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """`mixed_1_ratio`, `mixed_8_ratio`, `mixed_32_ratio` of the engine of `choice`, and under `ways` every way at every
    number of cells. `place` is an empty folder for the variants; `processes` bounds `merged_processes`."""
    make_folder(place, base, variants=max(32, *cells), rank=rank)
    folders = [place / "variants" / f"cell-{number}@v1" for number in range(max(32, *cells))]
    loaded = place / "base" / BASE
    segmenter = Segmenter.load(loaded, base_name=BASE, engine=choice)
    for folder in folders[:32]:
        segmenter.add_variant(folder.name, folder)
    say(f"mixed batches on {segmenter.engine}")
    names = [folder.name for folder in folders]
    report: dict[str, Any] = {"engine": segmenter.engine, **mixed_ratios(segmenter, names, rounds=rounds)}
    del segmenter
    report["ways"] = {way: [] for way in ways}
    for number in cells:
        for way in ways:
            say(f"{LABELS[way]}, {number} cells")
            given = tuple(str(folder) for folder in folders[:number])
            found = run_baseline(
                BaselineSpec(way, str(loaded), BASE, given, rounds=max(1, rounds // 4), processes=processes)
            )
            report["ways"][way].append({"cells": number, **found})
    return report


def draw_ways(report: dict[str, Any], target: Path) -> None:
    """Throughput, p99 and memory against the number of variants, as a PNG."""
    from matplotlib.figure import Figure

    panels = (
        ("per_cpu_second", "images a CPU second"),
        ("p99_ms", "p99, ms"),
        ("resident_mb", "memory, MB"),
    )
    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3), panels, strict=True):
        for way, rows in report["ways"].items():
            good = [row for row in rows if key in row]
            axes.plot([row["cells"] for row in good], [row[key] for row in good], marker="o", label=LABELS[way])
        axes.set_xscale("log", base=2)
        counts = sorted({row["cells"] for rows in report["ways"].values() for row in rows})
        axes.set_xticks(counts, [str(count) for count in counts])
        if key == "per_cpu_second":
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("variants")
        axes.set_title(title)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8, loc="lower left")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=130)
