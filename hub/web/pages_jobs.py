"""Fine-tunes: asking for one in two clicks, and following it to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import anyio
import anyio.to_thread
import msgspec
from litestar import Response, get, post
from litestar.params import HeaderParameter
from litestar.response import Redirect, ServerSentEvent, ServerSentEventMessage
from litestar.status_codes import HTTP_303_SEE_OTHER

from finetune.report.plots import loss_chart
from hub.accounts.tokens import Identity, Scope
from hub.api.jobs import EVENT_POLL_SECONDS, PING_SECONDS, life_for, require_data, visible_job
from hub.error_table import problem_of
from hub.errors import GatedError, InputError, QuotaError, UnknownCellError
from hub.http.audit import note
from hub.jobs.kinds import page_of
from hub.jobs.plain_text import plain
from hub.models.class_maps import ClassRow, known_labels, suggested
from hub.schemas import core as s
from hub.web.dependencies import Parts, Text, Web, last, to
from hub.web.guards import WebRequest, form_of, identity_of
from hub.web.pages_datasets import open_dataset, why_unusable
from hub.web.render import page
from registry.errors import InvalidNameError, NotFoundError
from registry.types import RepoId

LISTED = 40
LOG_LINES = 400
LIFE = "X-Job-Life"
_CHOICES = 500
MAX_CLASSES = 200
"""Of one dataset, for the form; with more, the class map is the command's part."""


@get("/jobs", sync_to_thread=True)
def list_jobs(request: WebRequest, web: Parts) -> Response[str]:
    """The jobs that the caller may see, newest first."""
    after = last(request, "after")
    found = web.jobs(identity_of(request), limit=LISTED + 1, after=after)
    more = found[LISTED - 1].id if len(found) > LISTED else ""
    return page(request, "jobs.html", here="jobs", jobs=found[:LISTED], more=more, after=after)


@get("/finetune", sync_to_thread=True)
def new_finetune(request: WebRequest, web: Parts) -> Response[str]:
    """The form, filled in as far as it can be: with a dataset and one cell there is only `Start` left."""
    return _form(request, web, dataset=last(request, "dataset"), cell=last(request, "cell"))


def _form(request: WebRequest, web: Web, *, problem: str = "", status: int = 200, **given: str) -> Response[str]:
    who = identity_of(request)
    datasets = [one.name for one in web.services.datasets.page(who, limit=_CHOICES) if one.commit]
    cells = [cell for cell in web.services.cells.page(limit=_CHOICES) if who.owns(cell.team) or not cell.team]
    names = [cell.name for cell in cells]
    dataset = given.get("dataset") or (datasets[0] if len(datasets) == 1 else "")
    if dataset and dataset not in datasets:
        if _readable_dataset(web, who, dataset):
            datasets.insert(0, dataset)
        else:
            dataset = ""  # nothing of an address is shown that is not a dataset of the caller's
    unusable = _why_unusable(web, who, dataset) if dataset else ""
    cell = given.get("cell") or _likely_cell(web, who, dataset, names)
    if cell and cell in {one.name for one in web.services.cells.page(limit=1, contains=cell)} and cell not in names:
        names.insert(0, cell)
    rows, labels, trouble = _classes(web, who, dataset)
    return page(
        request,
        "finetune.html",
        rows=rows,
        labels=labels,
        trouble=trouble,
        mapped={name: label for name, label in _chosen(given).items() if label},
        status=status,
        here="jobs",
        datasets=datasets,
        cells=names,
        dataset=dataset,
        cell=cell,
        new_cell=given.get("new_cell") or (dataset.partition("/")[2].lower() if dataset and not names else ""),
        minutes=given.get("minutes") or "10",
        images=given.get("images", ""),
        base=web.services.bases.newest_name(),
        problem=problem,
        unusable="" if problem == unusable else unusable,
    )


def _readable_dataset(web: Web, who: Identity, dataset: str) -> bool:
    try:
        web.services.readable(RepoId.parse(dataset, "dataset"), who)
    except (NotFoundError, InvalidNameError, GatedError):
        return False
    return True


def _why_unusable(web: Web, who: Identity, dataset: str) -> str:
    """Why no fine-tune can be made of a dataset as it is now, "" if one can or nobody looked."""
    try:
        namespace, _, name = dataset.partition("/")
        return why_unusable(web, open_dataset(web, who, namespace, name, ""))
    except (NotFoundError, InvalidNameError, GatedError):
        return ""


def _require_usable(web: Web, who: Identity, dataset: str) -> None:
    """Raises InputError for data that no fine-tune can be made of."""
    if reason := _why_unusable(web, who, dataset):
        raise InputError(reason)


