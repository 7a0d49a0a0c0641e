"""`parcelhub team`: who works together, and what they may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from hub.cli.common import connect, json_option, out, print_json, settings_options, table

if TYPE_CHECKING:
    from hub.settings import Settings

GIB = 1024**3


@click.group()
def team() -> None:
    """Teams: create, list, show, add, remove, quota."""


@team.command("create")
@click.argument("name")
@click.option("--fullname", help="The name for people to read (default: NAME).")
@json_option
@settings_options
def create(settings: Settings, name: str, fullname: str | None, as_json: bool) -> None:
    """Make a team: a namespace for datasets and cells that several users write.

    \b
    Example:
      parcelhub team create acme --fullname "ACME Logistics"
    """
    with connect(settings) as client:
        made = client.put_team(name, fullname or name)
    if as_json:
        print_json(made)
    else:
        out.print(f"team [bold]{made.name}[/]; add its people: parcelhub team add {made.name} USER")


@team.command("list")
@json_option
@settings_options
def list_(settings: Settings, as_json: bool) -> None:
    """List your teams; the operator sees all.

    \b
    Example:
      parcelhub team list
    """
    with connect(settings) as client:
        found = client.teams()
    if as_json:
        print_json(found)
        return
    rows = table("Teams", "team", "name", "members")
    for one in found:
        rows.add_row(one.name, escape(one.fullname), ", ".join(one.members) or "-")
    out.print(rows)


@team.command("show")
@click.argument("name")
@json_option
@settings_options
def show(settings: Settings, name: str, as_json: bool) -> None:
    """Show a team: its people, its quota and what it uses of it.

    \b
    Example:
      parcelhub team show acme
    """
    with connect(settings) as client:
        one, quota = client.team(name), client.quota(name)
    if as_json:
        print_json({"team": one, "quota": quota})
        return
    rows = table(f"{one.name}: {', '.join(one.members) or 'nobody'}", "what", "used", "allowed")
    rows.add_row("running jobs", str(quota.running_used), str(quota.running))
    rows.add_row("queued jobs", str(quota.queued_used), str(quota.queued))
    rows.add_row("minutes today (UTC)", f"{quota.minutes_used:.1f}", f"{quota.minutes_per_day:g}")
    rows.add_row("stored GiB", f"{quota.bytes_used / GIB:.2f}", f"{quota.bytes / GIB:.2f}")
    out.print(rows)


@team.command("add")
@click.argument("name")
@click.argument("user")
@settings_options
def add(settings: Settings, name: str, user: str) -> None:
    """Take a user into a team.

    \b
    Example:
      parcelhub team add acme ann
    """
    with connect(settings) as client:
        one = client.set_member(name, user, member=True)
    out.print(f"[bold]{one.name}[/]: {', '.join(one.members)}")


@team.command("remove")
@click.argument("name")
@click.argument("user")
@settings_options
def remove(settings: Settings, name: str, user: str) -> None:
    """Take a user out of a team.

    \b
    Example:
      parcelhub team remove acme ann
    """
    with connect(settings) as client:
        one = client.set_member(name, user, member=False)
    out.print(f"[bold]{one.name}[/]: {', '.join(one.members) or 'nobody'}")


@team.command("delete")
@click.argument("name")
@settings_options
def delete(settings: Settings, name: str) -> None:
    """Take a team away; its datasets and cells stay.

    \b
    Example:
      parcelhub team delete acme
    """
    with connect(settings) as client:
        client.delete_team(name)
    out.print(f"deleted team [bold]{name}[/]")


@team.command("quota")
@click.argument("name")
@click.option("--running", type=click.IntRange(0), help="Jobs at the same time.")
@click.option("--queued", type=click.IntRange(0), help="Jobs that wait.")
@click.option("--gib", type=click.FloatRange(0), help="GiB of files.")
@click.option("--minutes", type=click.FloatRange(0), help="Minutes of jobs a day (UTC).")
@json_option
@settings_options
def quota(
    settings: Settings,
    name: str,
    running: int | None,
    queued: int | None,
    gib: float | None,
    minutes: float | None,
    as_json: bool,
) -> None:
    """Set what a team may use; what is not named is the hub's default.

    \b
    Example:
      parcelhub team quota acme --running 2 --minutes 240
    """
    from hub.schemas.resources import QuotaIn

    size = None if gib is None else int(gib * GIB)
    wanted = QuotaIn(running=running, queued=queued, bytes=size, minutes_per_day=minutes)
    with connect(settings) as client:
        now = client.set_quota(name, wanted)
    if as_json:
        print_json(now)
    else:
        said = f"{now.running} running, {now.queued} queued, {now.minutes_per_day:g} minutes a day"
        out.print(f"[bold]{now.team}[/]: {said}, {now.bytes / GIB:.1f} GiB")
