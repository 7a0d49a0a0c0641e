"""`parcelhub refresh`: when a cell's variant is trained again, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from hub.errors import InputError
from hub.schemas.refresh import Refresh, RefreshPolicy, RefreshPolicyIn, RefreshPolicySet, RefreshRun

if TYPE_CHECKING:
    from hub.settings import Settings

note_option = click.option("--note", default="", help="Why.")


@click.group()
def refresh() -> None:
    """Train a cell's variant again on new labels: by rule, or now."""


@refresh.command("show")
@click.argument("cell")
@click.option("--history", is_flag=True, help="Every policy that the cell had.")
@json_option
@settings_options
def show(settings: Settings, cell: str, history: bool, as_json: bool) -> None:
    """Show a cell's policy, what it says now and why, and the newest refreshes.

    \b
    Example:
      parcelhub refresh show dock-7
    """
    with connect(settings) as client:
        found = client.refresh(cell)
        versions = client.refresh_policies(cell) if history else []
    if as_json:
        print_json(versions if history else found)
        return
    if history:
        rows = table(f"Policies of {cell}", "version", "set by", "when", "note", "policy")
        for one in versions:
            rows.add_row(str(one.version), one.set_by, when(one.set_at or ""), one.note, _short(one.policy))
        out.print(rows)
        return
    _tell(found)


@refresh.command("set")
@click.argument("cell")
@click.option("--labels", multiple=True, metavar="TEAM/NAME", help="A dataset that new labels come into; repeatable.")
@click.option("--min-labels", type=click.IntRange(1, 1_000_000), help="So many new labelled images are enough.")
@click.option("--min-gain", help="So much expected gain (0 to 1) is enough as well; `never` for never.")
@click.option("--min-hours", type=click.FloatRange(0, 24 * 366), help="At most one refresh in so many hours.")
@click.option("--hours", metavar="BEGIN-END", help="When one may start, as 22:00-06:00.")
@click.option("--time-zone", help="Of these hours, as Europe/Berlin.")
@click.option("--minutes", type=click.FloatRange(0, 24 * 60, min_open=True), help="The budget of the training.")
@click.option("--tolerance", type=click.FloatRange(0, 1), help="What a slice of the history may lose, in AP50.")
@click.option(
    "--promote",
    type=click.Choice(["off", "ask", "evidence"]),
    help="What is offered goes to the robots: by evidence, when a person says so (and the timeline asks), or no word.",
)
@click.option(
    "--promote-until", type=click.Choice(["station", "beta", "fleet"]), help="The last stage that the rule goes to."
)
@click.option("--on/--off", "enabled", default=None, help="Whether the rule may start refreshes.")
@note_option
@json_option
@settings_options
def set_(
    settings: Settings,
    cell: str,
    labels: tuple[str, ...],
    min_labels: int | None,
    min_gain: str | None,
    min_hours: float | None,
    hours: str | None,
    time_zone: str | None,
    minutes: float | None,
    tolerance: float | None,
    promote: str | None,
    promote_until: str | None,
    enabled: bool | None,
    note: str,
    as_json: bool,
) -> None:
    """Declare a cell's policy; what is not named stays as it is.

    \b
    Example:
      parcelhub refresh set dock-7 --min-labels 50 --hours 22:00-06:00 --time-zone Europe/Berlin
    """
    changes: dict[str, Any] = {
        "labels": list(labels) or None,
        "min_labels": min_labels,
        "min_hours_between": min_hours,
        "time_zone": time_zone,
        "max_minutes": minutes,
        "tolerance": tolerance,
        "promote": promote,
        "promote_until": promote_until,
        "enabled": enabled,
    }
    if hours is not None:
        changes["begin"], _, changes["end"] = hours.replace(" ", "").partition("-")
    named = {name: value for name, value in changes.items() if value is not None}
    if min_gain is not None:
        named["min_gain"] = None if min_gain == "never" else _number(min_gain)
    with connect(settings) as client:
        before = client.refresh(cell).policy
        try:
            wanted = msgspec.convert(msgspec.to_builtins(before.policy) | named, RefreshPolicyIn)
        except msgspec.ValidationError as error:
            raise InputError(f"not a policy: {error}") from error
        made = client.set_refresh_policy(cell, RefreshPolicySet(policy=wanted, note=note, expected=before.version))
    _say_policy(made, as_json=as_json)


