"""The entry of the `parcelhub` command: the group, and how a command's error reaches the person."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rich_click as click

from hub.cli import (
    alerts,
    audit,
    base,
    benchmarks,
    cell,
    dataset,
    demo,
    doctor,
    evaluate,
    events,
    failures,
    finetune,
    label,
    model,
    outcomes,
    refresh,
    registry,
    rollout,
    scenes,
    segment,
    service,
    team,
    token,
    webhook,
)
from hub.cli.common import debugging, err
from hub.error_table import exit_code_of, is_expected

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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


for command in (
    *(service.up, service.hub, service.serve, service.worker, service.job),
    *(doctor.doctor, demo.demo, segment.segment),
    *(
        cell.cell,
        team.team,
        token.token,
        webhook.webhook,
        audit.audit,
        registry.backup,
        registry.restore,
        dataset.dataset,
        finetune.finetune,
        model.model,
        registry.registry,
        outcomes.outcomes,
        outcomes.captures,
        alerts.alerts,
        refresh.refresh,
        failures.failures,
        events.events,
        label.label,
        rollout.rollout,
        rollout.robot,
        base.base,
        evaluate.evaluate,
        scenes.scenes,
        benchmarks.bench,
    ),
):
    cli.add_command(command)


def run(args: Sequence[str]) -> int:
    """Run a command line. Returns the exit code; errors are told on stderr, each by its own sentence."""
    try:
        result = cli.main(args=list(args), prog_name="parcelhub", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        err.print("interrupted", style="yellow")
        return 130
    except Exception as error:
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
