"""What another team's things are told by when they are named indirectly: ids in addresses, queries, bodies and forms.

Each request is sent twice, once with a name that leads nowhere and once with a thing of another team that is private.
The answers must be the same but for the name: a different status, count or sentence says that the thing is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from benchmarks.hub.door_requests import EXAMPLES, DoorFuzzer, Sender
from hub.accounts.tokens import Identity, Kind, Scope
from hub.http.access_policy import OPEN, RULES, SIGNED, Reach
from hub.schemas.handoff import HandOffIn
from hub.schemas.labels import FillIn
from hub.schemas.serving import TrialIn
from registry.types import RepoId
from tests.hub.http.test_access_table import SCOPES, SECRET, World, address
from tests.hub.http.test_access_table import world as world  # the fixture
from tests.hub.loop.material_events import week
from tests.hub.loop.test_alerts import opened, send
from tests.scale import NIGHTLY

PRIVATE: Final = "rival/classified-zebracrossing"
NOBODYS: Final = "rival/classified-zebracrossinh"
"""As long, and of the same team."""
PICKY: Final = ("/api/v1/maintenance", "/ui/sign-out", "/ui/settings/tokens/", "/api/v1/tokens/", "/api/repos/delete")
"""What would end the sender, or the things that are asked for."""


@dataclass(frozen=True)
class Thing:
    """A thing of the other team, and a name of the same form that leads nowhere."""

    theirs: str
    nobodys: str
    words: tuple[str, ...]
    """The placeholders, fields and parameters that take such a name."""


@pytest.fixture(scope="module")
def things(world: World) -> dict[str, Thing]:
    """One thing of each kind that has a name."""
    services, other = world.services, world.names["other"]
    operator = Identity("admin", frozenset({Scope.ADMIN}))
    week(services, "dock-theirs")
    services.production.events.take_up()
    (event, *_) = services.production.events.all(None)
    (finding, *_) = services.production.events.findings(event.id, None)
    services.labelling.fill("dock-theirs", FillIn(), operator)
    asked = HandOffIn(tool="cvat", place="https://cvat.rival.example/zebracrossing", claimer="x", limit=1)
    (handed, *_) = services.labelling.hand_off("dock-theirs", asked, operator)
    send(services, opened("b" * 32, "dock-theirs"), "1" * 32)
    services.production.alerts.take_up()
    trial = services.production.trials.start("dock-theirs", TrialIn(stage="fleet", good=0.9, bad=0.5), "bob").id
    services.tokens.issue("bob-laptop", [Scope.CONTRIBUTE], user="bob")
    private = RepoId.parse(PRIVATE, "dataset")
    (contribution, *_) = services.growth.contributions.of(private, operator)
    head = services.registry.repos.resolve(private, "main").id
    (token,) = [one.id for one in services.tokens.all() if one.name == "bob-laptop"]
    ghost = "0123456789abcdef" * 4
    return {
        "job": Thing(other["job_id"], ghost[: len(other["job_id"])], ("job_id", "job", "run")),
        "evaluation": Thing(other["evaluation_id"], ghost[: len(other["evaluation_id"])], ("evaluation_id",)),
        "capture": Thing(other["capture_id"], ghost[: len(other["capture_id"])], ("capture_id", "capture")),
        "blob": Thing(other["sha256"], ghost, ("sha256", "oid", "deck")),
        "deck": Thing(other["deck"], ghost, ("sha256",)),
        "webhook": Thing(other["webhook_id"], ghost[: len(other["webhook_id"])], ("webhook_id",)),
        "event": Thing(event.id, ghost[: len(event.id)], ("event_id", "other")),
        "finding": Thing(finding.id, ghost[: len(finding.id)], ("finding_id",)),
        "task": Thing(handed.task, ghost[: len(handed.task)], ("task_id",)),
        "alert": Thing("b" * 32, "c" * 32, ("alert_id",)),
        "trial": Thing(trial, ghost[: len(trial)], ("trial_id",)),
        "token": Thing(token, ghost[: len(token)], ("token_id",)),
        "commit": Thing(head, ghost[: len(head)], ("revision", "commit")),
        "contribution": Thing(contribution.id, ghost[: len(contribution.id)], ("contribution",)),
        "dataset": Thing(PRIVATE, NOBODYS, ("name", "dataset", "repository", "labels")),
        "variant": Thing("dock-theirs@v1", "dock-theirs@v7", ("a", "b", "name", "model", "variant")),
    }


def same(theirs: Any, nobodys: Any, thing: Thing) -> str:
    """What tells the two answers apart, "" if nothing does."""

    def plain(answer: Any) -> str:
        text = answer.text + " " + str(dict(answer.headers).get("location", ""))
        for name in (thing.theirs, thing.nobodys, *thing.theirs.split("/")[1:], *thing.nobodys.split("/")[1:]):
            text = text.replace(name, "NAME")
        for pattern in (
            r"/lfs/\w+/[\w.=-]+|grant=[\w.=&%-]+",
            r'"(accessToken|exp|expires_at|expires_in)":[^,}]+',
            r"decision \w+|looks? like [^,]+|variant [^ ]+",
            r"csrf\W+\w+\W+[0-9a-f]{64}",
            r"\d{4}-\d\d-\d\dT[\d:.]+Z",
            r"[0-9a-f]{32,64}",
            r"NAME[-\w]*",
        ):
            text = re.sub(pattern, "x", text)
        return text

    if theirs.status_code != nobodys.status_code:
        return f"{theirs.status_code} {theirs.text[:150]!r} against {nobodys.status_code} {nobodys.text[:150]!r}"
    one, other = plain(theirs), plain(nobodys)
    if one != other:
        at = next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        return f"{theirs.status_code}: {one[max(0, at - 60) : at + 90]!r} against {other[max(0, at - 60) : at + 90]!r}"
    if any(word in one for word in SECRET):
        return f"{theirs.status_code} names a private thing: {one[:200]!r}"
    return ""


def send_as(world: World, kind: Kind, method: str, where: str, **more: Any) -> Any:
    headers = dict(world.headers[kind])
    if where.startswith("/ui"):
        headers = {"Cookie": f"parcelhub_session={world.cookies[kind]}"} if kind in world.cookies else {}
    world.client.cookies.clear()
    return world.client.request(method, where, headers=headers, follow_redirects=False, **more)


def takes_text(field: FieldDefinition) -> bool:
    """Whether a parameter may hold a name: a number, a time or one of a few words is refused before anybody looks."""
    parts = (field, *field.inner_types)
    return any(one.annotation is str or one.is_any or one.is_new_type for one in parts) or not field.is_simple_type


def parameters(world: World) -> dict[str, dict[str, bool]]:
    """Route to the names of its query parameters, and whether each takes text."""
    found: dict[str, dict[str, bool]] = {}
    for route in world.client.app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            names: dict[str, bool] = {}
            for name, one in handler.parsed_fn_signature.parameters.items():
                alias = getattr(one.kwarg_definition, "name", None) or getattr(one.kwarg_definition, "query", None)
                names[alias or name] = takes_text(one)
            for method in handler.http_methods:
                path = set(re.findall(r"\{(\w+)\}", route.path_format))
                given = path | {"services", "request", "repo", "data", "web", "socket"}
                found[f"{method} {route.path_format}"] = {k: v for k, v in names.items() if k not in given}
    return found


def routes_for(kind: Kind) -> Iterator[str]:
    for route, rule in sorted(RULES.items()):
        if rule in (SIGNED, OPEN) or rule.of(kind) is Reach.NONE or any(part in route for part in PICKY):
            continue
        if not route.endswith("/events"):
            yield route


CURSORS: Final = {
    "captures": ("capture",), "evaluations": ("evaluation",), "jobs": ("job",), "models": ("variant",),
    "{cell}": ("variant",), "alerts": ("alert",), "tasks": ("task",), 
    "datasets": ("dataset",), "repos": ("dataset",), "events": ("event",),
}  # fmt: skip
"""What the last id of a page may be, by the end of the list's address."""

