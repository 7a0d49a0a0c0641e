"""`parcelhub label`: pictures that wait for a person, and what becomes of their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import rich_click as click

from hub.cli.common import connect, json_option, out, print_json, settings_options, show_said, table
from hub.cli.label_tools import COMMANDS
from hub.schemas import labels as s

if TYPE_CHECKING:
    from hub.client.client import HubClient
    from hub.settings import Settings


@click.group()
def label() -> None:
    """Pictures that a person is to label, on the page `/ui/label` or by a program."""


@label.command("list")
@click.option("--cell", help="The pictures of one cell; without it, the cells.")
@click.option(
    "--state",
    type=click.Choice(["open", "taken", "labelled", "second_look", "skipped", "removed"]),
    help="In one state.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
@settings_options
def list_(settings: Settings, cell: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List the queues, or the pictures of one, what is asked first before.

    \b
    Example:
      parcelhub label list --cell dock-7 --state open
    """
    with connect(settings) as client:
        if cell is None:
            cells = client.label_cells()
            if as_json:
                print_json(cells)
                return
            rows = table("Labelling", "cell", "to label", "second look", "labelled", "not in a dataset yet", "dataset")
            for queue in cells:
                counts = queue.counts
                waiting = counts.get("open", 0) + counts.get("taken", 0)
                rows.add_row(queue.cell, str(waiting), str(counts.get("second_look", 0)),
                             str(counts.get("labelled", 0)), str(queue.waiting), queue.dataset or "-")  # fmt: skip
            out.print(rows)
            return
        wanted = {"limit": str(limit)} | ({"state": state} if state else {})
        found = client.label_tasks(cell, **wanted)
    if as_json:
        print_json(found)
        return
    rows = table(f"Pictures of {cell}", "task", "rank", "state", "source", "proposed by", "held by")
    for one in found:
        rows.add_row(one.id, f"{one.rank:.3f}", one.state, one.source, one.proposed_by or "-", one.held_by or "-")
    out.print(rows)


