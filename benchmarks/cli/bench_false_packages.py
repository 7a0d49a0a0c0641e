"""`parcelhub bench false-packages`: what a base answers where there is no package."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from benchmarks.cli.bench_common import json_file, write_figures
from hub.cli.common import counting, out, table
from hub.settings import SHIPPED


@click.command("false-packages")
@click.option("--base", "base_dir", type=click.Path(path_type=Path, exists=True), help="The shipped base by default.")
@click.option("--images", type=click.IntRange(1), default=100, show_default=True, help="Pictures without a package.")
@click.option("--size", type=click.IntRange(64, 1023), default=384, show_default=True, help="Pixels of the scenes.")
@json_file
def false_packages(base_dir: Path | None, images: int, size: int, target: Path | None) -> None:
    """Answers of 50 % and more a picture, on pictures without any package.

    The pictures are scenes from which all packages are taken, and the sample pictures of installed Python packages.

    \b
    Example:
      parcelhub bench false-packages --base ./my-base --images 100
    """
    from finetune.evaluation.false_packages import measure_false_packages

    with counting("looking at pictures without packages") as progress:
        found = measure_false_packages(
            base_dir or SHIPPED, images=images, size=size, progress=lambda done: progress(done, images)
        )
    rows = table("answers of 50 % and more where there is no package", "pictures of", "pictures", "answers")
    for name, (seen, answers) in found.by_place.items():
        rows.add_row(name, str(seen), str(answers))
    rows.add_row("all", str(found.images), f"{found.answers} ({found.a_picture:.2f} a picture)")
    out.print(rows)
    write_figures({**asdict(found), "a_picture": found.a_picture}, target)
