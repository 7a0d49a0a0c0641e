"""`parcelhub eval`: examine a model on a dataset."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from hub.cli.common import counting, debug_option, json_option, out, print_json, table
from hub.errors import InputError
from hub.settings import SHIPPED


@click.command("eval")
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--base", type=click.Path(path_type=Path, exists=True), help="A variant's base; the shipped one by default."
)
@click.option(
    "--split", default="valid", show_default=True, help="The split to measure on, if the dataset has it; or all."
)
@click.option("--map", "pairs", multiple=True, metavar="CLASS=LABEL", help="Put a class of the dataset onto a label.")
@click.option(
    "--out", "target", type=click.Path(path_type=Path), help="Write a page: chart, worst pictures, report.json."
)
@json_option
@debug_option
def evaluate(
    model: Path,
    dataset: Path,
    base: Path | None,
    split: str,
    pairs: tuple[str, ...],
    target: Path | None,
    as_json: bool,
) -> None:
    """Mask AP with intervals, boundary AP, per class and size, and how far the scores can be trusted.

    MODEL is the folder of a base or of a variant.

    \b
    Example:
      parcelhub eval finetune/bases/universal ./dock-7 --out ./examined
      parcelhub eval ./my-variant ./dock-7 --map carton=box --json
    """
    from finetune.report.examine import examine, summary

    chosen: dict[str, str] = {}
    for pair in pairs:
        name, sign, label = pair.partition("=")
        if not (name and sign and label):
            raise InputError(f"--map wants CLASS=LABEL, not {pair!r}")
        chosen[name] = label
    with counting("examining") as progress:
        found = examine(
            model,
            dataset,
            base=base or SHIPPED,
            split=None if split == "all" else split,
            class_map=chosen,
            out=target,
            progress=progress,
        )
    if as_json:
        print_json(found.facts())
        return
    shown = table(f"{found.model} on {found.dataset}", "", "")
    for name, value in summary(found).items():
        shown.add_row(name, value)
    out.print(shown)
    if target is not None:
        out.print(f"page: {target / 'index.html'}")
