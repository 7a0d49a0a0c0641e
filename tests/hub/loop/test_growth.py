"""The base grows, at a real hub: offers and their way, what is learnt from, and which cells move."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.accounts.tokens import Identity, Kind, Scope
from hub.client.client import HubClient
from hub.errors import ContributionStateError, GrowthStateError, HubAnswerError
from hub.schemas.core import FinishIn, Job
from hub.schemas.growth import Contribution, GrowthPolicyIn
from hub.services import Services
from hub.settings import Settings
from registry.types import Artifact, RepoId
from tests.hub.loop.refresh_material import CELL, answer, first_variant, push_labels, slice_
from tests.hub.material import write_base_files
from tests.hub.web.material import Browser

THEIRS = "bolt/yard-1-labels"
REPO = RepoId.parse(THEIRS, "dataset")
OWNER = Identity("bob", frozenset({Scope.CONTRIBUTE}), "bob", frozenset({"bolt"}), told_kind=Kind.PERSON)
ADMIN = Identity("admin", frozenset({Scope.ADMIN}))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nothing is done by the clock."""
    return replace(settings, refresh=0, grow=0)


@pytest.fixture
def yard(services: Services, client: HubClient, tmp_path: Path) -> str:
    """A labelled dataset of the team bolt, and a cell of another team with a variant."""
    services.users.put("ann", teams=["acme"])
    services.users.put("bob", teams=["bolt"])
    services.cells.create(CELL, "", "acme")
    first_variant(services, client, tmp_path)
    push_labels(client, tmp_path, images=6, seed=7, name=THEIRS)
    return THEIRS


def only(services: Services) -> Contribution:
    (found,) = services.growth.contributions.of(REPO, ADMIN)
    return found


def claimed(services: Services) -> Job:
    claim = services.jobs.claim("w1")
    assert claim is not None
    return claim.job


def tell(services: Services, low: float, high: float) -> Job:
    """Answer a value test."""
    job = claimed(services)
    verdict = "helps" if low > 0 else "hurts" if high < 0 else "unsure"
    told = {"verdict": verdict, "difference": (low + high) / 2, "low": low, "high": high, "told": "as measured"}
    return services.growth.answer(job.id, FinishIn(metrics={**told, "cells": [{"cell": CELL}]}))


def accepted(services: Services) -> Contribution:
    services.growth.contributions.offer(REPO, OWNER)
    services.growth.look()
    services.growth.look()
    tell(services, 0.01, 0.05)
    assert only(services).state == "accepted", only(services).reason
    return only(services)


def trained(services: Services, folder: Path, mark: bytes, **metrics: Any) -> Job:
    """Answer the training of a base."""
    job = claimed(services)
    assert job.spec.growth is not None and job.spec.growth.kind == "base"
    files = {}
    for path in write_base_files(folder, mark=mark).iterdir():
        files[path.name] = services.store.blobs.put_bytes(path.read_bytes()).sha256
    return services.growth.answer(job.id, FinishIn(files=files, metrics={"difference": 0.02, "low": 0.0, **metrics}))


def refitted(services: Services, folder: Path, difference: float) -> str:
    """Answer the refit of the cell's variant."""
    job = services.jobs.page(limit=1, states=["queued"])[0]
    assert job.spec.growth is not None and job.spec.growth.kind == "refit"
    names = [f"s100-{k:03}.png" for k in range(8)]
    document = {"run": job.spec.growth.run, "start": "dock-7@v1", "tolerance": 0.02,
                "slices": [slice_("dock-7@v1", difference)], "told": "as measured"}  # fmt: skip
    return answer(services, job, folder, train=names[:6], holdout=names[6:], history=document)


@pytest.mark.slow
def test_the_way_of_an_offer(services: Services, client: HubClient, yard: str) -> None:
    offers = services.growth.contributions
    first = offers.offer(REPO, OWNER, note="night shift")
    assert (first.state, first.images, first.offered_by) == ("offered", 6, "bob")
    assert "everybody gets" in first.reason
    assert offers.offer(REPO, OWNER).id == first.id, "the same again is the same"
    assert client.dataset(yard).offered
    services.growth.go_on()
    assert only(services).state == "checked", only(services).reason
    assert any("cc0-1.0 is allowed" in said for said in only(services).checks)
    services.growth.go_on()
    (job,) = services.jobs.page(limit=5, states=["queued"])
    plan = job.spec.growth
    assert plan is not None and plan.kind == "value" and job.team == ""
    assert [(one.dataset, len(one.files)) for one in plan.contributions] == [(yard, 6)]
    assert [one.cell for one in plan.judges] == [CELL], "a cell that it is not from"
    services.growth.go_on()
    assert len(services.jobs.page(limit=5, states=["queued"])) == 1
    tell(services, -0.02, 0.03)
    assert (only(services).state, only(services).verdict) == ("tested", "unsure")
    with pytest.raises(ContributionStateError):
        offers.decide(first.id, True, "admin", "", "checked")
    assert offers.decide(first.id, True, "admin", "the only black bags", "tested").state == "accepted"
    moments = only(services).moments
    assert [one.state for one in moments] == ["offered", "checked", "tested", "accepted"]
    assert moments[0].who == "bob" and moments[-1].reason == "the only black bags"
    assert services.growth.outlook().images == 6
    assert offers.withdraw(REPO, OWNER) is not None
    assert services.growth.outlook().images == 0 and not client.dataset(yard).offered
    with pytest.raises(ContributionStateError):
        offers.decide(first.id, True, "admin", "", None)