ASKING = [Kind.PERSON, Kind.TEAM, Kind.ROBOT, Kind.JOB, Kind.ANONYMOUS]


@pytest.mark.parametrize("kind", ASKING)
def test_ids_in_addresses(world: World, things: dict[str, Thing], kind: Kind) -> None:
    wrong = []
    asked = 0
    for route in routes_for(kind):
        method = route.partition(" ")[0]
        for what, thing in things.items():
            own = world.names["own"]
            if what == "dataset" and "{namespace}/{name}" in route:
                pair = [
                    address(route, own | dict(zip(("namespace", "name"), one.split("/"), strict=True)))
                    for one in (thing.theirs, thing.nobodys)
                ]
            elif any("{" + word + "}" in route for word in thing.words) and what != "dataset":
                (word,) = [word for word in thing.words if "{" + word + "}" in route][:1]
                pair = [address(route, own | {word: one}) for one in (thing.theirs, thing.nobodys)]
            else:
                continue
            body = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
            answers = [send_as(world, kind, method, where, **body) for where in pair]
            asked += 1
            if told := same(answers[0], answers[1], thing):
                wrong.append((route, what, told))
    assert not wrong, "\n".join(map(str, wrong))
    assert asked > 100 or kind not in (Kind.PERSON, Kind.TEAM)


