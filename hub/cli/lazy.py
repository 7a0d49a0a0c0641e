"""Groups of commands whose modules are imported when one of them is asked for: `--help` of a group imports none."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import rich_click as click


class Place(NamedTuple):
    """Where a command is, and what the group's help says of it: the first sentence of its own help."""

    module: str
    name: str
    says: str


class LazyGroup(click.RichGroup):
    """A group that knows its commands by their places, beside those that were added to it."""

    def __init__(self, *args: Any, places: Mapping[str, Place] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.places = dict(places or {})
        self._helping = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, by name."""
        return sorted({*super().list_commands(ctx), *self.places})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; while the group's help is written, one that has its name and its sentence alone. Raises
        TypeError where the place names something else."""
        place = self.places.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        if self._helping:
            return click.RichCommand(name=cmd_name, help=place.says)
        found = getattr(importlib.import_module(place.module), place.name)
        if not isinstance(found, click.Command):
            raise TypeError(f"{place.module}.{place.name} is no command")
        return found

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The group's help, from its own table."""
        self._helping = True
        try:
            super().format_help(ctx, formatter)  # type: ignore[arg-type]  # the library narrows what click gives it
        finally:
            self._helping = False
