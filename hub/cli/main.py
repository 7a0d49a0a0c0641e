"""The entry of the `parcelhub` command: the group, and how a command's error reaches the person."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import rich_click as click

from hub import __version__
from hub.cli import base, bench, cell, dataset, demo, doctor, evaluate, finetune, model, scenes, segment, service, token
from hub.cli.common import debugging, err
from hub.errors import exit_code_of, is_expected

click.rich_click.COMMAND_GROUPS = {
    "parcelhub": [
        {"name": "Start here", "commands": ["demo", "up", "doctor"]},
        {"name": "Your cell", "commands": ["cell", "dataset", "finetune", "model", "segment"]},
        {"name": "The shared base", "commands": ["base", "eval", "scenes", "bench"]},
        {"name": "Parts of the service", "commands": ["hub", "serve", "worker", "job"]},
    ]
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="parcelhub")
def cli() -> None:
    """One universal package-segmentation model, and a variant of it for every robot cell.

    \b
    Example:
      parcelhub demo          everything once, on a cell it makes up
      parcelhub up            the hub, its worker and Triton
    """


for command in (
    *(service.up, service.hub, service.serve, service.worker, service.job),
    *(doctor.doctor, demo.demo, segment.segment),
    *(
        cell.cell,
        token.token,
        dataset.dataset,
        finetune.finetune,
        model.model,
        base.base,
        evaluate.evaluate,
        scenes.scenes,
        bench.bench,
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
