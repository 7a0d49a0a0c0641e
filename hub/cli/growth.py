"""`parcelhub base grow` and what belongs to it: contributions, the policy, growths."""

from __future__ import annotations

import msgspec
import rich_click as click
from rich.markup import escape

from hub.cli.common import connect, err, json_option, out, print_json, settings_options, table, when
from hub.cli.contributions import show_contribution
from hub.errors import InputError
from hub.schemas.growth import ContributionDecision, GrowthOutlook, GrowthPolicyIn, GrowthPolicySet, GrowthRun
from hub.settings import Settings


@click.command("grow")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--note", default="", help="Why, for the timelines.")
@json_option
@settings_options
def grow(settings: Settings, dry_run: bool, yes: bool, note: str, as_json: bool) -> None:
    """Train the next base on what was contributed, and move each cell to it that does not lose.

    Every variant is put on the new base with its own deck and judged on its cell's history. A cell that would lose more
    than its noise band stays on its base, which is served beside the new one.

    \b
    Example:
      parcelhub base grow --dry-run
      parcelhub base grow --yes --note "the autumn base"
    """
    with connect(settings) as client:
        plan = client.growth_outlook()
        if dry_run:
            if as_json:
                print_json(plan)
            else:
                _show_plan(plan)
            return
        if not as_json:
            _show_plan(plan)
        if not yes and not as_json:
            click.confirm("Train it", abort=True)
        run = client.grow(note)
    if as_json:
        print_json(run)
    else:
        out.print(f"the growth [bold]{run.id}[/] is {run.state}; `parcelhub base growths` follows it")


@click.command("growths")
@click.argument("run", required=False)
@click.option("--stop", is_flag=True, help="End it; cells that have not moved stay.")
@click.option("--note", default="")
@json_option
@settings_options
def growths(settings: Settings, run: str | None, stop: bool, note: str, as_json: bool) -> None:
    """The growths of the base, or one of them with what became of each cell.

    \b
    Example:
      parcelhub base growths
      parcelhub base growths 3f2a90bc1d2e --stop --note "wrong contributions"
    """
    if stop and run is None:
        raise InputError("name the growth that is to be stopped")
    with connect(settings) as client:
        found = client.growths() if run is None else [client.stop_growth(run, note) if stop else client.growth(run)]
    if as_json:
        print_json(found if run is None else found[0])
        return
    if run is not None:
        _show_run(found[0])
        return
    rows = table("Growths", "growth", "state", "from", "to", "moved", "asked at", "why")
    for one in found:
        moved = sum(each.state == "moved" for each in one.cells)
        told = f"{moved} of {len(one.cells)}"
        rows.add_row(one.id, one.state, one.start, one.base or "-", told, when(one.asked_at), escape(one.reason))
    out.print(rows)


@click.command("contributions")
@click.option("--accept", metavar="ID", help="Accept one where its test does not tell.")
@click.option("--refuse", metavar="ID", help="Refuse one.")
@click.option("--note", default="", help="Why.")
@json_option
@settings_options
def contributions(settings: Settings, accept: str | None, refuse: str | None, note: str, as_json: bool) -> None:
    """All offers that stand, for the operator.

    \b
    Example:
      parcelhub base contributions
      parcelhub base contributions --accept 5d0c66aa01ef --note "few, and the only black bags"
    """
    if accept and refuse:
        raise InputError("accept or refuse, not both")
    with connect(settings) as client:
        if accept:
            client.decide_contribution(accept, ContributionDecision(decision="accept", note=note))
        if refuse:
            client.decide_contribution(refuse, ContributionDecision(decision="refuse", note=note))
        found = client.all_contributions()
    if as_json:
        print_json(found)
        return
    for one in found:
        show_contribution(one)
    if not found:
        err.print("no offer stands")


@click.command("growth-policy")
@click.option("--set", "pairs", multiple=True, metavar="FIELD=VALUE", help="Change a field; JSON values.")
@click.option("--note", default="")
@json_option
@settings_options
def growth_policy(settings: Settings, pairs: tuple[str, ...], note: str, as_json: bool) -> None:
    """When the base grows by itself, and what a contribution must pass.

    \b
    Example:
      parcelhub base growth-policy
      parcelhub base growth-policy --set enabled=true --set min_images=500 --note "monthly is enough"
    """
    with connect(settings) as client:
        found = client.growth_policy()
        if pairs:
            values = msgspec.to_builtins(found.policy)
            for pair in pairs:
                name, mark, text = pair.partition("=")
                if not mark or name not in values:
                    raise InputError(f"--set {pair}: write FIELD=VALUE with one of {', '.join(values)}")
                try:
                    values[name] = msgspec.json.decode(text)
                except msgspec.DecodeError as error:
                    raise InputError(f"--set {pair}: {error}") from error
            try:
                policy = msgspec.convert(values, GrowthPolicyIn)
            except msgspec.ValidationError as error:
                raise InputError(str(error)) from error
            found = client.set_growth_policy(GrowthPolicySet(policy=policy, note=note, expected=found.version))
    if as_json:
        print_json(found)
        return
    rows = table(f"The growth policy, version {found.version}", "field", "value")
    for name, value in msgspec.to_builtins(found.policy).items():
        rows.add_row(name, escape(", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    out.print(rows)


def _show_plan(plan: GrowthOutlook) -> None:
    out.print(f"from [bold]{plan.start}[/]: {plan.images} images of {len(plan.contributions)} contributions")
    for one in plan.contributions:
        out.print(f"  {escape(one)}")
    out.print(f"judged on the history of {plan.judges} cells")
    out.print(f"put on the new base ({plan.minutes:.0f} minutes of training at most):")
    for one in plan.cells:
        out.print(f"  {escape(one)}")
    out.print(f"the rule: {escape(plan.rule)}")


def _show_run(run: GrowthRun) -> None:
    out.print(f"growth [bold]{run.id}[/]: {run.state}; {escape(run.reason)}")
    out.print(f"from {run.start} to {run.base or '-'}")
    rows = table("Cells", "cell", "state", "variant", "AP50", "why")
    for one in run.cells:
        figure = "-" if one.difference is None else f"{one.difference:+.3f}"
        rows.add_row(one.cell, one.state, one.version or one.start, figure, escape(one.reason))
    out.print(rows)


COMMANDS = (grow, growths, contributions, growth_policy)
"""Of `parcelhub base`."""
