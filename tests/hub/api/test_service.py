"""The service around jobs: turns of teams, quotas, one job per request, logs, retries, the audit log and its chain."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from hub.accounts.audit import FIRST, AuditLog
from hub.accounts.quotas import DAY, Limits, Quotas, days_between
from hub.accounts.tokens import Scope, Tokens
from hub.client.client import HubClient
from hub.errors import HubAnswerError, JobStateError, QuotaError
from hub.jobs.logs import MAX_LOG_BYTES, JobLogs
from hub.jobs.queue import Jobs
from hub.schemas.core import FinetuneIn, FinetuneSpec
from hub.schemas.resources import QuotaIn
from hub.services import Services
from registry.catalog.catalog import Catalog
from tests.hub.jobs.test_jobs import SPEC, Clock

START = 20_000 * DAY + 3600
"""One in the morning of a day, UTC."""


@dataclass
class Hall:
    """Jobs with quotas and a clock."""

    jobs: Jobs
    quotas: Quotas
    clock: Clock
    catalog: Catalog


@pytest.fixture
def hall(catalog: Catalog) -> Hall:
    clock = Clock()
    clock.now = START
    quotas = Quotas(catalog, Limits(running=2, queued=5, bytes=1000, minutes=60.0), now=clock)
    jobs = Jobs(catalog, Tokens(catalog, now=clock), lease_seconds=30, max_attempts=2, quotas=quotas, now=clock)
    return Hall(jobs, quotas, clock, catalog)


def spec(minutes: float = 1.0, seed: int = 0) -> FinetuneSpec:
    return msgspec.structs.replace(SPEC, max_seconds=60 * minutes, seed=seed)


# --- turns ---


def test_a_team_with_many_jobs_delays_anothers_first_by_one(hall: Hall) -> None:
    for seed in range(4):
        hall.jobs.create(spec(seed=seed), "ann", team="acme")
        hall.clock.now += 1
    hall.jobs.create(spec(), "bob", team="rival")
    order = []
    for _ in range(5):
        claim = hall.jobs.claim("w")
        assert claim is not None
        order.append(claim.job.team)
        hall.jobs.fail(claim.job.id, "done")
    assert order == ["acme", "rival", "acme", "acme", "acme"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_nobody_who_waits_is_passed_over_twice(hall: Hall, seed: int) -> None:
    """A simulation of teams that come and go: while a team has a job that may run, no other gets two turns."""
    dice = random.Random(seed)
    teams = [f"team-{k}" for k in range(4)]
    turns_since: dict[str, dict[str, int]] = {}
    running: list[str] = []
    served = 0
    for step in range(40):
        hall.clock.now += dice.random()
        for team in teams:
            waiting = hall.quotas.get(team)
            busy = 0.5 if team == "team-0" else 0.12  # one of them asks for far more
            if dice.random() < busy and waiting.queued_used < waiting.queued:
                hall.jobs.create(spec(0.01, seed=step), team, team=team)
        may = {team for team in teams if (q := hall.quotas.get(team)).queued_used and q.running_used < q.running}
        for team in teams:
            if team not in may:
                turns_since.pop(team, None)
            else:
                turns_since.setdefault(team, {})
        if len(running) < 3:
            claim = hall.jobs.claim("w")
            assert (claim is not None) == bool(may), "a worker is idle only if nobody may run"
            if claim is not None:
                served += 1
                running.append(claim.job.id)
                turns_since.pop(claim.job.team, None)
                for counts in turns_since.values():
                    counts[claim.job.team] = counts.get(claim.job.team, 0) + 1
                    assert counts[claim.job.team] <= 2, (claim.job.team, turns_since)
        if running and dice.random() < 0.6:
            hall.jobs.fail(running.pop(dice.randrange(len(running))), "done")
    assert served > 8


def test_a_quota_of_running_jobs_leaves_the_worker_to_others(hall: Hall) -> None:
    for seed in range(4):
        hall.jobs.create(spec(seed=seed), "ann", team="acme")
    assert hall.jobs.claim("w1") and hall.jobs.claim("w2")
    assert hall.jobs.claim("w3") is None
    hall.jobs.create(spec(), "bob", team="rival")
    claim = hall.jobs.claim("w3")
    assert claim is not None and claim.job.team == "rival"
    hall.quotas.set("ACME", QuotaIn(running=3))
    claim = hall.jobs.claim("w4")
    assert claim is not None and claim.job.team == "acme"


# --- quotas ---


def test_quotas_say_what_is_used_up(hall: Hall) -> None:
    for seed in range(5):
        hall.jobs.create(spec(seed=seed), "ann", team="acme")
    with pytest.raises(QuotaError, match="has 5 queued jobs and may have 5"):
        hall.jobs.create(spec(seed=9), "ann", team="acme")
    hall.jobs.create(spec(), "bob", team="rival")
    with pytest.raises(QuotaError, match="used 0 of its 60 minutes"):
        hall.jobs.create(spec(61), "bob", team="rival")


def test_minutes_are_those_of_the_day_and_count_while_a_job_runs(hall: Hall) -> None:
    job = hall.jobs.create(spec(50), "ann", team="acme")
    hall.jobs.claim("w")
    hall.clock.now += 30 * 60
    assert hall.quotas.get("acme").minutes_used == pytest.approx(30)
    with pytest.raises(QuotaError, match="used 30 of its 60 minutes of today"):
        hall.jobs.create(spec(31), "ann", team="acme")
    hall.jobs.fail(job.id, "done")
    assert hall.jobs.get(job.id).used_seconds == pytest.approx(1800)
    hall.clock.now += DAY
    assert hall.quotas.get("acme").minutes_used == 0
    hall.jobs.create(spec(31), "ann", team="acme")


def test_a_run_over_midnight_counts_for_both_days() -> None:
    found = list(days_between(5 * DAY - 10, 6 * DAY + 20))
    assert found == [(4, 10.0), (5, DAY), (6, 20.0)]
    assert list(days_between(7.0, 7.0)) == []


# --- one request, one job ---


def test_the_same_request_is_the_same_job_while_it_is_at_work(hall: Hall) -> None:
    first = hall.jobs.create(spec(), "ann", team="acme", request="r")
    assert hall.jobs.create(spec(), "bob", team="acme", request="r").id == first.id
    hall.jobs.claim("w")
    assert hall.jobs.create(spec(), "bob", team="acme", request="r").id == first.id
    assert hall.jobs.claim("w2") is None, "two workers never run one request"
    hall.jobs.fail(first.id, "no")
    second = hall.jobs.create(spec(), "ann", team="acme", request="r")
    assert second.id != first.id
    with pytest.raises(JobStateError, match=f"job {second.id} works on the same request"):
        hall.jobs.retry(first.id, "ann")


def test_a_retry_is_the_same_job_with_a_clean_slate(hall: Hall) -> None:
    job = hall.jobs.create(spec(), "ann", team="acme", request="r")
    with pytest.raises(JobStateError, match="is queued"):
        hall.jobs.retry(job.id, "ann")
    for attempt in (1, 2):
        hall.jobs.claim("w")
        hall.jobs.release(job.id, "w", attempt, "died", crashed=True)
    assert hall.jobs.get(job.id).state == "failed"
    again = hall.jobs.retry(job.id, "ann")
    assert (again.state, again.crashes, again.error, again.attempt) == ("queued", 0, None, 2)
    claim = hall.jobs.claim("w")
    assert claim is not None and (claim.job.id, claim.job.attempt) == (job.id, 3)
    hall.jobs.cancel(job.id)
    hall.jobs.release(job.id, "w", 3, "cancelled", crashed=False)
    assert hall.jobs.retry(job.id, "ann").cancel_requested is False
    assert hall.jobs.events(job.id, 0)[-1].data["reason"] == "tried again by ann"


def test_requests_over_http_run_once_and_may_be_tried_again(
    client: HubClient, dataset: str, services: Services
) -> None:
    client.create_cell("dock-7")
    asked = FinetuneIn(cell="dock-7", dataset=dataset, class_map={"tote": "box"}, image_size=448)
    job = client.finetune(asked)
    assert (job.team, job.spec.class_map, job.spec.image_size) == ("acme", {"tote": "box"}, 448)
    assert client.finetune(asked).id == job.id
    client.cancel(job.id)
    assert client.retry(job.id).state == "queued"
    client.cancel(job.id)
    events = [event.data["state"] for event in client.events(job.id)]
    assert events == ["queued", "cancelled", "queued", "cancelled"], "an end that was not the last is passed on"
    assert [one.id for one in client.jobs(state="cancelled")] == [job.id]
    assert client.jobs(team="rival") == []


def test_jobs_of_other_teams_do_not_exist(
    raw: TestClient[Any], client: HubClient, dataset: str, services: Services
) -> None:
    client.create_cell("dock-7")
    job = client.finetune(FinetuneIn(cell="dock-7", dataset=dataset))
    for name, team, sees in (("ann", "acme", True), ("bob", "rival", False)):
        services.users.put(name, teams=[team])
        token = services.tokens.issue(name, {Scope.FINETUNE}, user=name)
        headers = {"Authorization": f"Bearer {token}"}
        listed = raw.get("/api/v1/jobs", headers=headers).json()
        assert [one["id"] for one in listed] == ([job.id] if sees else [])
        for route in ("", "/log", "/cancel"):
            method = "POST" if route == "/cancel" else "GET"
            status = raw.request(method, f"/api/v1/jobs/{job.id}{route}", headers=headers).status_code
            assert status == (200 if sees else 404), (name, route)


# --- logs ---


def test_pieces_of_a_log_are_kept_once_and_in_order(tmp_path: Path) -> None:
    logs = JobLogs(tmp_path / "logs")
    assert logs.append("j", 0, "one\n") == 4
    assert logs.append("j", 0, "one\ntwo\n") == 8, "what came before is not written twice"
    assert logs.append("j", 20, "gap") == 8
    assert logs.append("j", 8, "größer\n") == 17
    whole = logs.read("j")
    assert (whole.text, whole.next, whole.size) == ("one\ntwo\ngrößer\n", 17, 17)
    cut = logs.read("j", offset=8, limit=3)
    assert (cut.text, cut.next) == ("gr", 10), "no character is cut in two"
    assert logs.tail("j", 2).text == "two\ngrößer\n"
    assert logs.tail("j", 0).text == "" and logs.read("none").size == 0
    assert logs.append("j", 17, "x" * MAX_LOG_BYTES) == MAX_LOG_BYTES
    assert logs.append("j", MAX_LOG_BYTES, "more") == MAX_LOG_BYTES


# --- audit ---


def test_every_change_is_in_the_log_and_reading_is_not(
    client: HubClient, raw: TestClient[Any], services: Services, tmp_path: Path
) -> None:
    client.create_cell("dock-7")
    client.cells()
    client.put_user("ann", teams=["acme"])
    token = services.tokens.issue("laptop", {Scope.CONTRIBUTE}, user="ann")
    headers = {"Authorization": f"Bearer {token}"}
    assert raw.put("/api/v1/datasets/rival/x", headers=headers, json={}).status_code == 403
    assert raw.put("/api/v1/datasets/acme/x", headers=headers, json={"private": True}).status_code == 200
    assert raw.post("/api/v1/cells", headers=headers, json={"name": "No Spaces"}).status_code in (400, 403)
    found = client.audit(limit=4)
    assert [(one.who, one.action, one.status) for one in found][:2] in (
        [("ann", "create_cell", 403), ("ann", "create_dataset", 200)],
        [("ann", "create_dataset", 200), ("ann", "create_dataset", 403)],
    )
    made = next(one for one in found if one.status == 200 and one.action == "create_dataset")
    assert (made.token, made.subject) == ("laptop", "PUT /api/v1/datasets/acme/x")
    assert made.address
    assert {one.action for one in client.audit()} >= {"create_cell", "put_user", "create_dataset"}
    checked = client.check_audit()
    assert checked.whole and checked.head == client.audit(limit=1)[0].digest
    assert checked.entries == client.audit(limit=1)[0].number


def test_the_log_may_be_read_by_the_operator_alone_and_changed_by_nobody(
    raw: TestClient[Any], services: Services
) -> None:
    token = services.tokens.issue("t", {Scope.PROMOTE, Scope.FINETUNE, Scope.CONTRIBUTE})
    assert raw.get("/api/v1/audit", headers={"Authorization": f"Bearer {token}"}).status_code == 403
    paths = raw.get("/schema/openapi.json").json()["paths"]
    assert {method for path in ("/api/v1/audit", "/api/v1/audit/check") for method in paths[path]} == {"get"}
    assert not [name for name in vars(AuditLog) if name.startswith(("delete", "update", "clear", "purge"))]


def test_an_entry_that_was_touched_breaks_the_chain(catalog: Catalog) -> None:
    log = AuditLog(catalog, now=lambda: START)
    for number in range(5):
        log.record(who="ann", token="t", action=f"a{number}", subject="s", status=200, address="::1", detail={"n": 1})
    whole = log.verify()
    assert (whole.whole, whole.entries) == (True, 5)
    assert log.page(limit=10)[-1].previous == FIRST
    assert AuditLog(catalog).record(who="b", token="t", action="x", subject="s", status=200, address="").number == 6
    with catalog.write() as db:
        db.execute("UPDATE hub_audit SET record = replace(record, 'a2', 'a9') WHERE number = 3")
    broken = log.verify()
    assert (broken.whole, broken.broken_at) == (False, 3)
    with catalog.write() as db:
        db.execute("DELETE FROM hub_audit WHERE number = 2")
    assert log.verify().broken_at == 2


def test_a_quota_is_told_over_http(client: HubClient, dataset: str) -> None:
    client.create_cell("dock-7")
    client.put_team("acme", "ACME")
    client.set_quota("acme", QuotaIn(queued=0))
    with pytest.raises(HubAnswerError, match="may have 0") as error:
        client.finetune(FinetuneIn(cell="dock-7", dataset=dataset))
    assert (error.value.status, error.value.slug) == (429, "quota")
