"""Fine-tunes and jobs: asking for one, following it, and what workers and job processes say about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Annotated

import anyio
import anyio.to_thread
import msgspec
from litestar import Controller, Response, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT

from hub.accounts.tokens import Identity, Scope
from hub.client.jobs import JobCalls
from hub.errors import InputError, UnknownJobError
from hub.http.access_policy import CHANGE, JOB, JOB_OR_OWN, OPERATOR, PRODUCTION, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, is_job, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.jobs.kinds import kind_named, kind_of
from hub.kinds import finetune
from hub.schemas import core as s
from hub.schemas import resources as r
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged
from hub.services import Services
from registry.types import RepoId

EVENT_POLL_SECONDS = 0.25
PING_SECONDS = 10.0


@post(
    "/finetunes",
    sync_to_thread=True,
    status_code=HTTP_202_ACCEPTED,
    guards=[requires(Scope.FINETUNE)],
    tags=["jobs"],
)
def create_finetune(services: Hub, data: JSONBody[s.FinetuneIn], request: HubRequest) -> s.Job:
    """Ask for a variant of the base for a cell. Every revision is pinned to a commit now.

    While a job works on the very same request, that job is the answer.
    """
    job = finetune.queue(services, identity_of(request), data)
    note(request, job=job.id, dataset_commit=job.spec.dataset_commit, base_commit=job.spec.base_commit)
    return job


def visible_job(services: Services, job_id: str, who: Identity) -> s.Job:
    """The job, if it is the caller's to see: their team's, their own, or they are the operator.

    Raises UnknownJobError.
    """
    job = services.jobs.get(job_id)
    if who.job == job_id:
        return job
    if who.owns(job.team) or (who.user is not None and job.created_by == who.user):
        return job
    raise UnknownJobError(f"there is no job {job_id!r}")


def life_for(services: Services, job: s.Job, who: Identity) -> str:
    """How a job that has not ended lives, in words for `who`; "" for one that has ended."""
    life = services.jobs.lives.of(job, teams=None if who.sees_all else who.namespaces, created_by=who.owner)
    return "" if life is None else str(life)


def require_data(services: Services, job: s.Job, who: Identity) -> None:
    """Raise RepoNotFoundError or GatedError unless `who` may have the dataset that a run of the job would read."""
    if job.spec.dataset:
        services.readable(RepoId.parse(job.spec.dataset, "dataset"), who, files=True)


class JobController(Controller):
    """Jobs."""

    path = "/jobs"
    tags = ("jobs",)

    @get(sync_to_thread=True)
    def list_jobs(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        wanted: Annotated[s.JobState | None, QueryParameter(name="state", description="In one state alone.")] = None,
        cell: Annotated[str | None, QueryParameter(max_length=64, description="Of one cell alone.")] = None,
        team: Annotated[str | None, QueryParameter(max_length=96, description="Of one team alone.")] = None,
    ) -> Response[list[s.Job]]:
        """The jobs that the caller may see, newest first."""
        who = identity_of(request)
        teams: Collection[str] | None = None if who.sees_all else who.namespaces
        mine = who.owner
        if team is not None:
            teams = {team.lower()} if who.owns(team) else set()
            mine = ""
        found = services.jobs.page(
            limit=limit + 1, after=after, states=[wanted] if wanted else [], cell=cell, teams=teams, created_by=mine
        )
        return paged(request, found, limit, lambda job: job.id)

    @post(sync_to_thread=True, status_code=HTTP_202_ACCEPTED, guards=[requires(Scope.FINETUNE)])
    def create_job(self, services: Hub, data: JSONBody[s.JobIn], request: HubRequest) -> s.Job:
        """Ask for a job of any kind that is asked for like this: `finetune`, `dataset-check`, `evaluation` and more.

        Every revision is pinned to a commit now. While a job works on the very same request, that job is the answer.
        """
        kind = kind_named(data.kind)
        if kind.asked is None or kind.queue is None:
            raise InputError(f"jobs of the kind {data.kind!r} are not asked for like this")
        try:
            asked = msgspec.convert(data.asked, kind.asked)
        except msgspec.ValidationError as error:
            raise InputError(f"{data.kind}: {error}") from None
        job = kind.queue(services, identity_of(request), asked)
        note(request, job=job.id, kind=data.kind, dataset_commit=job.spec.dataset_commit)
        return job

    @get("/{job_id:str}", sync_to_thread=True)
    def get_job(self, services: Hub, request: HubRequest, job_id: Text) -> s.Job:
        """One job: its state, how long it has waited or worked, its newest progress, its result."""
        who = identity_of(request)
        job = visible_job(services, job_id, who)
        return msgspec.structs.replace(job, life=life_for(services, job, who))

    @get("/{job_id:str}/events")
    async def events(
        self,
        services: Hub,
        request: HubRequest,
        job_id: Text,
        last_event_id: Annotated[int, HeaderParameter(name="Last-Event-ID", ge=0)] = 0,
    ) -> ServerSentEvent:
        """What happened to the job and what happens, as server-sent events; replays after `Last-Event-ID`."""
        # An unknown job is a 404, not an empty stream.
        await anyio.to_thread.run_sync(visible_job, services, job_id, identity_of(request))
        return ServerSentEvent(_events(services, job_id, last_event_id))

    @get("/{job_id:str}/log", sync_to_thread=True)
    def get_log(
        self,
        services: Hub,
        request: HubRequest,
        job_id: Text,
        offset: Annotated[int, QueryParameter(ge=0, le=2**40, description="Where to begin, in bytes.")] = 0,
        tail: Annotated[int | None, QueryParameter(ge=0, le=10_000, description="Only the last lines.")] = None,
    ) -> r.LogPart:
        """What the job's processes printed: a piece from `offset` on, or the last lines."""
        final = visible_job(services, job_id, identity_of(request)).state in s.FINAL_STATES
        if tail is not None:
            return services.job_logs.tail(job_id, tail, final=final)
        return services.job_logs.read(job_id, offset=offset, final=final)

    @post(
        "/{job_id:str}/cancel",
        sync_to_thread=True,
        status_code=HTTP_200_OK,
        guards=[requires(Scope.FINETUNE)],
    )
    def cancel(self, services: Hub, request: HubRequest, job_id: Text) -> s.Job:
        """Cancel the job: at once if it is queued, else as soon as its worker hears of it."""
        visible_job(services, job_id, identity_of(request))
        return services.jobs.cancel(job_id)

    @post(
        "/{job_id:str}/retry",
        sync_to_thread=True,
        status_code=HTTP_200_OK,
        guards=[requires(Scope.FINETUNE)],
    )
    def retry(self, services: Hub, request: HubRequest, job_id: Text) -> s.Job:
        """Queue a job again that failed or was cancelled; it goes on from its checkpoint."""
        who = identity_of(request)
        require_data(services, visible_job(services, job_id, who), who)
        return services.jobs.retry(job_id, who.owner)


