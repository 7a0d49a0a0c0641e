"""Fine-tunes and jobs: asking for one, following it, and what workers and job processes say about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import anyio
import anyio.to_thread
import msgspec
from litestar import Controller, Response, get, post
from litestar.params import HeaderParameter, JSONBody
from litestar.response import ServerSentEvent, ServerSentEventMessage
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT

from hub import schemas as s
from hub.api.auth import identity_of, is_job, requires
from hub.api.parts import Asked, Hub, Text
from hub.tokens import Scope
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
def create_finetune(services: Hub, data: JSONBody[s.FinetuneIn], request: Asked) -> s.Job:
    """Ask for a variant of the base for a cell. Every revision is pinned to a commit now."""
    who = identity_of(request)
    services.cells.get(data.cell)  # a mistyped cell is told before its dataset is looked for
    services.readable(RepoId.parse(data.dataset, "dataset"), who, files=True)
    return services.finetunes.request(data, who.name)


class JobController(Controller):
    """Jobs."""

    path = "/jobs"
    tags = ("jobs",)

    @get(sync_to_thread=True)
    def list_jobs(self, services: Hub) -> list[s.Job]:
        """All jobs, newest first."""
        return services.jobs.all()

    @get("/{job_id:str}", sync_to_thread=True)
    def get_job(self, services: Hub, job_id: Text) -> s.Job:
        """One job."""
        return services.jobs.get(job_id)

    @get("/{job_id:str}/events")
    async def events(
        self,
        services: Hub,
        job_id: Text,
        last_event_id: Annotated[int, HeaderParameter(name="Last-Event-ID", ge=0)] = 0,
    ) -> ServerSentEvent:
        """What happened to the job and what happens, as server-sent events; replays after `Last-Event-ID`."""
        await anyio.to_thread.run_sync(services.jobs.get, job_id)  # an unknown job is a 404, not an empty stream
        return ServerSentEvent(_events(services, job_id, last_event_id))

    @post(
        "/{job_id:str}/cancel",
        sync_to_thread=True,
        status_code=HTTP_200_OK,
        guards=[requires(Scope.FINETUNE)],
    )
    def cancel(self, services: Hub, job_id: Text) -> s.Job:
        """Cancel the job: at once if it is queued, else as soon as its worker hears of it."""
        return services.jobs.cancel(job_id)


class WorkerController(Controller):
    """What a worker says."""

    path = "/jobs"
    tags = ("workers",)
    guards = (requires(Scope.ADMIN),)

    @post("/claim", sync_to_thread=True, status_code=HTTP_200_OK)
    def claim(self, services: Hub, data: JSONBody[s.ClaimIn]) -> Response[s.Claim | None]:
        """Lease the oldest queued job; 204 when there is none."""
        claim = services.jobs.claim(data.worker)
        return Response(claim, status_code=HTTP_200_OK if claim else HTTP_204_NO_CONTENT)

    @post("/{job_id:str}/heartbeat", sync_to_thread=True, status_code=HTTP_200_OK)
    def heartbeat(self, services: Hub, job_id: Text, data: JSONBody[s.HeartbeatIn]) -> s.Heartbeat:
        """Keep the lease."""
        return services.jobs.heartbeat(job_id, data.worker, data.attempt)

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
    def finish(self, services: Hub, job_id: Text, data: JSONBody[s.FinishIn]) -> s.Job:
        """The variant is uploaded: give it its tag and lineage, and end the job."""
        return services.finetunes.accept(job_id, data)

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
