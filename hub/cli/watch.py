"""Following a job on the terminal: a progress bar fed by its event stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from hub.cli.common import err, out, table
from hub.errors import JobFailedError

if TYPE_CHECKING:
    from hub.client import HubClient
    from hub.schemas import Job


def follow(client: HubClient, job_id: str) -> Job:
    """Show the job's stage, step, rate and time left until it ends; raise if it did not finish."""
    columns = (TextColumn("{task.description:<12}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=err) as bar:
        task = bar.add_task("waiting", total=None, note="")
        for event in client.events(job_id):
            if event.kind == "progress":
                total = event.data["total"] or None
                bar.update(
                    task,
                    description=event.data["stage"],
                    completed=event.data["step"],
                    total=total,
                    note=progress_note(event.data),
                )
            else:
                note = str(event.data.get("reason") or "")
                bar.update(task, description=event.data["state"], note=note[:100])
    job = client.job(job_id)
    if job.state != "finished":
        raise JobFailedError(f"job {job.id} {job.state}" + (f": {job.error}" if job.error else ""))
    return job


def progress_note(progress: dict[str, Any]) -> str:
    parts = [str(progress["message"])] if progress.get("message") else []
    if progress.get("images_per_second"):
        parts.append(f"{progress['images_per_second']:.1f} images/s")
    if progress.get("eta_seconds"):
        parts.append(f"{progress['eta_seconds']:.0f} s left")
    return ", ".join(parts)


def show_result(job: Job) -> None:
    """How good the new variant is beside the base, on images neither has seen."""
    got = job.metrics
    rows = table(f"{job.version}, on {got.get('images_holdout', '?')} held-out images", "", "mask AP", "AP50")
    for name, key in (("base", "base"), ("variant", "variant")):
        rows.add_row(name, *(percent(got.get(f"{key}_{metric}")) for metric in ("ap", "ap50")))
    out.print(rows)
    out.print(f"serve it: parcelhub model promote {job.version}")


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
