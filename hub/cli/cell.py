"""`parcelhub cell`: the robot work cells."""

from __future__ import annotations

import rich_click as click

from hub.cli.common import connect, json_option, out, print_json, settings_options, table
from hub.settings import Settings


@click.group()
def cell() -> None:
    """Robot work cells: create, list."""


@cell.command("create")
@click.argument("name")
@click.option("--description", default="", help="Site, line, camera, robot.")
@json_option
@settings_options
def create(settings: Settings, name: str, description: str, as_json: bool) -> None:
    """Create a cell.

    \b
    Example:
      parcelhub cell create dock-7 --description "Hall 2, inbound, overhead camera"
    """
    with connect(settings) as client:
        made = client.create_cell(name, description)
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
    rows = table("Cells", "cell", "fleet", "beta", "station", "description")
    for one in cells:
        stages = routing["cells"].get(one.name, {})
        served = [stages.get(stage) or "-" for stage in ("fleet", "beta", "station")]
        rows.add_row(one.name, *served, one.description)
    out.print(rows)