@pytest.mark.parametrize("kind", [Kind.PERSON, Kind.ROBOT, Kind.JOB, Kind.ANONYMOUS])
def test_ids_in_queries(world: World, things: dict[str, Thing], kind: Kind) -> None:
    wrong = []
    known = parameters(world)
    for route in routes_for(kind):
        method = route.partition(" ")[0]
        if method not in ("GET", "HEAD", "DELETE"):
            continue
        for parameter, text in known.get(route, {}).items():
            for what, thing in things.items() if text or NIGHTLY else [("job", things["job"])]:
                cursor = parameter in ("after", "before", "cursor")
                if cursor and what not in CURSORS.get(route.rpartition("/")[2], ()):
                    continue  # a place in another order than that of these things
                base = address(route, world.names["own"])
                pair = [
                    base + ("&" if "?" in base else "?") + f"{parameter}={one}" for one in (thing.theirs, thing.nobodys)
                ]
                theirs, nobodys = (send_as(world, kind, method, one) for one in pair)
                if told := same(theirs, nobodys, thing):
                    wrong.append((route, parameter, what, told))
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("kind", [Kind.PERSON, Kind.ROBOT, Kind.JOB])
def test_ids_in_bodies(world: World, things: dict[str, Thing], kind: Kind) -> None:
    schema = world.client.get("/schema/openapi.json").json()
    maker = DoorFuzzer(Sender("", "", "", "", "", {}), schema, 7)
    wrong = []
    asked = 0
    for route in routes_for(kind):
        method, _, path = route.partition(" ")
        wanted = schema["paths"].get(path, {}).get(method.lower(), {}).get("requestBody", {}).get("content", {})
        first = next(iter(wanted.values()), {}).get("schema")
        if first is None:
            continue
        where = address(route, world.names["own"])
        document = json.dumps(maker.of_schema(first))
        for place in sorted(set(re.findall(rf'"(?:{"|".join(EXAMPLES)})"', document))):
            for what, thing in things.items():
                pair = [document.replace(place, json.dumps(one)) for one in (thing.nobodys, thing.theirs)]
                nobodys, theirs = (send_as(world, kind, method, where, content=one) for one in pair)
                asked += 1
                # The first of two orders may have done something: then the second one is answered as a third is.
                if (told := same(theirs, nobodys, thing)) and same(
                    theirs, send_as(world, kind, method, where, content=pair[0]), thing
                ):
                    wrong.append((route, what, pair[1][:300], told))
    assert not wrong, "\n".join(map(str, wrong))
    assert asked


def test_a_version_of_another_cell_is_not_what_was_expected(world: World) -> None:
    """`dock-theirs@v1` is not `dock-own@v1`: who names it saw another cell, and nothing moves."""
    headers = world.headers[Kind.OPERATOR]
    body = {"stage": "fleet", "expected": "dock-theirs@v1"}
    for route in ("dock-own/rollback", "dock-own/v1/promote"):
        answer = world.client.post(f"/api/v1/models/{route}", headers=headers, json=body)
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (404, "unknown-variant"), answer.text
    assert world.services.variants.get("dock-own", "v1").stage == "fleet"


def test_figures_of_a_dataset_that_became_private_are_its_teams(world: World) -> None:
    services, data = world.services, RepoId("dataset", "rival", "open")
    add = services.evaluations.add
    made = add("base/universal@v1", {"ap": 0.5, "images": 12}, dataset="rival/open@main", deck="", created_by="bob").id

    def told(kind: Kind) -> tuple[bool, int]:
        answers = [send_as(world, kind, "GET", f"/api/v1/evaluations{end}") for end in ("", f"/{made}")]
        return made in answers[0].text, answers[1].status_code

    assert told(Kind.PERSON) == (True, 200)
    services.registry.directory.configure(data, private=True)
    assert told(Kind.PERSON) == (False, 404)
    assert told(Kind.OPERATOR) == (True, 200)
    services.registry.directory.configure(data, private=False)
    assert told(Kind.PERSON) == (True, 200)


