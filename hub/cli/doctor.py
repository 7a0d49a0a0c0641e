"""`parcelhub doctor`: is this machine ready?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click
from rich.text import Text

from hub.cli.common import json_option, out, print_json, settings_options, table

if TYPE_CHECKING:
    from hub.settings import Settings

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command()
@json_option
@settings_options
def doctor(settings: Settings, as_json: bool) -> int:
    """Examine this machine; exit code 1 if something is missing.

    \b
    Example:
      parcelhub doctor
      parcelhub doctor --json | jq '.[] | select(.status == "fail")'
    """
    from hub.stack.doctor import examine

    checks = examine(settings)
    if as_json:
        print_json(checks)
    else:
        rows = table("parcelhub doctor", "", "check", "found", "what to do")
        for check in checks:
            rows.add_row(Text(check.status, style=STYLES[check.status]), check.name, check.found, check.advice)
        out.print(rows)
    return 1 if any(check.status == "fail" for check in checks) else 0
