"""Jobs of several kinds in one queue: who may ask, what a run may touch, and what becomes of kinds nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.jobs.kinds import job_kinds, page_of
from hub.kinds.dataset_check import Checks, DatasetCheckSpec
from hub.schemas.core import FinetuneIn
from hub.schemas.jobs import UnknownSpec, read_spec
from hub.schemas.resources import QuotaIn
from hub.services import Services
from hub.settings import Settings
from registry.types import RepoId
from tests.hub.web.material import push_rectangles, work_off

ACME = "acme/dock"


def test_each_module_of_the_room_is_a_kind() -> None:
    assert {"finetune", "refresh", "dataset-check", "evaluation"} <= set(job_kinds())
    assert [name for name, kind in job_kinds().items() if kind.spec.light] == ["dataset-check"]


def test_a_check_goes_through_the_queue_and_its_answer_is_kept(
    raw: TestClient[Any], client: HubClient, services: Services, tmp_path: Path
) -> None:
    commit = push_rectangles(client, ACME, tmp_path, images=4)
    job = client.ask_for_job("dataset-check", dataset=ACME)
    assert (job.state, job.spec.kind, job.team) == ("queued", "dataset-check", "acme")
    assert client.ask_for_job("dataset-check", dataset=ACME).id == job.id, "one request is one job"
    assert services.quality.found(RepoId.parse(ACME, "dataset"), commit) is None
    (done,) = work_off(raw)
    assert (done.id, done.state, done.version, done.metrics["images"]) == (job.id, "finished", None, 4)
    found = services.quality.found(RepoId.parse(ACME, "dataset"), commit)
    assert found is not None and found.images == 4 and not found.problem


def test_another_teams_check_is_no_answer(
    client: HubClient, services: Services, as_job: Callable[[str], HubClient], tmp_path: Path
) -> None:
    """Whoever asks for the check of a public dataset gets a job they may look at; the dataset's page tells both."""
    commit = push_rectangles(client, ACME, tmp_path, images=3)
    client.put_user("gil", teams=["globex"])
    token = client.create_token("gil", user="gil", scopes=["read", "finetune"])
    first = client.ask_for_job("dataset-check", dataset=ACME)
    with as_job(token) as other:
        mine = other.ask_for_job("dataset-check", dataset=ACME)
        assert (mine.id != first.id, mine.team) == (True, "gil")
        assert other.job(mine.id).state == "queued"
        assert other.ask_for_job("dataset-check", dataset=ACME).id == mine.id
        with pytest.raises(HubAnswerError, match="there is no job"):
            other.job(first.id)
    assert Checks(services).standing(RepoId.parse(ACME, "dataset"), commit).state == "waiting"


def test_a_run_may_touch_what_its_kind_says_and_nothing_else(
    client: HubClient, services: Services, as_job: Callable[[str], HubClient], tmp_path: Path
) -> None:
    commit = push_rectangles(client, ACME, tmp_path, images=3)
    spec = DatasetCheckSpec(dataset=ACME, dataset_commit=commit)
    for one, writes in ((spec, False), (msgspec.structs.replace(spec, convert=True), True)):
        job = services.jobs.create(one, "ann", team="acme")
        claim = services.jobs.claim("w")
        assert claim is not None and claim.job.id == job.id
        with as_job(claim.token) as process:
            assert process.tree("dataset", ACME, commit).files
            if writes:
                made = process.commit("dataset", ACME, "less", [{"op": "delete", "path": "README.md"}])
                assert made.author == "ann", "in the name of who asked"
            else:
                with pytest.raises(HubAnswerError, match="a job writes what it was made for"):
                    process.commit("dataset", ACME, "less", [{"op": "delete", "path": "README.md"}])
            for refused in (lambda p=process: p.cells(), lambda p=process: p.tree("dataset", "acme/other", "main")):
                with pytest.raises(HubAnswerError):
                    refused()
        services.jobs.fail(job.id, "enough")


def test_light_jobs_cost_no_minutes_and_other_kinds_wait_for_their_worker(
    client: HubClient, services: Services, tmp_path: Path
) -> None:
    push_rectangles(client, ACME, tmp_path, images=3)
    client.create_cell("dock-7", team="acme")
    train = client.finetune(FinetuneIn(cell="dock-7", dataset=ACME))
    client.set_quota("acme", QuotaIn(minutes_per_day=0.5))
    with pytest.raises(HubAnswerError, match="this job may take"):
        client.finetune(FinetuneIn(cell="dock-7", dataset=ACME, seed=1))
    check = client.ask_for_job("dataset-check", dataset=ACME)
    assert services.jobs.claim("w", ["evaluation"]) is None
    assert services.jobs.claim("w", []) is None
    claim = services.jobs.claim("w-light", ["dataset-check"])
    assert claim is not None and claim.job.id == check.id, "the older one is of a kind that this worker does not run"
    claim = services.jobs.claim("w", ["finetune", "refresh"])
    assert claim is not None and claim.job.id == train.id
    with services.registry.catalog.write() as db:  # both ran for an hour
        db.execute("UPDATE hub_jobs SET claimed_at = claimed_at - 3600")
    services.jobs.fail(check.id, "enough")
    assert client.quota("acme").minutes_used == pytest.approx(60, abs=3), "the training's alone"
    services.jobs.fail(train.id, "enough")
    client.ask_for_job("dataset-check", dataset=ACME)
    assert services.jobs.claim("w-light", ["dataset-check"]) is not None, "its minutes are used up; checks need none"


