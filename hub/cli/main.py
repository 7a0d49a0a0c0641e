"""The entry of the `parcelhub` command: the group, and how a command's error reaches the person."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rich_click as click

from hub.cli.lazy import LazyGroup, Place

PLACES = {
    "up": Place("hub.cli.service", "up", "Run the hub, Triton and the worker over one data folder, until Ctrl-C."),
    "hub": Place("hub.cli.service", "hub", "Run the REST service alone."),
    "serve": Place("hub.cli.service", "serve", "Run Triton alone, on the serving folder that a hub keeps."),
    "worker": Place(
        "hub.cli.service",
        "worker",
        "Run jobs that are queued at the hub, one at a time; light ones, such as the check of a dataset, beside it.",
    ),
    "job": Place("hub.cli.service", "job", "Jobs, seen from inside."),
    "doctor": Place("hub.cli.doctor", "doctor", "Examine this machine; exit code 1 if something is missing."),
    "demo": Place(
        "hub.cli.demo",
        "demo",
        "Start a hub of its own, fine-tune a variant for a new cell, serve it, and show what it is worth.",
    ),
    "segment": Place(
        "hub.cli.segment",
        "segment",
        "Send an image to the robots' server over gRPC and show what it finds.",
    ),
    "cell": Place("hub.cli.cell", "cell", "Robot work cells: create, list, change, delete."),
    "team": Place("hub.cli.team", "team", "Teams: create, list, show, add, remove, quota."),
    "token": Place("hub.cli.token", "token", "Tokens of people, teams and robots: create, list, revoke."),
    "webhook": Place("hub.cli.webhook", "webhook", "Webhooks: create, list, test, deliveries, delete."),
    "audit": Place(
        "hub.cli.audit",
        "audit",
        "Show the changes that were made at the hub, newest first: who, what, when, from where.",
    ),
    "backup": Place(
        "hub.cli.registry",
        "backup",
        "Back up a hub, running or stopped: the catalog of one moment, and every blob that is not in the backup yet.",
    ),
    "restore": Place(
        "hub.cli.registry",
        "restore",
        "Restore a backup into an empty data folder, and examine it; then start the hub on it.",
    ),
    "dataset": Place("hub.cli.dataset", "dataset", "Datasets: check, convert, push, pull, list, show, offer, delete."),
    "finetune": Place("hub.cli.finetune", "finetune", "Fine-tunes: submit, watch, list, cancel, retry, logs."),
    "model": Place(
        "hub.cli.model",
        "model",
        "Bases and variants: list, show, promote, rollback; where they come from and who answers for them.",
    ),
    "registry": Place(
        "hub.cli.registry",
        "registry",
        "What the hub stores: examine it, remove what nobody needs; the keys that it signs with.",
    ),
    "outcomes": Place("hub.cli.outcomes", "outcomes", "What the picks did: success rates, and reporting by hand."),
    "captures": Place("hub.cli.outcomes", "captures", "Frames that were kept from production."),
    "alerts": Place("hub.cli.alerts", "alerts", "What is wrong with the cells' cameras."),
    "refresh": Place("hub.cli.refresh", "refresh", "Train a cell's variant again on new labels: by rule, or now."),
    "failures": Place("hub.cli.failures", "failures", "Why picks failed."),
    "events": Place(
        "hub.cli.events",
        "events",
        "What new or failing packages have in common, and what learning it would gain.",
    ),
    "label": Place(
        "hub.cli.label",
        "label",
        "Pictures that a person is to label, on the page `/ui/label` or by a program.",
    ),
    "rollout": Place("hub.cli.rollout", "rollout", "Who serves a cell's lines, and how new variants are judged."),
    "site": Place("hub.cli.site", "site", "Serving sites: their tokens, and what they observe."),
    "robot": Place("hub.cli.rollout", "robot", "Robots' tokens."),
    "base": Place("hub.cli.base", "base", "The universal base: train one, judge one."),
    "eval": Place(
        "hub.cli.evaluate",
        "evaluate",
        "Mask AP with intervals, boundary AP, per class and size, and how far the scores can be trusted.",
    ),
    "scenes": Place("hub.cli.scenes", "scenes", "Generated scenes of packages with exact masks."),
    "bench": Place(
        "hub.cli.benchmarks",
        "bench",
        "Benchmarks: the generator, the registry, what the shared base is worth. Needs a checkout of the project.",
    ),
}
"""Every command: its module is imported when it is asked for. What its help begins with is here once more
(tests/hub/cli/test_cli_speed.py)."""

click.rich_click.COMMAND_GROUPS = {
    "parcelhub": [
        {"name": "Start here", "commands": ["demo", "up", "doctor"]},
        {"name": "Your cell", "commands": ["cell", "dataset", "finetune", "model", "segment"]},
        {
            "name": "In production",
            "commands": [
                "outcomes",
                "captures",
                "alerts",
                "refresh",
                "rollout",
                "robot",
                "site",
                "failures",
                "events",
                "label",
            ],
        },
        {"name": "What is stored", "commands": ["registry", "backup", "restore"]},
        {"name": "Who may do what", "commands": ["team", "token", "webhook", "audit"]},
        {"name": "The shared base", "commands": ["base", "eval", "scenes", "bench"]},
        {"name": "Parts of the service", "commands": ["hub", "serve", "worker", "job"]},
    ]
}


def _show_version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from hub import __version__

        click.echo(f"parcelhub, version {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, places=PLACES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """One universal package-segmentation model, and a variant of it for every robot cell.

    \b
    Example:
      parcelhub demo          everything once, on a cell it makes up
      parcelhub up            the hub, its worker and Triton

    \b
    Exit codes:
      0  done                     3  there is no such thing
      1  it failed                4  refused: rights, quota or gate
      2  bad input or usage       5  conflict: it exists, it moved on
      130  interrupted
    """


def run(args: Sequence[str]) -> int:
    """Run a command line. Returns the exit code; errors are told on stderr, each by its own sentence."""
    try:
        result = cli.main(args=list(args), prog_name="parcelhub", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        from hub.cli.common import err

        err.print("interrupted", style="yellow")
        return 130
    except Exception as error:
        from hub.cli.common import debugging, err
        from hub.error_table import exit_code_of, is_expected

        if debugging():
            err.print_exception()
        elif is_expected(error):
            err.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        else:
            said = f"error: {type(error).__name__}: {error}"
            err.print(said, style="bold red", markup=False, highlight=False, soft_wrap=True)
            err.print("This was not expected; --debug shows where it happened.", style="dim")
        return exit_code_of(error)
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of the distribution."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
