"""Rows of the job table, as jobs."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.errors import JobStateError, UnknownJobError
from hub.migrations.tables import timestamp
from hub.schemas.core import Job, Judgement
from hub.schemas.jobs import read_spec
from registry.catalog.cursor import Cursor

COLUMNS = (
    "id, state, spec, attempt, crashes, max_attempts, cancel_requested, created_by, created_at, started_at,"
    " finished_at, worker, error, version, metrics, team, used_seconds, progress"
)


def read_job(db: Cursor, job_id: str) -> Job:
    """The job of this id. Raises UnknownJobError."""
    row = db.execute(f"SELECT {COLUMNS} FROM hub_jobs WHERE id = ?", [job_id]).fetchone()  # noqa: S608
    if row is None:
        raise UnknownJobError(f"there is no job {job_id!r}")
    return job_of(row)


def read_running(db: Cursor, job_id: str) -> Job:
    """The same, if it runs. Raises UnknownJobError, JobStateError."""
    job = read_job(db, job_id)
    if job.state != "running":
        raise JobStateError(f"job {job_id} is {job.state}, not running")
    return job


def job_of(row: tuple[Any, ...]) -> Job:
    """The job that a row of COLUMNS says."""
    values = dict(zip(COLUMNS.split(", "), row, strict=True))
    values["spec"] = read_spec(msgspec.json.decode(values["spec"]))
    values["metrics"] = msgspec.json.decode(values["metrics"])
    values["judgement"] = Judgement.of(values["metrics"])
    values["progress"] = None if values["progress"] is None else msgspec.json.decode(values["progress"])
    values["team"], values["used_seconds"] = values["team"] or "", values["used_seconds"] or 0.0
    for name in ("created_at", "started_at", "finished_at"):
        values[name] = None if values[name] is None else timestamp(values[name])
    return Job(**values)


def mind_the_clock(db: Cursor, now: float, leapt: float, lease_seconds: float) -> None:
    """A clock that leapt ahead (by `leapt` seconds) or was put back makes no lease longer or shorter than it is, and no
    run one of days."""
    until = now + lease_seconds
    if leapt:
        db.execute(
            "UPDATE hub_jobs SET lease_until = ?, claimed_at = claimed_at + ? WHERE state = 'running'", [until, leapt]
        )
    db.execute(
        "UPDATE hub_jobs SET lease_until = least(lease_until, ?), claimed_at = least(claimed_at, ?)"
        " WHERE state = 'running' AND (lease_until > ? OR claimed_at > ?)",
        [until, now, until, now],
    )
