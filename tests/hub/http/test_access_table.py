"""Every route of the application, each kind of identity, own things, another team's and public ones: the table in
`hub.http.access_policy` says what must come of it, and no name of a private thing may be in any answer."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.routes import HTTPRoute
from litestar.testing import TestClient

from hub.accounts.tokens import Identity, Kind, Scope
from hub.app import create_app
from hub.http.access_policy import OPEN, RULES, SIGNED, Reach
from hub.models.variants import repo_of
from hub.schemas.core import FinetuneIn, FinishIn
from hub.schemas.webhooks import WebhookIn
from hub.services import Services
from hub.settings import Settings
from registry.types import FileEntry, RepoId
from serving.instances import Instances
from serving.observed.captures import Capture
from tests.hub.material import write_base_files, write_variant

SCOPES = [Scope.CONTRIBUTE, Scope.FINETUNE, Scope.PROMOTE]
SUBJECTS = ("own", "other", "public")
SECRET = ("classified", "zebracrossing")
"""In every name of the other team's private things; in nothing else."""
REFUSED = frozenset({401, 403, 404})


@dataclass(frozen=True)
class World:
    """A hub with three teams' things, and what addresses need to name them."""

    client: TestClient[Any]
    services: Services
    headers: dict[Kind, dict[str, str]]
    cookies: dict[Kind, str]
    names: dict[str, dict[str, str]]


def _dataset(services: Services, name: str, *, private: bool) -> str:
    repo = RepoId.parse(name, "dataset")
    services.registry.repos.create(repo, private=private)
    blob = services.store.blobs.put_bytes(f"# {name}\na-picture-of {name}".encode())
    entry = FileEntry("README.md" if not private else f"{repo.name}.md", blob.sha256, blob.size)
    services.registry.repos.commit(repo, [entry], message=f"frames of {name}", author="a")
    return blob.sha256


def _variant(services: Services, folder: Path, cell: str, dataset: str, by: str) -> tuple[str, str, str]:
    job = services.finetunes.request(FinetuneIn(cell=cell, dataset=dataset), by)
    assert services.jobs.claim("w") is not None
    services.job_logs.append(job.id, 0, f"reading {dataset}\n")
    files, deck = write_variant(folder / cell, job.spec.base_commit, cell)
    services.store.ensure(repo_of(cell))
    entries = []
    for path in files.iterdir():
        info = services.store.blobs.put_bytes(path.read_bytes())
        entries.append(FileEntry(path.name, info.sha256, info.size))
    commit = services.store.repos.commit(repo_of(cell), entries, message="m", author="a")
    metrics = {"variant_ap": 0.5, "base_ap": 0.1, "worst": f"a-picture-of/{dataset}.png"}
    answer = FinishIn(commit=commit.id, deck=services.store.blobs.put_bytes(deck).sha256, metrics=metrics)
    done = services.finetunes.accept(job.id, answer)
    services.promotions.promote(cell, "v1", "fleet", actor=by, note=f"for {dataset}")
    evaluation = services.evaluations.page(limit=1, model=str(done.version))[0].id
    return job.id, evaluation, answer.deck