def test_another_teams_job_is_no_answer_to_the_same_question(world: World) -> None:
    base = world.services.bases.shipped(world.services.settings.base_source)
    asked = {"kind": "evaluation", "asked": {"model": getattr(base, "name", base), "dataset": "rival/open"}}
    bob = {"Authorization": f"Bearer {world.services.tokens.issue('bob-asks', SCOPES, user='bob')}"}
    answers = [
        world.client.post("/api/v1/jobs", headers=headers, json=asked)
        for headers in (bob, world.headers[Kind.PERSON], world.headers[Kind.PERSON])
    ]
    assert [one.status_code for one in answers] == [202] * 3, answers[0].text
    first, second, again = (one.json()["id"] for one in answers)
    assert first != second == again
    assert world.client.get(f"/api/v1/jobs/{second}", headers=world.headers[Kind.PERSON]).status_code == 200


def test_bytes_and_commits_in_the_hub_protocol(world: World, things: dict[str, Thing]) -> None:
    """Another team's digests and commits, named in bodies of the Hub protocol and of LFS."""
    own, wrong = "datasets/acme/mine", []

    def lines(*operations: tuple[str, dict[str, Any]]) -> str:
        first: list[tuple[str, dict[str, Any]]] = [("header", {"summary": "s"})]
        return "\n".join(json.dumps({"key": key, "value": value}) for key, value in [*first, *operations])

    def objects(digest: str, operation: str) -> str:
        asked = {"operation": operation, "transfers": ["basic", "multipart"], "hash_algo": "sha256"}
        return json.dumps(asked | {"objects": [{"oid": digest, "size": size}]})

    def small(digest: str) -> str:
        return json.dumps({"files": [{"path": "x.bin", "size": size, "sample": "AA==", "oid": digest}]})

    size = len(f"# {PRIVATE}\na-picture-of {PRIVATE}")
    lfs = f"/{own}.git/info/lfs"
    requests: dict[str, tuple[str, str, Any]] = {
        "upload of bytes that are there": ("blob", f"{lfs}/objects/batch", lambda one: objects(one, "upload")),
        "download of bytes": ("blob", f"{lfs}/objects/batch", lambda one: objects(one, "download")),
        "verify": ("blob", f"{lfs}/verify", lambda one: json.dumps({"oid": one, "size": size})),
        "commit of bytes": (
            "blob",
            f"/api/{own}/commit/main",
            lambda one: lines(("lfsFile", {"path": "x.bin", "algo": "sha256", "oid": one, "size": size})),
        ),
        "preupload": ("blob", f"/api/{own}/preupload/main", small),
        "copy from a commit": (
            "commit",
            f"/api/{own}/commit/main",
            lambda one: lines(("copyFile", {"path": "y.md", "srcPath": "mine.md", "srcRevision": one})),
        ),
        "branch from a commit": ("commit", f"/api/{own}/branch/b9", lambda one: json.dumps({"startingPoint": one})),
        "tag of a commit": ("commit", f"/api/{own}/tag/{'{}'}", lambda _: json.dumps({"tag": "t9"})),
        "parent of a commit": (
            "commit",
            f"/api/{own}/commit/main",
            lambda one: json.dumps({"key": "header", "value": {"summary": "s", "parentCommit": one}}),
        ),
        "blobs moved between repositories": (
            "blob",
            f"/api/{own}/lfs-files/duplicate",
            lambda one: json.dumps({"files": [{"path": "x.bin", "oid": one, "size": size}]}),
        ),
        "bytes in a commit of ours": (
            "blob",
            "/api/v1/repos/dataset/acme/mine/commits",
            lambda one: json.dumps({"message": "m", "operations": [{"op": "put", "path": "x.bin", "sha256": one}]}),
        ),
    }
    for what, (kind, where, body) in requests.items():
        thing = things[kind]
        nobodys, theirs = (
            send_as(world, Kind.PERSON, "POST", where.format(one), content=body(one))
            for one in (thing.nobodys, thing.theirs)
        )
        assert nobodys.status_code < 500, (what, nobodys.text)
        if told := same(theirs, nobodys, thing):
            wrong.append((what, told))
    assert not wrong, "\n".join(map(str, wrong))
