"""`parcelhub bench`: the way to the benchmarks, which are in a checkout of the project and not in the wheel."""

from __future__ import annotations

import importlib
from typing import cast

import rich_click as click

from hub.errors import InputError

_COMMANDS = "benchmarks.cli.bench"


class _Benchmarks(click.RichGroup):
    """The commands of `benchmarks.cli.bench`, loaded when one of them is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return _group().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _group().get_command(ctx, cmd_name)


def _group() -> click.Group:
    """Raises InputError where the benchmarks are not."""
    try:
        module = importlib.import_module(_COMMANDS)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "benchmarks":
            raise
        raise InputError(
            "the benchmarks are not part of the installed package: run `parcelhub bench` in a checkout of the project, "
            "after `make setup`"
        ) from error
    return cast("click.Group", module.bench)


@click.group(cls=_Benchmarks)
def bench() -> None:
    """Benchmarks: the generator, the registry, what the shared base is worth. Needs a checkout of the project."""
