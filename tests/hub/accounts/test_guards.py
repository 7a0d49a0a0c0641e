"""Who may do what: every route of the API, tried with a token of every scope."""

from __future__ import annotations

from typing import Any

import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Scope
from hub.services import Services
from tests.hub.api.test_api import fill
from tests.hub.rollout.test_votes import manifest

ANYBODY, PERSON, JOB, UPLOAD = "anybody signed in", "not a job", "the job's own process", "contribute or job"
SITE = "a site's own token"
READ, CONTRIBUTE, FINETUNE, PROMOTE, ADMIN = ANYBODY, *(Scope.CONTRIBUTE, Scope.FINETUNE, Scope.PROMOTE, Scope.ADMIN)

MAY: dict[str, str] = {
    "GET /health": "public",
    # cells
    "GET /cells": READ,
    "POST /cells": FINETUNE,
    "GET /cells/{cell}": READ,
    "PATCH /cells/{cell}": FINETUNE,
    "DELETE /cells/{cell}": FINETUNE,
    # files
    "HEAD /blobs/{sha256}": READ,
    "GET /blobs/{sha256}": READ,
    "PUT /blobs/{sha256}": UPLOAD,
    "GET /repos": READ,
    "GET /repos/{type_}/{namespace}/{name}": READ,
    "PUT /repos/{type_}/{namespace}/{name}": ADMIN,  # of a model; datasets are below
    "GET /repos/{type_}/{namespace}/{name}/refs": READ,
    "GET /repos/{type_}/{namespace}/{name}/commits/{revision}": READ,
    "GET /repos/{type_}/{namespace}/{name}/tree/{revision}": READ,
    "GET /repos/{type_}/{namespace}/{name}/files/{revision}/{path}": READ,
    "POST /repos/{type_}/{namespace}/{name}/commits": ADMIN,
    # datasets
    "GET /datasets": READ,
    "PUT /datasets/{namespace}/{name}": CONTRIBUTE,
    "GET /datasets/{namespace}/{name}": READ,
    "PATCH /datasets/{namespace}/{name}": CONTRIBUTE,
    "DELETE /datasets/{namespace}/{name}": CONTRIBUTE,
    "PUT /datasets/{namespace}/{name}/offer": CONTRIBUTE,
    "DELETE /datasets/{namespace}/{name}/offer": CONTRIBUTE,
    "GET /datasets/{namespace}/{name}/summary": READ,
    "GET /datasets/{namespace}/{name}/images": READ,
    "GET /datasets/{namespace}/{name}/images/{pos}": READ,
    "POST /datasets/{namespace}/{name}/uploads": CONTRIBUTE,
    "GET /uploads/{upload_id}": CONTRIBUTE,
    "DELETE /uploads/{upload_id}": CONTRIBUTE,
    "PUT /uploads/{upload_id}/files/{sha256}": CONTRIBUTE,
    "POST /uploads/{upload_id}/commit": CONTRIBUTE,
    # jobs
    "POST /finetunes": FINETUNE,
    "GET /jobs": READ,
    "POST /jobs": FINETUNE,
    "GET /jobs/{job_id}": READ,
    "GET /jobs/{job_id}/events": READ,
    "GET /jobs/{job_id}/log": READ,
    "POST /jobs/{job_id}/cancel": FINETUNE,
    "POST /jobs/{job_id}/retry": FINETUNE,
    "POST /jobs/claim": ADMIN,
    "POST /jobs/{job_id}/heartbeat": ADMIN,
    "POST /jobs/{job_id}/release": ADMIN,
    "POST /jobs/{job_id}/log": ADMIN,
    "POST /jobs/{job_id}/progress": JOB,
    "POST /jobs/{job_id}/finish": JOB,
    "POST /jobs/{job_id}/fail": JOB,
    # models
    "GET /models": READ,
    "GET /models/{cell}": READ,
    "GET /models/{cell}/{version}": READ,
    "POST /models/{cell}/{version}/promote": PROMOTE,
    "POST /models/{cell}/rollback": PROMOTE,
    "GET /routing": READ,
    "GET /evaluations": READ,
    "GET /evaluations/{evaluation_id}": READ,
    "POST /evaluations": FINETUNE,
    # accounts
    "GET /me": PERSON,
    "GET /users": ADMIN,
    "PUT /users/{name}": ADMIN,
    "GET /users/{name}": ADMIN,
    "DELETE /users/{name}": ADMIN,
    "GET /teams": PERSON,
    "GET /teams/{name}": PERSON,
    "PUT /teams/{name}": ADMIN,
    "DELETE /teams/{name}": ADMIN,
    "PUT /teams/{name}/members/{user}": ADMIN,
    "DELETE /teams/{name}/members/{user}": ADMIN,
    "GET /teams/{name}/quota": PERSON,
    "PUT /teams/{name}/quota": ADMIN,
    "GET /tokens": PERSON,
    "POST /tokens": ADMIN,  # of somebody else; users make their own
    "DELETE /tokens/{token_id}": PERSON,
    # webhooks
    "GET /webhooks": PERSON,
    "POST /webhooks": CONTRIBUTE,
    "GET /webhooks/{webhook_id}": PERSON,
    "PATCH /webhooks/{webhook_id}": CONTRIBUTE,
    "DELETE /webhooks/{webhook_id}": CONTRIBUTE,
    "POST /webhooks/{webhook_id}/secret": CONTRIBUTE,
    "POST /webhooks/{webhook_id}/test": CONTRIBUTE,
    "GET /webhooks/{webhook_id}/deliveries": PERSON,
    "GET /webhooks/{webhook_id}/deliveries/{delivery_id}": PERSON,
    "POST /webhooks/{webhook_id}/deliveries/{delivery_id}/retry": CONTRIBUTE,
    # provenance
    "GET /provenance/statement": READ,
    "POST /provenance/statement": ADMIN,
    "GET /provenance/keys": READ,
    "GET /provenance/verify": READ,
    "GET /provenance/lineage": READ,
    "GET /provenance/decisions": READ,
    "GET /provenance/policy": READ,
    "PUT /provenance/policy": ADMIN,
    "POST /provenance/approvals": PROMOTE,
    # production and provenance
    "GET /outcomes/rates": READ,
    "GET /captures": READ,
    "GET /captures/{capture_id}": READ,
    "GET /captures/{capture_id}/image": READ,
    "GET /events": READ,
    "GET /events/{event_id}": READ,
    "GET /events/{event_id}/findings": READ,
    "PATCH /events/{event_id}": PROMOTE,
    "POST /events/{event_id}/merge": PROMOTE,
    "POST /events/{event_id}/split": PROMOTE,
    "GET /findings/{finding_id}/picture": READ,
    "GET /alerts": READ,
    "GET /alerts/{alert_id}": READ,
    "GET /alerts/{alert_id}/pictures/{which}": READ,
    "POST /alerts/{alert_id}/acknowledge": PROMOTE,
    "POST /alerts/{alert_id}/close": PROMOTE,
    "GET /failures": READ,
    "GET /failures/{failure_id}": READ,
    "POST /failures/{failure_id}/correct": PROMOTE,
    "POST /forget": PROMOTE,
    "GET /cells/{cell}/timeline": READ,
    "GET /cells/{cell}/refresh": READ,
    "GET /cells/{cell}/refresh/policies": READ,
    "GET /cells/{cell}/refresh/runs": READ,
    "GET /cells/{cell}/refresh/runs/{run}": READ,
    "PUT /cells/{cell}/refresh/policy": FINETUNE,
    "POST /cells/{cell}/refresh/pause": FINETUNE,
    "POST /cells/{cell}/refresh/resume": FINETUNE,
    "POST /cells/{cell}/refresh/now": FINETUNE,
    "POST /cells/{cell}/refresh/runs/{run}/veto": PROMOTE,
    "POST /cells/{cell}/refresh/runs/{run}/undo": PROMOTE,
    "GET /datasets/{namespace}/{name}/contributions": READ,
    "GET /growth": ADMIN,
    "GET /growth/policy": ADMIN,
    "PUT /growth/policy": ADMIN,
    "GET /growth/contributions": ADMIN,
    "POST /growth/contributions/{contribution}/decision": ADMIN,
    "GET /growth/runs": ADMIN,
    "POST /growth/runs": ADMIN,
    "GET /growth/runs/{run}": ADMIN,
    "POST /growth/runs/{run}/stop": ADMIN,
    "GET /labels": READ,
    "GET /labels/cells/{cell}": READ,
    "PUT /labels/cells/{cell}": CONTRIBUTE,
    "GET /labels/cells/{cell}/tasks": READ,
    "GET /labels/cells/{cell}/stats": READ,
    "GET /labels/cells/{cell}/batches": READ,
    "POST /labels/cells/{cell}/batches": CONTRIBUTE,
    "DELETE /labels/cells/{cell}/batches/{batch_id}": CONTRIBUTE,
    "POST /labels/cells/{cell}/fill": CONTRIBUTE,
    "POST /labels/cells/{cell}/next": CONTRIBUTE,
    "POST /labels/cells/{cell}/propagate": CONTRIBUTE,
    "GET /labels/tasks/{task_id}": READ,
    "GET /labels/tasks/{task_id}/image": READ,
    "POST /labels/tasks/{task_id}/accept": CONTRIBUTE,
    "POST /labels/tasks/{task_id}/move": CONTRIBUTE,
    "PUT /labels/tasks/{task_id}/proposal": CONTRIBUTE,
    "GET /labels/cells/{cell}/handoffs": READ,
    "POST /labels/cells/{cell}/handoffs": CONTRIBUTE,
    "PUT /labels/tasks/{task_id}/handoff": CONTRIBUTE,
    "POST /labels/tasks/{task_id}/handoff": CONTRIBUTE,
    "DELETE /labels/tasks/{task_id}/handoff": CONTRIBUTE,
    "GET /labels/cells/{cell}/ml/health": READ,
    "POST /labels/cells/{cell}/ml/setup": READ,
    "POST /labels/cells/{cell}/ml/predict": READ,
    "GET /rollouts/{cell}": READ,
    "GET /trials/{trial_id}": READ,
    "PUT /rollouts/{cell}/lines": PROMOTE,
    "PUT /rollouts/{cell}/share": PROMOTE,
    "POST /rollouts/{cell}/trials": PROMOTE,
    "DELETE /trials/{trial_id}": PROMOTE,
    "DELETE /captures/{capture_id}": PROMOTE,
    "POST /outcomes": PROMOTE,  # and robots, whose tokens have no scope
    "GET /robots": ADMIN,
    "POST /robots": ADMIN,
    "DELETE /robots/{robot_id}": ADMIN,
    "POST /maintenance/backup": ADMIN,
    "POST /maintenance/gc": ADMIN,
    "POST /maintenance/fsck": ADMIN,
    # sites, and what they ask with their own tokens
    "GET /sites": ADMIN,
    "POST /sites": ADMIN,
    "DELETE /sites/{site_id}": ADMIN,
    "GET /sites/cameras": READ,
    "GET /site/wishes": SITE,
    "POST /site/wishes/{wish_id}/taken": SITE,
    "POST /site/messages": SITE,
    "PUT /site/captures/{capture_id}": SITE,
    "PUT /site/predictions/{segment}": SITE,
    "PUT /site/statistics/{name}": SITE,
    # audit
    "GET /audit": ADMIN,
    "GET /audit/check": ADMIN,
}
# What the process of a job may ask beside its own reports. Which repositories and blobs it gets, its token says.
FOR_JOBS = {
    "HEAD /blobs/{sha256}",
    "GET /blobs/{sha256}",
    "PUT /blobs/{sha256}",
    "GET /repos/{type_}/{namespace}/{name}",
    "GET /repos/{type_}/{namespace}/{name}/refs",
    "GET /repos/{type_}/{namespace}/{name}/commits/{revision}",
    "GET /repos/{type_}/{namespace}/{name}/tree/{revision}",
    "GET /repos/{type_}/{namespace}/{name}/files/{revision}/{path}",
    "GET /jobs/{job_id}",
}
BODIES: dict[str, object] = {
    "POST /cells": {"name": "dock-9"},
    "POST /finetunes": {"cell": "dock-7", "dataset": "a/b"},
    "POST /jobs/claim": {"worker": "w"},
    "POST /tokens": {"name": "t", "scopes": ["read"], "user": "x"},
    "POST /evaluations": {"model": "x@v1", "metrics": {}},
}
BODIES |= {
    "POST /jobs": {"kind": "dataset-check", "asked": {"dataset": "a/b"}},
    "POST /labels/cells/{cell}/handoffs": {"tool": "fiftyone", "place": "p", "claimer": "c"},
    "PUT /labels/tasks/{task_id}/handoff": {"place": "p", "remote": "1"},
    "POST /labels/tasks/{task_id}/handoff": {"place": "p", "what": "labelled", "mark": "x"},
    "POST /labels/cells/{cell}/ml/predict": {"tasks": []},
}
BODIES |= {"POST /sites": {"name": "hamburg", "cells": ["dock-7"]}}
BODIES |= {"PUT /cells/{cell}/refresh/policy": {"policy": {}}}
BODIES |= {
    "POST /provenance/statement": {"name": "base/universal@v1"},
    "PUT /provenance/policy": {"policy": {"rules": []}},
    "POST /provenance/approvals": {"cell": "dock-7", "version": "v1"},
}
TOKENS = (*Scope, "job")