def _capture(services: Services, cell: str, label: str) -> str:
    none = np.zeros((0, 4), np.float32)
    found = Instances(4, 4, none, np.zeros(0, np.float32), (), ())
    picture = np.zeros((4, 4, 3), np.uint8)
    return services.production.captures.add(
        Capture(picture, found, f"req-{label}", 1e9, "sample", f"{cell}@v1", cell, f"line-{label}", f"robot-{label}")
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("access")
    settings = Settings.load({}, data=folder / "data", base_source=write_base_files(folder / "base"))
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        services: Services = client.app.state.services
        for user, team in (("ann", "acme"), ("bob", "rival")):
            services.users.put(user, teams=[team])
        names = {}
        for subject, team, cell, dataset, private in (
            ("own", "acme", "dock-own", "acme/mine", True),
            ("other", "rival", "dock-theirs", "rival/classified-zebracrossing", True),
            ("public", "rival", "dock-open", "rival/open", False),
        ):
            asked = WebhookIn(url=f"https://receiver.invalid/{dataset}")
            webhook = services.webhooks.create(asked, team, "bob" if team == "rival" else "ann")[0].id
            sha256 = _dataset(services, dataset, private=private)
            services.cells.create(cell, "", team)
            job, evaluation, deck = _variant(services, folder, cell, dataset, "ann" if team == "acme" else "bob")
            operator = Identity("admin", frozenset({Scope.ADMIN}))
            services.growth.contributions.offer(RepoId.parse(dataset, "dataset"), operator, note=f"of {dataset}")
            capture = _capture(services, cell, "classified" if subject == "other" else subject)
            namespace, _, name = dataset.partition("/")
            names[subject] = {
                "namespace": namespace, "name": name, "type_": "dataset", "kind": "datasets", "cell": cell,
                "version": "v1", "job_id": job, "evaluation_id": evaluation, "capture_id": capture, "sha256": sha256,
                "deck": deck, "revision": "main", "branch": "main", "pos": "0", "number": "1", "num": "1",
                "path": "README.md" if not private else f"{name}.md", "user": "bob" if team == "rival" else "ann",
                "tag": "v1", "status": "pending", "commit": "main", "epoch": "e", "prefix": "default", "token": "t.t",
                "trial_id": "x", "upload_id": "x", "token_id": "x", "robot_id": "x", "rest": "nowhere",
                "webhook_id": webhook, "delivery_id": services.webhooks.test(webhook).id,
                "comment": "1", "team": team,
            }  # fmt: skip
        issue = services.tokens.issue
        tokens = {
            Kind.PERSON: issue("ann-token", SCOPES, user="ann"),
            Kind.TEAM: issue("ci", [*SCOPES, "team:acme"]),
            Kind.ROBOT: services.production.robots.add("arm", ["dock-own"]),
            Kind.SITE: services.production.sites.add("hall", ["dock-own"]),
            Kind.JOB: issue("job:elsewhere", ["job:elsewhere", "write:cells/nothing"]),
            Kind.OPERATOR: settings.client_token(),
        }
        headers = {kind: {"Authorization": f"Bearer {token}"} for kind, token in tokens.items()}
        cookies = {}
        for kind in (Kind.PERSON, Kind.TEAM, Kind.OPERATOR):
            cookies[kind] = client.app.state.web.sessions.open(tokens[kind]).secret
        yield World(client, services, headers | {Kind.ANONYMOUS: {}}, cookies, names)


def routes(client: TestClient[Any]) -> set[str]:
    return {
        f"{method} {route.path_format}"
        for route in client.app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods - {"OPTIONS"}
    }


def test_every_route_has_a_rule_and_every_rule_a_route(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    found = routes(world.client)
    with capsys.disabled():
        sys.stdout.write(f"\naccess table: {len(found & set(RULES))} of {len(found)} routes have a rule\n")
    assert found - set(RULES) == set()
    assert set(RULES) - found == set()
    shapes = [re.sub(r"\{\w+\}", "{}", route) for route in RULES]
    assert len(shapes) == len(set(shapes)), "two rules for one address"


def address(route: str, names: dict[str, str]) -> str:
    path = route.partition(" ")[2]
    if path.startswith(("/api/v1/models", "/api/v1/rollouts")):
        names = names | {"name": names["cell"]}
    if path.startswith("/ui/repos/"):
        names = names | {"kind": names["type_"]}
    filled = re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "x"), path)
    if path.endswith("/teams/{name}") or "/teams/{name}/" in path:
        filled = filled.replace(f"/teams/{names['name']}", f"/teams/{names['namespace']}")
    query = {
        "/api/v1/provenance/statement": f"name={names['cell']}@v1",
        "/api/v1/provenance/verify": f"name={names['cell']}@v1",
        "/api/v1/provenance/lineage": f"name={names['cell']}@v1",
        "/api/v1/provenance/decisions": f"cell={names['cell']}",
        "/datasets/{namespace}/{name}/info/refs": "service=git-upload-pack",
        "/ui/compare": f"a={names['cell']}@v1&b=base",
    }.get(path, "")
    return filled + (f"?{query}" if query else "")


