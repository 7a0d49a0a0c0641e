"""Forget one picture everywhere: real files, real bytes, and a record that does not hold the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from finetune.datasets.deck import Deck
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.services import Services
from registry.lineage.lineage import Edge
from registry.maintenance.fsck import examine
from registry.types import Artifact, FileEntry, RepoId
from serving.errors import CaptureNotFound
from serving.instances import Instances
from serving.observed.captures import Capture
from tests.hub.web.material import push_rectangles

SET = RepoId("dataset", "acme", "dock")


@pytest.fixture
def picture(services: Services, client: HubClient, tmp_path: Path) -> tuple[str, str, bytes]:
    """(path, digest, bytes) of an image of a dataset."""
    services.cells.create("dock-7", "", "acme")
    push_rectangles(client, "acme/dock", tmp_path / "dock")
    entry = next(one for one in services.registry.repos.tree(SET, "main") if one.path.endswith((".jpg", ".png")))
    return entry.path, entry.sha256, services.registry.blobs.read(entry.sha256)


def keep(services: Services, data: bytes, cell: str = "dock-7") -> str:
    return services.production.captures.add(
        Capture(data, Instances.empty(8, 8), "q", 1.7e9, "sample", "base/u@v1", cell, None, None)
    )


def bearer(services: Services, user: str, team: str, *scopes: str) -> dict[str, str]:
    services.users.put(user, teams=[team])
    return {"Authorization": f"Bearer {services.tokens.issue(user, set(scopes), user=user)}"}


def damage(services: Services) -> list[str]:
    report = examine(services.registry.catalog, services.registry.blobs, services.registry.xet)
    return [f"{one.kind} {one.name} {one.detail}" for one in report.findings if one.severity == "damage"]


def everywhere(services: Services, data: bytes) -> list[Path]:
    """Files below the data folder that hold the picture's bytes."""
    found = []
    for path in services.settings.data.rglob("*"):
        if path.is_file() and not path.is_symlink() and data in path.read_bytes():
            found.append(path)
    return found


def test_a_picture_goes_from_captures_datasets_history_and_the_store(
    services: Services, client: HubClient, picture: tuple[str, str, bytes], browser_pictures: None
) -> None:
    path, sha256, data = picture
    first = services.registry.repos.resolve(SET, "main").id
    capture, other = keep(services, data), keep(services, b"\xff\xd8\xff another")
    assert everywhere(services, data)
    names = {one["file_name"] for one in annotations(services)["images"]}
    done = client.forget(capture=capture, reason="request of a person")
    assert (done.sha256, done.captures) == (sha256, [capture])
    assert len(done.datasets) == 1
    assert done.blob == "removed"
    assert everywhere(services, data) == []
    assert not services.registry.blobs.exists(sha256)
    assert services.registry.blobs.local_path(sha256) is None
    with pytest.raises(CaptureNotFound):
        services.production.captures.read(capture)
    assert services.production.captures.read(other)["cell"] == "dock-7"
    # The history has no commit with it, and the head is whole.
    head = services.registry.repos.history(SET, "main")
    for commit in head:
        assert sha256 not in {one.sha256 for one in services.registry.repos.tree(SET, commit.id)}
    assert first not in {commit.id for commit in head}
    left = {one["file_name"] for one in annotations(services)["images"]}
    assert len(left) == len(names) - 1
    assert not any(path.endswith(name) for name in left)
    ids = {one["id"] for one in annotations(services)["images"]}
    assert {one["image_id"] for one in annotations(services)["annotations"]} <= ids
    assert damage(services) == []


