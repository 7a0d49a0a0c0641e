"""What the benchmarks' commands share: options, a place to work in, a filled serving folder, files of figures."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import rich_click as click

from hub.cli.common import err
from hub.errors import InputError
from hub.settings import SHIPPED

if TYPE_CHECKING:
    from serving.folder.routing import RoutingTable
    from serving.triton.config import TritonConfig

base_option = click.option(
    "--base",
    "base_dir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The shipped base, if not.",
)
threads_option = click.option("--threads", type=int, help="Threads of the model's arithmetic [default: torch decides].")
json_file = click.option("--json", "target", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures.")


@contextmanager
def workplace(folder: Path | None = None) -> Iterator[Path]:
    """`folder`, made where it is missing and kept, or else one that vanishes."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="parcelhub-bench-") as made:
        yield Path(made)


@contextmanager
def filled_serving(
    base_dir: Path | None,
    *,
    variants: int,
    hot: int,
    threads: int | None,
    rank: int = 8,
    rows: int | None = None,
    shared: bool = False,
) -> Iterator[tuple[TritonConfig, Path, RoutingTable]]:
    """A serving folder with so many random variants, in a place that vanishes, and how to run Triton on it."""
    from benchmarks.serving.folder import make_folder
    from hub.locks import free_ports
    from serving.triton.config import TritonConfig
    from serving.triton.scheduler import Batching

    with workplace() as place:
        say(f"{variants} variants of rank {rank}")
        folder = place / "serving"
        routing = make_folder(folder, base_dir or SHIPPED, variants=variants, rank=rank)
        grpc, http, metrics = free_ports("127.0.0.1", 3)
        config = TritonConfig(
            place / "data",
            folder,
            grpc_port=grpc,
            http_port=http,
            metrics_port=metrics,
            hot_variants=hot,
            torch_threads=threads,
            telemetry=place / "telemetry",
            batching=Batching(rows=rows),
            shared_memory=shared,
        )
        yield config, folder, routing


def machine(when: Literal["before", "after"]) -> dict[str, Any]:
    """What figures were made on; the load is that of the minute before this call, which comes so to the measuring."""
    import torch

    load = os.getloadavg()[0]
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "torch": torch.__version__, f"load_{when}": load}


def write_figures(figures: object, target: Path | None) -> None:
    """As JSON to `target`, if there is one: all of it, or what was there before."""
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f"{target.name}.part")
        draft.write_text(json.dumps(figures, indent=2) + "\n")
        draft.replace(target)


def numbers(text: str, *, most: int = 1_000_000) -> list[int]:
    """Whole numbers from 1 to `most`, separated by commas. Raises InputError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{text!r}: whole numbers separated by commas are wanted") from error
    if min(found) < 1 or max(found) > most:
        raise InputError(f"{text!r}: numbers from 1 to {most} are wanted")
    return found


def say(text: str) -> None:
    """A line of progress."""
    err.print(text, style="dim")