def ask(world: World, kind: Kind, route: str, subject: str) -> Any:
    method, where = route.partition(" ")[0], address(route, world.names[subject])
    headers = dict(world.headers[kind])
    if where.startswith("/ui"):
        headers = {"Cookie": f"parcelhub_session={world.cookies[kind]}"} if kind in world.cookies else {}
    world.client.cookies.clear()
    return world.client.request(method, where, headers=headers, follow_redirects=False)


READING = sorted(
    route
    for route, rule in RULES.items()
    if route.startswith("GET ") and rule not in (SIGNED,) and "/events" not in route
)
NAMED = ("{name}", "{cell}", "{capture_id}", "{job_id}", "{evaluation_id}", "provenance/", "{sha256}")


@pytest.mark.parametrize("kind", list(Kind))
def test_what_each_kind_reads(world: World, kind: Kind) -> None:
    """Each route that reads, asked for own, another team's and public things."""
    wrong: list[tuple[object, ...]] = []
    asked: set[str] = set()
    for route in READING:
        reach = RULES[route].of(kind)
        for subject in SUBJECTS:
            where = address(route, world.names[subject])
            if where in asked:  # an address that names nobody's things is one request
                continue
            asked.add(where)
            answer = ask(world, kind, route, subject)
            label = (route, subject, reach.value, answer.status_code, answer.text[:160])
            if answer.status_code >= 500:
                wrong.append(label)
            signing_in = answer.status_code == 302 and "/ui/sign-in" in answer.headers.get("location", "")
            if reach is Reach.NONE and answer.status_code not in REFUSED and not signing_in:
                wrong.append(label)
            if kind is not Kind.OPERATOR and RULES[route] is not OPEN:
                told = answer.text.replace(where := address(route, world.names[subject]).partition("?")[0], "")
                named = world.names[subject]["name"] if subject == "other" else ""
                told = (
                    told.replace(where.removeprefix("/ui"), "").replace(named, "")
                    if answer.status_code in REFUSED
                    else told
                )
                if any(word in told for word in SECRET):
                    wrong.append((*label, "names a private thing"))
    assert wrong == []


def test_this_machines_own_robot_is_a_robot(world: World) -> None:
    """Its token lies in the data folder, and is good for every cell: it has a robot's rights, and no others."""
    token = world.services.settings.local_robot_token()
    assert token is not None
    assert world.services.tokens.identify(token).kind is Kind.ROBOT
    robot = replace(world, headers={**world.headers, Kind.ROBOT: {"Authorization": f"Bearer {token}"}})
    test_what_each_kind_reads(robot, Kind.ROBOT)
    test_what_each_kind_changes(robot, Kind.ROBOT)


CHANGING = sorted(
    route
    for route, rule in RULES.items()
    if route.split(" ")[0] in ("POST", "PUT", "PATCH", "DELETE") and rule not in (SIGNED, OPEN)
)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.OPERATOR])
def test_what_each_kind_changes(world: World, kind: Kind) -> None:
    """Each route that changes something, asked with another team's private things: refused, and nothing is told."""
    wrong: list[tuple[object, ...]] = []
    for route in CHANGING:
        reach = RULES[route].of(kind)
        for subject in ("other", "public") if reach is Reach.NONE else ("other",):
            answer = ask(world, kind, route, subject)
            label = (route, subject, reach.value, answer.status_code, answer.text[:160])
            assert "it has no rule" not in answer.text, label
            if answer.status_code >= 500 or (reach is Reach.NONE and answer.status_code not in REFUSED):
                wrong.append(label)
            theirs = any(part in route for part in ("{namespace}", "{cell}", "{job_id}", "{webhook_id}"))
            if reach is not Reach.NONE and theirs and answer.status_code in (200, 201, 202):
                wrong.append((*label, "was not refused"))
    for name in world.names.values():
        assert world.services.production.captures.read(name["capture_id"])
        assert world.services.variants.get(name["cell"], "v1").stage == "fleet"
        assert world.services.registry.repos.get(RepoId("dataset", name["namespace"], name["name"]))
    assert wrong == []


