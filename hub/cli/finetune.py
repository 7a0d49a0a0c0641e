"""`parcelhub finetune`: ask for a variant of the base for a cell, and watch it being made."""

from __future__ import annotations

import rich_click as click

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from hub.cli.watch import follow, show_result
from hub.settings import Settings


@click.group()
def finetune() -> None:
    """Fine-tunes: submit, watch, list, cancel."""


@finetune.command("submit")
@click.option("--cell", required=True, help="The cell that the variant is for.")
@click.option("--dataset", required=True, metavar="TEAM/NAME[@REVISION]", help="What to learn from.")
@click.option("--base", default="", metavar="BASE/NAME@TAG", help="The base to start from (default: the newest).")
@click.option("--images", type=int, help="Use only so many labelled images (default: all).")
@click.option("--max-minutes", type=float, default=10.0, show_default=True, help="Training budget.")
@click.option("--seed", type=int, default=0, show_default=True)
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
    watch: bool,
    as_json: bool,
) -> None:
    """Ask for a fine-tune. Prints the job.

    \b
    Example:
      parcelhub finetune submit --cell dock-7 --dataset acme/dock-7 --watch
    """
    from hub.schemas import FinetuneIn

    name, _, revision = dataset.partition("@")
    request = FinetuneIn(
        cell=cell,
        dataset=name,
        dataset_revision=revision or "main",
        base=base,
        images=images,
        max_minutes=max_minutes,
        seed=seed,
    )
    with connect(settings) as client:
        job = client.finetune(request)
        if watch:
            job = follow(client, job.id)
    if as_json:
        print_json(job)
    elif watch:
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


@finetune.command("list")
@json_option
@settings_options
def list_(settings: Settings, as_json: bool) -> None:
    """List the fine-tunes, newest first.

    \b
    Example:
      parcelhub finetune list
    """
    with connect(settings) as client:
        jobs = client.jobs()
    if as_json:
        print_json(jobs)
        return
    rows = table("Fine-tunes", "job", "state", "cell", "dataset", "made, or why not", "asked at")
    for job in jobs:
        rows.add_row(
            job.id, job.state, job.spec.cell, job.spec.dataset, job.version or job.error or "-", when(job.created_at)
        )
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