def test_a_kind_that_is_not_loaded_is_kept_shown_and_never_claimed(
    client: HubClient, services: Services, tmp_path: Path
) -> None:
    push_rectangles(client, ACME, tmp_path, images=3)
    job = client.ask_for_job("dataset-check", dataset=ACME)
    with services.registry.catalog.write() as db:
        db.execute(
            "UPDATE hub_jobs SET kind = 'weighing', spec = replace(spec, 'dataset-check', 'weighing') WHERE id = ?",
            [job.id],
        )
    told = client.job(job.id)
    assert isinstance(told.spec, UnknownSpec) and told.spec.kind == "weighing"
    assert [one.id for one in client.jobs()] == [job.id]
    shown = page_of(services.jobs.get(job.id))
    assert shown.title == f"weighing {job.id}" and ("dataset", ACME) in [(one.term, one.text) for one in shown.facts]
    assert services.jobs.claim("w") is None
    assert client.cancel(job.id).state == "cancelled"


def test_who_may_not_have_a_dataset_may_not_have_a_job_on_it(
    client: HubClient, services: Services, as_job: Callable[[str], HubClient], tmp_path: Path
) -> None:
    push_rectangles(client, ACME, tmp_path, images=3)
    services.registry.directory.configure(RepoId.parse(ACME, "dataset"), private=True)
    services.users.put("eve", teams=["rival"])
    with as_job(services.tokens.issue("eve-token", {Scope.FINETUNE}, user="eve")) as eve:
        for kind, asked in (
            ("dataset-check", {"dataset": ACME}),
            ("evaluation", {"model": "base/universal@v1", "dataset": ACME}),
        ):
            with pytest.raises(HubAnswerError) as refused:
                eve.ask_for_job(kind, **asked)
            assert refused.value.status == 404
    assert services.jobs.all() == []


WRONG: tuple[tuple[str, dict[str, object], str], ...] = (
    ("weighing", {}, "there is no kind of job 'weighing'"),
    ("refresh", {}, "are not asked for like this"),
    ("dataset-check", {"dataset": "nothing"}, r"dataset-check: .*\$.dataset"),
    ("dataset-check", {"dataset": ACME, "sudo": 1}, "sudo"),
    ("evaluation", {"dataset": ACME}, "model"),
)


def test_what_is_asked_is_checked(client: HubClient) -> None:
    for kind, asked, said in WRONG:
        with pytest.raises(HubAnswerError, match=said) as refused:
            client.ask_for_job(kind, **asked)
        assert refused.value.status == 400, (kind, asked)


def test_rows_of_before_there_were_kinds_are_read(settings: Settings) -> None:
    old = {"cell": "c", "dataset": ACME, "dataset_commit": "d", "base": "base/universal@v1", "base_commit": "b"}
    old |= {"images": None, "max_seconds": 60.0, "seed": 0}
    assert read_spec(old).kind == "finetune"
    run = {"run": "r1", "start": None, "sources": [ACME]}
    assert read_spec(old | {"refresh": run}).kind == "refresh"
    assert read_spec(old | {"refresh": None}).kind == "finetune"


def test_a_dataset_may_go_while_it_waits_for_its_check_but_not_for_its_training(
    client: HubClient, services: Services, tmp_path: Path
) -> None:
    push_rectangles(client, ACME, tmp_path, images=3)
    client.create_cell("dock-7", team="acme")
    train = client.finetune(FinetuneIn(cell="dock-7", dataset=ACME))
    client.ask_for_job("dataset-check", dataset=ACME)
    with pytest.raises(Exception, match=f"is needed by the job {train.id}"):
        services.registry.repos.delete(RepoId.parse(ACME, "dataset"))
    client.cancel(train.id)
    services.registry.repos.delete(RepoId.parse(ACME, "dataset"))


@pytest.mark.parametrize("private", [True, False])
def test_an_evaluation_on_a_private_dataset_stays_with_its_job(
    client: HubClient, services: Services, as_job: Callable[[str], HubClient], tmp_path: Path, private: bool
) -> None:
    push_rectangles(client, ACME, tmp_path, images=3)
    services.registry.directory.configure(RepoId.parse(ACME, "dataset"), private=private)
    asked = client.ask_for_job("evaluation", model="base/universal@v1", dataset=ACME)
    claim = services.jobs.claim("w", ["evaluation"])
    assert claim is not None and claim.job.id == asked.id
    with as_job(claim.token) as process:
        done = process.finish(asked.id, metrics={"ap": 0.5, "images": 3})
    assert (done.state, done.metrics["ap"]) == ("finished", 0.5)
    kept = services.evaluations.page(limit=9, model="base/universal@v1")
    assert [one.dataset.partition("@")[0] for one in kept] == ([] if private else [ACME])