def test_own_and_public_things_are_reached(world: World) -> None:
    """The other side of the table: what a team may see is there."""
    expected = {
        "GET /api/v1/datasets/{namespace}/{name}": ("own", "public"),
        "GET /api/v1/datasets/{namespace}/{name}/contributions": ("own", "public"),
        "GET /ui/datasets/{namespace}/{name}/contribution": ("own", "public"),
        "GET /api/v1/models/{cell}/{version}": ("own", "public"),
        "GET /api/v1/captures/{capture_id}": ("own",),
        "GET /api/v1/captures/{capture_id}/image": ("own",),
        "GET /api/v1/jobs/{job_id}/log": ("own",),
        "GET /api/v1/evaluations/{evaluation_id}": ("own", "public"),
        "GET /api/v1/provenance/lineage": ("own", "public"),
        "GET /api/v1/rollouts/{cell}": ("own",),
        "GET /api/{kind}/{namespace}/{name}": ("own", "public"),
        "GET /datasets/{namespace}/{name}/info/refs": ("own", "public"),
        "GET /ui/repos/{kind}/{namespace}/{name}": ("own", "public"),
        "GET /ui/models/{cell}/{version}": ("own", "public"),
        "GET /ui/jobs/{job_id}": ("own",),
        "GET /api/v1/webhooks/{webhook_id}": ("own",),
        "GET /api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}": ("own",),
    }
    for kind in (Kind.PERSON, Kind.TEAM):
        for route, subjects in expected.items():
            for subject in SUBJECTS:
                status = ask(world, kind, route, subject).status_code
                assert (status == 200) == (subject in subjects), (kind, route, subject, status)
    for route in expected:
        assert ask(world, Kind.OPERATOR, route, "other").status_code == 200, route


def test_the_repository_of_a_cell_follows_its_datasets(world: World) -> None:
    repos, headers = world.services.registry.repos, world.headers[Kind.PERSON]

    def status(cell: str) -> int:
        return world.client.get(f"/api/models/cells/{cell}", headers=headers).status_code

    assert [repos.get(repo_of(cell)).private for cell in ("dock-own", "dock-theirs", "dock-open")] == [
        True,
        True,
        False,
    ]
    assert [status(cell) for cell in ("dock-own", "dock-theirs", "dock-open")] == [200, 404, 200]
    listed = {one["id"] for one in world.client.get("/api/models", headers=headers).json()}
    assert {"cells/dock-own", "cells/dock-open"} <= listed
    assert "cells/dock-theirs" not in listed
    configure, data = world.services.registry.directory.configure, RepoId("dataset", "rival", "open")
    configure(data, private=True)
    assert (repos.get(repo_of("dock-open")).private, status("dock-open")) == (True, 404)
    configure(repo_of("dock-open"), private=False)
    assert (repos.get(repo_of("dock-open")).private, status("dock-open")) == (True, 404), "its data is private"
    configure(data, private=False)
    assert (repos.get(repo_of("dock-open")).private, status("dock-open")) == (False, 200)


def test_counts_tell_nothing_of_private_repositories(world: World) -> None:
    headers = world.headers[Kind.PERSON]

    def count(team: str, kind: Kind) -> int:
        answer = world.client.get(f"/api/organizations/{team}/overview", headers=world.headers[kind])
        return int(answer.json()["numDatasets"])

    assert (count("rival", Kind.PERSON), count("rival", Kind.OPERATOR)) == (1, 2)
    assert count("acme", Kind.PERSON) == 1
    for what in ("members", "settings/repositories"):
        assert world.client.get(f"/api/organizations/rival/{what}", headers=headers).status_code == 403
        assert world.client.get(f"/api/organizations/acme/{what}", headers=headers).status_code == 200
    stored = world.client.get("/api/settings/repositories", headers=world.headers[Kind.TEAM]).json()
    assert [one["id"] for one in stored] == ["acme/mine"], "a team's program asks for its team"


