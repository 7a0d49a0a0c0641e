"""How a contribution is shown in a terminal."""

from __future__ import annotations

from rich.markup import escape

from hub.cli.common import out, table, when
from hub.schemas.growth import Contribution


def show_contribution(one: Contribution) -> None:
    """State, reasons, and what it did for whom."""
    out.print(f"[bold]{escape(one.dataset)}[/]@{one.commit[:12]}: {one.images} images, [bold]{one.state}[/] ({one.id})")
    out.print(f"  {escape(one.reason)}")
    for said in one.checks:
        out.print(f"  - {escape(said)}")
    if one.progress:
        out.print(f"  {escape(one.progress)}")
    for each in one.credits:
        out.print(f"  {each.base} learnt from {each.images} of its images:")
        rows = table("", "cell", "AP50", "what became of it")
        for gain in each.cells:
            figure = "-" if gain.difference is None else f"{gain.difference:+.3f}"
            rows.add_row(escape(gain.cell or "another team's cell"), figure, gain.state)
        out.print(rows)
    for moment in one.moments:
        out.print(f"  {when(moment.at)} {moment.state} by {escape(moment.who)}: {escape(moment.reason)}")
