"""Following a job on the terminal: a progress bar fed by its event stream."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from hub.cli.common import err, out, table
from hub.errors import HubError, JobFailedError

if TYPE_CHECKING:
    from hub.client.client import HubClient
    from hub.schemas.core import Job, JobEvent, Judgement

QUIET_SECONDS = 3.0


def follow(client: HubClient, job_id: str) -> Job:
    """Show the job's stage, step, rate and time left until it ends. Raises JobFailedError if it did not finish."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=err) as bar:
        task = bar.add_task("waiting", total=None, note="")
        silent = _Silence(client, job_id, lambda said: bar.update(task, note=said))
        for event in silent.watched(client.events(job_id)):
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


class _Silence:
    """While a job says nothing, what the hub knows of it is shown: its place in the queue, its last sign of life."""

    def __init__(self, client: HubClient, job_id: str, show: Callable[[str], None]) -> None:
        self._client = client
        self._job_id = job_id
        self._show = show
        self._heard = threading.Event()
        self._ended = threading.Event()

    def watched(self, events: Iterable[JobEvent]) -> Iterator[JobEvent]:
        """The events as they come."""
        thread = threading.Thread(target=self._ask, name="job-life", daemon=True)
        thread.start()
        try:
            for event in events:
                self._heard.set()
                yield event
        finally:
            self._ended.set()
            self._heard.set()
            thread.join(timeout=QUIET_SECONDS)

    def _ask(self) -> None:
        while not self._ended.is_set():
            if self._heard.wait(QUIET_SECONDS):
                self._heard.clear()
                continue
            try:
                life = self._client.job(self._job_id).life
            except HubError:  # the stream of events tells of that
                continue
            if life and not self._heard.is_set():
                self._show(life)


def progress_note(progress: dict[str, Any]) -> str:
    """A line's end about a job's progress: message, images per second, seconds left; "" where nothing is known."""
    parts = [str(progress["message"])] if progress.get("message") else []
    if progress.get("images_per_second"):
        parts.append(f"{progress['images_per_second']:.1f} images/s")
    if progress.get("eta_seconds"):
        parts.append(f"{progress['eta_seconds']:.0f} s left")
    return ", ".join(parts)


def show_result(job: Job) -> None:
    """Whether the new variant may be used, and how good it is beside the base, on images neither has seen."""
    show_judgement(job.judgement)
    got = job.metrics
    rows = table(f"{job.version}, on {got.get('images_holdout', '?')} held-out images", "", "mask AP", "AP50")
    for name, key in (("base", "base"), ("variant", "variant")):
        rows.add_row(name, *(percent(got.get(f"{key}_{metric}")) for metric in ("ap", "ap50")))
    out.print(rows)
    stage = job.judgement.stage if job.judgement else "station"
    if stage != "candidate":
        out.print(f"serve it: parcelhub model promote {job.version} --stage {stage}")


def show_judgement(judged: Judgement | None) -> None:
    """The verdict, why, and the one thing to do next; nothing for what nobody measured."""
    if judged is None:
        return
    colour = {"ready": "bold green", "test station": "bold yellow"}.get(judged.verdict, "bold red")
    out.print(f"[{colour}]{judged.verdict}[/]: {escape(judged.reason)}", soft_wrap=True, highlight=False)
    out.print(f"next: {escape(judged.next_step)}", soft_wrap=True, highlight=False)


def percent(value: float | None) -> str:
    """A share of 0 to 1 in percent with one decimal and no sign; "-" for None."""
    return "-" if value is None else f"{100 * value:.1f}"