def test_a_copy_of_a_private_repository_is_private(world: World) -> None:
    repos = world.services.registry.repos

    def copy(kind: Kind, source: str, target: str) -> int:
        body = {"repository": target, "private": False, "visibility": "public"}
        return world.client.post(f"/api/{source}/duplicate", headers=world.headers[kind], json=body).status_code

    for at, source in enumerate(("datasets/acme/mine", "models/cells/dock-own")):
        assert copy(Kind.PERSON, source, f"ann/copy-{at}") == 200
        made = RepoId("dataset" if at == 0 else "model", "ann", f"copy-{at}")
        assert repos.get(made).private
        repos.delete(made)
    for source in ("datasets/rival/classified-zebracrossing", "models/cells/dock-theirs"):
        assert copy(Kind.PERSON, source, "ann/theirs") == 404
    assert copy(Kind.PERSON, "datasets/acme/mine", "rival/mine") == 403
    assert copy(Kind.PERSON, "models/cells/dock-own", "cells/dock-own-2") == 403
    for kind in (Kind.ROBOT, Kind.SITE, Kind.JOB, Kind.ANONYMOUS):
        assert copy(kind, "datasets/rival/open", "ann/open") in REFUSED


def test_a_link_verifies_the_file_that_it_was_made_for(world: World) -> None:
    client, headers = world.client, world.headers[Kind.PERSON]
    where = "/datasets/acme/mine.git/info/lfs"
    digests = [hashlib.sha256(data).hexdigest() for data in (b"first", b"other")]
    objects = [{"oid": digest, "size": 5} for digest in digests]
    asked = {"operation": "upload", "transfers": ["basic"], "objects": objects}
    told = client.post(f"{where}/objects/batch", headers=headers, json=asked).json()["objects"]
    for one, data in zip(told, (b"first", b"other"), strict=True):
        assert client.put(one["actions"]["upload"]["href"], content=data).status_code == 200
    grant = told[0]["actions"]["verify"]["href"].partition("?")[2]
    assert client.post(f"{where}/verify?{grant}", json=objects[0]).status_code == 200
    assert client.post(f"{where}/verify?{grant}", json=objects[1]).status_code == 403
    assert client.post(f"{where}/verify?{grant}x", json=objects[0]).status_code == 403
    assert client.post(f"{where}/verify", json=objects[0]).status_code in REFUSED


def test_another_teams_capture_is_neither_seen_nor_deleted(world: World) -> None:
    theirs = world.names["other"]["capture_id"]
    headers = world.headers[Kind.PERSON]
    assert theirs not in world.client.get("/api/v1/captures", headers=headers).text
    world.client.delete(f"/api/v1/captures/{theirs}", headers=headers)
    assert world.services.production.captures.read(theirs)["cell"] == "dock-theirs"


class TestMinting:
    def ask(self, world: World, headers: dict[str, str], **body: object) -> int:
        return world.client.post("/api/v1/tokens", headers=headers, json={"name": "t", **body}).status_code

    def test_a_token_with_an_end_makes_none_that_lasts_longer(self, world: World) -> None:
        for scopes, user in ((["admin"], None), (["contribute"], "ann")):
            value = world.services.tokens.issue("short", scopes, user=user, seconds=600)
            headers = {"Authorization": f"Bearer {value}"}
            assert self.ask(world, headers, scopes=["read"]) == 403
            assert self.ask(world, headers, scopes=["read"], seconds=3600) == 403
            assert self.ask(world, headers, scopes=["read"], seconds=60) == 201
        value = world.services.tokens.issue("short", ["admin"], seconds=600)
        answer = world.client.post(
            "/api/v1/robots", headers={"Authorization": f"Bearer {value}"}, json={"name": "r", "cells": ["dock-own"]}
        )
        assert answer.status_code == 403

    def test_teams_tokens_are_the_operators_to_make(self, world: World) -> None:
        assert self.ask(world, world.headers[Kind.PERSON], scopes=["read"], team="rival") == 403
        assert self.ask(world, world.headers[Kind.TEAM], scopes=["read"]) == 403
        assert self.ask(world, world.headers[Kind.OPERATOR], scopes=["read"], team="acme") == 201
        assert self.ask(world, world.headers[Kind.OPERATOR], scopes=["admin"], team="acme") == 400
        assert self.ask(world, world.headers[Kind.OPERATOR], scopes=["read"], team="cells") == 400

    def test_a_robot_opens_no_session(self, world: World) -> None:
        from hub.errors import UnauthorizedError

        robot = world.headers[Kind.ROBOT]["Authorization"].removeprefix("Bearer ")
        with pytest.raises(UnauthorizedError):
            world.client.app.state.web.sessions.open(robot)
