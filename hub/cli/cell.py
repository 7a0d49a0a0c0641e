"""`parcelhub cell`: the robot work cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when

if TYPE_CHECKING:
    from hub.settings import Settings


@click.group()
def cell() -> None:
    """Robot work cells: create, list, change, delete."""


@cell.command("create")
@click.argument("name")
@click.option("--description", default="", help="Site, line, camera, robot.")
@click.option("--team", default="", help="Whose cell it is (default: your own team).")
@click.option("--class", "classes", multiple=True, help="What there is in it, by the base's labels; again for more.")
@json_option
@settings_options
def create(settings: Settings, name: str, description: str, team: str, classes: tuple[str, ...], as_json: bool) -> None:
    """Create a cell. The base answers it until it has a variant, better when it knows what there is.

    \b
    Example:
      parcelhub cell create dock-7 --description "Hall 2, inbound, overhead camera"
      parcelhub cell create dock-8 --class box --class poly_bag
    """
    with connect(settings) as client:
        made = client.create_cell(name, description, team=team, classes=classes)
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
    rows = table("Cells", "cell", "fleet", "beta", "station", "classes", "team", "description")
    for one in cells:
        stages = routing["cells"].get(one.name, {})
        served = [stages.get(stage) or "-" for stage in ("fleet", "beta", "station")]
        there = escape(", ".join(one.classes)) or "any"
        rows.add_row(one.name, *served, there, one.team or "-", escape(one.description))
    out.print(rows)


@cell.command("change")
@click.argument("name")
@click.option("--description", help="Site, line, camera, robot.")
@click.option("--team", help="Give it to another team; the operator's part.")
@click.option("--class", "classes", multiple=True, help="What there is in it, instead of what was said before.")
@click.option("--any-class", is_flag=True, help="Whatever the base knows may be in it.")
@json_option
@settings_options
def change(
    settings: Settings,
    name: str,
    description: str | None,
    team: str | None,
    classes: tuple[str, ...],
    any_class: bool,
    as_json: bool,
) -> None:
    """Change what is said of a cell, what there is in it, or whose it is.

    \b
    Example:
      parcelhub cell change dock-7 --description "Hall 3, outbound"
      parcelhub cell change dock-7 --class box --class padded_mailer
    """
    if classes and any_class:
        raise click.UsageError("--class and --any-class exclude each other")
    with connect(settings) as client:
        made = client.change_cell(
            name, description=description, team=team, classes=classes if classes or any_class else None
        )
    if as_json:
        print_json(made)
    else:
        there = escape(", ".join(made.classes)) or "any class"
        out.print(f"cell [bold]{made.name}[/] ({made.team or 'everybody'}; {there}): {escape(made.description)}")


@cell.command("timeline")
@click.argument("name")
@click.option("--kind", help="Steps of one kind alone: alert, labels, training, refresh, promotion.")
@click.option("--limit", type=click.IntRange(1, 500), default=30, show_default=True)
@click.option("--after", default="", help="The id of the last step of the page before.")
@json_option
@settings_options
def timeline(settings: Settings, name: str, kind: str | None, limit: int, after: str, as_json: bool) -> None:
    """Show what happened to a cell and why, newest first.

    \b
    Example:
      parcelhub cell timeline dock-7
    """
    wanted = {"limit": str(limit), "kind": kind or "", "after": after}
    with connect(settings) as client:
        steps = client.timeline(name, **wanted)
    if as_json:
        print_json(steps)
        return
    rows = table(f"Timeline of {name}", "when", "kind", "what", "why", "who")
    for one in steps:
        rows.add_row(when(one.at), one.kind, escape(one.title), escape(one.reason), escape(one.who))
    out.print(rows)
    if len(steps) == limit:
        out.print(f"older ones: --after {steps[-1].id}", markup=False, highlight=False)


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
