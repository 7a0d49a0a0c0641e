"""A real disk that is full while the hub runs: every door says so, nothing acknowledged is lost, and it goes on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from hub.settings import Settings
from tests.hub.cli.test_disk_full import disk, fill  # noqa: F401  # `disk` is a fixture
from tests.hub.material import write_base_files
from tests.hub.rollout.test_production import outcome
from tests.hub.rollout.test_votes import bearer, manifest
from tests.registry.xet_material import file_rows, make_shard, make_xorb, noise

Headers = dict[str, str]
BIG = b"frames" * 20_000


@pytest.fixture
def small(application: Litestar, disk: Path, tmp_path: Path) -> Iterator[TestClient[Any]]:  # noqa: F811
    """The application over a data folder on a disk of 48 MiB."""
    base = write_base_files(tmp_path / "base")
    settings = Settings.load({}, data=disk / "data", base_source=base, max_blob_bytes=4_000_000)
    application.state.settings = replace(settings, trials=0)
    with TestClient(application, raise_server_exceptions=False) as client:
        yield client


def link(href: str) -> str:
    return href.replace("http://testserver.local", "")


def test_every_door_says_disk_full_and_goes_on_when_there_is_room(
    small: TestClient[Any],
    disk: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    services = small.app.state.services
    services.users.put("ann", teams=["acme"])
    token = services.tokens.issue("a", {"contribute"}, user="ann")
    ann, operator = bearer(token), bearer(services.settings.client_token())
    session = small.app.state.web.sessions.open(token)
    page = {"Cookie": f"parcelhub_session={session.secret}", "X-CSRF-Token": session.csrf}
    api, body = "/api/v1", manifest(("f.txt", BIG))
    digest = body["files"][0]["sha256"]
    assert small.put(f"{api}/datasets/acme/d", json={"private": False}, headers=ann).is_success
    kept = small.post(f"{api}/datasets/acme/d/uploads", json=manifest(("kept.txt", b"kept")), headers=ann).json()
    kept_digest = hashlib.sha256(b"kept").hexdigest()
    assert small.put(f"{api}/uploads/{kept['id']}/files/{kept_digest}", content=b"kept", headers=ann).is_success
    assert small.post(f"{api}/uploads/{kept['id']}/commit", headers=ann).is_success
    # Begun while there was room.
    rest = small.post(f"{api}/datasets/acme/rest/uploads", json=body, headers=ann).json()["id"]
    paged = small.post("/ui/uploads/acme/page", json=body, headers=page).json()["id"]
    objects = [{"oid": hashlib.sha256(BIG + b"l").hexdigest(), "size": len(BIG) + 1}]
    batch = {"operation": "upload", "transfers": ["basic"], "objects": objects}
    answer = small.post("/datasets/acme/d.git/info/lfs/objects/batch", json=batch, headers=ann)
    lfs = link(answer.json()["objects"][0]["actions"]["upload"]["href"])
    grant = small.get("/api/datasets/acme/d/xet-write-token/main", headers=ann).json()
    cas, writing = link(grant["casUrl"]), {"Authorization": f"Bearer {grant['accessToken']}"}
    there, xorb = make_xorb(noise(4)), make_xorb(noise(5))
    shard = make_shard([file_rows([(there, 0, 12)])], [there])
    assert small.post(f"{cas}/v1/xorbs/default/{there.name}", content=there.body, headers=writing).is_success

    doors: dict[str, Callable[[], Any]] = {
        "REST, a file": lambda: small.put(f"{api}/uploads/{rest}/files/{digest}", content=BIG, headers=ann),
        "REST, an upload": lambda: small.post(f"{api}/datasets/acme/new/uploads", json=body, headers=ann),
        "LFS, a file": lambda: small.put(lfs, content=BIG + b"l"),
        "LFS, a batch": lambda: small.post(
            "/datasets/acme/d.git/info/lfs/objects/batch",
            json=batch | {"objects": [{"oid": "ab" * 32, "size": 1_000_000}]},
            headers=ann,
        ),
        "Xet, chunks": lambda: small.post(f"{cas}/v1/xorbs/default/{xorb.name}", content=xorb.body, headers=writing),
        "Xet, a shard": lambda: small.post(f"{cas}/v1/shards", content=shard, headers=writing),
        "a page, a file": lambda: small.put(f"/ui/uploads/{paged}/files/{digest}", content=BIG, headers=page),
        "a page, an upload": lambda: small.post("/ui/uploads/acme/other", json=body, headers=page),
        "outcomes": lambda: small.post(f"{api}/outcomes", json={"outcomes": [outcome("a")]}, headers=operator),
        "a repository": lambda: small.put(f"{api}/datasets/acme/more", json={"private": False}, headers=ann),
    }
    fill(disk)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        for name, ask in doors.items():
            small.cookies.clear()
            answer = ask()
            assert (answer.status_code, "disk full" in answer.text) == (507, True), (
                name,
                answer.status_code,
                answer.text,
            )
    noisy = [record.getMessage() for record in caplog.records if record.exc_info]
    assert noisy == [], "a full disk is no traceback"
    shown = small.get("/datasets/acme/d/resolve/main/kept.txt", headers=ann)
    assert (shown.status_code, shown.content) == (200, b"kept")
    assert small.get(f"{api}/health").is_success
    assert small.get(f"{api}/outcomes/rates?by=cell", headers=operator).is_success
    for other in ("other", "rest"):
        (disk / other).unlink()
    for name, ask in doors.items():
        small.cookies.clear()
        answer = ask()
        assert answer.is_success, (name, answer.status_code, answer.text)
    assert small.post(f"{api}/uploads/{rest}/commit", headers=ann).is_success
    assert not services.registry.examine(quick=False).damaged
