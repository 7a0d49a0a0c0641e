"""`parcelhub audit`: who changed what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from hub.error_table import EXIT_FAILURE

if TYPE_CHECKING:
    from hub.settings import Settings


@click.command()
@click.option("--who", help="Of one user or token alone.")
@click.option("--action", help="Of one kind alone, create_commit for instance.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--verify", is_flag=True, help="Compute the log's chain of digests again; code 1 if it is broken.")
@json_option
@settings_options
def audit(settings: Settings, who: str | None, action: str | None, limit: int, verify: bool, as_json: bool) -> int:
    """Show the changes that were made at the hub, newest first: who, what, when, from where.

    \b
    Example:
      parcelhub audit --who ann
      parcelhub audit --verify
    """
    with connect(settings) as client:
        if verify:
            checked = client.check_audit()
            if as_json:
                print_json(checked)
            elif checked.whole:
                out.print(f"{checked.entries} entries, all as they were written; newest {checked.head}")
            else:
                out.print(f"[bold red]entry {checked.broken_at} is not what it was[/]")
            return 0 if checked.whole else EXIT_FAILURE
        wanted = {key: value for key, value in (("who", who), ("action", action)) if value}
        found = client.audit(limit=limit, **wanted)
    if as_json:
        print_json(found)
        return 0
    rows = table("Changes", "no", "when", "who", "what", "to", "from", "detail")
    for one in found:
        what = one.action if one.status < 400 else f"{one.action} (refused)"
        detail = ", ".join(f"{key}: {str(value)[:40]}" for key, value in one.detail.items())
        cells = (one.who, what, one.subject, one.address, detail)
        rows.add_row(str(one.number), when(one.at), *(escape(cell) for cell in cells))
    out.print(rows)
    return 0