class WorkerController(Controller):
    """What a worker says."""

    path = "/jobs"
    tags = ("workers",)
    guards = (requires(Scope.ADMIN),)

    @post(
        "/claim",
        sync_to_thread=True,
        status_code=HTTP_200_OK,
        responses={HTTP_204_NO_CONTENT: ResponseSpec(None, description="Nothing to do", generate_examples=False)},
    )
    def claim(self, services: Hub, data: JSONBody[s.ClaimIn]) -> Response[s.Claim | None]:
        """Lease a queued job of the team whose turn it is; 204 when there is none."""
        claim = services.jobs.claim(data.worker, data.kinds)
        return Response(claim, status_code=HTTP_200_OK if claim else HTTP_204_NO_CONTENT)

    @post("/{job_id:str}/heartbeat", sync_to_thread=True, status_code=HTTP_200_OK)
    def heartbeat(self, services: Hub, job_id: Text, data: JSONBody[s.HeartbeatIn]) -> s.Heartbeat:
        """Keep the lease."""
        return services.jobs.heartbeat(job_id, data.worker, data.attempt)

    @post("/{job_id:str}/log", sync_to_thread=True, status_code=HTTP_200_OK)
    def add_log(self, services: Hub, job_id: Text, data: JSONBody[r.LogIn]) -> r.LogSize:
        """Keep a piece of what the job's process printed; the answer says where the next one begins."""
        services.jobs.require_run(job_id, data.worker, data.attempt)
        services.registry.blobs.check_room(len(data.text))
        return r.LogSize(size=services.job_logs.append(job_id, data.offset, data.text))

    @post("/{job_id:str}/release", sync_to_thread=True, status_code=HTTP_200_OK)
    def release(self, services: Hub, job_id: Text, data: JSONBody[s.ReleaseIn]) -> s.Job:
        """A run of the job ended without an answer."""
        return services.jobs.release(job_id, data.worker, data.attempt, data.reason, crashed=data.crashed)


