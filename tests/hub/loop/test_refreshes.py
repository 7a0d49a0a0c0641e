"""Refreshes at a real hub: what their datasets hold, that each cause has one, and what people may do about them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.client.client import HubClient
from hub.errors import HubAnswerError, RefreshStateError
from hub.schemas.refresh import RefreshPolicyIn, RefreshRun
from hub.services import Services
from hub.settings import Settings
from registry.errors import MoveRefusedError
from registry.types import Artifact, RepoId
from tests.hub.loop.refresh_material import (
    CELL,
    DECK,
    LABELS,
    finish_refresh,
    first_variant,
    plan_of,
    push_labels,
    slice_,
)

POLICY = RefreshPolicyIn(min_labels=8, min_hours_between=0)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The rule looks when a test says so, and not by the clock."""
    return replace(settings, refresh=0)


@pytest.fixture
def cell(services: Services) -> str:
    services.users.put("ann", teams=["acme"])
    services.cells.create(CELL, "", "acme")
    services.refreshes.set_policy(CELL, POLICY, "ann")
    return CELL


def only(services: Services) -> RefreshRun:
    (found,) = services.refreshes.page(CELL, limit=10)
    return found


def jobs_of(services: Services) -> list[str]:
    return [job.id for job in services.jobs.page(limit=100, cell=CELL) if job.spec.refresh]


def test_the_first_refresh_begins_at_the_base(services: Services, client: HubClient, cell: str, tmp_path: Path) -> None:
    assert services.refreshes.of(CELL).status.code == "no labels"
    commit = push_labels(client, tmp_path, images=7, seed=1)
    services.refreshes.look()
    assert services.refreshes.page(CELL, limit=10) == []
    assert "7 new labelled images of 8" in services.refreshes.of(CELL).status.reason
    push_labels(client, tmp_path, images=1, seed=2)
    services.refreshes.look()
    run = only(services)
    assert (run.state, run.by_rule, run.new_images, run.start) == ("training", True, 8, "")
    job = services.jobs.get(str(run.job))
    assert job.spec.dataset == DECK and job.spec.refresh is not None
    assert job.spec.refresh.sources == [LABELS] and job.team == "acme"
    plan = plan_of(services, job.spec.dataset_commit)
    assert plan.run == run.id and len(plan.new[0]) == 8 and not plan.replay and not plan.slices
    repo = RepoId.parse(DECK, "dataset")
    made = Artifact("dataset", DECK, job.spec.dataset_commit)
    parents = {edge.parent.revision for edge in services.registry.lineage.parents(made)}
    assert len(parents) == 1 and commit not in parents, "the newest commit of the labels"
    (told,) = [one for one in services.store.repos.tree(repo, job.spec.dataset_commit) if one.path == "README.md"]
    assert b"8 new images" in services.store.blobs.read(told.sha256)


def test_what_a_refresh_is_made_of(services: Services, client: HubClient, cell: str, tmp_path: Path) -> None:
    first_variant(services, client, tmp_path)
    push_labels(client, tmp_path, seed=1, kind="crate")
    services.refreshes.look()
    run = only(services)
    plan = plan_of(services, str(run.dataset_commit))
    assert (plan.start, len(plan.new), len(plan.new[0]), len(plan.replay)) == ("dock-7@v1", 1, 8, 6)
    assert [(one.name, len(one.files)) for one in plan.slices] == [("dock-7@v1", 2)]
    assert set(plan.judge) == set(plan.slices[0].files)
    assert plan.class_map == {"box": "box"} and plan.new_kinds == {"crate": 0}
    every = [*plan.new[0], *plan.replay, *plan.slices[0].files]
    assert len(set(every)) == len(every) == 16
    # Its annotations are those of the sources, to the byte of each mask.
    repo = RepoId.parse(DECK, "dataset")
    entry = services.store.repos.entry(repo, str(run.dataset_commit), "annotations.json")
    document = json.loads(services.store.blobs.read(entry.sha256))
    assert len(document["annotations"]) == 48 and {one["name"] for one in document["categories"]} == {"box", "crate"}
    masks = set()
    for name in (LABELS, "acme/dock-7"):
        source = RepoId.parse(name, "dataset")
        each = services.store.repos.entry(source, "main", "annotations.json")
        masks |= {
            json.dumps(one["segmentation"]) for one in json.loads(services.store.blobs.read(each.sha256))["annotations"]
        }
    assert {json.dumps(one["segmentation"]) for one in document["annotations"]} == masks
    version = finish_refresh(services, run.id, tmp_path, slice_("dock-7@v1"))
    done = only(services)
    assert (done.state, done.version, version) == ("offered", "dock-7@v2", "dock-7@v2")
    assert services.variants.get(CELL, "v2").stage == "candidate"
    variant = services.variants.get(CELL, "v2")
    edges = services.registry.lineage.parents(Artifact("variant", "cells/dock-7@v2", variant.commit))
    assert ("start", "cells/dock-7@v1") in {(edge.relation, edge.parent.name) for edge in edges}