@pytest.fixture
def browser_pictures(services: Services, picture: tuple[str, str, bytes]) -> None:
    """A small copy that a page made."""
    _, sha256, data = picture
    folder = services.settings.data / "web" / "pictures" / sha256[:2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{sha256}-336.jpg").write_bytes(data)


def annotations(services: Services) -> dict[str, Any]:
    entry = services.registry.repos.entry(SET, "main", "annotations.json")
    return json.loads(services.registry.blobs.read(entry.sha256))


def test_models_that_saw_it_are_named_and_their_evidence_stays(
    services: Services, client: HubClient, picture: tuple[str, str, bytes]
) -> None:
    path, sha256, data = picture
    commit = services.registry.repos.resolve(SET, "main").id
    others = [
        one.path
        for one in services.registry.repos.tree(SET, "main")
        if one.path.endswith((".jpg", ".png")) and one.path != path
    ]
    decks = []
    for train in ((path, *others[:3]), tuple(others[:4])):
        deck = Deck("acme/dock", commit, train, (others[-1],), (1.0,) * len(train), {"box": "box"})
        decks.append(services.registry.blobs.put_bytes(deck.to_json()).sha256)
    node = Artifact("dataset", "acme/dock", commit)
    services.registry.lineage.record(
        [
            *(Edge(Artifact("deck", deck, deck), node, "dataset") for deck in decks),
            *(
                Edge(Artifact("variant", f"cells/dock-7@v{n}", str(n) * 64), Artifact("deck", deck, deck), "deck")
                for n, deck in enumerate(decks, start=1)
            ),
        ]
    )
    done = client.forget(sha256=sha256)
    assert done.decks == decks[:1], "the other deck has not used it"
    assert done.models == ["cells/dock-7@v1"]
    assert "weights stay" in done.kept["cells/dock-7@v1"]
    assert any("earlier revisions" in why for why in done.kept.values())
    assert everywhere(services, data) == []
    assert services.registry.repos.resolve(SET, commit).id == commit, "lineage names it"
    assert sha256 not in {one.sha256 for one in services.registry.repos.tree(SET, "main")}
    assert not [one for one in damage(services) if sha256 in one]
    again = client.forget(sha256=sha256)
    assert (again.blob, again.captures) == ("absent", [])
    assert (again.decks, again.models) == (done.decks, done.models), "said again"


def test_only_its_own_team_or_the_operator_forgets(
    services: Services, client: HubClient, picture: tuple[str, str, bytes], raw: TestClient[Any]
) -> None:
    _, sha256, data = picture
    capture = keep(services, data)
    mallory = bearer(services, "mallory", "rivals", "promote", "contribute")
    reader = bearer(services, "rudi", "acme", "contribute")
    robot = {"Authorization": f"Bearer {client.add_robot('arm', ['dock-7'])}"}

    def ask(headers: dict[str, str], **body: str) -> Any:
        return raw.post("/api/v1/forget", json=body, headers=headers)

    assert ask(mallory, capture=capture).status_code == 404
    theirs = ask(mallory, sha256=sha256)
    assert theirs.status_code == 200
    assert (theirs.json()["captures"], theirs.json()["datasets"], theirs.json()["models"]) == ([], [], [])
    nothing = ask(mallory, sha256="0" * 64).json()
    assert theirs.json()["blob"] == nothing["blob"], "nothing tells that somebody has it"
    assert ask(reader, capture=capture).status_code == 403
    assert ask(robot, capture=capture).status_code == 403
    # A record that no repository holds is nobody's picture: neither a team nor the operator removes it by its digest.
    record = services.registry.blobs.put_bytes(b'{"decision": 1}').sha256
    assert ask(mallory, sha256=record).json()["blob"] == "absent"
    with pytest.raises(HubAnswerError, match="no JPEG"):
        client.forget(sha256=record)
    assert services.registry.blobs.exists(record)
    for wrong in ({}, {"sha256": sha256, "capture": capture}, {"sha256": "../x"}, {"capture": "../../x"}):
        assert ask(bearer(services, "anna", "acme", "promote"), **wrong).status_code == 400
    assert services.registry.blobs.exists(sha256)
    assert services.production.captures.read(capture)
    anna = bearer(services, "anna", "acme", "promote")
    done = ask(anna, capture=capture)
    assert done.status_code == 200, done.text
    assert done.json()["blob"] == "removed"
    assert everywhere(services, data) == []
    assert ask(anna, sha256=sha256).json()["blob"] == "absent"
    with pytest.raises(HubAnswerError):
        client.forget(capture=capture)
    said = [one for one in services.audit.page(limit=20) if one.action.endswith("forget_picture")]
    assert said
    assert said[-1].detail["sha256"]
    rows = services.registry.catalog.query("SELECT forgotten_by, report FROM loop_forgotten")
    assert {"anna"} <= {row[0] for row in rows}


def test_a_frame_of_a_failed_pick_leaves_its_verdict(services: Services, client: HubClient) -> None:
    from tests.hub.loop.test_failures import asked, frame, mask_of
    from tests.hub.rollout.test_production import outcome

    services.cells.create("dock-7", "", "acme")
    capture = asked(services, "q", Instances.from_masks(mask_of((10, 10, 60, 60)), ["box"], [0.9]), frame())
    client.report_outcomes([outcome("q", "miss", instance=0, point=[150, 110])])
    (before,) = client.failures()
    assert before.capture == capture
    client.forget(capture=capture)
    (after,) = client.failures()
    assert (after.capture, after.verdict, after.evidence) == (None, "not_vision", before.evidence)


def test_another_teams_private_models_and_copies_are_not_told(
    services: Services, client: HubClient, picture: tuple[str, str, bytes], raw: TestClient[Any]
) -> None:
    path, sha256, data = picture
    services.cells.create("hush", "", "rivals")
    services.registry.repos.create(RepoId("model", "cells", "hush"), private=True)
    commit = services.registry.repos.resolve(SET, "main").id
    deck = services.registry.blobs.put_bytes(
        Deck("acme/dock", commit, (path,), ("images/other.png",), (1.0,), {"box": "box"}).to_json()
    ).sha256
    services.registry.lineage.record(
        [
            Edge(Artifact("deck", deck, deck), Artifact("dataset", "acme/dock", commit), "dataset"),
            Edge(Artifact("variant", "cells/hush@v1", "1" * 64), Artifact("deck", deck, deck), "deck"),
        ]
    )
    theirs = RepoId("dataset", "rivals", "copy")
    services.registry.repos.create(theirs, private=True)
    services.registry.repos.commit(theirs, [FileEntry("a.png", sha256, len(data))], message="m", author="eve")
    anna = bearer(services, "anna", "acme", "promote")
    assert "hush" in services.privacy.hidden(services.tokens.identify(anna["Authorization"].split()[1]))
    told = raw.post("/api/v1/forget", json={"sha256": sha256}, headers=anna)
    assert told.status_code == 200, told.text
    assert (told.json()["models"], told.json()["decks"], told.json()["blob"]) == ([], [], "removed")
    assert "rivals" not in told.text and "hush" not in told.text and "another team" not in told.text
    assert services.registry.blobs.exists(sha256), "what others have stays"
