"""`parcelhub alerts`: what is wrong with the cells' cameras."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import (
    connect,
    given,
    json_option,
    out,
    print_json,
    settings_options,
    show_rows,
    show_said,
    when,
)

if TYPE_CHECKING:
    from hub.schemas.loop import Alert
    from hub.settings import Settings

note_option = click.option("--note", default="", help="What you found or did.")


@click.group()
def alerts() -> None:
    """What is wrong with the cells' cameras."""


@alerts.command("list")
@click.option("--cell", help="Of one cell alone.")
@click.option("--state", type=click.Choice(["open", "acknowledged", "closed"]), help="In one state alone.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@json_option
@settings_options
def list_(settings: Settings, cell: str | None, state: str | None, limit: int, as_json: bool) -> None:
    """List alerts, newest first.

    \b
    Example:
      parcelhub alerts list --state open
    """
    with connect(settings) as client:
        found = client.alerts(**given(limit=limit, cell=cell, state=state))
    show_rows(
        found,
        "Alerts",
        ("alert", "since", "cell", "line", "what", "state"),
        lambda one: (one.id, when(one.since), one.cell, one.line or "-", one.what, one.state),
        as_json=as_json,
    )


@alerts.command("show")
@click.argument("alert_id")
@click.option("--pictures", type=click.Path(path_type=Path), help="Write the pictures into this folder.")
@json_option
@settings_options
def show(settings: Settings, alert_id: str, pictures: Path | None, as_json: bool) -> None:
    """Show one alert and what to do about it.

    \b
    Example:
      parcelhub alerts show 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 --pictures .
    """
    with connect(settings) as client:
        found = client.alert(alert_id)
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            for name in found.pictures:
                (pictures / f"{found.id}-{name}.jpg").write_bytes(client.alert_picture(found.id, name))
    if as_json:
        print_json(found)
        return
    _tell(found)


@alerts.command("ack")
@click.argument("alert_id")
@note_option
@json_option
@settings_options
def ack(settings: Settings, alert_id: str, note: str, as_json: bool) -> None:
    """Say that somebody looks after an alert.

    \b
    Example:
      parcelhub alerts ack 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 --note "on my way"
    """
    with connect(settings) as client:
        found = client.acknowledge_alert(alert_id, note)
    show_said(found, f"{found.acknowledged_by} looks after it", as_json=as_json)


@alerts.command("close")
@click.argument("alert_id")
@note_option
@json_option
@settings_options
def close(settings: Settings, alert_id: str, note: str, as_json: bool) -> None:
    """Close an alert that was dealt with. It closes by itself when the fault is gone.

    \b
    Example:
      parcelhub alerts close 8d3f6c0b5d1e4c0f9a7b2c3d4e5f6071 --note "lens cleaned"
    """
    with connect(settings) as client:
        found = client.close_alert(alert_id, note)
    show_said(found, "closed", as_json=as_json)


def _tell(one: Alert) -> None:
    facts = [
        ("cell", one.cell),
        ("line", one.line),
        ("camera", one.camera),
        ("what", one.what),
        ("measured", one.reason),
        ("since", when(one.since)),
        ("state", one.state),
        ("looked after by", one.acknowledged_by),
        ("closed by", one.closed_by),
        ("note", one.note),
        ("what to do", one.remedy),
    ]
    for name, value in facts:
        if value:
            out.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
