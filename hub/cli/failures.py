"""`parcelhub failures`: why picks failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import connect, given, json_option, out, print_json, settings_options, show_rows, show_said, when
from serving.observed.failure_kinds import VERDICTS, WHAT, Verdict

if TYPE_CHECKING:
    from hub.schemas.failures import Failure
    from hub.settings import Settings


@click.group()
def failures() -> None:
    """Why picks failed."""


@failures.command("list")
@click.option("--cell", help="Of one cell alone.")
@click.option("--verdict", type=click.Choice(VERDICTS), help="Of one verdict alone.")
@click.option("--since", help="Day or time of the pick, UTC.")
@click.option("--until", help="Day or time of the pick, UTC; not later.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@json_option
@settings_options
def list_(
    settings: Settings,
    cell: str | None,
    verdict: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List failed picks with their verdicts, newest first.

    \b
    Example:
      parcelhub failures list --cell dock-7 --verdict merged
    """
    with connect(settings) as client:
        found = client.failures(**given(limit=limit, cell=cell, verdict=verdict, since=since, until=until))
    show_rows(
        found,
        "Failed picks",
        ("pick", "at", "cell", "outcome", "why", "evidence"),
        lambda one: (
            *(one.id, when(one.picked_at), one.cell, one.outcome),
            *(one.what + (" (corrected)" if one.corrections else ""), one.evidence[0].text),
        ),
        as_json=as_json,
    )


@failures.command("show")
@click.argument("failure_id")
@json_option
@settings_options
def show(settings: Settings, failure_id: str, as_json: bool) -> None:
    """Show one failed pick with its evidence.

    \b
    Example:
      parcelhub failures show 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071
    """
    with connect(settings) as client:
        found = client.failure(failure_id)
    if as_json:
        print_json(found)
        return
    _tell(found)


@failures.command("correct")
@click.argument("failure_id")
@click.argument("verdict", type=click.Choice(VERDICTS))
@click.option("--note", default="", help="What you saw.")
@json_option
@settings_options
def correct(settings: Settings, failure_id: str, verdict: Verdict, note: str, as_json: bool) -> None:
    """Say what the cause was. It goes before the rules' verdict.

    \b
    Example:
      parcelhub failures correct 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 merged --note "two black bags"
    """
    with connect(settings) as client:
        found = client.correct_failure(failure_id, verdict, note)
    show_said(found, f"{found.what}, says {found.corrections[0].by}", as_json=as_json)


def _tell(one: Failure) -> None:
    facts = [
        ("cell", one.cell),
        ("line", one.line),
        ("robot", one.robot),
        ("variant", one.variant),
        ("outcome", one.outcome),
        ("picked", when(one.picked_at)),
        ("instance", None if one.instance is None else str(one.instance)),
        ("point", None if one.point is None else f"({one.point[0]:g}, {one.point[1]:g})"),
        ("gripper", one.gripper),
        ("frame", one.capture),
        ("why", one.what),
        ("the rules say", WHAT[one.judged] if one.corrections else None),
        *(("evidence", each.text) for each in one.evidence),
        *(("corrected", f"{WHAT[each.verdict]}, {each.by}, {when(each.at)} {each.note}") for each in one.corrections),
    ]
    for name, value in facts:
        if value:
            out.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
