"""`parcelhub site`: serving sites, their tokens, and what they observe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import connect, json_option, out, print_json, settings_options, show_rows, when

if TYPE_CHECKING:
    from hub.schemas.sites import CameraStatistics
    from hub.settings import Settings


@click.group()
def site() -> None:
    """Serving sites: their tokens, and what they observe."""


@site.command("add")
@click.argument("name")
@click.option("--cell", "cells", multiple=True, required=True, help="A cell that it serves; `*`: every one. Repeat it.")
@json_option
@settings_options
def add(settings: Settings, name: str, cells: tuple[str, ...], as_json: bool) -> None:
    """Make a site's token: good for sending what it observed of its cells and for fetching what the hub wishes.

    \b
    Example:
      parcelhub site add hamburg --cell dock-7 --cell dock-8
    """
    with connect(settings) as client:
        token = client.add_site(name, list(cells))
    if as_json:
        print_json({"token": token})
    else:
        out.print(f"{token}\n(shown this once; give it to `parcelhub serve` as PARCELHUB_SITE_TOKEN)")


@site.command("list")
@json_option
@settings_options
def list_sites(settings: Settings, as_json: bool) -> None:
    """List the sites, and when each was heard last.

    \b
    Example:
      parcelhub site list
    """
    with connect(settings) as client:
        found = client.sites()
    show_rows(
        found, "sites", ("id", "name", "cells", "heard", "wishes that wait"),
        lambda one: (one.id, one.name, ", ".join(one.cells), when(one.heard_at or "never"), str(one.waiting)),
        as_json=as_json,
    )  # fmt: skip


@site.command("remove")
@click.argument("site_id")
@settings_options
def remove(settings: Settings, site_id: str) -> None:
    """End a site's token, at once.

    \b
    Example:
      parcelhub site remove 3f9a2c61b0de
    """
    with connect(settings) as client:
        client.remove_site(site_id)
    out.print("removed")


@site.command("cameras")
@click.option("--cell", help="Of one cell alone.")
@json_option
@settings_options
def cameras(settings: Settings, cell: str | None, as_json: bool) -> None:
    """Show what sites said last of the cameras: health, novelty and doubt.

    \b
    Example:
      parcelhub site cameras --cell dock-7
    """
    with connect(settings) as client:
        found = client.site_cameras(cell)
    columns = ("cell", "camera", "of", "state", "frames", "site", "at")
    show_rows(found, "cameras", columns, _row, as_json=as_json)


def _row(one: CameraStatistics) -> tuple[str, ...]:
    state = str(one.values.get("kind") or one.values.get("state") or "")
    camera = " ".join(filter(None, [one.line, one.camera])) or "-"
    return one.cell, camera, one.what, state, str(one.values.get("frames", "")), one.site, when(one.at)