@refresh.command("pause")
@click.argument("cell")
@note_option
@json_option
@settings_options
def pause(settings: Settings, cell: str, note: str, as_json: bool) -> None:
    """Let the rule wait until somebody resumes it. What runs goes on.

    \b
    Example:
      parcelhub refresh pause dock-7 --note "the line is being rebuilt"
    """
    with connect(settings) as client:
        _say_policy(client.pause_refresh(cell, note), as_json=as_json)


@refresh.command("resume")
@click.argument("cell")
@note_option
@json_option
@settings_options
def resume(settings: Settings, cell: str, note: str, as_json: bool) -> None:
    """Let the rule go on.

    \b
    Example:
      parcelhub refresh resume dock-7
    """
    with connect(settings) as client:
        _say_policy(client.pause_refresh(cell, note, paused=False), as_json=as_json)


@refresh.command("now")
@click.argument("cell")
@json_option
@settings_options
def now(settings: Settings, cell: str, as_json: bool) -> None:
    """Start a refresh by hand, whatever hours and numbers the policy asks for.

    \b
    Example:
      parcelhub refresh now dock-7
    """
    with connect(settings) as client:
        _say_run(client.refresh_now(cell), as_json=as_json)


@refresh.command("veto")
@click.argument("cell")
@click.argument("run")
@note_option
@json_option
@settings_options
def veto(settings: Settings, cell: str, run: str, note: str, as_json: bool) -> None:
    """Stop a refresh, or put away the candidate that it offers.

    \b
    Example:
      parcelhub refresh veto dock-7 3f9a1c2b4d5e --note "the labels of Tuesday are wrong"
    """
    with connect(settings) as client:
        _say_run(client.veto_refresh(cell, run, note), as_json=as_json)


@refresh.command("undo")
@click.argument("cell")
@click.argument("run")
@note_option
@json_option
@settings_options
def undo(settings: Settings, cell: str, run: str, note: str, as_json: bool) -> None:
    """Take back what a refresh offered: every stage that it has goes back, and its variant is put away.

    \b
    Example:
      parcelhub refresh undo dock-7 3f9a1c2b4d5e
    """
    with connect(settings) as client:
        _say_run(client.undo_refresh(cell, run, note), as_json=as_json)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--min-gain must be a number or `never`, not {text!r}") from error


def _short(policy: RefreshPolicyIn) -> str:
    state = "off" if not policy.enabled else "paused" if policy.paused else "on"
    gain = "never" if policy.min_gain is None else f"{policy.min_gain:g}"
    return (
        f"{state}; {policy.min_labels} labels or gain {gain}; every {policy.min_hours_between:g} h, "
        f"{policy.begin}-{policy.end} {policy.time_zone}; {policy.max_minutes:g} min; tolerance {policy.tolerance:g}"
    )


def _tell(found: Refresh) -> None:
    policy = found.policy
    set_by = f"version {policy.version}, {policy.set_by}" if policy.version else "the default"
    for name, value in (
        ("policy", f"{_short(policy.policy)} ({set_by})"),
        ("labels", ", ".join(found.labels) or "no dataset; name one with --labels"),
        ("new images", f"{found.status.new_images}, {found.status.unused} of them not taken up yet"),
        ("now", f"{found.status.code}: {found.status.reason}"),
    ):
        out.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
    if not found.runs:
        return
    rows = table("Refreshes", "refresh", "asked", "by", "state", "images", "from", "made", "why")
    for one in found.runs:
        made = (one.id, when(one.asked_at), one.asked_by, one.state, str(one.new_images))
        rows.add_row(*made, one.start or "the base", one.version or "-", one.reason)
    out.print(rows)


def _say_policy(made: RefreshPolicy, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    out.print(f"version {made.version}: {_short(made.policy)}", markup=False, highlight=False, soft_wrap=True)


def _say_run(run: RefreshRun, *, as_json: bool) -> None:
    if as_json:
        print_json(run)
        return
    made = f", {run.version}" if run.version else f", job {run.job}" if run.job else ""
    said = f"refresh {run.id}: {run.state}{made}; {run.reason}"
    out.print(said, markup=False, highlight=False, soft_wrap=True)