class ReportController(Controller):
    """What the job's own process says."""

    path = "/jobs/{job_id:str}"
    tags = ("workers",)
    guards = (is_job,)

    @post("/progress", sync_to_thread=True, status_code=HTTP_200_OK)
    def progress(self, services: Hub, job_id: Text, data: JSONBody[s.ProgressIn]) -> s.Heartbeat:
        """Report progress; the answer says whether to stop."""
        return services.jobs.progress(job_id, data)

    @post("/finish", sync_to_thread=True, status_code=HTTP_200_OK)
    def finish(self, services: Hub, request: HubRequest, job_id: Text, data: JSONBody[s.FinishIn]) -> s.Job:
        """The work is done and what it made uploaded: take the answer, and end the job.

        Of a fine-tune that is the variant, which gets its tag and lineage.
        """
        job = services.jobs.require_running(job_id)
        accept = kind_of(job.spec).accept
        job = services.jobs.finish(job_id, None, data.metrics) if accept is None else accept(services, job, data)
        note(request, **{"version": job.version, "commit": data.commit or None, "deck": data.deck or None})
        return job

    @post("/fail", sync_to_thread=True, status_code=HTTP_200_OK)
    def fail(self, services: Hub, job_id: Text, data: JSONBody[s.FailIn]) -> s.Job:
        """The job cannot succeed as it was asked for."""
        return services.jobs.fail(job_id, data.error)


async def _events(services: Hub, job_id: Text, after: int) -> AsyncIterator[ServerSentEventMessage]:
    """Events from the table, polled: they outlive restarts, and a follower may come at any time."""
    silent = 0.0
    while True:
        # The state first: what a final state's events are is settled by then, so that none can be missed.
        job = await anyio.to_thread.run_sync(services.jobs.get, job_id)
        events = await anyio.to_thread.run_sync(services.jobs.events, job_id, after)
        for event in events:
            after, silent = event.seq, 0.0
            data = msgspec.json.encode(event).decode()
            yield ServerSentEventMessage(data=data, event=event.kind, id=event.seq)
        if job.state in s.FINAL_STATES:
            return
        silent += EVENT_POLL_SECONDS
        if silent >= PING_SECONDS:
            silent = 0.0
            yield ServerSentEventMessage(data=None, comment="still here")
        await anyio.sleep(EVENT_POLL_SECONDS)


RESOURCE = register(
    Resource(
        "jobs",
        [create_finetune, JobController, WorkerController, ReportController],
        rules=grouped(
            ("", CHANGE, "POST /finetunes, POST /jobs"),
            ("/jobs", PRODUCTION, "GET"),
            ("/jobs/{job_id}", JOB_OR_OWN, "GET"),
            ("/jobs/{job_id}", PRODUCTION, "GET /events, GET /log, POST /cancel, POST /retry"),
            ("/jobs", OPERATOR, "POST /claim, POST /{job_id}/heartbeat, POST /{job_id}/release, POST /{job_id}/log"),
            ("/jobs/{job_id}", JOB, "POST /progress, POST /finish, POST /fail"),
        ),
        calls=JobCalls,
    )
)
