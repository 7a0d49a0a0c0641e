"""`parcelhub outcomes` and `parcelhub captures`: what the picks did, and the frames that were kept."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from serving.robot.outcomes import OUTCOMES, Outcome, OutcomeName

if TYPE_CHECKING:
    from hub.settings import Settings


@click.group()
def outcomes() -> None:
    """What the picks did: success rates, and reporting by hand."""


@outcomes.command("rates")
@click.option(
    "--by", default="cell,variant", show_default=True, help="cell, variant, base, stage, class, line, robot, gripper."
)
@click.option("--cell", help="Of one cell alone.")
@click.option("--variant", help="Of one variant alone.")
@click.option("--stage", help="Of one stage alone.")
@click.option("--class", "class_", help="Of one class alone.")
@click.option("--days", type=float, default=30.0, show_default=True, help="How far back.")
@json_option
@settings_options
def rates(
    settings: Settings,
    by: str,
    cell: str | None,
    variant: str | None,
    stage: str | None,
    class_: str | None,
    days: float,
    as_json: bool,
) -> None:
    """Show success rates with their 95 % intervals (Wilson).

    \b
    Example:
      parcelhub outcomes rates --by variant,class --cell dock-7
    """
    wanted = {"cell": cell, "variant": variant, "stage": stage, "class": class_, "days": str(days)}
    with connect(settings) as client:
        found = client.rates(by, **{name: value for name, value in wanted.items() if value is not None})
    if as_json:
        print_json(found)
        return
    rows = table("Picks", *found.by, "picks", "success", "95 %", "what went wrong")
    for one in found.rates:
        wrong = ", ".join(f"{count} {name}" for name, count in one.outcomes.items() if name != "success")
        said = "-" if one.rate is None else f"{one.rate:.1%}"
        keys = (one.group[name] or "-" for name in found.by)
        rows.add_row(*keys, str(one.picks), said, f"{one.low:.1%} to {one.high:.1%}", wrong)
    out.print(rows)
    if found.unmatched:
        out.print(f"{found.unmatched} picks have no prediction on record; they count by what the robot said")


@outcomes.command("report")
@click.argument("request_id")
@click.argument("outcome", type=click.Choice(OUTCOMES))
@click.option("--cell", help="The cell, for an answer that is not on record.")
@click.option("--label", help="Class of the picked item.")
@click.option("--instance", type=click.IntRange(0), help="Which instance of the answer was picked, counted from 0.")
@click.option("--point", type=(float, float), metavar="X Y", help="Where the gripper went, pixels of the frame.")
@click.option("--gripper", help="What it was picked with.")
@json_option
@settings_options
def report(
    settings: Settings,
    request_id: str,
    outcome: OutcomeName,
    cell: str | None,
    label: str | None,
    instance: int | None,
    point: tuple[float, float] | None,
    gripper: str | None,
    as_json: bool,
) -> None:
    """Report by hand what a pick did. Robots do it with `serving.robot.client`.

    \b
    Example:
      parcelhub outcomes report 8d3f6c0b miss --instance 2 --point 311 208
    """
    one = Outcome(
        request_id, outcome, time.time(), cell=cell, label=label, instance=instance, point=point, gripper=gripper
    )
    with connect(settings) as client:
        taken = client.report_outcomes([one.row()])
    if as_json:
        print_json(taken)
        return
    out.print("taken" if taken.taken else "this answer has an outcome already; the first one stays")


@click.group()
def captures() -> None:
    """Frames that were kept from production."""


@captures.command("list")
@click.option("--cell", help="Of one cell alone.")
@click.option("--reason", help="Kept for one reason alone: low_score, sample, novelty, doubt, failed_picks, …")
@click.option("--outcome", type=click.Choice([*OUTCOMES, "none"]), help="Of one outcome alone; none: without one.")
@click.option("--since", help="Day or time, UTC.")
@click.option("--until", help="Day or time, UTC; not later.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@json_option
@settings_options
def list_(
    settings: Settings,
    cell: str | None,
    reason: str | None,
    outcome: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List captures, newest first.

    \b
    Example:
      parcelhub captures list --cell dock-7 --outcome miss --since 2026-11-01
    """
    given = {"cell": cell, "reason": reason, "outcome": outcome, "since": since, "until": until}
    with connect(settings) as client:
        found = client.captures(limit=str(limit), **{name: value for name, value in given.items() if value})
    if as_json:
        print_json(found)
        return
    rows = table("Captures", "capture", "at", "cell", "kept for", "served by", "best score", "outcome")
    for one in found:
        best = max((instance["score"] for instance in one.instances), default=None)
        score = "-" if best is None else f"{best:.2f}"
        rows.add_row(one.id, when(one.at), one.cell or "-", one.reason, one.served_by, score, one.outcome or "-")
    out.print(rows)


@captures.command("pull")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--cell", help="Of one cell alone.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@settings_options
def pull(settings: Settings, folder: Path, cell: str | None, limit: int) -> None:
    """Write captures as a COCO draft: the frames, and what was answered as annotations to correct.

    \b
    Example:
      parcelhub captures pull ./draft --cell dock-7
      parcelhub dataset check ./draft
    """
    with connect(settings) as client:
        found = client.captures(limit=str(limit), **({"cell": cell} if cell else {}))
        names = sorted({instance["label"] for one in found for instance in one.instances})
        categories = {name: number for number, name in enumerate(names, start=1)}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, one in enumerate(found, start=1):
            file = client.capture_image(one.id, folder / "images")
            images.append({"id": number, "file_name": f"images/{file.name}", "height": one.height, "width": one.width})
            for instance in one.instances:
                x0, y0, x1, y1 = instance["box"]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": categories[instance["label"]],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": 0,
                        "segmentation": {"size": [one.height, one.width], "counts": instance["mask"]},
                    }
                )
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.json").write_text(json.dumps(document))
    out.print(f"{len(images)} frames with {len(annotations)} proposed instances in {folder}")


@captures.command("forget")
@click.argument("picture")
@click.option("--reason", default="", help="Why, for the record; it must not describe the picture.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@settings_options
def forget(settings: Settings, picture: str, reason: str, yes: bool, as_json: bool) -> None:
    """Forget one picture everywhere: a capture's id, or the sha256 of a file. It cannot be undone.

    It goes from captures, from datasets with their history, and from the store. Decks and models that used it are
    named; they stay as they are.

    \b
    Example:
      parcelhub captures forget 1795280000000-0123456789ab --reason "request of 30 November"
    """
    if not yes and not as_json:
        click.confirm(f"Forget {picture} everywhere?", abort=True)
    named = {"capture": picture} if "-" in picture else {"sha256": picture.lower()}
    with connect(settings) as client:
        found = client.forget(reason=reason, **named)
    if as_json:
        print_json(found)
        return
    facts = [
        ("bytes", found.blob),
        ("captures removed", ", ".join(found.captures)),
        ("datasets changed", ", ".join(found.datasets)),
        ("decks that used it", ", ".join(found.decks)),
        ("models that saw it", ", ".join(found.models)),
        *(("stays", f"{name}: {why}") for name, why in found.kept.items()),
    ]
    for name, value in facts:
        if value:
            out.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
