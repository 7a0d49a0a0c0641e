"""Jobs are leased, come back when their run dies, give up after so many crashes, and can be cancelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.accounts.tokens import Scope, Tokens
from hub.errors import ForbiddenError, JobStateError, UnauthorizedError, UnknownJobError
from hub.jobs.queue import Jobs
from hub.schemas.core import FinetuneSpec, ProgressIn
from registry.catalog.catalog import Catalog

SPEC = FinetuneSpec(
    cell="dock-7",
    dataset="acme/dock",
    dataset_commit="d" * 64,
    base="base/universal@v1",
    base_commit="b" * 64,
    images=None,
    max_seconds=60.0,
    seed=0,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(catalog: Catalog, clock: Clock) -> Tokens:
    return Tokens(catalog, now=clock)


@pytest.fixture
def jobs(catalog: Catalog, tokens: Tokens, clock: Clock) -> Jobs:
    return Jobs(catalog, tokens, lease_seconds=30, max_attempts=2, now=clock)


def states(jobs: Jobs, job_id: str) -> list[str]:
    return [event.data["state"] for event in jobs.events(job_id, 0) if event.kind == "state"]


def test_a_claim_leases_the_oldest_job_once(jobs: Jobs, clock: Clock) -> None:
    first = jobs.create(SPEC, "admin")
    clock.now += 1
    jobs.create(SPEC, "admin")
    claim = jobs.claim("w1")
    assert claim is not None
    assert (claim.job.id, claim.job.state, claim.job.attempt, claim.job.spec) == (first.id, "running", 1, SPEC)
    second = jobs.claim("w2")
    assert second is not None and second.job.id != first.id
    assert jobs.claim("w3") is None


def test_heartbeats_keep_a_lease_and_silence_loses_it(jobs: Jobs, clock: Clock, tokens: Tokens) -> None:
    job_id = jobs.create(SPEC, "admin").id
    one = jobs.claim("w1")
    assert one is not None
    clock.now += 29
    assert jobs.heartbeat(job_id, "w1", 1).stop is False
    clock.now += 29
    assert jobs.claim("w2") is None
    clock.now += 2
    two = jobs.claim("w2")
    assert two is not None and two.job.attempt == 2 and two.job.crashes == 1
    with pytest.raises(JobStateError, match="was given to w2"):
        jobs.heartbeat(job_id, "w1", 1)
    with pytest.raises(UnauthorizedError):
        tokens.identify(one.token)
    assert tokens.identify(two.token).job == job_id
    assert states(jobs, job_id) == ["queued", "running", "queued", "running"]


def test_a_job_that_keeps_crashing_fails_with_the_reason(jobs: Jobs) -> None:
    job_id = jobs.create(SPEC, "admin").id
    for attempt in (1, 2):
        assert jobs.claim("w") is not None
        job = jobs.release(job_id, "w", attempt, "killed by signal 9", crashed=True)
    assert job.state == "failed"
    assert job.error == "gave up after 2 attempts: killed by signal 9"
    assert jobs.claim("w") is None


def test_a_worker_that_stops_hands_its_job_back_without_blame(jobs: Jobs) -> None:
    job_id = jobs.create(SPEC, "admin").id
    for attempt in range(1, 6):
        assert jobs.claim("w") is not None
        assert jobs.release(job_id, "w", attempt, "the worker is stopping", crashed=False).state == "queued"


def test_cancel_ends_a_queued_job_at_once_and_tells_a_running_one(jobs: Jobs) -> None:
    queued = jobs.create(SPEC, "admin").id
    assert jobs.cancel(queued).state == "cancelled"
    with pytest.raises(JobStateError, match="cancelled already"):
        jobs.cancel(queued)
    running = jobs.create(SPEC, "admin").id
    jobs.claim("w")
    assert jobs.cancel(running).state == "running"
    assert jobs.cancel(running).cancel_requested
    assert jobs.heartbeat(running, "w", 1).stop
    assert jobs.progress(running, ProgressIn(stage="train", step=1, total=2)).stop
    assert jobs.release(running, "w", 1, "cancelled", crashed=False).state == "cancelled"
    assert jobs.claim("w") is None


def test_a_cancelled_job_whose_worker_died_does_not_come_back(jobs: Jobs, clock: Clock) -> None:
    job_id = jobs.create(SPEC, "admin").id
    jobs.claim("w")
    jobs.cancel(job_id)
    clock.now += 31
    assert jobs.claim("w2") is None
    assert jobs.get(job_id).state == "cancelled"


def test_the_answer_ends_the_job_and_its_token(jobs: Jobs, tokens: Tokens) -> None:
    job_id = jobs.create(SPEC, "admin").id
    claim = jobs.claim("w")
    assert claim is not None
    jobs.finish(job_id, "dock-7@v1", {"variant_ap": 0.5})
    job = jobs.get(job_id)
    assert (job.state, job.version, job.metrics) == ("finished", "dock-7@v1", {"variant_ap": 0.5})
    assert job.finished_at is not None
    with pytest.raises(UnauthorizedError):
        tokens.identify(claim.token)
    with pytest.raises(JobStateError, match="finished, not running"):
        jobs.fail(job_id, "too late")
    assert jobs.release(job_id, "w", 1, "exit status 1", crashed=True).state == "finished"
    assert not jobs.heartbeat(job_id, "w", 1).stop, "its process ends in peace"


def test_events_are_numbered_and_replayed_from_any_point(jobs: Jobs) -> None:
    job_id = jobs.create(SPEC, "admin").id
    jobs.claim("w")
    for step in (1, 2, 3):
        jobs.progress(job_id, ProgressIn(stage="train", step=step, total=3, metrics={"loss": 1 / step}))
    jobs.fail(job_id, "the images are empty")
    everything = jobs.events(job_id, 0)
    assert [event.seq for event in everything] == [1, 2, 3, 4, 5, 6]
    assert [event.data["step"] for event in jobs.events(job_id, 3) if event.kind == "progress"] == [2, 3]
    assert everything[-1].data == {"state": "failed", "reason": "the images are empty"}


def test_an_unknown_job_is_named(jobs: Jobs) -> None:
    with pytest.raises(UnknownJobError, match="nope"):
        jobs.get("nope")


def test_tokens_are_stored_hashed_expire_and_say_what_they_allow(
    tokens: Tokens, catalog: Catalog, clock: Clock
) -> None:
    token = tokens.issue("robot-team", {Scope.CONTRIBUTE}, seconds=10)
    with catalog.read() as db:
        stored = db.execute("SELECT * FROM hub_tokens").fetchall()
    assert token not in str(stored)
    identity = tokens.identify(token)
    assert identity.may(Scope.READ) and identity.may(Scope.CONTRIBUTE)
    with pytest.raises(ForbiddenError, match="'robot-team' lacks the scope 'promote'"):
        identity.require(Scope.PROMOTE)
    identity.require_write("dataset", "acme/dock")
    with pytest.raises(ForbiddenError):
        identity.require_write("model", "base/universal")
    clock.now += 11
    with pytest.raises(UnauthorizedError, match="expired"):
        tokens.identify(token)


def test_a_jobs_token_writes_its_own_cell_only(jobs: Jobs, tokens: Tokens) -> None:
    jobs.create(SPEC, "admin")
    claim = jobs.claim("w")
    assert claim is not None
    identity = tokens.identify(claim.token)
    identity.require_write("model", "cells/dock-7")
    identity.require_upload()
    for type_, repo in (("model", "cells/other"), ("model", "base/universal"), ("dataset", "acme/dock")):
        with pytest.raises(ForbiddenError):
            identity.require_write(type_, repo)
    for scope in set(Scope) - {Scope.READ}:
        assert not identity.may(scope)


def test_the_admin_token_is_made_once_and_again_when_its_file_is_lost(tokens: Tokens, tmp_path: Path) -> None:
    file = tmp_path / "admin.token"
    tokens.ensure_admin(file)
    assert file.stat().st_mode & 0o777 == 0o600
    first = file.read_text().strip()
    tokens.ensure_admin(file)
    assert file.read_text().strip() == first
    assert tokens.identify(first).may(Scope.PROMOTE)
    file.unlink()
    tokens.ensure_admin(file)
    with pytest.raises(UnauthorizedError):
        tokens.identify(first)
