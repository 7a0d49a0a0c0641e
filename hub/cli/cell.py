"""`parcelhub cell`: the robot work cells."""

from __future__ import annotations

import rich_click as click
from rich.markup import escape

from hub.cli.common import connect, json_option, out, print_json, settings_options, table
from hub.settings import Settings


@click.group()
def cell() -> None:
    """Robot work cells: create, list, change, delete."""


@cell.command("create")
@click.argument("name")
@click.option("--description", default="", help="Site, line, camera, robot.")
@click.option("--team", default="", help="Whose cell it is (default: your own team).")
@json_option
@settings_options
def create(settings: Settings, name: str, description: str, team: str, as_json: bool) -> None:
    """Create a cell.

    \b
    Example:
      parcelhub cell create dock-7 --description "Hall 2, inbound, overhead camera"
    """
    with connect(settings) as client:
        made = client.create_cell(name, description, team=team)
    if as_json:
        print_json(made)
    else:
        out.print(f"created cell [bold]{made.name}[/]; robots that name it are answered by the base for now")


@cell.command("list")
@json_option
@settings_options
def list_(settings: Settings, as_json: bool) -> None:
    """List the cells and what serves them.

    \b
    Example:
      parcelhub cell list
    """
    with connect(settings) as client:
        cells, routing = client.cells(), client.routing()
    if as_json:
        print_json(cells)
        return
    rows = table("Cells", "cell", "fleet", "beta", "station", "team", "description")
    for one in cells:
        stages = routing["cells"].get(one.name, {})
        served = [stages.get(stage) or "-" for stage in ("fleet", "beta", "station")]
        rows.add_row(one.name, *served, one.team or "-", escape(one.description))
    out.print(rows)


@cell.command("change")
@click.argument("name")
@click.option("--description", help="Site, line, camera, robot.")
@click.option("--team", help="Give it to another team; the operator's part.")
@json_option
@settings_options
def change(settings: Settings, name: str, description: str | None, team: str | None, as_json: bool) -> None:
    """Change what is said of a cell, or whose it is.

    \b
    Example:
      parcelhub cell change dock-7 --description "Hall 3, outbound"
    """
    with connect(settings) as client:
        made = client.change_cell(name, description=description, team=team)
    if as_json:
        print_json(made)
    else:
        out.print(f"cell [bold]{made.name}[/] ({made.team or 'everybody'}): {escape(made.description)}")


@cell.command("delete")
@click.argument("name")
@settings_options
def delete(settings: Settings, name: str) -> None:
    """Forget a cell that never had a variant.

    \b
    Example:
      parcelhub cell delete dock-77
    """
    with connect(settings) as client:
        client.delete_cell(name)
    out.print(f"deleted cell [bold]{name}[/]")