def routes(raw: TestClient[Any]) -> set[str]:
    paths = raw.get("/schema/openapi.json").json()["paths"]
    return {f"{method.upper()} {path.removeprefix('/api/v1')}" for path, ways in paths.items() for method in ways}


def test_the_table_has_every_route_and_no_other(raw: TestClient[Any]) -> None:
    assert routes(raw) - set(MAY) == set()
    assert {route for route in MAY if route not in routes(raw)} == set()


def may(token: str, need: str, route: str) -> bool:
    if need == "public":
        return True
    if token == "job":
        return route in FOR_JOBS
    if need == ANYBODY:
        return True
    if need in (JOB, SITE):
        return False
    if need == UPLOAD:
        return token in (Scope.CONTRIBUTE, Scope.ADMIN)
    return need == PERSON or token in (need, Scope.ADMIN)


@pytest.mark.parametrize("token", TOKENS)
def test_a_scope_opens_its_routes_and_no_others(raw: TestClient[Any], services: Services, token: str) -> None:
    scopes = {"job:another", "write:cells/another"} if token == "job" else {token}
    headers = {"Authorization": f"Bearer {services.tokens.issue('t', scopes)}"}
    wrong = []
    for route, need in MAY.items():
        method, _, path = route.partition(" ")
        if path.endswith("/events"):
            continue  # a stream; test_api follows one
        answer = raw.request(method, "/api/v1" + fill(path), headers=headers, json=BODIES.get(route))
        refused = answer.status_code == 403
        if refused == may(token, need, route) or answer.status_code >= 500 or answer.status_code == 401:
            wrong.append((route, token, answer.status_code, answer.text[:200]))
    assert wrong == []