@pytest.mark.slow
def test_what_hurts_is_refused_and_may_be_offered_again(services: Services, yard: str) -> None:
    services.growth.contributions.offer(REPO, OWNER)
    services.growth.look()
    services.growth.look()
    tell(services, -0.06, -0.01)
    assert only(services).state == "refused"
    again = services.growth.contributions.offer(REPO, OWNER)
    assert again.state == "offered"


@pytest.mark.slow
def test_what_does_not_pass_the_checks(services: Services, client: HubClient, yard: str, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# Frames\n")
    client.push_folder("dataset", "bolt/bare", folder, "nothing")
    repo = RepoId.parse("bolt/bare", "dataset")
    made = services.growth.contributions.offer(repo, OWNER)
    services.growth.look()
    found = services.growth.contributions.get(made.id)
    assert found.state == "refused" and "cc-by-nc-4.0 is not among those allowed" in found.reason
    assert "None of the images" in found.reason
    assert services.jobs.page(limit=5, states=["queued"]) == []
    (folder / "README.md").write_text("# Frames\n")
    client.push_folder("dataset", "bolt/bare", folder, "no licence")
    made = services.growth.contributions.offer(repo, OWNER)
    services.growth.look()
    assert "names no licence" in services.growth.contributions.get(made.id).reason


@pytest.mark.slow
def test_only_its_owner_offers_a_dataset_and_a_private_one_is_not_told_of(
    services: Services, client: HubClient, yard: str, raw: Any
) -> None:
    client.change_dataset(yard, private=True)
    services.growth.contributions.offer(REPO, OWNER)
    tokens = {
        name: {"Authorization": f"Bearer {services.tokens.issue(name, [Scope.CONTRIBUTE], user=name)}"}
        for name in ("ann", "bob")
    }
    for method, path in (("GET", "contributions"), ("PUT", "offer"), ("DELETE", "offer")):
        body = {"json": {}} if method == "PUT" else {}
        refused = raw.request(method, f"/api/v1/datasets/{yard}/{path}", headers=tokens["ann"], **body)
        assert refused.status_code == 404, (method, path)
    seen = raw.get(f"/api/v1/datasets/{yard}/contributions", headers=tokens["bob"])
    assert seen.status_code == 200 and seen.json()[0]["state"] == "offered"
    assert raw.get("/api/v1/growth", headers=tokens["bob"]).status_code == 403
    client.change_dataset(yard, private=False)
    assert raw.put(f"/api/v1/datasets/{yard}/offer", headers=tokens["ann"], json={}).status_code == 403
    with pytest.raises(HubAnswerError, match="there is no repo"):
        client.contributions("bolt/nothing")


@pytest.mark.slow
def test_a_picture_that_is_forgotten_is_not_learnt_from(services: Services, yard: str) -> None:
    one = accepted(services)
    before = services.growth.contributions.material(one)
    assert len(before.files) == 6
    number = services.datasets.images.of(REPO, one.commit).number
    gone = services.datasets.images.page(number, limit=10)[2]
    services.forgetting.forget(gone.sha256, OWNER, "on request")
    after = services.growth.contributions.material(one)
    assert len(after.files) == 5 and gone.file not in after.files
    job = services.jobs.get(str(services.growth.grow("admin").job))
    assert job.spec.growth is not None and job.spec.growth.contributions[0].files == after.files
    services.registry.repos.resolve(REPO, after.commit)


@pytest.mark.slow
def test_withdrawing_ends_the_test_and_later_pictures_are_not_offered(
    services: Services, client: HubClient, yard: str, tmp_path: Path
) -> None:
    one = services.growth.contributions.offer(REPO, OWNER)
    services.growth.look()
    services.growth.look()
    (job,) = services.jobs.page(limit=5, states=["queued"])
    push_labels(client, tmp_path, images=3, seed=8, name=THEIRS)
    assert len(services.growth.contributions.material(one).files) == 6
    services.growth.contributions.withdraw(REPO, OWNER, "a mistake")
    services.growth.look()
    assert services.jobs.get(job.id).state == "cancelled"
    assert only(services).state == "withdrawn"


@pytest.mark.slow
def test_rules_that_look_at_once_start_one_growth(services: Services, yard: str) -> None:
    accepted(services)
    services.growth.look()
    assert services.growth.page() == [], "nobody switched the rule on"
    policy = GrowthPolicyIn(enabled=True, min_images=6, min_contributions=1, min_hours_between=0)
    services.growth.policies.set(policy, "admin", expected=0)
    with pytest.raises(GrowthStateError):
        services.growth.policies.set(policy, "admin", expected=0)
    barrier = threading.Barrier(8)

    def look() -> None:
        barrier.wait()
        services.growth.look()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    (run,) = services.growth.page()
    assert run.by_rule and run.state == "training"
    assert len(services.jobs.page(limit=5, states=["queued"])) == 1
    assert services.growth.grow("admin").id == run.id, "a person gets the one that is under way"
    services.growth.stop(run.id, "admin", "not today")
    assert services.jobs.get(str(run.job)).state == "cancelled"
    services.growth.look()
    assert len(services.growth.page()) == 1, "this cause had its own"


@pytest.mark.slow
def test_a_cell_that_wins_moves_with_the_credit_in_the_lineage(
    services: Services, client: HubClient, yard: str, tmp_path: Path, raw: Any
) -> None:
    client.change_dataset(yard, private=True)
    services.promotions.promote(CELL, "v1", "fleet", actor="ann", note="")
    one = accepted(services)
    outlook = services.growth.outlook()
    assert (outlook.images, outlook.new_images, outlook.judges) == (6, 6, 1)
    assert outlook.cells == ["dock-7@v1 on base/universal@v1 (fleet)"]
    assert services.growth.page() == [], "an outlook starts nothing"
    run = services.growth.grow("admin", "the autumn base")
    trained(services, tmp_path / "next", b"next", high=0.04)
    assert services.bases.newest().name == "base/universal@v2"
    assert services.serving_folder.read()["base"] == "universal@v1", "no cell has moved yet"
    services.growth.go_on()
    services.growth.go_on()
    assert len(services.jobs.page(limit=5, states=["queued"])) == 1
    assert refitted(services, tmp_path / "refit", 0.03) == "dock-7@v2"
    services.growth.go_on()
    done = services.growth.get(run.id)
    assert done.state == "finished" and "1 of 1 cells" in done.reason
    assert [(c.state, c.version, c.stages) for c in done.cells] == [("moved", "dock-7@v2", ["fleet"])]
    table = services.serving_folder.read()
    assert (table["base"], table["cells"][CELL]["fleet"], table.get("bases")) == ("universal@v2", "dock-7@v2", None)
    base = services.bases.get("base/universal@v2")
    parents = services.registry.lineage.parents(Artifact("base", base.name, base.commit))
    assert {(edge.relation, edge.parent.name) for edge in parents} >= {("dataset", yard), ("base", "base/universal@v1")}
    # What everybody reads about the base does not name what is private.
    statement = services.vouching.statement(base.name)
    assert yard not in repr(statement) and "a private dataset" in repr(statement)
    token = services.tokens.issue("bob", [Scope.READ], user="bob")
    told = raw.get(f"/api/v1/datasets/{yard}/contributions", headers={"Authorization": f"Bearer {token}"}).json()
    (credit,) = told[0]["credits"]
    assert (credit["base"], credit["images"]) == ("base/universal@v2", 6)
    assert credit["cells"] == [{"cell": "", "difference": 0.03, "state": "moved", "reason": ""}], "another team's cell"
    assert CELL not in json.dumps(told)
    steps = services.timeline.page(CELL, limit=50, kinds=["growth"])
    titles = [step.title for step in reversed(steps)]
    assert [title.partition(" ")[0] for title in titles] == ["The", "base/universal@v2", "dock-7@v2", "The", "The"]
    assert yard not in " ".join(step.title + step.reason for step in steps)
    assert services.growth.outlook().new_images == 0
    assert one.id in {row[0] for row in services.registry.catalog.query("SELECT id FROM growth_contributions")}
    browser = Browser(raw)
    browser.sign_in(services.settings.client_token())
    page = browser.get("/ui/growth")
    for said in (run.id, "base/universal@v1 → base/universal@v2", "1 of 1 moved", yard, "+0.030 (+0.010 to +0.050)"):
        assert said in page, said
    page = browser.get(f"/ui/growth/{run.id}")
    for said in ("1 of 1 cells", "+0.020", "dock-7@v2", "+0.030", ">moved<", yard, "/ui/models/dock-7/v2"):
        assert said in page, said
    assert "/stop" not in page, "it has ended"
    assert f"/ui/growth/{run.id}" in browser.get(f"/ui/datasets/{yard}/contribution")
    assert "/ui/growth" in browser.get("/ui/repos/model/base/universal")
    browser.get("/ui/growth/no-such-run", status=404)
    browser.sign_in(token)
    for address in ("/ui/growth", f"/ui/growth/{run.id}"):
        browser.get(address, status=403)


@pytest.mark.slow
def test_the_operator_decides_and_stops_on_the_pages(services: Services, yard: str, raw: Any) -> None:
    services.growth.contributions.offer(REPO, OWNER)
    services.growth.look()
    services.growth.look()
    tell(services, -0.01, 0.05)
    browser = Browser(raw)
    browser.sign_in(services.settings.client_token())
    one = only(services)
    assert one.state == "tested" and "does not tell" in browser.get("/ui/growth") and yard in browser.get("/ui/growth")
    address = f"/ui/growth/contributions/{one.id}"
    browser.post(address, {"action": "accept", "expected": "checked"}, status=409)
    browser.post(address, {"action": "praise", "expected": "tested"}, status=400)
    browser.post(address, {"action": "accept", "expected": "tested", "note": "the only black bags"})
    assert (only(services).state, only(services).reason) == ("accepted", "the only black bags")
    run = services.growth.grow("admin")
    assert "Variants are put on the base once" in browser.get(f"/ui/growth/{run.id}")
    browser.post(f"/ui/growth/{run.id}/stop", {"note": "not today"})
    stopped = services.growth.get(run.id)
    assert (stopped.state, stopped.ended_by) == ("stopped", "admin") and "not today" in browser.get(
        f"/ui/growth/{run.id}"
    )
    browser.post(f"/ui/growth/{run.id}/stop", {}, status=409)


@pytest.mark.slow
def test_a_cell_that_would_lose_stays_and_both_bases_are_served(
    services: Services, client: HubClient, yard: str, tmp_path: Path
) -> None:
    services.promotions.promote(CELL, "v1", "fleet", actor="ann", note="")
    services.cells.create("dock-8", "", "acme")
    push_labels(client, tmp_path, seed=200, name="acme/dock-8")
    names = [f"s200-{k:03}.png" for k in range(8)]
    from hub.schemas.core import FinetuneIn

    job = services.finetunes.request(FinetuneIn(cell="dock-8", dataset="acme/dock-8"), "ann")
    answer(services, job, tmp_path / "other", train=names[:6], holdout=names[6:])
    services.promotions.promote("dock-8", "v1", "fleet", actor="ann", note="")
    accepted(services)
    run = services.growth.grow("admin")
    trained(services, tmp_path / "next", b"next", high=0.04)
    services.growth.go_on()
    for each in range(2):
        job = services.jobs.page(limit=5, states=["queued"])[-1]
        assert job.spec.growth is not None
        cell, worse = job.spec.cell, -0.2 if job.spec.cell == CELL else 0.02
        stem = "s100" if cell == CELL else "s200"
        mine = [f"{stem}-{k:03}.png" for k in range(8)]
        document = {"run": run.id, "tolerance": 0.02, "slices": [slice_(f"{cell}@v1", worse)]}
        answer(services, job, tmp_path / f"refit-{each}", train=mine[:6], holdout=mine[6:], history=document)
    services.growth.go_on()
    done = services.growth.get(run.id)
    assert {one.cell: one.state for one in done.cells} == {CELL: "stays", "dock-8": "moved"}
    table = services.serving_folder.read()
    assert table["base"] == "universal@v2" and table["bases"] == {"dock-7@v1": "universal@v1"}
    assert table["cells"][CELL]["fleet"] == "dock-7@v1" and table["cells"]["dock-8"]["fleet"] == "dock-8@v2"


@pytest.mark.slow
def test_a_base_that_is_worse_is_not_published(services: Services, yard: str, tmp_path: Path) -> None:
    accepted(services)
    run = services.growth.grow("admin")
    done = trained(services, tmp_path / "next", b"next", high=-0.01)
    assert done.version is None and services.bases.newest().name == "base/universal@v1"
    assert services.growth.get(run.id).state == "failed"


@pytest.mark.slow
def test_an_offer_from_before_there_were_states_is_taken_up(services: Services, yard: str) -> None:
    key = services.registry.repos.get(REPO).key
    with services.registry.catalog.write() as db:
        db.execute("INSERT INTO hub_datasets VALUES (?, 'bob', 1.0, 'of old')", [key])
    services.growth.go_on()
    assert (only(services).offered_by, only(services).note, only(services).images) == ("bob", "of old", 6)
    services.growth.contributions.withdraw(REPO, OWNER)
    services.growth.go_on()
    assert [one.state for one in services.growth.contributions.of(REPO, ADMIN)] == ["withdrawn"]
