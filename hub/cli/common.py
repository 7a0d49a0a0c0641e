"""What the commands share: options, output for people and for scripts, and how errors end a command."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import rich_click as click
from rich.console import Console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from hub.client.client import HubClient, ProgressCallback
    from hub.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
DEBUG_VARIABLE = "PARCELHUB_DEBUG"

PIPED_COLUMNS = 240


def _columns() -> int | None:
    """Columns of the output: a terminal's own, or so many that no word is broken where a script or a file reads it."""
    return None if sys.stdout.isatty() else PIPED_COLUMNS


out = Console(width=_columns())
err = Console(stderr=True)


def _set_debug(_: click.Context, __: click.Parameter, value: bool) -> None:
    if value:  # an environment variable, so that child processes hear of it too
        os.environ[DEBUG_VARIABLE] = "1"


def debugging() -> bool:
    """Whether errors are shown with their traceback; child processes have the same answer."""
    return bool(os.environ.get(DEBUG_VARIABLE))


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks and debug logs."
)


def settings_options(command: Callable[Concatenate[Settings, P], R]) -> Callable[..., R]:
    """Add --data, --hub and --debug; the command gets the settings they make as its first argument."""

    @click.option("--data", type=click.Path(path_type=Path), help="The hub's data folder [PARCELHUB_DATA].")
    @click.option("--hub", "hub_url", metavar="URL", help="Address of the hub [PARCELHUB_HUB_URL].")
    @debug_option
    @functools.wraps(command)
    def wrapper(data: Path | None, hub_url: str | None, *args: P.args, **kwargs: P.kwargs) -> R:
        from hub.settings import Settings

        return command(Settings.load(data=data, hub_url=hub_url), *args, **kwargs)

    return wrapper


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def connect(settings: Settings) -> HubClient:
    """The client of these settings (imported here: it brings an HTTP library along)."""
    from hub.client.client import HubClient

    return HubClient.of(settings)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def table(title: str, *columns: str) -> Table:
    """An empty table. Its first column, by which a row is asked for, is never broken."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number == 0)
    return made


def given(**wanted: object) -> dict[str, str]:
    """What was asked for, as parameters of an address: what is None was not."""
    return {name: str(value) for name, value in wanted.items() if value is not None}


def show_rows(
    found: Sequence[T], title: str, columns: Sequence[str], row: Callable[[T], Sequence[str]], *, as_json: bool
) -> None:
    """Print a list: as JSON, or as a table with one row each."""
    if as_json:
        print_json(found)
        return
    rows = table(title, *columns)
    for one in found:
        rows.add_row(*row(one))
    out.print(rows)


def show_said(found: object, said: str, *, as_json: bool) -> None:
    """Print what became of something: as JSON, or in a sentence."""
    if as_json:
        print_json(found)
    else:
        out.print(said, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def counting(what: str) -> Iterator[ProgressCallback]:
    """A progress bar on stderr for work that counts files."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def weighing(what: str) -> Iterator[ProgressCallback]:
    """A progress bar on stderr for work that counts bytes, with its rate and the time that is left."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at that moment: a stream that was put in its place may be closed by then."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


def set_up_logging() -> None:
    """Log lines of long-running commands, on stderr."""
    from hub.accounts.redaction import redact_logs

    redact_logs()
    level = logging.DEBUG if debugging() else logging.INFO
    line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level, format=line, handlers=[_Stderr()], force=True)
    for chatty in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def when(timestamp: str) -> str:
    """A time of the API, short enough for a table: `2026-11-20 19:10` (UTC)."""
    return timestamp[:16].replace("T", " ")


def write_picture(target: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 [H, W, 3] RGB. Raises InputError if that is no picture format."""
    import cv2

    from hub.errors import InputError

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        written = cv2.imwrite(str(target), pixels[:, :, ::-1])
    except cv2.error:
        written = False
    if not written:
        raise InputError(f"{target}: cannot be written as a picture (.png, .jpg)")


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """The folder itself, or what a .zip holds, in a folder that vanishes again. Raises InputError, DatasetError."""
    if not source.is_file():
        yield source
        return
    import tempfile
    import zipfile

    from hub.errors import InputError

    if not zipfile.is_zipfile(source):
        raise InputError(f"{source}: is a file and no ZIP; give the folder with the images and labels, or a ZIP of it")
    from finetune.datasets.archive import unpack

    with tempfile.TemporaryDirectory(prefix="parcelhub-zip-") as folder:
        target = Path(folder, source.stem or "dataset")
        unpack(source, target)
        yield target
