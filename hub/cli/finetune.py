"""`parcelhub finetune`: ask for a variant of the base for a cell, and watch it being made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from hub.cli.watch import follow, progress_note, show_result
from hub.errors import InputError
from hub.jobs.plain_text import plain

if TYPE_CHECKING:
    from hub.schemas.core import Job
    from hub.settings import Settings

LOG_PAUSE = 1.0


@click.group()
def finetune() -> None:
    """Fine-tunes: submit, watch, list, cancel, retry, logs."""


@finetune.command("submit")
@click.option("--cell", required=True, help="The cell that the variant is for.")
@click.option("--dataset", required=True, metavar="TEAM/NAME[@REVISION]", help="What to learn from.")
@click.option("--base", default="", metavar="BASE/NAME@TAG", help="The base to start from (default: the newest).")
@click.option("--images", type=int, help="Use only so many labelled images (default: all).")
@click.option("--max-minutes", type=float, default=10.0, show_default=True, help="Training budget.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="THEIRS=OURS",
    help="Learn the dataset's class THEIRS in the place of the base's label OURS; repeatable. The rest is found out.",
)
@click.option(
    "--image-size",
    type=click.IntRange(64, 640),
    help="Pixels a side that the variant looks at pictures in, a multiple of 32 [default: what suits the labels].",
)
@click.option("--watch/--no-watch", default=False, help="Stay and follow the job.")
@json_option
@settings_options
def submit(
    settings: Settings,
    cell: str,
    dataset: str,
    base: str,
    images: int | None,
    max_minutes: float,
    seed: int,
    mapped: tuple[str, ...],
    image_size: int | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Ask for a fine-tune. Prints the job.

    \b
    Example:
      parcelhub finetune submit --cell dock-7 --dataset acme/dock-7 --watch
      parcelhub finetune submit --cell dock-7 --dataset acme/dock-7 --map tote=box --map jiffy=padded_mailer
    """
    from hub.schemas.core import FinetuneIn

    name, _, revision = dataset.partition("@")
    request = FinetuneIn(
        cell=cell,
        dataset=name,
        dataset_revision=revision or "main",
        base=base,
        images=images,
        max_minutes=max_minutes,
        seed=seed,
        class_map=parse_map(mapped),
        image_size=image_size,
    )
    with connect(settings) as client:
        job = client.finetune(request)
        if watch:
            job = follow(client, job.id)
    _tell(job, watched=watch, as_json=as_json)


def _tell(job: Job, *, watched: bool, as_json: bool) -> None:
    if as_json:
        print_json(job)
    elif watched:
        show_result(job)
    else:
        out.print(f"job [bold]{job.id}[/] is {job.state}; follow it: parcelhub finetune watch {job.id}")


@finetune.command("watch")
@click.argument("job_id")
@json_option
@settings_options
def watch_(settings: Settings, job_id: str, as_json: bool) -> None:
    """Follow a job until it ends. Exit code 1 if it failed.

    \b
    Example:
      parcelhub finetune watch 3f9a2c61
    """
    with connect(settings) as client:
        job = follow(client, job_id)
    if as_json:
        print_json(job)
    else:
        show_result(job)


@finetune.command("show")
@click.argument("job_id")
@json_option
@settings_options
def show(settings: Settings, job_id: str, as_json: bool) -> None:
    """Show a fine-tune: where it is, or what came of it and what to do next.

    \b
    Example:
      parcelhub finetune show 3f9a2c61
    """
    with connect(settings) as client:
        job = client.job(job_id)
    if as_json:
        print_json(job)
    elif job.state == "finished":
        show_result(job)
    else:
        told = job.error or job.life
        out.print(f"job {job.id} is {job.state}" + (f": {escape(told)}" if told else ""), soft_wrap=True)


@finetune.command("list")
@click.option("--state", type=click.Choice(["queued", "running", "finished", "failed", "cancelled"]))
@click.option("--cell", help="Of one cell alone.")
@click.option("--team", help="Of one team alone.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@json_option
@settings_options
def list_(settings: Settings, state: str | None, cell: str | None, team: str | None, limit: int, as_json: bool) -> None:
    """List the fine-tunes and other jobs that you may see, newest first.

    \b
    Example:
      parcelhub finetune list --state running
    """
    wanted = {key: value for key, value in (("state", state), ("cell", cell), ("team", team)) if value}
    with connect(settings) as client:
        jobs = client.jobs(limit=limit, **wanted)
    if as_json:
        print_json(jobs)
        return
    rows = table("Jobs", "job", "kind", "state", "cell", "dataset", "where it is", "asked at")
    for job in jobs:
        told = escape(job.version or job.error or (progress_note(job.progress) if job.progress else "-"))
        rows.add_row(job.id, job.spec.kind, job.state, job.spec.cell, job.spec.dataset, told, when(job.created_at))
    out.print(rows)


@finetune.command("cancel")
@click.argument("job_id")
@json_option
@settings_options
def cancel(settings: Settings, job_id: str, as_json: bool) -> None:
    """Cancel a job that is queued or running.

    \b
    Example:
      parcelhub finetune cancel 3f9a2c61
    """
    with connect(settings) as client:
        job = client.cancel(job_id)
    if as_json:
        print_json(job)
    else:
        out.print(f"job {job.id}: " + ("cancelled" if job.state == "cancelled" else "will stop in a moment"))


@finetune.command("retry")
@click.argument("job_id")
@click.option("--watch/--no-watch", default=False, help="Stay and follow the job.")
@json_option
@settings_options
def retry(settings: Settings, job_id: str, watch: bool, as_json: bool) -> None:
    """Queue a job again that failed or was cancelled; it goes on from its last checkpoint.

    \b
    Example:
      parcelhub finetune retry 3f9a2c61 --watch
    """
    with connect(settings) as client:
        job = client.retry(job_id)
        if watch:
            job = follow(client, job.id)
    _tell(job, watched=watch, as_json=as_json)


@finetune.command("logs")
@click.argument("job_id")
@click.option("--tail", type=click.IntRange(0, 10_000), help="Only the last lines.")
@click.option("--follow", "-f", "stay", is_flag=True, help="Stay until the job ends.")
@settings_options
def logs(settings: Settings, job_id: str, tail: int | None, stay: bool) -> None:
    """Print what the processes of a job said.

    \b
    Example:
      parcelhub finetune logs 3f9a2c61 --tail 50 --follow
    """
    with connect(settings) as client:
        part = client.log_tail(job_id, tail) if tail is not None else client.log(job_id)
        while True:
            click.echo(plain(part.text), nl=False)
            if part.next >= part.size:
                if not stay or part.final:
                    return
                time.sleep(LOG_PAUSE)
            part = client.log(job_id, offset=part.next)


def parse_map(mapped: Sequence[str]) -> dict[str, str]:
    """`theirs=ours`, several times, as a class map. Raises InputError."""
    found: dict[str, str] = {}
    for text in mapped:
        theirs, sign, ours = text.partition("=")
        if not (sign and theirs.strip() and ours.strip()):
            raise InputError(f"--map {text!r} does not read THEIRS=OURS, for example --map tote=box")
        if theirs.strip() in found:
            raise InputError(f"--map names the class {theirs.strip()!r} twice")
        found[theirs.strip()] = ours.strip()
    return found
