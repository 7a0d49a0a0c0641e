"""`parcelhub rollout` and `parcelhub robot`: lines, canary, trials, and the robots' tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from hub.errors import InputError
from hub.schemas import serving as v

if TYPE_CHECKING:
    from hub.settings import Settings


@click.group()
def rollout() -> None:
    """Who serves a cell's lines, and how new variants are judged."""


@rollout.command("show")
@click.argument("cell")
@json_option
@settings_options
def show(settings: Settings, cell: str, as_json: bool) -> None:
    """Show a cell's stages, lines, canary and trials.

    \b
    Example:
      parcelhub rollout show dock-7
    """
    with connect(settings) as client:
        _show(client.rollout(cell), as_json)


@rollout.command("lines")
@click.argument("cell")
@click.argument("lines", nargs=-1, metavar="[LINE=STAGE]...")
@json_option
@settings_options
def lines(settings: Settings, cell: str, lines: tuple[str, ...], as_json: bool) -> None:
    """Put lines on the station's or the beta variant; all that are not named are on the fleet's.

    \b
    Example:
      parcelhub rollout lines dock-7 test-bench=station line-3=beta
    """
    said = {}
    for one in lines:
        line, _, stage = one.partition("=")
        if not line or stage not in ("station", "beta"):
            raise InputError(f"{one!r}: LINE=station or LINE=beta is wanted")
        said[line] = stage
    with connect(settings) as client:
        _show(client.set_lines(cell, said), as_json)


@rollout.command("share")
@click.argument("cell")
@click.argument("share", type=click.FloatRange(0, 1))
@json_option
@settings_options
def share(settings: Settings, cell: str, share: float, as_json: bool) -> None:
    """Give the beta variant to a share of a cell's other lines and robots: the canary.

    \b
    Example:
      parcelhub rollout share dock-7 0.1
    """
    with connect(settings) as client:
        _show(client.set_share(cell, share), as_json)


@rollout.command("trial")
@click.argument("cell")
@click.option("--stage", type=click.Choice(["station", "beta", "fleet"]), required=True)
@click.option("--good", type=float, help="Success rate of a good variant; that of the one before it by default.")
@click.option("--bad", type=float, help="Success rate of a bad one.")
@click.option("--alpha", type=float, default=0.01, show_default=True, help="How often a good one may be rolled back.")
@click.option("--beta", type=float, default=0.05, show_default=True, help="How often a bad one may pass.")
@click.option("--picks", type=int, default=0, help="Decide after at most so many picks.")
@click.option("--rollback/--no-rollback", default=True, show_default=True, help="Roll back by itself when it is bad.")
@json_option
@settings_options
def trial(
    settings: Settings,
    cell: str,
    stage: str,
    good: float | None,
    bad: float | None,
    alpha: float,
    beta: float,
    picks: int,
    rollback: bool,
    as_json: bool,
) -> None:
    """Judge a stage's variant by its picks from now on (each promotion starts one by itself).

    \b
    Example:
      parcelhub rollout trial dock-7 --stage station --good 0.95 --bad 0.9 --picks 200
    """
    asked = v.TrialIn(
        stage=stage,  # type: ignore[arg-type]  # click has checked it
        good=good,
        bad=bad,
        alpha=alpha,
        beta=beta,
        picks=picks,
        rollback=rollback,
    )
    with connect(settings) as client:
        made = client.start_trial(cell, asked)
    if as_json:
        print_json(made)
        return
    out.print(f"trial {made.id}: is {made.variant} rather {made.good:g} or {made.bad:g}?")


def _show(found: v.Rollout, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    stages = table(f"{found.cell} (routing table {found.routing_version})", "stage", "variant", "lines")
    for stage in ("station", "beta", "fleet"):
        mine = ", ".join(sorted(line for line, at in found.lines.items() if at == stage))
        if stage == "beta" and found.beta_share:
            mine = f"{mine}{' and ' if mine else ''}{found.beta_share:.0%} of the others"
        place = found.placement.get(stage)
        state = "" if place is None or place.state == "in place" else f" ({place.state}: {escape(place.reason)})"
        stages.add_row(
            stage, f"{getattr(found, stage) or '-'}{state}", mine or ("the rest" if stage == "fleet" else "-")
        )
    out.print(stages)
    trials = table("Trials", "variant", "stage", "state", "picks", "success", "95 %", "started")
    for one in found.trials:
        rate = "-" if one.rate is None else f"{one.rate:.1%}"
        trials.add_row(
            one.variant,
            one.stage,
            one.state,
            str(one.picks),
            rate,
            f"{one.low:.1%} to {one.high:.1%}",
            when(one.started_at),
        )
    out.print(trials)


@click.group()
def robot() -> None:
    """Robots' tokens."""


@robot.command("add")
@click.argument("name")
@click.option("--cell", "cells", multiple=True, required=True, help="A cell it may ask for; '*' is every one.")
@json_option
@settings_options
def add(settings: Settings, name: str, cells: tuple[str, ...], as_json: bool) -> None:
    """Make a robot's token: good for asking about its cells and reporting outcomes, for nothing else.

    \b
    Example:
      parcelhub robot add arm-3 --cell dock-7
    """
    with connect(settings) as client:
        token = client.add_robot(name, list(cells))
    if as_json:
        print_json({"token": token})
        return
    out.print(f"{token}\n(shown this once; Triton asks for it with `parcelhub serve --check-robots`)")


@robot.command("list")
@json_option
@settings_options
def list_(settings: Settings, as_json: bool) -> None:
    """List the robots.

    \b
    Example:
      parcelhub robot list
    """
    with connect(settings) as client:
        found = client.robots()
    if as_json:
        print_json(found)
        return
    rows = table("Robots", "id", "name", "cells", "made at")
    for one in found:
        rows.add_row(one.id, one.name, ", ".join(one.cells), when(one.created_at))
    out.print(rows)


@robot.command("remove")
@click.argument("robot_id")
@settings_options
def remove(settings: Settings, robot_id: str) -> None:
    """End a robot's token; Triton refuses it within a second.

    \b
    Example:
      parcelhub robot remove 3f9a2c61b0de
    """
    with connect(settings) as client:
        client.remove_robot(robot_id)
    out.print("removed")
