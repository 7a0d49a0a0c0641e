"""`parcelhub segment`: ask as a robot does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import json_option, out, print_json, settings_options, table, write_picture
from hub.errors import InputError

if TYPE_CHECKING:
    from hub.settings import Settings
    from serving.instances import Instances


@click.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--cell", help="The cell whose variant answers.")
@click.option("--variant", help="Ask this variant (<cell>@<version>) instead of a cell's; it must be promoted.")
@click.option("--line", help="The production line that asks.")
@click.option(
    "--min-score",
    type=float,
    default=0.5,
    show_default=True,
    help="0.5 is where each variant does best on its holdout.",
)
@click.option("--timeout", type=float, default=10.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--out", "picture", type=click.Path(path_type=Path), help="Write the image with the answer drawn on it.")
@json_option
@settings_options
def segment(
    settings: Settings,
    image: Path,
    cell: str | None,
    variant: str | None,
    line: str | None,
    min_score: float,
    timeout: float,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Send an image to the robots' server over gRPC and show what it finds.

    \b
    Example:
      parcelhub segment frame.jpg --cell dock-7 --out overlay.png
    """
    if cell and variant:
        raise InputError("name a cell or a variant, not both")
    try:
        data = image.read_bytes()
    except OSError as error:
        raise InputError(f"{image}: {error.strerror}") from error
    from serving.robot.client import RobotClient

    with RobotClient(
        settings.triton_grpc, cell=cell, line=line, timeout_s=timeout, token=settings.local_robot_token()
    ) as robot:
        answer = robot.segment(data, variant=variant, min_score=min_score)
    if picture is not None:
        _draw(data, answer.instances, picture)
    found = answer.instances
    rows = [
        {"label": label, "score": round(float(score), 4), "box": [round(float(edge), 1) for edge in box]}
        for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
    ]
    if as_json:
        facts = {"served_by": answer.served_by, "request_id": answer.request_id, "instances": rows}
        print_json({**facts, "round_trip_ms": round(answer.round_trip_s * 1000, 2)})
        return
    shown = table(f"{image.name}: {len(rows)} found by {answer.served_by}", "class", "score", "box [x0, y0, x1, y1]")
    for row in rows:
        shown.add_row(str(row["label"]), f"{row['score']:.2f}", str(row["box"]))
    out.print(shown)


def _draw(data: bytes, instances: Instances, target: Path) -> None:
    from finetune.report.overlays import draw_instances
    from serving.inference.preprocess import decode_image

    write_picture(target, draw_instances(decode_image(data), instances))
