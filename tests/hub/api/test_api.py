"""The REST service over a real registry: who may what, what is refused and how, and that refusals change nothing."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.schemas.core import FinetuneIn
from hub.services import Services
from hub.settings import Settings
from tests.hub.material import write_variant


def refused(client: Any, method: str, route: str, status: int, slug: str, **request: Any) -> dict[str, Any]:
    response = client.request(method, "/api/v1" + route, **request)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:parcelhub:problem:{slug}"
    assert problem["status"] == status and problem["title"] and problem["instance"] == "/api/v1" + route
    return problem


def fill(path: str) -> str:
    """An address of a route: something well-formed for each of its parameters."""
    known = {"type_": "model", "sha256": "0" * 64, "pos": "1"}
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], "x"), path)


def test_repos_come_in_pages(client: HubClient, raw: TestClient[Any], admin: dict[str, str]) -> None:
    for name in ("c", "a", "b"):
        client.ensure_repo("dataset", f"acme/{name}")
    pages, address = [], "/api/v1/repos?type=dataset&limit=2"
    while address:
        answer = raw.get(address, headers=admin)
        pages.append([repo["name"] for repo in answer.json()])
        address = answer.links.get("next", {}).get("url", "")
    assert pages == [["a", "b"], ["c"]]
    assert [repo.name for repo in client.repos("dataset")] == ["a", "b", "c"]
    assert raw.get("/api/v1/repos?limit=0", headers=admin).status_code == 400


# --- who may ---


def test_health_is_public_and_nothing_else(raw: TestClient[Any]) -> None:
    assert raw.get("/api/v1/health").json()["base"] == "base/universal@v1"
    for route in ("/cells", "/repos", "/jobs", "/models", "/routing", "/nothing-here"):
        status = 404 if route == "/nothing-here" else 401
        assert raw.get("/api/v1" + route).status_code == status
    problem = refused(raw, "GET", "/cells", 401, "unauthorized", headers={"Authorization": "Bearer ph_wrong"})
    assert problem["detail"] == "unknown token"
    assert raw.get("/api/v1/cells").headers["www-authenticate"] == "Bearer"


def test_every_route_but_health_demands_a_token(raw: TestClient[Any]) -> None:
    paths = raw.get("/schema/openapi.json").json()["paths"]
    assert len(paths) > 20
    for path, methods in paths.items():
        for method in methods:
            route = fill(path)
            status = raw.request(method.upper(), route).status_code
            assert status == (200 if path == "/api/v1/health" else 401), (method, path, status)


@pytest.mark.parametrize(
    ("scope", "method", "route", "body"),
    [
        (Scope.FINETUNE, "POST", "/cells", {"name": "dock-7"}),
        (Scope.FINETUNE, "POST", "/finetunes", {"cell": "dock-7", "dataset": "a/b"}),
        (Scope.PROMOTE, "POST", "/models/dock-7/v1/promote", {}),
        (Scope.PROMOTE, "POST", "/models/dock-7/rollback", {}),
        (Scope.CONTRIBUTE, "PUT", "/repos/dataset/acme/dock", None),
        (Scope.ADMIN, "PUT", "/repos/model/base/mine", None),
        (Scope.ADMIN, "POST", "/jobs/claim", {"worker": "w"}),
    ],
)
def test_a_scope_opens_its_routes_and_no_others(
    raw: TestClient[Any], services: Services, scope: Scope, method: str, route: str, body: object
) -> None:
    others = set(Scope) - {scope, Scope.ADMIN}
    without = {"Authorization": f"Bearer {services.tokens.issue('other', others)}"}
    problem = refused(raw, method, route, 403, "forbidden", headers=without, json=body)
    assert scope.value in problem["detail"]
    given = {"Authorization": f"Bearer {services.tokens.issue('one', {scope})}"}
    assert raw.request(method, "/api/v1" + route, headers=given, json=body).status_code != 403


# --- what is refused ---


def test_bad_requests_name_the_field(raw: TestClient[Any], admin: dict[str, str]) -> None:
    problem = refused(raw, "POST", "/cells", 400, "bad-request", json={"name": "No Spaces"}, headers=admin)
    assert "name" in json.dumps(problem["errors"])
    problem = refused(raw, "POST", "/cells", 400, "bad-request", json={"name": "ok", "sort": 1}, headers=admin)
    assert "sort" in json.dumps(problem)
    refused(raw, "POST", "/cells", 400, "bad-request", content=b"{not json", headers=admin)
    refused(raw, "GET", "/repos/robot/a/b", 400, "bad-request", headers=admin)
    refused(raw, "GET", "/jobs/nope", 404, "unknown-job", headers=admin)
    refused(raw, "GET", "/nothing", 404, "not-found", headers=admin)
    refused(raw, "DELETE", "/cells", 405, "method-not-allowed", headers=admin)


def test_an_unexpected_error_says_nothing_about_the_inside(
    raw: TestClient[Any], admin: dict[str, str], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("secret path /srv/data")

    monkeypatch.setattr(type(services.cells), "page", explode)
    problem = refused(raw, "GET", "/cells", 500, "internal", headers=admin)
    assert "secret" not in json.dumps(problem)


def test_a_cell_is_created_once_and_served_by_the_base(client: HubClient) -> None:
    client.create_cell("dock-7", "inbound")
    with pytest.raises(HubAnswerError, match="exists"):
        client.create_cell("dock-7")
    assert [cell.name for cell in client.cells()] == ["dock-7"]
    assert "dock-7" in client.routing()["cells"]


def test_a_cell_says_what_there_is_in_it(client: HubClient) -> None:
    assert client.create_cell("dock-7", classes=["box", "box"]).classes == ["box"]
    assert client.routing()["cells"]["dock-7"]["classes"] == ["box"]
    with pytest.raises(HubAnswerError, match="knows no 'drum'; it knows box"):
        client.change_cell("dock-7", classes=["drum"])
    assert client.change_cell("dock-7", description="inbound").classes == ["box"]
    assert client.change_cell("dock-7", classes=[]).classes == []
    assert client.change_cell("dock-7", classes=["box"]).classes == ["box"]
    assert client.change_cell("dock-7", classes=[]).classes == []
    assert "classes" not in client.routing()["cells"]["dock-7"]


# --- blobs and commits ---


def test_a_folder_is_pushed_once_and_comes_back_the_same(client: HubClient, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "ä b+c.bin").write_bytes(b"x" * 3_000_000)
    (folder / "empty.txt").write_bytes(b"")
    seen: list[tuple[int, int]] = []
    first = client.push_folder("dataset", "acme/dock", folder, "one", lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]
    assert client.push_folder("dataset", "acme/dock", folder, "again").id == first.id
    (folder / "empty.txt").unlink()
    second = client.push_folder("dataset", "acme/dock", folder, "less")
    assert second.parent == first.id
    back = tmp_path / "back"
    client.download_tree("dataset", "acme/dock", first.id, back)
    assert (back / "images" / "ä b+c.bin").read_bytes() == b"x" * 3_000_000
    assert (back / "empty.txt").read_bytes() == b""
    assert [file.path for file in client.tree("dataset", "acme/dock", "main").files] == ["images/ä b+c.bin"]


def test_uploads_are_checked_and_limited(raw: TestClient[Any], admin: dict[str, str], services: Services) -> None:
    digest = hashlib.sha256(b"right").hexdigest()
    refused(raw, "PUT", f"/blobs/{digest}", 422, "digest", content=b"wrong", headers=admin)
    refused(raw, "PUT", "/blobs/ABC", 400, "invalid-value", content=b"right", headers=admin)
    big = b"0" * (services.settings.max_blob_bytes + 1)
    refused(raw, "PUT", f"/blobs/{hashlib.sha256(big).hexdigest()}", 413, "too-large", content=big, headers=admin)
    assert raw.head(f"/api/v1/blobs/{digest}", headers=admin).status_code == 404
    assert raw.put(f"/api/v1/blobs/{digest}", content=b"right", headers=admin).status_code == 201
    assert raw.head(f"/api/v1/blobs/{digest}", headers=admin).status_code == 200
    assert raw.get(f"/api/v1/blobs/{digest}", headers=admin).content == b"right"
    assert not any((services.settings.data / "blobs" / "staging").iterdir())


def test_commits_are_atomic_and_fenced(client: HubClient, raw: TestClient[Any], admin: dict[str, str]) -> None:
    client.ensure_repo("dataset", "acme/dock")
    put = {"op": "put", "path": "a", "sha256": client.put_blob(b"a")}
    missing = {"op": "put", "path": "b", "sha256": "0" * 64}
    route = "/repos/dataset/acme/dock/commits"
    body = {"message": "m", "operations": [put, missing]}
    refused(raw, "POST", route, 404, "unknown-blob", json=body, headers=admin)
    assert client.refs("dataset", "acme/dock") == []
    first = client.commit("dataset", "acme/dock", "m", [put], expected_parent=None)
    with pytest.raises(HubAnswerError, match="not at no commit") as error:
        client.commit("dataset", "acme/dock", "m", [put], expected_parent=None)
    assert error.value.slug == "head-moved"
    evil = {"op": "put", "path": "../escape", "sha256": put["sha256"]}
    refused(raw, "POST", route, 400, "invalid-value", json={"message": "m", "operations": [evil]}, headers=admin)
    assert client.refs("dataset", "acme/dock")[0].commit == first.id
    refused(raw, "GET", "/repos/dataset/acme/dock/files/main/nope", 404, "unknown-file", headers=admin)


# --- jobs and models ---


def test_a_finetune_pins_what_it_was_asked_for(client: HubClient, dataset: str) -> None:
    client.create_cell("dock-7")
    for request, slug in (
        (FinetuneIn(cell="nowhere", dataset=dataset), "unknown-cell"),
        (FinetuneIn(cell="dock-7", dataset="no/data"), "unknown-repo"),
        (FinetuneIn(cell="dock-7", dataset=dataset, dataset_revision="v9"), "unknown-revision"),
        (FinetuneIn(cell="dock-7", dataset=dataset, base="base/universal@v9"), "unknown-base"),
    ):
        with pytest.raises(HubAnswerError) as error:
            client.finetune(request)
        assert error.value.slug == slug
    assert client.jobs() == []
    job = client.finetune(FinetuneIn(cell="dock-7", dataset=dataset, max_minutes=0.5))
    head = client.refs("dataset", dataset)[0].commit
    assert (job.spec.dataset_commit, job.spec.base, job.spec.max_seconds) == (head, "base/universal@v1", 30.0)


def test_the_way_of_a_variant(
    client: HubClient, as_job: Any, dataset: str, tmp_path: Path, services: Services, settings: Settings
) -> None:
    """Submit, claim, upload, finish, promote, promote a second one, roll back, roll back to the base."""
    client.create_cell("dock-7")
    names = []
    for number in (1, 2):
        job = client.finetune(FinetuneIn(cell="dock-7", dataset=dataset))
        claim = client.claim("w")
        assert claim is not None and claim.job.id == job.id
        with as_job(claim.token) as worker:
            folder, deck = write_variant(tmp_path / f"variant-{number}", job.spec.base_commit, str(number))
            operations = [
                {"op": "put", "path": path.name, "sha256": worker.put_blob(path)} for path in folder.iterdir()
            ]
            worker.ensure_repo("model", "cells/dock-7")
            commit = worker.commit("model", "cells/dock-7", "variant", operations)
            with pytest.raises(HubAnswerError, match="lacks the scope"):
                worker.commit("model", "base/universal", "mine now", operations)
            done = worker.finish(
                job.id,
                commit=commit.id,
                deck=worker.put_blob(deck),
                metrics={"base_ap": 0.1, "variant_ap": 0.2},
            )
        names.append(done.version)
    assert names == ["dock-7@v1", "dock-7@v2"]
    one = client.variant("dock-7@v1")
    assert (one.stage, one.base, one.metrics["variant_ap"]) == ("candidate", "base/universal@v1", 0.2)
    assert one.dataset.startswith(dataset + "@")

    serving = settings.serving_folder
    version = client.routing()["version"]
    moved = client.promote("dock-7@v1", note="good")
    assert (moved.version, moved.previous, moved.routing_version) == ("dock-7@v1", None, version + 1)
    assert client.routing()["cells"]["dock-7"]["fleet"] == "dock-7@v1"
    assert (serving / "variants/dock-7@v1/adapter_model.safetensors").is_file()
    for path, digest in client.routing()["digests"].items():
        assert hashlib.sha256((serving / path).read_bytes()).hexdigest() == digest
    assert client.promote("dock-7@v2").previous == "dock-7@v1"
    assert client.rollback("dock-7").version == "dock-7@v1"
    assert client.routing()["cells"]["dock-7"]["fleet"] == "dock-7@v1"
    assert client.rollback("dock-7").version is None
    assert client.routing()["cells"]["dock-7"].get("fleet") is None
    with pytest.raises(HubAnswerError) as error:
        client.rollback("dock-7")
    assert error.value.slug == "nothing-to-roll-back"
    client.promote("dock-7@v2")
    assert client.rollback("dock-7").version is None, "what was rolled back to the base must not come back"
    with pytest.raises(HubAnswerError, match="has no variant 'v9'"):
        client.promote("dock-7@v9")
    assert [v.name for v in client.models().variants] == ["dock-7@v2", "dock-7@v1"]


def test_an_answer_that_is_no_variant_is_refused(client: HubClient, as_job: Any, dataset: str) -> None:
    client.create_cell("dock-7")
    job = client.finetune(FinetuneIn(cell="dock-7", dataset=dataset))
    claim = client.claim("w")
    assert claim is not None
    with as_job(claim.token) as worker:
        worker.ensure_repo("model", "cells/dock-7")
        put = {"op": "put", "path": "README.md", "sha256": worker.put_blob(b"hello")}
        commit = worker.commit("model", "cells/dock-7", "m", [put])
        deck = worker.put_blob(b"{}")
        with pytest.raises(HubAnswerError, match="not a variant"):
            worker.finish(job.id, commit=commit.id, deck=deck, metrics={})
        with pytest.raises(HubAnswerError) as error:
            worker.fail("another-job", "x")
        assert error.value.slug == "forbidden"
    assert client.job(job.id).state == "running"
    assert client.models().variants == []


def test_event_streams_replay_from_the_last_event(
    client: HubClient, raw: TestClient[Any], admin: dict[str, str], services: Services, dataset: str
) -> None:
    client.create_cell("dock-7")
    job = client.finetune(FinetuneIn(cell="dock-7", dataset=dataset))
    client.cancel(job.id)
    route = f"/api/v1/jobs/{job.id}/events"
    text = raw.get(route, headers=admin).text
    assert "id: 1" in text and "event: state" in text and '"state":"cancelled"' in text
    assert [event.seq for event in client.events(job.id)] == [1, 2]
    again = raw.get(route, headers={**admin, "Last-Event-ID": "1"}).text
    assert "id: 1" not in again and "id: 2" in again
    assert raw.get(route, headers={**admin, "Last-Event-ID": "2"}).text == ""
    refused(raw, "GET", "/jobs/nope/events", 404, "unknown-job", headers=admin)


# --- the process ---


@pytest.mark.slow
def test_the_service_never_imports_torch() -> None:
    code = "import sys, hub.app, hub.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
