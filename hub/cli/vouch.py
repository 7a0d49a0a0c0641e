"""`parcelhub model verify|lineage|statement|sign|approve|policy`: what models come from and who answers for them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from hub.cli.common import connect, err, json_option, out, print_json, settings_options, table
from hub.error_table import EXIT_FAILURE
from hub.errors import InputError

if TYPE_CHECKING:
    from hub.schemas.provenance import LineageOut
    from hub.settings import Settings

MAX_POLICY_FILE = 256 * 1024
stage_option = click.option(
    "--stage", type=click.Choice(["station", "beta", "fleet"]), default="fleet", show_default=True
)


@click.command("verify")
@click.argument("name")
@json_option
@settings_options
def verify(settings: Settings, name: str, as_json: bool) -> int:
    """Check again, from digests alone, what was published and decided.

    NAME is a cell, a variant or a base. Every decision about the cell is replayed, every statement's signature and
    every file's bytes are checked. Exit code 1 if anything differs; it is named.

    \b
    Example:
      parcelhub model verify dock-7
      parcelhub model verify base/universal@v1
    """
    with connect(settings) as client:
        found = client.verify(name)
    if as_json:
        print_json(found)
        return 0 if found.ok else EXIT_FAILURE
    counted = f"{found.decisions} decisions, {found.statements} statements, {found.files} files"
    for note in found.notes:
        out.print(f"note: {note}", style="dim", markup=False)
    if found.ok:
        out.print(f"[bold green]confirmed[/] {name}: {counted}")
        return 0
    rows = table(f"{name}: not as it must be", "of what", "problem", "in words")
    for one in found.findings:
        rows.add_row(one.subject[:60], one.problem, one.detail)
    out.print(rows)
    err.print(f"{len(found.findings)} things differ ({counted} looked at)", style="bold red")
    return EXIT_FAILURE


@click.command("lineage")
@click.argument("name")
@click.option("--up", "direction", flag_value="up", default="up", help="What it was made from (the default).")
@click.option("--down", "direction", flag_value="down", help="What was made of it, and which robots run that.")
@json_option
@settings_options
def lineage(settings: Settings, name: str, direction: str, as_json: bool) -> None:
    """Show what a model was made from, or what was made of a dataset.

    NAME is a variant, a base, a dataset (all its states, or one: team/name@COMMIT), a deck's digest, or the scenes of
    a version of the generator (scenes/v2).

    \b
    Example:
      parcelhub model lineage dock-7@v3
      parcelhub model lineage acme/dock-frames --down
      parcelhub model lineage base/universal@v1
      parcelhub model lineage scenes/v2 --down
    """
    with connect(settings) as client:
        found = client.lineage(name, direction)
    if as_json:
        print_json(found)
        return
    _show_lineage(found)


def _show_lineage(found: LineageOut) -> None:
    from rich.tree import Tree

    up = found.direction == "up"
    nodes = {node.id: node for node in found.nodes}
    under: dict[str, list[str]] = {}
    for edge in found.edges:
        here, there = (edge.child, edge.parent) if up else (edge.parent, edge.child)
        under.setdefault(here, []).append(there)
    shown: set[str] = set()

    def grow(tree: Tree, id_: str) -> None:
        for next_id in sorted(under.get(id_, [])):
            again = next_id in shown
            branch = tree.add(f"{_label(nodes[next_id])}{' (see above)' if again else ''}")
            if not again:
                shown.add(next_id)
                grow(branch, next_id)

    for root in (node for node in found.nodes if node.distance == 0):
        tree = Tree(_label(root))
        grow(tree, root.id)
        out.print(tree)
    if not up:
        if not found.served:
            out.print("no robot runs any of it")
            return
        rows = table("Runs on", "cell", "stage", "model", "robots")
        for one in found.served:
            rows.add_row(one.cell, one.stage, one.model, ", ".join(one.robots) or "-")
        out.print(rows)
    if found.truncated:
        err.print("there is more than is shown", style="yellow")


def _label(node: Any) -> str:  # noqa: ANN401  # a LineageNode, whose module is imported late
    from rich.markup import escape

    name = node.name[:12] if node.kind == "deck" else node.name
    text = f"[bold]{node.kind}[/] {escape(name)} [dim]@{node.revision[:12]}[/]"
    if node.kind == "scenes" and "count" in node.facts:
        text += f" [dim]{node.facts['count']:,} scenes, seed {node.facts['seed']}[/]"
    if uploads := node.facts.get("uploads"):
        people = ", ".join(dict.fromkeys(str(one["by"]) for one in uploads))
        text += f" [dim]uploaded by {escape(people)}[/]"
    if stages := node.facts.get("stages"):
        text += " [green]" + ", ".join(f"{one['stage']} of {one['cell']}" for one in stages) + "[/]"
    return text


@click.command("statement")
@click.argument("name")
@click.option("--out", "target", type=click.Path(path_type=Path), help="Write the signed DSSE envelope to this file.")
@json_option
@settings_options
def statement(settings: Settings, name: str, target: Path | None, as_json: bool) -> None:
    """Show the signed statement about a variant or a base: its files and what it was made from.

    \b
    Example:
      parcelhub model statement dock-7@v3
      parcelhub model statement dock-7@v3 --out dock-7-v3.dsse.json
    """
    with connect(settings) as client:
        one = client.statement(name)
    if target is not None:
        target.write_text(one.envelope, encoding="utf-8")
        err.print(f"wrote {target}")
        return
    if as_json:
        print_json(json.loads(base64.b64decode(json.loads(one.envelope)["payload"])))
        return
    rows = table(f"{name}: signed {one.signed_at[:16]} by key {one.keyid[:12]}", "", "")
    for made_from in one.predicate["buildDefinition"]["resolvedDependencies"]:
        rows.add_row(made_from["name"], f"{made_from['uri'].split(':', 3)[-1]}  {made_from['digest']['sha256'][:16]}")
    rows.add_row("run", str(one.predicate["runDetails"]["metadata"]["invocationId"]))
    for path, sha256 in sorted(one.files.items()):
        rows.add_row(path, sha256)
    out.print(rows)


@click.command("sign")
@click.argument("name")
@json_option
@settings_options
def sign(settings: Settings, name: str, as_json: bool) -> None:
    """Vouch for a base or a variant that was brought in by hand. For the operator.

    \b
    Example:
      parcelhub model sign base/universal@v2
    """
    with connect(settings) as client:
        one = client.sign(name)
    if as_json:
        print_json(one)
        return
    out.print(f"[bold]{name}[/] is signed by key {one.keyid[:12]}: {len(one.files)} files")


@click.command("approve")
@click.argument("variant")
@stage_option
@click.option("--note", default="", help="Why; kept in the decision record.")
@json_option
@settings_options
def approve(settings: Settings, variant: str, stage: str, note: str, as_json: bool) -> None:
    """Approve of a variant's move to a stage, for somebody else to make.

    \b
    Example:
      parcelhub model approve dock-7@v3 --note "watched 200 picks"
    """
    if "@" not in variant:
        raise InputError(f"{variant!r} does not name a variant (<cell>@<version>)")
    with connect(settings) as client:
        given = client.approve(variant, stage=stage, note=note)
    if as_json:
        print_json(given)
        return
    out.print(f"[bold]{given.by}[/] approves of {given.cell}@{given.version} at {given.stage}")


@click.group("policy")
def policy() -> None:
    """The rules of promotion: show, set."""


@policy.command("show")
@settings_options
def show_policy(settings: Settings) -> None:
    """Print the policy in force as JSON.

    \b
    Example:
      parcelhub model policy show
    """
    with connect(settings) as client:
        print_json(client.policy())


@policy.command("set")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
@settings_options
def set_policy(settings: Settings, file: Path, as_json: bool) -> None:
    """Put the policy in a YAML or JSON file in force. For the operator.

    \b
    Example:
      parcelhub model policy set policy.yaml
    """
    import yaml

    if file.stat().st_size > MAX_POLICY_FILE:
        raise InputError(f"{file}: a policy has at most {MAX_POLICY_FILE} bytes")
    try:
        declared = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: {error}") from error
    if not isinstance(declared, dict):
        raise InputError(f"{file}: a policy is an object with `rules`")
    with connect(settings) as client:
        made = client.set_policy(declared)
    if as_json:
        print_json(made)
        return
    out.print(f"policy {made.digest[:12]} is in force")


COMMANDS = (verify, lineage, statement, sign, approve, policy)
"""For the group `model`."""