def test_without_a_token_nothing_is_answered_but_the_health(raw: TestClient[Any]) -> None:
    for route, need in MAY.items():
        method, _, path = route.partition(" ")
        for headers in ({}, {"Authorization": "Bearer ph_wrong"}):
            if need != "public":
                assert raw.request(method, "/api/v1" + fill(path), headers=headers).status_code == 401, route


def user(services: Services, name: str, team: str, *scopes: Scope) -> dict[str, str]:
    services.users.put(name, teams=[team])
    value = services.tokens.issue(name, scopes or (Scope.CONTRIBUTE, Scope.FINETUNE, Scope.PROMOTE), user=name)
    return {"Authorization": f"Bearer {value}"}


def test_a_teams_things_are_its_own(raw: TestClient[Any], services: Services) -> None:
    ann, bob = user(services, "ann", "acme"), user(services, "bob", "rival")

    def ask(who: dict[str, str], method: str, route: str, body: object = None) -> int:
        return raw.request(method, "/api/v1" + route, headers=who, json=body).status_code

    assert ask(ann, "POST", "/cells", {"name": "dock-1"}) == 201
    assert raw.get("/api/v1/cells/dock-1", headers=bob).json()["team"] == "acme"
    assert ask(bob, "PATCH", "/cells/dock-1", {"description": "mine"}) == 403
    assert ask(bob, "DELETE", "/cells/dock-1") == 403
    assert ask(bob, "POST", "/models/dock-1/rollback", {}) == 403
    assert ask(ann, "POST", "/models/dock-1/rollback", {}) == 409
    assert ask(bob, "POST", "/cells", {"name": "dock-2", "team": "acme"}) == 403
    assert ask(ann, "PATCH", "/cells/dock-1", {"team": "rival"}) == 403, "giving away is the operator's part"

    assert ask(ann, "PUT", "/datasets/acme/secret", {"private": True}) == 200
    assert ask(bob, "PUT", "/datasets/acme/mine", {}) == 403
    for method, route, body in (
        ("GET", "", None),
        ("GET", "/images", None),
        ("GET", "/summary", None),
        ("PATCH", "", {"private": False}),
        ("DELETE", "", None),
        ("PUT", "/offer", {}),
    ):
        assert ask(bob, method, "/datasets/acme/secret" + route, body) == 404, route
    assert raw.get("/api/v1/datasets", headers=bob).json() == []
    assert [one["name"] for one in raw.get("/api/v1/datasets", headers=ann).json()] == ["acme/secret"]
    assert ask(ann, "PUT", "/datasets/acme/secret/offer", {}) == 404, "there is no revision to offer"
    body = manifest(("f.txt", b"frames"))
    started = raw.post("/api/v1/datasets/acme/secret/uploads", headers=ann, json=body).json()
    digest = body["files"][0]["sha256"]
    assert raw.put(f"/api/v1/uploads/{started['id']}/files/{digest}", content=b"frames", headers=ann).is_success
    assert ask(ann, "POST", f"/uploads/{started['id']}/commit") < 300
    assert raw.put("/api/v1/datasets/acme/secret/offer", headers=ann, json={}).json()["offered_by"] == "ann"
    assert raw.get("/api/v1/datasets?offered=true", headers=bob).json() == [], "an offer is to the base, not to all"
    assert ask(bob, "POST", "/finetunes", {"cell": "dock-1", "dataset": "acme/secret"}) == 403
    assert ask(bob, "GET", "/teams/acme/quota") == 404
    assert ask(ann, "GET", "/teams/acme/quota") == 200


def test_users_make_tokens_for_themselves_with_no_more_scopes(raw: TestClient[Any], services: Services) -> None:
    ann = user(services, "ann", "acme", Scope.CONTRIBUTE)
    user(services, "bob", "rival")

    def make(**body: object) -> int:
        return raw.post("/api/v1/tokens", headers=ann, json={"name": "t", **body}).status_code

    assert make(scopes=["contribute"]) == 201
    assert make(scopes=["finetune"]) == 403
    assert make(scopes=["admin"]) == 403
    assert make(scopes=["read"], user="bob") == 403
    assert make(scopes=["read"], value="a" * 40) == 403
    shown = raw.get("/api/v1/tokens", headers=ann).json()
    assert {token["user"] for token in shown} == {"ann"}
    bobs = next(info.id for info in services.tokens.all() if info.user == "bob")
    assert raw.delete(f"/api/v1/tokens/{bobs}", headers=ann).status_code == 404
    assert raw.delete(f"/api/v1/tokens/{shown[-1]['id']}", headers=ann).status_code == 204