def test_the_next_one_knows_every_earlier_holdout(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    first_variant(services, client, tmp_path)
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    finish_refresh(services, only(services).id, tmp_path, slice_("dock-7@v1"))
    services.refreshes.look()
    assert len(services.refreshes.page(CELL, limit=10)) == 1, "nothing is new"
    push_labels(client, tmp_path, seed=2)
    services.promotions.promote(CELL, "v2", "station", actor="ann", note="")
    services.refreshes.look()
    second = services.refreshes.page(CELL, limit=1)[0]
    assert second.state == "training", second.reason
    plan = plan_of(services, str(second.dataset_commit))
    assert (plan.start, sum(map(len, plan.new))) == ("dock-7@v2", 8)
    assert [(one.name, len(one.files)) for one in plan.slices] == [("dock-7@v1", 2), ("dock-7@v2", 2)]
    assert len(plan.judge) == 4, "its own holdout was the new one's and the first one's"
    assert len(plan.replay) == 12


def test_labels_of_today_count_before_those_of_a_deck(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    """A replayed image that was labelled again has the new kind's labels."""
    first_variant(services, client, tmp_path)
    push_labels(client, tmp_path, seed=100, kind="crate")  # the very images of the first variant
    push_labels(client, tmp_path, seed=1, kind="crate")
    services.refreshes.look()
    run = only(services)
    assert run.new_images == 8
    plan = plan_of(services, str(run.dataset_commit))
    assert plan.new_kinds == {"crate": 8}
    entry = services.store.repos.entry(RepoId.parse(DECK, "dataset"), str(run.dataset_commit), "annotations.json")
    document = json.loads(services.store.blobs.read(entry.sha256))
    assert {one["name"] for one in document["categories"]} == {"crate"}


def test_rules_that_look_at_once_start_one(services: Services, client: HubClient, cell: str, tmp_path: Path) -> None:
    push_labels(client, tmp_path, seed=1)
    barrier = threading.Barrier(8)

    def look() -> None:
        barrier.wait()
        services.refreshes.look()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert only(services).state == "training"
    assert len(jobs_of(services)) == 1
    assert len(services.store.repos.history(RepoId.parse(DECK, "dataset"), "main")) == 1


_DIES = """
import os, signal, sys
from pathlib import Path
from hub.loop.refresh_starter import Starter
from hub.services import Services
from hub.settings import Settings

def dies(name, after):
    real = getattr(Starter, name)
    def instead(self, *args, **more):
        found = real(self, *args, **more) if after else None
        os.kill(os.getpid(), signal.SIGKILL)
        return found
    setattr(Starter, name, instead)

name, after, data, base = sys.argv[1:]
dies(name, after == "after")
services = Services.open(Settings.load({}, data=Path(data), base_source=Path(base)))
services.refreshes.look()
"""


@pytest.mark.parametrize(
    ("name", "after"), [("build", "before"), ("_repo", "after"), ("_commit", "after"), ("_queue", "after")]
)
def test_a_hub_that_is_killed_loses_none_and_doubles_none(
    name: str, after: str, services: Services, client: HubClient, cell: str, settings: Settings, tmp_path: Path
) -> None:
    push_labels(client, tmp_path, seed=1)
    services.refreshes.pause(CELL, "ann")
    services.refreshes.pause(CELL, "ann", paused=False)
    copy = tmp_path / "copy"
    services.registry.catalog.snapshot(tmp_path / "snapshot.duckdb")
    import shutil

    shutil.copytree(settings.data, copy, ignore=shutil.ignore_patterns("*.duckdb*", "*.lock", "*.pid"))
    catalog = next(settings.data.glob("*.duckdb")).name
    shutil.copyfile(tmp_path / "snapshot.duckdb", copy / catalog)
    command = [sys.executable, "-c", _DIES, name, after, str(copy), str(settings.base_source)]
    died = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    again = Services.open(Settings.load({}, data=copy, base_source=settings.base_source))
    try:
        again.refreshes.look()
        again.refreshes.look()
        assert only(again).state == "training"
        (job,) = jobs_of(again)
        assert only(again).job == job
        history = again.store.repos.history(RepoId.parse(DECK, "dataset"), "main")
        assert [commit.message for commit in history] == [f"The dataset of the refresh {only(again).id}"]
        assert plan_of(again, history[0].id).run == only(again).id
    finally:
        again.close()


def test_by_hand_it_starts_before_there_are_enough(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    with pytest.raises(HubAnswerError, match="no labelled image"):
        client.refresh_now(CELL)
    push_labels(client, tmp_path, images=4, seed=1)
    first = client.refresh_now(CELL)
    assert client.refresh_now(CELL).id == first.id, "the one under way is the answer"
    assert (first.by_rule, first.asked_by) == (False, "admin")
    assert len(jobs_of(services)) == 1


def test_the_gate_refuses_what_lost_some_of_its_history(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    first_variant(services, client, tmp_path)
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    finish_refresh(services, only(services).id, tmp_path, slice_("dock-7@v1", -0.2))
    with pytest.raises(MoveRefusedError, match=r"'dock-7@v1' lost 0\.20 AP50"):
        services.promotions.promote(CELL, "v2", "station", actor="ann", note="")
    told = [(one.title, one.tone) for one in services.timeline.page(CELL, limit=20)]
    assert ("dock-7@v2 is a candidate, and the gate will refuse it", "bad") in told


def test_a_refresh_that_nobody_measured_on_its_history_goes_nowhere(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    finish_refresh(services, only(services).id, tmp_path, history=False)
    with pytest.raises(MoveRefusedError, match="not measured on the cell's history"):
        services.promotions.promote(CELL, "v1", "station", actor="ann", note="")


def test_a_vetoed_refresh_ends_and_its_images_wait_for_more(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    run = only(services)
    stopped = client.veto_refresh(CELL, run.id, "wrong labels")
    assert (stopped.state, stopped.ended_by, stopped.note) == ("vetoed", "admin", "wrong labels")
    assert services.jobs.get(str(run.job)).state == "cancelled"
    services.refreshes.look()
    assert only(services).state == "vetoed", "the same images do not start it again"
    status = services.refreshes.of(CELL).status
    assert (status.new_images, status.unused) == (8, 0)
    with pytest.raises(HubAnswerError, match="vetoed already"):
        client.veto_refresh(CELL, run.id)
    push_labels(client, tmp_path, seed=2)
    services.refreshes.look()
    second = services.refreshes.page(CELL, limit=1)[0]
    assert (second.state, second.new_images) == ("training", 16)


def test_a_refresh_that_is_undone_leaves_every_stage(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    first_variant(services, client, tmp_path)
    for stage in ("station", "beta", "fleet"):
        services.promotions.promote(CELL, "v1", stage, actor="ann", note="")  # type: ignore[arg-type]
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    run = only(services)
    finish_refresh(services, run.id, tmp_path, slice_("dock-7@v1"))
    services.promotions.promote(CELL, "v2", "fleet", actor="ann", note="")
    with pytest.raises(HubAnswerError, match="undo the refresh instead"):
        client.veto_refresh(CELL, run.id)
    assert client.undo_refresh(CELL, run.id, "it drops bags").state == "undone"
    assert services.variants.get(CELL, "v2").stage == "archived"
    assert services.variants.get(CELL, "v1").stage == "fleet"
    assert services.refreshes.of(CELL).status.new_images == 8, "its images are new again"
    services.refreshes.look()
    assert len(services.refreshes.page(CELL, limit=10)) == 1, "and start nothing by themselves"
    with pytest.raises(RefreshStateError, match="undone"):
        services.refreshes.undo(CELL, run.id, "ann")


def test_a_failed_job_ends_its_refresh_and_a_second_try_takes_it_up(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    job = str(only(services).job)
    services.jobs.claim("w1")
    services.jobs.fail(job, "the images are broken")
    assert (only(services).state, only(services).reason) == ("failed", "the images are broken")
    services.jobs.retry(job, "ann")
    assert only(services).state == "training"
    finish_refresh(services, only(services).id, tmp_path)
    assert only(services).state == "offered"


def test_a_name_that_is_somebodys_own_is_not_written_over(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    push_labels(client, tmp_path, seed=9, name=DECK)
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    assert (only(services).state, "somebody's own" in only(services).reason) == ("failed", True)
    assert len(services.store.repos.history(RepoId.parse(DECK, "dataset"), "main")) == 1


def test_images_of_another_teams_private_dataset_stay_there(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    secret = "rival/secret"
    services.users.put("bob", teams=["rival"])
    push_labels(client, tmp_path, seed=1, name=secret)
    services.registry.directory.configure(RepoId.parse(secret, "dataset"), private=True)
    services.refreshes.set_policy(CELL, RefreshPolicyIn(labels=[secret], min_labels=8), "admin")
    services.refreshes.look()
    assert (only(services).state, "can be used" in only(services).reason) == ("failed", True)


def test_a_private_source_makes_the_dataset_private(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    push_labels(client, tmp_path, seed=1)
    services.registry.directory.configure(RepoId.parse(LABELS, "dataset"), private=True)
    services.refreshes.look()
    assert services.registry.repos.get(RepoId.parse(DECK, "dataset")).private


def test_a_cell_that_is_deleted_takes_its_refreshes_along(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    client.veto_refresh(CELL, only(services).id)
    services.delete_cell(CELL)
    for table in ("policies", "runs", "images", "log", "status", "active"):
        assert services.registry.catalog.query(f"SELECT count(*) FROM refresh_{table}") == [(0,)], table  # noqa: S608


def _steps(client: HubClient, **wanted: str) -> list[tuple[str, str]]:
    return [(one.kind, one.title) for one in client.timeline(CELL, **wanted)]


def test_the_timeline_says_why_nothing_happens_once(
    services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    push_labels(client, tmp_path, images=4, seed=1)
    for _ in range(3):
        services.refreshes.look()
    push_labels(client, tmp_path, images=1, seed=2)
    services.refreshes.look()
    assert _steps(client, kind="refresh").count(("refresh", "No refresh now")) == 1
    assert "5 new labelled images of 8" in client.refresh(CELL).status.reason
    client.pause_refresh(CELL, "a fair")
    services.refreshes.look()
    assert _steps(client, kind="refresh")[:2] == [("refresh", "No refresh now"), ("refresh", "Refreshes were paused")]


def test_the_log_of_a_cell_is_bounded(services: Services, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hub.loop import refresh_runs

    monkeypatch.setattr(refresh_runs, "MAX_LOG", 10)
    for number in range(25):
        services.refreshes.pause(CELL, f"p{number}", paused=number % 2 == 0)
    rows: list[tuple[Any, ...]] = services.registry.catalog.query("SELECT who FROM refresh_log ORDER BY number DESC")
    assert len(rows) == 10 and rows[0] == ("p24",)
