"""`parcelhub demo`: everything once, from a new cell to a robot that is served by its own variant."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import counting, debug_option, err, out, table, unpacked
from hub.cli.watch import follow, percent

if TYPE_CHECKING:
    from hub.stack.demo import Figures


CELLS = ("demo", "robin", "cardinal", "gantry", "dock")  # finetune.scenes.CELLS, without importing it


@click.command()
@click.option(
    "--data",
    "source",
    type=click.Path(path_type=Path),
    help="A labelled dataset of your own, a folder or a .zip, in any format that is read [default: generated scenes].",
)
@click.option(
    "--cell",
    type=click.Choice(CELLS),
    help="The cell to generate scenes of: one that no base is trained on; gantry, dock: physical tier [default: demo].",
)
@click.option("--images", type=int, help="Train on so many images [default: all that are not held out].")
@click.option("--out", "folder", type=click.Path(path_type=Path), default=Path("demo-out"), show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--max-minutes", type=float, default=5.0, show_default=True, help="Training budget.")
@click.option("--keep", is_flag=True, help="Keep the demo's data folder.")
@debug_option
def demo(
    source: Path | None,
    cell: str | None,
    images: int | None,
    folder: Path,
    json_file: Path | None,
    max_minutes: float,
    keep: bool,
) -> None:
    """Start a hub of its own, fine-tune a variant for a new cell, serve it, and show what it is worth.

    \b
    Example:
      parcelhub demo
      parcelhub demo --cell robin
      parcelhub demo --data ./dock-7 --images 40 --max-minutes 5 --json figures.json
    """
    import msgspec

    from hub.stack.demo import Demo, Narrator

    tell = Narrator(lambda words: err.print(f"[bold]·[/] {words}"), counting, follow)
    with unpacked(source) if source is not None else nullcontext() as data:
        figures = Demo(data, cell, images, folder, max_minutes, keep).run(tell)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    _show(figures, folder)


def _show(figures: Figures, folder: Path) -> None:
    rows = table(f"{figures.data}: {figures.images_holdout} held-out images", "", "base", "variant")
    rows.add_row("mask AP", percent(figures.base_ap), percent(figures.variant_ap))
    rows.add_row("mask AP50", percent(figures.base_ap50), percent(figures.variant_ap50))
    share = figures.adapter_bytes / figures.base_bytes
    rows.add_row("size", f"{figures.base_bytes / 1e6:.1f} MB", f"{figures.adapter_bytes / 1e6:.2f} MB ({share:.1%})")
    rows.add_row("training", "", f"{figures.images_train} images, {figures.train_seconds:.0f} s")
    rows.add_row("kept of it (what did best)", "", f"{figures.kept_share:.0%}")
    ratio = figures.robot_p50_ms / figures.engine_p50_ms
    rows.add_row("robot, p50", "", f"{figures.robot_p50_ms:.1f} ms")
    rows.add_row("engine alone, p50", "", f"{figures.engine_p50_ms:.1f} ms (robot: {ratio:.2f} x)")
    out.print(rows)
    out.print(f"served by {figures.served_by}; pictures: {folder / 'index.html'}", highlight=False)
