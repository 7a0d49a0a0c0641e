"""`parcelhub label push`, `pull` and `status`: pictures that are labelled in the tools that teams have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hub.cli.common import connect, err, json_option, out, print_json, settings_options, show_said, table
from hub.errors import InputError
from hub.schemas import labels as s
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.client.client import HubClient
    from hub.client.tools.tool import Tool

_TOOLS = ("label-studio", "cvat", "fiftyone")


def tool_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which tool, where it is, and where its token lies."""
    for option in (
        click.option("--project", type=click.IntRange(1), help="A project there; without it, the cell's own."),
        click.option("--token-file", type=click.Path(path_type=Path), help="Of the tool, readable by you alone. Else "
                     "LABEL_STUDIO_TOKEN or CVAT_ACCESS_TOKEN is taken from the environment."),
        click.option("--folder", type=click.Path(path_type=Path), help="For fiftyone: the dataset's folder."),
        click.option("--url", metavar="URL", help="Address of Label Studio or CVAT."),
        click.option("--to", "tool", type=click.Choice(_TOOLS), required=True, help="The tool."),
    ):  # fmt: skip
        command = option(command)
    return command


@contextmanager
def _opened(
    tool: str, cell: str, url: str | None, folder: Path | None, token_file: Path | None, project: int | None
) -> Iterator[Tool]:
    """The tool that the options name. Raises InputError, ToolError."""
    from hub.client.tools.session import read_token

    made: Tool
    if tool == "fiftyone":
        if folder is None:
            raise InputError("say where FiftyOne's dataset is: --folder DIR")
        from hub.client.tools.fiftyone import FiftyOne

        made = FiftyOne(folder, cell)
    else:
        if url is None:
            raise InputError("say where the tool answers: --url https://…")
        if tool == "cvat":
            from hub.client.tools.cvat import TOKEN_VARIABLE, Cvat

            made = Cvat(url, read_token(TOKEN_VARIABLE, token_file), cell, project)
        else:
            from hub.client.tools import label_studio

            made = label_studio.LabelStudio(url, read_token(label_studio.TOKEN_VARIABLE, token_file), cell, project)
    try:
        yield made
    finally:
        made.close()


@click.command("push")
@click.argument("cell")
@tool_options
@click.option("--event", help="Pictures of this event alone; they come into the queue first.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
@settings_options
def push(settings: Settings, /, cell: str, event: str | None, limit: int, as_json: bool, **where: Any) -> None:  # noqa: ANN401  # the options of `tool_options`
    """Send pictures that wait to another labelling tool, with what the cell's variant says of them.

    Nobody gets them at the hub meanwhile. A push that was ended half-way goes on; no picture is sent twice.

    \b
    Example:
      parcelhub label push dock-7 --to label-studio --url https://labels.acme.org
    """
    from hub.client.tools.handing import push as push_to

    with connect(settings) as client, _opened(cell=cell, **where) as tool:
        captures = None if event is None else _of_event(client, cell, event)
        done = push_to(client, tool, cell, limit=limit, captures=captures)
    more = f" ({done.found} more had got there before)" if done.found else ""
    facts = {"place": done.place, "sent": done.sent, "found": done.found}
    show_said(facts, f"{done.sent} pictures are at {done.place} now{more}", as_json=as_json)


def _of_event(client: HubClient, cell: str, event: str) -> list[str]:
    """Captures of an event in the cell; they become tasks first."""
    findings = [one for one in client.event_findings(event, limit=1000) if one.cell == cell]
    captures = list(dict.fromkeys(one.capture for one in findings))
    if captures:
        client.fill_labels(cell, s.FillIn(limit=1000))  # captures of events go before all others
    return captures


@click.command("pull")
@click.argument("cell")
@tool_options
@click.option("--give-back", is_flag=True, help="Those that nobody has begun wait at the hub again, and go there.")
@json_option
@settings_options
def pull(settings: Settings, /, cell: str, give_back: bool, as_json: bool, **where: Any) -> None:  # noqa: ANN401  # the options of `tool_options`
    """Take back what people made of the pictures at another labelling tool.

    Each answer is taken once, so that a pull can be ended and done again.

    \b
    Example:
      parcelhub label pull dock-7 --to label-studio --url https://labels.acme.org
    """
    from hub.client.tools.handing import pull as pull_from

    with connect(settings) as client, _opened(cell=cell, **where) as tool:
        done = pull_from(client, tool, cell, give_back=give_back)
    if as_json:
        print_json(
            {"place": done.place, "new": done.new, "counts": done.counts, "deleted_there": done.deleted_there,
             "given_back": done.given_back, "problems": done.problems}
        )  # fmt: skip
        return
    said = ", ".join(f"{count} {_words(state)}" for state, count in sorted(done.counts.items())) or "nothing is there"
    out.print(f"{done.new} new answers from {done.place}; {said}", markup=False, highlight=False, soft_wrap=True)
    for problem in done.problems:
        err.print(problem, markup=False, highlight=False, soft_wrap=True)


@click.command("status")
@click.argument("cell")
@json_option
@settings_options
def status(settings: Settings, cell: str, as_json: bool) -> None:
    """Show which pictures of a cell are at other labelling tools, as of the last push or pull.

    \b
    Example:
      parcelhub label status dock-7
    """
    with connect(settings) as client:
        found = client.handoffs(cell)
    if as_json:
        print_json(found)
        return
    rows = table(f"Pictures of {cell} at other tools", "place", "state", "pictures", "last change", "note")
    groups = Counter((one.place, one.state) for one in found)
    for (place, state), count in sorted(groups.items()):
        same = [one for one in found if (one.place, one.state) == (place, state)]
        rows.add_row(place, _words(state), str(count), same[-1].at, next((one.note for one in same if one.note), ""))
    out.print(rows)


@click.command("cvat-function")
def cvat_function() -> None:
    """Print the path of an auto-annotation function for `cvat-cli`, which needs parcelhub in its environment.

    \b
    Example:
      cvat-cli --server-host https://cvat.acme.org task auto-annotate 42 \\
          --function-file "$(parcelhub label cvat-function)" -p cell=str:dock-7
    """
    from importlib.util import find_spec

    found = find_spec("hub.client.tools.cvat_function")
    if found is None or found.origin is None:
        raise InputError("this installation lacks the function's file")
    click.echo(found.origin)


def _words(state: str) -> str:
    return {
        "sending": "on the way", "out": "not begun", "predicted": "not begun (a proposal alone)",
        "removed": "removed there", "conflict": "labelled here meanwhile", "late": "changed there too late",
    }.get(state, state)  # fmt: skip


COMMANDS = (push, pull, status, cvat_function)
