"""The client's side of jobs: who asks for one, the worker, and the job itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import msgspec

from hub.client.calls import JSON_HEADERS, Calls, check_answer, decoded
from hub.errors import HubUnavailableError
from hub.schemas import core as s
from hub.schemas import resources as r


class JobCalls(Calls):
    """These calls, as part of `HubClient`."""

    def finetune(self, request: s.FinetuneIn) -> s.Job:
        """Queue a cell's fine-tune; the same request answers the job at work."""
        return self._call("POST", "/finetunes", s.Job, request)

    def ask_for_job(self, kind: str, **asked: object) -> s.Job:
        """Queue a job of any kind; `asked` is what the kind wants to know (docs/service.md)."""
        return self._call("POST", "/jobs", s.Job, {"kind": kind, "asked": asked})

    def jobs(self, *, limit: int | None = None, **wanted: str) -> list[s.Job]:
        """Newest first; `wanted`: `state`, `cell`, `team`."""
        return [job for page in self._pages("/jobs", list[s.Job], wanted, limit=limit) for job in page]

    def job(self, job_id: str) -> s.Job:
        """One job."""
        return self._call("GET", f"/jobs/{job_id}", s.Job)

    def cancel(self, job_id: str) -> s.Job:
        """Cancel a job; one that runs stops at its next step."""
        return self._call("POST", f"/jobs/{job_id}/cancel", s.Job)

    def retry(self, job_id: str) -> s.Job:
        """Queue a failed or cancelled job again, from its checkpoint."""
        return self._call("POST", f"/jobs/{job_id}/retry", s.Job)

    def events(self, job_id: str, after: int = 0) -> Iterator[s.JobEvent]:
        """What happened to a job, from the start until its end, across broken connections. Raises HubUnavailableError
        when the hub stays away."""
        failures, ended = 0, False
        while True:
            try:
                for event in self._event_stream(job_id, after):
                    after, failures = event.seq, 0
                    ended = event.kind == "state" and event.data["state"] in s.FINAL_STATES
                    yield event
                # The hub ends a stream with its job; a job that was tried again has more than one end behind it.
                if ended and self.job(job_id).state in s.FINAL_STATES:
                    return
            except (httpx.HTTPError, HubUnavailableError) as error:
                failures += 1
                if failures > 10:
                    raise HubUnavailableError(str(self._http.base_url), error) from error
            time.sleep(min(0.2 * 2**failures, 5.0))

    def _event_stream(self, job_id: str, after: int) -> Iterator[s.JobEvent]:
        headers = {"Last-Event-ID": str(after)} if after else {}
        timeout = httpx.Timeout(60.0, read=60.0)  # the hub sends a comment every few seconds
        with self._http.stream("GET", f"/api/v1/jobs/{job_id}/events", headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                check_answer(response)
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield msgspec.json.decode(line[5:], type=s.JobEvent)

    def log(self, job_id: str, *, offset: int = 0) -> r.LogPart:
        """A piece of a log, from a byte offset on."""
        return self._call("GET", f"/jobs/{job_id}/log", r.LogPart, params={"offset": str(offset)})

    def log_tail(self, job_id: str, lines: int) -> r.LogPart:
        """The last lines of a log."""
        return self._call("GET", f"/jobs/{job_id}/log", r.LogPart, params={"tail": str(lines)})

    def claim(self, worker: str, kinds: Sequence[str] | None = None) -> s.Claim | None:
        """A queued job of these kinds (None: of all), leased to the worker; None while there is none."""
        asked = msgspec.json.encode({"worker": worker, "kinds": kinds})
        response = self._send("POST", "/jobs/claim", content=asked, headers=JSON_HEADERS)
        return None if response.status_code == 204 else decoded(response, s.Claim)

    def heartbeat(self, job_id: str, worker: str, attempt: int) -> s.Heartbeat:
        """Keep a job's lease; the answer says whether to stop."""
        return self._call("POST", f"/jobs/{job_id}/heartbeat", s.Heartbeat, {"worker": worker, "attempt": attempt})

    def release(self, job_id: str, worker: str, attempt: int, reason: str, *, crashed: bool) -> s.Job:
        """Give a job back that cannot go on here."""
        body = {"worker": worker, "attempt": attempt, "reason": reason[:4000], "crashed": crashed}
        return self._call("POST", f"/jobs/{job_id}/release", s.Job, body)

    def add_log(self, job_id: str, piece: r.LogIn) -> int:
        """Append to a job's log. Returns how long it is now."""
        return self._call("POST", f"/jobs/{job_id}/log", r.LogSize, piece).size

    def report(self, job_id: str, progress: s.ProgressIn) -> s.Heartbeat:
        """Tell progress; the answer says whether to stop."""
        return self._call("POST", f"/jobs/{job_id}/progress", s.Heartbeat, progress)

    def finish(
        self,
        job_id: str,
        *,
        commit: str = "",
        deck: str = "",
        metrics: dict[str, Any],
        files: Mapping[str, str] | None = None,
    ) -> s.Job:
        """Hand in what a job made."""
        body = {"commit": commit, "deck": deck, "metrics": metrics, "files": files or {}}
        return self._call("POST", f"/jobs/{job_id}/finish", s.Job, body)

    def fail(self, job_id: str, error: str) -> s.Job:
        """Say why a job cannot be done."""
        return self._call("POST", f"/jobs/{job_id}/fail", s.Job, {"error": error[:8000]})