@label.command("fill")
@click.argument("cell")
@click.option("--dataset", help="Pictures of this dataset (<team>/<name>) that have no labels, in place of captures.")
@click.option("--empty-too", is_flag=True, help="Of the dataset: pictures that are said to be empty, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
@settings_options
def fill(settings: Settings, cell: str, dataset: str | None, empty_too: bool, limit: int, as_json: bool) -> None:
    """Put more pictures into a queue: the newest captures of the cell, or those of a dataset.

    \b
    Example:
      parcelhub label fill dock-7 --limit 50
    """
    with connect(settings) as client:
        made = client.fill_labels(cell, s.FillIn(limit=limit, dataset=dataset, empty_too=empty_too))
    show_said({"made": made}, f"{made} new pictures in the queue of {cell}", as_json=as_json)


@label.command("next")
@click.argument("cell")
@click.option("--out", "folder", type=click.Path(path_type=Path), help="Write the picture and its regions there.")
@json_option
@settings_options
def next_(settings: Settings, cell: str, folder: Path | None, as_json: bool) -> None:
    """Take the next picture of a queue; it is yours for ten minutes.

    \b
    Example:
      parcelhub label next dock-7 --out .
    """
    with connect(settings) as client:
        work = client.next_label_task(cell)
        if work is not None and folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            data = client.label_image(work.task.id)
            suffix = ".png" if data[:4] == b"\x89PNG" else ".jpg"
            (folder / f"{work.task.id}{suffix}").write_bytes(data)
            (folder / f"{work.task.id}.json").write_bytes(msgspec.json.encode(work))
    if as_json:
        print_json(work)
        return
    if work is None:
        out.print("nothing waits")
        return
    task = work.task
    out.print(
        f"{task.id}: {len(work.regions)} regions proposed by {task.proposed_by or 'nobody'}; "
        f"label it at {settings.url}/ui/label/cells/{cell}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


@label.command("propose")
@click.argument("cell")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="The most pictures.")
@click.option("--timeout", type=float, default=10.0, show_default=True, help="Seconds to wait for an answer.")
@json_option
@settings_options
def propose(settings: Settings, cell: str, limit: int, timeout: float, as_json: bool) -> None:
    """Ask the robots' server, as a robot of the cell does, about pictures that have no proposal yet.

    Captures come with the answer that the robot got; pictures of a dataset do not.

    \b
    Example:
      parcelhub label propose dock-7
    """
    from serving.robot.client import RobotClient

    made = 0
    token = settings.local_robot_token()
    with (
        connect(settings) as client,
        RobotClient(settings.triton_grpc, cell=cell, timeout_s=timeout, token=token) as robot,
    ):
        for task in _unproposed(client, cell, limit):
            answer = robot.segment(client.label_image(task.id), min_score=0.2)
            found = answer.instances
            masks = [s.Mask(size=(found.height, found.width), counts=one.decode()) for one in found.masks]
            scores = [min(max(float(score), 0.0), 1.0) for score in found.scores]
            said = s.ProposalIn(proposed_by=answer.served_by, labels=list(found.labels), scores=scores, masks=masks)
            client.propose_labels(task.id, said)
            made += 1
    show_said({"proposed": made}, f"{made} pictures have a proposal now", as_json=as_json)


def _unproposed(client: HubClient, cell: str, limit: int) -> list[s.Task]:
    return [one for one in client.label_tasks(cell, state="open", limit="1000") if not one.proposed_by][:limit]


@label.command("export")
@click.argument("cell")
@json_option
@settings_options
def export(settings: Settings, cell: str, as_json: bool) -> None:
    """Make a commit of the cell's dataset out of what is labelled.

    \b
    Example:
      parcelhub label export dock-7
    """
    with connect(settings) as client:
        made = client.export_labels(cell)
    said = "nothing waits"
    if made is not None:
        said = f"{made.pictures} pictures with {made.instances} instances are in {made.dataset} (batch {made.id})"
    show_said(made, said, as_json=as_json)


@label.command("undo")
@click.argument("cell")
@click.argument("batch")
@json_option
@settings_options
def undo(settings: Settings, cell: str, batch: str, as_json: bool) -> None:
    """Take a batch of labels out of its dataset again; its pictures wait anew.

    \b
    Example:
      parcelhub label undo dock-7 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071
    """
    with connect(settings) as client:
        done = client.undo_labels(cell, batch)
    show_said(done, f"{done.pictures} pictures were taken out of {done.dataset}", as_json=as_json)


@label.command("stats")
@click.argument("cell")
@json_option
@settings_options
def stats(settings: Settings, cell: str, as_json: bool) -> None:
    """Show what labelling a cell cost, and what became of what was proposed.

    \b
    Example:
      parcelhub label stats dock-7
    """
    with connect(settings) as client:
        found = client.label_stats(cell)
    if as_json:
        print_json(found)
        return
    many = max(found.pictures, 1)
    for name, value in (
        ("pictures labelled", str(found.pictures)),
        ("accepted as proposed", str(found.accepted_as_proposed)),
        ("seconds a picture", f"{found.seconds / many:.1f}"),
        ("clicks a picture", f"{found.clicks / many:.1f}"),
        ("keys a picture", f"{found.keys / many:.1f}"),
        ("regions kept", str(found.regions_kept)),
        ("regions changed or drawn", str(found.regions_changed)),
        ("regions deleted", str(found.regions_deleted)),
        *((f"by {person}", str(count)) for person, count in found.people.items()),
    ):
        out.print(f"{name}: {value}", markup=False, highlight=False)


@label.command("settings")
@click.argument("cell")
@click.option("--dataset", help="Where labels go (<team>/<name>, private); '' for the cell's own.")
@click.option("--second-look/--one-look", default=None, help="Whether another person looks at each picture.")
@click.option(
    "--rule", type=click.Choice(["gain", "doubt", "novelty", "diversity", "random"]), help="What is asked first."
)
@json_option
@settings_options
def settings_(
    settings: Settings,
    cell: str,
    dataset: str | None,
    second_look: bool | None,
    rule: s.Rule | None,
    as_json: bool,
) -> None:
    """Choose how a cell's pictures are labelled. What is not named stays as it is.

    \b
    Example:
      parcelhub label settings dock-7 --second-look --dataset acme/dock-7-labels
    """
    with connect(settings) as client:
        found = client.set_label_cell(cell, s.LabelSettings(dataset=dataset, second_look=second_look, rule=rule))
    looks = "another person looks at each picture" if found.second_look else "one person looks at each picture"
    said = f"{cell}: {looks}; labels go to {found.dataset or 'no dataset yet'}; asked first by {found.rule}"
    show_said(found, said, as_json=as_json)


for _command in COMMANDS:
    label.add_command(_command)
