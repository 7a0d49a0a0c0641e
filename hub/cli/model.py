"""`parcelhub model`: bases and variants, and which variant serves a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import rich_click as click
from rich.markup import escape

from hub.cli import vouch
from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from hub.cli.watch import percent, show_judgement
from hub.errors import InputError

if TYPE_CHECKING:
    from hub.schemas.core import Moved
    from hub.settings import Settings

stage_option = click.option(
    "--stage", type=click.Choice(["station", "beta", "fleet"]), default="fleet", show_default=True
)
note_option = click.option("--note", default="", help="Why; kept in the decision record.")


@click.group()
def model() -> None:
    """Bases and variants: list, show, promote, rollback; where they come from and who answers for them."""


for _command in vouch.COMMANDS:
    model.add_command(_command)


@model.command("list")
@json_option
@settings_options
def list_(settings: Settings, as_json: bool) -> None:
    """List the bases and the variants with their stages.

    \b
    Example:
      parcelhub model list
    """
    with connect(settings) as client:
        models = client.models()
    if as_json:
        print_json(models)
        return
    rows = table("Models", "model", "verdict", "stage", "base", "AP (base)", "AP", "made at")
    rows.columns[0].no_wrap = True  # to be copied
    for base in models.bases:
        rows.add_row(base.name, "", "base", "", "", "", when(base.created_at))
    for one in models.variants:
        quality = (percent(one.metrics.get("base_ap")), percent(one.metrics.get("variant_ap")))
        verdict = one.judgement.verdict if one.judgement else "-"
        rows.add_row(one.name, verdict, one.stage, one.base, *quality, when(one.created_at))
    out.print(rows)


@model.command("show")
@click.argument("variant")
@json_option
@settings_options
def show(settings: Settings, variant: str, as_json: bool) -> None:
    """Show one variant: what it is made of and how good it measured.

    \b
    Example:
      parcelhub model show dock-7@v3
    """
    _check(variant)
    with connect(settings) as client:
        one = client.variant(variant)
    if as_json:
        print_json(one)
        return
    show_judgement(one.judgement)
    rows = table(one.name, "", "")
    facts = {
        "stage": f"{one.stage}: promoted, not in place: {escape(one.not_in_place)}" if one.not_in_place else one.stage,
        "base": one.base,
        "dataset": one.dataset,
        "deck": one.deck,
        "commit": one.commit,
        "classes": ", ".join(f"{theirs} (base: {ours})" for ours, theirs in one.labels.items()),
        "made by job": one.job or "-",
        "made at": one.created_at,
    }
    for name, value in {**facts, **one.metrics}.items():
        rows.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    out.print(rows)


@model.command("promote")
@click.argument("variant")
@stage_option
@note_option
@click.option("--expected", metavar="VERSION", help="Refuse if another version has the stage; `base`: if any has.")
@json_option
@settings_options
def promote(settings: Settings, variant: str, stage: str, note: str, expected: str | None, as_json: bool) -> None:
    """Serve a variant to the robots of its cell, if the policy in force is content.

    \b
    Example:
      parcelhub model promote dock-7@v3
      parcelhub model promote dock-7@v3 --expected v2
    """
    _check(variant)
    counted_on = msgspec.UNSET if expected is None else None if expected == "base" else expected
    with connect(settings) as client:
        _show_move(client.promote(variant, stage=stage, note=note, expected=counted_on), as_json)


@model.command("rollback")
@click.argument("cell")
@stage_option
@note_option
@json_option
@settings_options
def rollback(settings: Settings, cell: str, stage: str, note: str, as_json: bool) -> None:
    """Serve what a cell was served before its last promotion.

    \b
    Example:
      parcelhub model rollback dock-7 --note "misses black bags"
    """
    with connect(settings) as client:
        _show_move(client.rollback(cell, stage=stage, note=note), as_json)


def _show_move(moved: Moved, as_json: bool) -> None:
    if as_json:
        print_json(moved)
        return
    now, before = moved.version or "the base", moved.previous or "the base"
    if moved.state == "promoted, not in place":
        out.print(f"[bold]{moved.cell}[/] ({moved.stage}): [bold]{now}[/] is promoted, not in place (before: {before})")
        out.print(f"the robots' server refused it: {escape(moved.reason)}", highlight=False)
        return
    out.print(f"[bold]{moved.cell}[/] ({moved.stage}) is served by [bold]{now}[/] (before: {before})")


def _check(variant: str) -> None:
    cell, _, version = variant.partition("@")
    if not cell or not version:
        raise InputError(f"{variant!r} does not name a variant (<cell>@<version>, for example dock-7@v3)")
