"""The job table: who runs what, until when, and everything that happened, in order.

A worker holds a job by a lease that its heartbeats extend. A job whose lease ran out is queued again; one
whose runs ended `max_attempts` times without an answer has failed. Each run has a number (`attempt`) and its
own token, so that a run that lost its lease cannot speak for the job any more.

Teams take turns: a free worker gets the oldest job of the team whose last turn is longest ago, among those whose
quota lets one more run. So a team that queues a hundred jobs delays another one's first by one job, not by a hundred.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from hub.accounts.quotas import Quotas
from hub.accounts.tokens import Tokens
from hub.clock import LeapWatch
from hub.errors import JobStateError
from hub.jobs.life import Lives
from hub.jobs.plain_text import plain
from hub.jobs.rows import COLUMNS, job_of, mind_the_clock, read_job, read_running
from hub.migrations.tables import timestamp
from hub.schemas.core import FINAL_STATES, Claim, Heartbeat, Job, JobEvent, ProgressIn
from hub.schemas.jobs import JobSpec, charged_minutes, is_light, job_specs
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor

TOKEN_MARGIN_SECONDS = 3600.0


class Jobs:
    """Every change is one transaction together with the event that tells of it."""

    def __init__(
        self,
        catalog: Catalog,
        tokens: Tokens,
        *,
        lease_seconds: float,
        max_attempts: int,
        quotas: Quotas | None = None,
        now: Callable[[], float] = time.time,
        leaps: LeapWatch | None = None,
    ) -> None:
        self._catalog = catalog
        self._quotas = quotas
        self._tokens = tokens
        self._lease_seconds = lease_seconds
        self._max_attempts = max_attempts
        self._now = now
        self._leaps = leaps or LeapWatch(now, least=lease_seconds / 3)
        self.lives = Lives(catalog, lease_seconds, now)
        self.claim_hooks: list[Callable[[Cursor, str, Sequence[str]], None]] = []
        """Called inside the transaction that claims a job, with its cell and the datasets that it will read."""
        self.admission: list[Callable[[Cursor, JobSpec, float], None]] = []
        """Called inside the transaction that queues a job, with the time it was made: raises for what is gone."""
        self.observers: list[Callable[[Cursor, Job], None]] = []
        """Told of each new state of a job, inside the transaction that gives it."""

    def create(
        self,
        spec: JobSpec,
        created_by: str,
        *,
        team: str = "",
        request: str | None = None,
        before: Callable[[Cursor], None] = lambda _: None,
    ) -> Job:
        """Queue a job of a team. While one with the same `request` is queued or running, that one is the answer.
        `before` is done in the same transaction, and undone with it. Raises QuotaError."""
        team = team.lower()
        with self._catalog.write() as db:
            if request is not None:
                same = db.execute(
                    "SELECT id FROM hub_jobs WHERE request = ? AND state IN ('queued', 'running')", [request]
                ).fetchone()
                if same is not None:
                    return read_job(db, same[0])
            before(db)  # it may make the cell that is asked for next
            for admit in self.admission:
                admit(db, spec, math.inf)
            if self._quotas is not None:
                self._quotas.check_queue(db, team, charged_minutes(spec))
            job_id = secrets.token_hex(6)
            encoded = msgspec.json.encode(spec).decode()
            db.execute(
                "INSERT INTO hub_jobs (id, state, spec, attempt, crashes, max_attempts, cancel_requested,"
                " created_by, created_at, metrics, team, request, used_seconds, kind)"
                " VALUES (?, 'queued', ?, 0, 0, ?, false, ?, ?, '{}', ?, ?, 0, ?)",
                [job_id, encoded, self._max_attempts, created_by, self._now(), team, request, spec.kind],
            )
            self._event(db, job_id, "state", {"state": "queued"})
        return self.get(job_id)

    def get(self, job_id: str) -> Job:
        """The job. Raises UnknownJobError."""
        with self._catalog.read() as db:
            return read_job(db, job_id)

    def all(self) -> list[Job]:
        """Newest first."""
        return self.page(limit=1_000_000)

    def page(
        self,
        *,
        limit: int,
        after: str = "",
        states: Sequence[str] = (),
        cell: str | None = None,
        teams: Collection[str] | None = None,
        created_by: str = "",
    ) -> list[Job]:
        """At most `limit` jobs, newest first, those made before the job `after`.

        `teams` (None: all) and `created_by` are whose jobs are meant: one of them must fit.
        """
        where: list[str] = ["true"]
        params: list[object] = []
        whose = "true"
        owners: list[object] = []
        if teams is not None:
            whose, owners = "(list_contains(?::VARCHAR[], team) OR created_by = ?)", [sorted(teams), created_by]
        if after:  # one that the caller cannot see is no place to go on from: that would tell that it is there
            where.append(f"(created_at, id) < (SELECT (created_at, id) FROM hub_jobs WHERE id = ? AND {whose})")  # noqa: S608
            params += [after, *owners]
        if states:
            where.append("list_contains(?::VARCHAR[], state)")
            params.append(list(states))
        if cell is not None:
            where.append("json_extract_string(spec, '$.cell') = ?")
            params.append(cell)
        where.append(whose)
        params += owners
        rows = self._catalog.query(
            f"SELECT {COLUMNS} FROM hub_jobs WHERE {' AND '.join(where)} "  # noqa: S608  # constants
            "ORDER BY created_at DESC, id DESC LIMIT ?",
            [*params, limit],
        )
        return [job_of(row) for row in rows]

    def ended(self, before: float) -> list[str]:
        """The ids of the jobs that ended before a time (epoch seconds), in whatever way."""
        rows = self._catalog.query(
            "SELECT id FROM hub_jobs WHERE state IN ('finished', 'failed', 'cancelled') AND finished_at < ?", [before]
        )
        return [row[0] for row in rows]

    def known(self) -> set[str]:
        """The ids of all jobs."""
        return {row[0] for row in self._catalog.query("SELECT id FROM hub_jobs")}

    def that_made(self, version: str) -> Job | None:
        """The job that a variant came from; None for one that was committed by hand."""
        rows = self._catalog.query(f"SELECT {COLUMNS} FROM hub_jobs WHERE version = ?", [version])  # noqa: S608
        return job_of(rows[0]) if rows else None

    def require_running(self, job_id: str) -> Job:
        """The job; raises if its result can no longer be taken."""
        with self._catalog.read() as db:
            return read_running(db, job_id)

    def events(self, job_id: str, after: int) -> list[JobEvent]:
        """The job's events with a number above `after`, oldest first; none for a job that is not there."""
        with self._catalog.read() as db:
            rows = db.execute(
                # The index is asked only about a lone condition.
                "WITH mine AS MATERIALIZED (SELECT * FROM hub_job_events WHERE job = ?)"
                " SELECT seq, happened_at, kind, data FROM mine WHERE seq > ? ORDER BY seq",
                [job_id, after],
            ).fetchall()
        return [
            JobEvent(seq=seq, at=timestamp(at), kind=kind, data=msgspec.json.decode(data))
            for seq, at, kind, data in rows
        ]

    # The worker's side

    def claim(self, worker: str, kinds: Sequence[str] | None = None) -> Claim | None:
        """Lease a worker the oldest queued job of the team whose turn it is, of these kinds (None: all known ones)."""
        wanted = sorted(job_specs() if kinds is None else set(kinds) & set(job_specs()))
        with self._catalog.write() as db:
            self._expire_leases(db)
            team = self._next_team(db, wanted)
            if team is None:
                return None
            row = db.execute(
                "SELECT id FROM hub_jobs WHERE state = 'queued' AND team = ? AND list_contains(?::VARCHAR[], kind)"
                " ORDER BY created_at, id LIMIT 1",
                [team, wanted],
            ).fetchone()
            assert row is not None  # noqa: S101  # the team was found by its queued jobs
            now, job_id = self._now(), row[0]
            db.execute(
                "UPDATE hub_jobs SET state = 'running', attempt = attempt + 1, worker = ?, lease_until = ?,"
                " claimed_at = ?, started_at = coalesce(started_at, ?) WHERE id = ?",
                [worker, now + self._lease_seconds, now, now, job_id],
            )
            job = read_job(db, job_id)
            self._event(db, job_id, "state", {"state": "running", "worker": worker, "attempt": job.attempt})
            spec, seconds = job.spec, job.spec.max_seconds + TOKEN_MARGIN_SECONDS
            for hook in self.claim_hooks if spec.cell else ():
                hook(db, spec.cell, spec.datasets())
            token = self._tokens.issue_for_job(
                db, job_id, spec.cell, writes=spec.writes(), reads=spec.reads(), blobs=spec.blobs(), seconds=seconds
            )
        return Claim(job=job, token=token, lease_seconds=self._lease_seconds)

    def heartbeat(self, job_id: str, worker: str, attempt: int) -> Heartbeat:
        """Keep the lease. A job that has its answer needs none: its process may end in peace."""
        with self._catalog.write() as db:
            if read_job(db, job_id).state in FINAL_STATES:
                return Heartbeat(stop=False)
            job = self._held(db, job_id, worker, attempt)
            self._extend(db, job_id)
        return Heartbeat(stop=job.cancel_requested)

    def release(self, job_id: str, worker: str, attempt: int, reason: str, *, crashed: bool) -> Job:
        """A run ended without an answer: queue the job again, unless cancelled or crashed too often."""
        with self._catalog.write() as db:
            job = read_job(db, job_id)
            if job.state not in FINAL_STATES:
                self._give_back(db, self._held(db, job_id, worker, attempt), reason, crashed=crashed)
        return self.get(job_id)

    # The job process's side (its token names the job, and is revoked when the run ends)

    def progress(self, job_id: str, progress: ProgressIn) -> Heartbeat:
        """Keep a report, extend the lease, say whether to stop. Raises UnknownJobError, JobStateError."""
        with self._catalog.write() as db:
            job = read_running(db, job_id)
            told = msgspec.to_builtins(progress) | {"message": plain(progress.message)}
            self._event(db, job_id, "progress", told)
            db.execute("UPDATE hub_jobs SET progress = ? WHERE id = ?", [msgspec.json.encode(told).decode(), job_id])
            self._extend(db, job_id)
        return Heartbeat(stop=job.cancel_requested)

    def finish(self, job_id: str, version: str | None, metrics: dict[str, Any]) -> Job:
        """End a running job well; `version` is what it made, if anything. Raises UnknownJobError, JobStateError."""
        with self._catalog.write() as db:
            read_running(db, job_id)
            encoded = msgspec.json.encode(metrics).decode()
            db.execute("UPDATE hub_jobs SET version = ?, metrics = ? WHERE id = ?", [version, encoded, job_id])
            self._end(db, job_id, "finished", None, {"version": version})
        return self.get(job_id)

    def fail(self, job_id: str, error: str) -> Job:
        """The job cannot succeed as it was asked for; another attempt would fail the same way."""
        with self._catalog.write() as db:
            read_running(db, job_id)
            error = plain(error)
            self._end(db, job_id, "failed", error, {"reason": error})
        return self.get(job_id)

    # Everyone's side

    def cancel(self, job_id: str) -> Job:
        """A queued job ends at once; a running one when its worker hears of it. Raises JobStateError."""
        with self._catalog.write() as db:
            job = read_job(db, job_id)
            if job.state in FINAL_STATES:
                raise JobStateError(f"job {job_id} is {job.state} already")
            if job.state == "queued":
                self._end(db, job_id, "cancelled", None, {})
            elif not job.cancel_requested:
                db.execute("UPDATE hub_jobs SET cancel_requested = true WHERE id = ?", [job_id])
        return self.get(job_id)

    def retry(self, job_id: str, who: str) -> Job:
        """Queue a job again that failed or was cancelled: the same job, which goes on from its checkpoint.

        Raises JobStateError, also while another job works on the same request, and QuotaError.
        """
        with self._catalog.write() as db:
            job = read_job(db, job_id)
            if job.state not in ("failed", "cancelled"):
                raise JobStateError(f"job {job_id} is {job.state}; only a failed or cancelled one is tried again")
            other = db.execute(
                "SELECT id FROM hub_jobs WHERE state IN ('queued', 'running') AND request IS NOT NULL AND request ="
                " (SELECT request FROM hub_jobs WHERE id = ?)",
                [job_id],
            ).fetchone()
            if other is not None:
                raise JobStateError(f"job {other[0]} works on the same request already")
            made = db.execute("SELECT created_at FROM hub_jobs WHERE id = ?", [job_id]).fetchone()
            for admit in self.admission:
                admit(db, job.spec, made[0] if made else 0.0)
            if self._quotas is not None:
                self._quotas.check_queue(db, job.team, charged_minutes(job.spec))
            db.execute(
                "UPDATE hub_jobs SET state = 'queued', crashes = 0, cancel_requested = false, error = NULL,"
                " finished_at = NULL, worker = NULL, lease_until = NULL, claimed_at = NULL WHERE id = ?",
                [job_id],
            )
            self._event(db, job_id, "state", {"state": "queued", "reason": f"tried again by {who}"})
        return self.get(job_id)

    def require_run(self, job_id: str, worker: str, attempt: int) -> Job:
        """The job, if this is its newest run; it may have ended. Raises JobStateError."""
        job = self.get(job_id)
        if (job.worker, job.attempt) != (worker, attempt):
            raise JobStateError(f"job {job_id} was given to {job.worker} (attempt {job.attempt})")
        return job

    # Inside a transaction

    def _next_team(self, db: Cursor, kinds: Sequence[str]) -> str | None:
        """The team whose job of these kinds is next, and its turn is taken; None if nobody's may run."""
        rows = db.execute(
            "SELECT j.team, any_value(t.turn), min(j.created_at) FROM hub_jobs j LEFT JOIN hub_turns t"
            " ON t.team = j.team WHERE j.state = 'queued' AND list_contains(?::VARCHAR[], j.kind) GROUP BY j.team"
            " ORDER BY coalesce(any_value(t.turn), 0), min(j.created_at), j.team",
            [kinds],
        ).fetchall()
        free = self._quotas is None or all(is_light(kind) for kind in kinds)
        for team, _, _ in rows:
            if free or (self._quotas is not None and self._quotas.may_run(db, team)):
                db.execute(
                    "INSERT INTO hub_turns SELECT ?, coalesce(max(turn), 0) + 1 FROM hub_turns"
                    " ON CONFLICT DO UPDATE SET turn = excluded.turn",
                    [team],
                )
                return str(team)
        return None

    def _book(self, db: Cursor, job_id: str) -> None:
        """Count the time of the run that ends now."""
        self._mind_the_clock(db)
        row = db.execute("SELECT team, claimed_at, kind FROM hub_jobs WHERE id = ?", [job_id]).fetchone()
        if row is None or row[1] is None:
            return
        now = self._now()
        if self._quotas is not None and not is_light(row[2]):
            self._quotas.book(db, row[0], row[1], now)
        db.execute(
            "UPDATE hub_jobs SET used_seconds = used_seconds + ?, claimed_at = NULL WHERE id = ?",
            [max(0.0, now - row[1]), job_id],
        )

    def _held(self, db: Cursor, job_id: str, worker: str, attempt: int) -> Job:
        job = read_running(db, job_id)
        if (job.worker, job.attempt) != (worker, attempt):
            raise JobStateError(f"job {job_id} was given to {job.worker} (attempt {job.attempt})")
        return job

    def _extend(self, db: Cursor, job_id: str) -> None:
        db.execute("UPDATE hub_jobs SET lease_until = ? WHERE id = ?", [self._now() + self._lease_seconds, job_id])

    def _expire_leases(self, db: Cursor) -> None:
        """Only a claim looks for lost jobs: without a worker that asks, nobody could take them up anyway."""
        self._mind_the_clock(db)
        rows = db.execute(
            f"SELECT {COLUMNS} FROM hub_jobs WHERE state = 'running' AND lease_until < ?",  # noqa: S608
            [self._now()],
        ).fetchall()
        for job in map(job_of, rows):
            self._give_back(db, job, f"its worker {job.worker} went silent", crashed=True)

    def _mind_the_clock(self, db: Cursor) -> None:
        leapt = self._leaps.leapt()
        mind_the_clock(db, self._now(), leapt, self._lease_seconds)
        if leapt:
            self._tokens.shift_jobs(db, leapt)

    def _give_back(self, db: Cursor, job: Job, reason: str, *, crashed: bool) -> None:
        crashes, reason = job.crashes + int(crashed), plain(reason)
        self._book(db, job.id)
        if job.cancel_requested:
            self._end(db, job.id, "cancelled", None, {})
        elif crashes >= job.max_attempts:
            error = f"gave up after {crashes} attempts: {reason}"
            self._end(db, job.id, "failed", error, {"reason": error})
        else:
            db.execute("UPDATE hub_jobs SET state = 'queued', worker = NULL WHERE id = ?", [job.id])
            self._tokens.revoke_job(db, job.id)
            self._event(db, job.id, "state", {"state": "queued", "reason": reason})
        db.execute("UPDATE hub_jobs SET crashes = ?, lease_until = NULL WHERE id = ?", [crashes, job.id])

    def _end(self, db: Cursor, job_id: str, state: str, error: str | None, data: dict[str, Any]) -> None:
        self._book(db, job_id)
        db.execute(
            "UPDATE hub_jobs SET state = ?, error = ?, finished_at = ?, lease_until = NULL WHERE id = ?",
            [state, error, self._now(), job_id],
        )
        self._tokens.revoke_job(db, job_id)
        self._event(db, job_id, "state", {"state": state, **data})

    def _event(self, db: Cursor, job_id: str, kind: str, data: dict[str, Any]) -> None:
        db.execute(
            "INSERT INTO hub_job_events SELECT ?, coalesce(max(seq), 0) + 1, ?, ?, ? FROM hub_job_events WHERE job = ?",
            [job_id, self._now(), kind, msgspec.json.encode(data).decode(), job_id],
        )
        for observer in self.observers if kind == "state" else ():
            observer(db, read_job(db, job_id))