def _classes(web: Web, who: Identity, dataset: str) -> tuple[list[ClassRow], list[str], str]:
    """The dataset's classes as a fine-tune would take them, the base's labels to choose from, and what is wrong."""
    base = web.services.bases.newest_name()
    if not dataset or base is None:
        return [], [], ""
    try:
        summary = web.services.datasets.summary(RepoId.parse(dataset, "dataset"), "main", who)
    except (NotFoundError, InvalidNameError, GatedError):
        return [], [], ""
    labels = web.services.bases.labels(base)
    if not labels or not summary.classes or len(summary.classes) > MAX_CLASSES:
        return [], [], ""
    rows, trouble = suggested(summary.classes, labels)
    return rows, known_labels(labels), trouble


def _chosen(fields: Mapping[str, str]) -> dict[str, str]:
    """Class to the label that the form chose for it, "" where it leaves that to us."""
    numbers = [name.removeprefix("class-") for name in fields if name.startswith("class-")][:MAX_CLASSES]
    return {fields[f"class-{number}"]: fields.get(f"label-{number}", "") for number in numbers}


def _likely_cell(web: Web, who: Identity, dataset: str, cells: list[str]) -> str:
    """The cell that this dataset was last used for, or that is called like it, or the only one."""
    for job in web.jobs(who, limit=LISTED):
        if job.spec.dataset == dataset and job.spec.cell in cells:
            return job.spec.cell
    short = dataset.partition("/")[2].lower()
    return short if short in cells else cells[0] if len(cells) == 1 else ""


@post("/finetune", status_code=HTTP_303_SEE_OTHER)
async def start_finetune(request: WebRequest, web: Parts) -> Response[Any]:
    """Ask for a fine-tune, as the API does, and go to its job."""
    fields = await form_of(request)
    return await anyio.to_thread.run_sync(_start, request, web, fields)


def _start(request: WebRequest, web: Web, fields: dict[str, str]) -> Response[Any]:
    who = identity_of(request)
    who.require(Scope.FINETUNE)
    services = web.services
    cell = fields.get("cell", "") or fields.get("new_cell", "").strip()
    try:
        asked: dict[str, object] = {"cell": cell, "dataset": fields.get("dataset", "")}
        asked["max_minutes"] = float(fields.get("minutes") or 10)
        if fields.get("images", "").strip():
            asked["images"] = int(fields["images"])
        asked["class_map"] = {name: label for name, label in _chosen(fields).items() if label}
        request_in = msgspec.convert(asked, s.FinetuneIn)
        new = None if fields.get("cell") or _is_cell(web, cell) else _own_team(who, request_in.dataset)
        if new is None:
            who.require_team(services.cells.get(cell).team, f"the cell {cell!r}")
        services.readable(RepoId.parse(request_in.dataset, "dataset"), who, files=True)
        _require_usable(web, who, request_in.dataset)
        # The new cell comes with the job or not at all.
        job = services.finetunes.request(request_in, who.owner, may_read=services.may_download(who), new_cell_of=new)
    except (msgspec.ValidationError, ValueError, InputError, QuotaError, NotFoundError) as error:
        kept = ("dataset", "new_cell", "minutes", "images")
        given = {name: value for name, value in fields.items() if name in kept or name.startswith(("class-", "label-"))}
        text = _readable(error)
        status = problem_of(error).status if isinstance(error, QuotaError | NotFoundError) else 400
        return _form(request, web, problem=text, status=status, cell=fields.get("cell", ""), **given)
    if new is not None:
        services.serving_folder.sync()  # robots may name the cell from now on; the base answers
    note(request, job=job.id, dataset_commit=job.spec.dataset_commit, base_commit=job.spec.base_commit)
    return to(f"/ui/jobs/{job.id}")


def _is_cell(web: Web, name: str) -> bool:
    try:
        web.services.cells.get(name)
    except UnknownCellError:
        return False
    return True


def _own_team(who: Identity, dataset: str) -> str:
    """A new cell is the dataset's team's, where that is the caller's own; the operator's are everybody's."""
    team = dataset.partition("/")[0].lower()
    if who.sees_all:
        return ""
    return team if team in who.namespaces else who.home.lower()


def _readable(error: Exception) -> str:
    text = str(error)
    if "$.cell" in text or "$.name" in text:
        return "A cell's name has lower-case letters, digits, '.', '_' or '-', at most 64 of them."
    if "$.dataset" in text:
        return "Choose a dataset."
    if "$.images" in text:
        return "The number of images must be between 2 and 100,000."
    if "$.max_minutes" in text:
        return "The time must be between 1 and 1,440 minutes."
    return text


# --- one job ----------------------------------------------------------------------------------------------------------


