"""`parcelhub events`: what new or failing packages have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import rich_click as click

from hub.cli.common import connect, given, json_option, out, print_json, settings_options, show_rows, when
from hub.schemas.events import Event, EventState

if TYPE_CHECKING:
    from hub.settings import Settings

STATES = click.Choice(get_args(EventState))


@click.group()
def events() -> None:
    """What new or failing packages have in common, and what learning it would gain."""


@events.command("list")
@click.option("--cell", help="Those that show in one cell.")
@click.option("--state", type=STATES, help="In one state alone.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@json_option
@settings_options
def list_(settings: Settings, cell: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List events, the one whose learning would gain most first.

    \b
    Example:
      parcelhub events list --state new
    """
    with connect(settings) as client:
        found = client.package_events(**given(limit=limit, cell=cell, state=state))
    show_rows(
        found,
        "Events",
        ("event", "name", "state", "seen", "cells", "failed", "last seen"),
        lambda one: (
            *(one.id, one.name, one.state, str(one.findings), ", ".join(each.cell for each in one.cells)),
            *(f"{one.failed} of {one.picks}" if one.picks else "-", when(one.last_seen)),
        ),
        as_json=as_json,
    )


@events.command("show")
@click.argument("event_id")
@click.option("--pictures", type=click.Path(path_type=Path), help="Write typical pictures into this folder.")
@json_option
@settings_options
def show(settings: Settings, event_id: str, pictures: Path | None, as_json: bool) -> None:
    """Show one event: where, how often, at what cost, and why it ranks where it does.

    \b
    Example:
      parcelhub events show 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 --pictures .
    """
    with connect(settings) as client:
        found = client.package_event(event_id)
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            for one in found.typical:
                (pictures / f"{one.id}.jpg").write_bytes(client.finding_picture(one.id))
    if as_json:
        print_json(found)
        return
    _tell(found)


@events.command("name")
@click.argument("event_id")
@click.argument("name")
@json_option
@settings_options
def name_(settings: Settings, event_id: str, name: str, as_json: bool) -> None:
    """Give an event a name.

    \b
    Example:
      parcelhub events name 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 "black bags of the new shop"
    """
    with connect(settings) as client:
        _done(client.change_event(event_id, name=name), as_json)


@events.command("state")
@click.argument("event_id")
@click.argument("state", type=STATES)
@click.option("--note", help="Why.")
@json_option
@settings_options
def state_(settings: Settings, event_id: str, state: str, note: str | None, as_json: bool) -> None:
    """Move an event to another state.

    \b
    Example:
      parcelhub events state 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 watched
    """
    with connect(settings) as client:
        _done(client.change_event(event_id, state=cast("EventState", state), note=note), as_json)


@events.command("merge")
@click.argument("event_id")
@click.argument("other")
@json_option
@settings_options
def merge(settings: Settings, event_id: str, other: str, as_json: bool) -> None:
    """Put another event into this one: they are the same.

    \b
    Example:
      parcelhub events merge 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 0c1d2e3f405162738495a6b7c8d9eafb
    """
    with connect(settings) as client:
        _done(client.merge_events(event_id, other), as_json)


@events.command("split")
@click.argument("event_id")
@click.argument("findings", nargs=-1)
@click.option("--name", default="", help="What the new event is called.")
@json_option
@settings_options
def split(settings: Settings, event_id: str, findings: tuple[str, ...], name: str, as_json: bool) -> None:
    """Let findings found an event of their own; without any, the event is grouped anew in two.

    \b
    Example:
      parcelhub events split 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 --name "silver bags"
    """
    with connect(settings) as client:
        _done(client.split_event(event_id, list(findings), name), as_json)


def _done(found: Event, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        _tell(found)


def _tell(one: Event) -> None:
    facts = [
        ("event", one.id),
        ("name", one.name),
        ("state", one.state),
        ("why", one.why),
        ("cells", ", ".join(f"{c.cell} ({c.findings})" for c in one.cells)),
        ("first seen", when(one.first_seen)),
        ("last seen", when(one.last_seen)),
        ("note", one.note),
        ("changed by", one.changed_by),
    ]
    for name, value in facts:
        if value:
            out.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
