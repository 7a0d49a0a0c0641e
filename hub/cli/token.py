"""`parcelhub token`: who may talk to the hub, and what they may do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from hub.errors import InputError

if TYPE_CHECKING:
    from hub.settings import Settings

SCOPES = ("read", "contribute", "finetune", "promote", "admin")


@click.group()
def token() -> None:
    """Tokens of people, teams and robots: create, list, revoke."""


@token.command("create")
@click.argument("name")
@click.option("--user", help="Whose token it is; the user is made if need be.")
@click.option(
    "--team",
    "teams",
    multiple=True,
    help="With --user: a namespace the user may write as well; repeatable. Alone: the team whose token it is.",
)
@click.option("--fullname", default="", help="The user's full name.")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, help="What it allows; repeatable [read].")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Days until it expires; without: never.")
@click.option("--take-over", is_flag=True, help="Read the token's value from standard input instead of making one.")
@json_option
@settings_options
def create(
    settings: Settings,
    name: str,
    user: str | None,
    teams: tuple[str, ...],
    fullname: str,
    scopes: tuple[str, ...],
    days: float | None,
    take_over: bool,
    as_json: bool,
) -> None:
    """Make a token and show it, this once: a user's, a team's (for its programs), or without both the operator's.

    \b
    Example:
      parcelhub token create line-3-uploads --team acme --scope contribute --days 90
      parcelhub token create laptop --user ann --team acme --scope read --scope contribute --scope finetune
    """
    if user is None and fullname:
        raise InputError("--fullname is about a user; name one with --user")
    if user is None and len(teams) > 1:
        raise InputError("a token is of one team; make one for each, or name a user who is in all of them with --user")
    value = sys.stdin.readline().strip() if take_over else None
    with connect(settings) as client:
        if user is not None:
            client.put_user(user, fullname=fullname, teams=list(teams) or None)
        made = client.create_token(
            name,
            list(scopes) or ["read"],
            user=user,
            team=teams[0] if user is None and teams else None,
            seconds=None if days is None else days * 86_400,
            value=value,
        )
    if as_json:
        print_json({"token": made})
    else:
        click.echo(made)


@token.command("list")
@json_option
@settings_options
def list_(settings: Settings, as_json: bool) -> None:
    """List the tokens; their values are known to nobody but their owners.

    \b
    Example:
      parcelhub token list
    """
    with connect(settings) as client:
        tokens = client.tokens()
    if as_json:
        print_json(tokens)
        return
    rows = table("Tokens", "id", "name", "user", "scopes", "made", "expires")
    for one in tokens:
        expires = when(one.expires_at) if one.expires_at else "never"
        rows.add_row(one.id, one.name, one.user or "-", " ".join(one.scopes), when(one.created_at), expires)
    out.print(rows)


@token.command("revoke")
@click.argument("token_id")
@settings_options
def revoke(settings: Settings, token_id: str) -> None:
    """End a token, by its id from the list.

    \b
    Example:
      parcelhub token revoke 3f9a2c61d04b
    """
    with connect(settings) as client:
        client.revoke_token(token_id)
    out.print(f"revoked [bold]{token_id}[/]")