@get("/jobs/{job_id:str}", sync_to_thread=True)
def one_job(request: WebRequest, web: Parts, job_id: Text) -> Response[str]:
    """The live page of a job."""
    job = visible_job(web.services, job_id, identity_of(request))
    events = web.services.jobs.events(job_id, 0)
    progress = [event.data for event in events if event.kind == "progress"]
    losses = [
        (float(data["step"]), float(data["metrics"]["loss"]))
        for data in progress
        if data.get("stage") == "train" and "loss" in data.get("metrics", {})
    ]
    said = page_of(job)
    return page(
        request,
        "job.html",
        said=said,
        here="jobs",
        job=job,
        final=job.state in s.FINAL_STATES,
        now=progress[-1] if progress else {},
        seen=list(dict.fromkeys(data.get("stage", "") for data in progress)),
        stages=said.stages,
        chart=loss_chart(losses, x_label="thousandths of the budget") if len(losses) > 2 else "",
        last_event=events[-1].seq if events else 0,
        log=_log(web, job_id),
        life=_life(web, job, identity_of(request)),
    )


def _log(web: Web, job_id: str) -> str:
    """The end of the job's log."""
    return plain(web.services.job_logs.tail(job_id, LOG_LINES).text)


def _life(web: Web, job: s.Job, who: Identity) -> str:
    """How a job that has not ended lives, in words."""
    return life_for(web.services, job, who)


@get("/jobs/{job_id:str}/log", sync_to_thread=True)
def log_part(request: WebRequest, web: Parts, job_id: Text) -> Response[str]:
    """The end of the log as text; how the job lives stands in a header."""
    who = identity_of(request)
    job = visible_job(web.services, job_id, who)
    headers = {LIFE: _life(web, job, who)}
    return Response(_log(web, job_id), media_type="text/plain; charset=utf-8", headers=headers)


@get("/jobs/{job_id:str}/events")
async def job_events(
    request: WebRequest,
    web: Parts,
    job_id: Text,
    last_event_id: Annotated[int, HeaderParameter(name="Last-Event-ID", ge=0)] = 0,
) -> ServerSentEvent:
    """What happens to the job, as server-sent events. The stream ends with the job, or with the session."""
    await anyio.to_thread.run_sync(visible_job, web.services, job_id, identity_of(request))
    after = max(last_event_id, int(last(request, "after") or 0) if last(request, "after").isdecimal() else 0)
    return ServerSentEvent(_events(web, request, job_id, after))


async def _events(web: Web, request: WebRequest, job_id: str, after: int) -> AsyncIterator[ServerSentEventMessage]:
    silent = 0.0
    secret = request.auth.secret if request.auth else ""
    while True:
        # The state first: what a final state's events are is settled by then, so that none can be missed.
        job = await anyio.to_thread.run_sync(web.services.jobs.get, job_id)
        for event in await anyio.to_thread.run_sync(web.services.jobs.events, job_id, after):
            after, silent = event.seq, 0.0
            yield ServerSentEventMessage(data=msgspec.json.encode(event).decode(), event=event.kind, id=event.seq)
        if job.state in s.FINAL_STATES:
            yield ServerSentEventMessage(data=job.state, event="end")
            return
        silent += EVENT_POLL_SECONDS
        if silent >= PING_SECONDS:
            silent = 0.0
            if await anyio.to_thread.run_sync(web.sessions.find, secret) is None:
                return
            yield ServerSentEventMessage(data=None, comment="still here")
        await anyio.sleep(EVENT_POLL_SECONDS)


@post("/jobs/{job_id:str}/cancel", status_code=HTTP_303_SEE_OTHER)
async def cancel_job(request: WebRequest, web: Parts, job_id: Text) -> Redirect:
    """Cancel: at once if it is queued, else as soon as its worker hears of it."""
    await form_of(request)
    who = identity_of(request)
    who.require(Scope.FINETUNE)
    await anyio.to_thread.run_sync(visible_job, web.services, job_id, who)
    await anyio.to_thread.run_sync(web.services.jobs.cancel, job_id)
    return to(f"/ui/jobs/{job_id}")


@post("/jobs/{job_id:str}/retry", status_code=HTTP_303_SEE_OTHER)
async def retry_job(request: WebRequest, web: Parts, job_id: Text) -> Redirect:
    """Queue a job again that failed or was cancelled."""
    await form_of(request)
    who = identity_of(request)
    who.require(Scope.FINETUNE)
    job = await anyio.to_thread.run_sync(visible_job, web.services, job_id, who)
    await anyio.to_thread.run_sync(require_data, web.services, job, who)
    await anyio.to_thread.run_sync(web.services.jobs.retry, job_id, who.owner)
    return to(f"/ui/jobs/{job_id}")
