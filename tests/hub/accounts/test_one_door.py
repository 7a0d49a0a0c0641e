# ruff: noqa: F811  # `ask` is a fixture
"""Whatever is deleted by one door leaves no record behind another that blocks what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from hub.accounts.minting import mint
from hub.accounts.tokens import Identity, Scope
from hub.errors import UnknownUserError
from hub.schemas.core import FinetuneIn, TokenIn
from hub.services import Services
from tests.hub.rollout.test_bases_and_folder import make_variant, promote
from tests.hub.rollout.test_production import Ask, ask  # noqa: F401  # `ask` is a fixture
from tests.hub.rollout.test_votes import bearer, manifest

Headers = dict[str, str]
DOORS = ("rest", "protocol")


def protocol_delete(raw: TestClient[Any], headers: Headers, type_: str, name: str) -> Any:
    return raw.request("DELETE", "/api/repos/delete", json={"type": type_, "name": name}, headers=headers)


def delete_dataset(raw: TestClient[Any], headers: Headers, door: str, name: str) -> Any:
    if door == "rest":
        return raw.delete(f"/api/v1/datasets/{name}", headers=headers)
    return protocol_delete(raw, headers, "dataset", name)


@pytest.mark.parametrize("door", DOORS)
def test_a_dataset_that_was_deleted_begins_anew(
    raw: TestClient[Any],
    ask: Ask,
    admin: Headers,
    services: Services,
    door: str,
) -> None:
    services.users.put("ann", teams=["acme"])
    ann = bearer(services.tokens.issue("a", {"contribute"}, user="ann"))
    body = manifest(("f.txt", b"frames"))
    assert ask("PUT", "/datasets/acme/d", {"private": False}, headers=ann).is_success
    first, digest = ask("POST", "/datasets/acme/d/uploads", body, headers=ann).json(), body["files"][0]["sha256"]
    assert raw.put(f"/api/v1/uploads/{first['id']}/files/{digest}", content=b"frames", headers=ann).is_success
    assert ask("POST", f"/uploads/{first['id']}/commit", headers=ann).is_success
    assert ask("PUT", "/datasets/acme/d/offer", {"note": "ours"}, headers=ann).is_success
    started = ask("POST", "/datasets/acme/d/uploads", manifest(("g.txt", b"more")), headers=ann).json()
    talk = raw.post(
        "/api/datasets/acme/d/discussions", json={"title": "a talk", "description": "of frames"}, headers=ann
    )
    assert talk.is_success, talk.text
    assert delete_dataset(raw, ann, door, "acme/d").is_success
    assert ask("GET", f"/uploads/{started['id']}", headers=ann).status_code == 404
    assert ask("PUT", "/datasets/acme/d", {"private": False}, headers=ann).is_success
    (shown,) = ask("GET", "/datasets?team=acme", headers=ann).json()
    assert (shown["name"], shown["offered"]) == ("acme/d", False)
    assert raw.get("/api/datasets/acme/d/discussions", headers=ann).json()["discussions"] == []
    again = ask("POST", "/datasets/acme/d/uploads", body, headers=ann).json()
    assert again["id"] != started["id"]
    assert raw.put(f"/api/v1/uploads/{again['id']}/files/{digest}", content=b"frames", headers=ann).is_success
    assert ask("POST", f"/uploads/{again['id']}/commit", headers=ann).is_success


@pytest.mark.parametrize("door", DOORS)
def test_what_a_job_needs_goes_by_no_door(
    raw: TestClient[Any], admin: Headers, services: Services, tmp_path: Path, door: str
) -> None:
    make_variant(services, tmp_path)
    job = services.finetunes.request(FinetuneIn(cell="dock-7", dataset="acme/dock"), "t")
    assert delete_dataset(raw, admin, door, "acme/dock").status_code == 409
    services.jobs.cancel(job.id)
    assert delete_dataset(raw, admin, door, "acme/dock").is_success


def test_a_cell_whose_repository_was_deleted_goes_on(
    raw: TestClient[Any],
    ask: Ask,
    admin: Headers,
    services: Services,
    tmp_path: Path,
) -> None:
    """By the Hub's protocol its variants go: the next fine-tune is a variant of its own, and the cell may go."""
    assert [make_variant(services, tmp_path) for _ in range(2)] == ["v1", "v2"]
    promote(services, "v1")
    assert protocol_delete(raw, admin, "model", "cells/dock-7").status_code == 409, "robots are served from it"
    services.promotions.rollback("dock-7", "fleet", actor="t", note="")
    assert ask("DELETE", "/cells/dock-7").status_code == 409
    assert protocol_delete(raw, admin, "model", "cells/dock-7").is_success
    assert services.variants.all("dock-7") == []
    assert services.registry.stages.assignments("dock-7") == ()
    assert ask("GET", "/models/dock-7/v1").status_code == 404
    version = make_variant(services, tmp_path)
    assert version == "v3", "decisions on record name v1 and v2"
    assert [one.stage for one in services.variants.all("dock-7")] == ["candidate"]
    promote(services, version)
    services.promotions.rollback("dock-7", "fleet", actor="t", note="")
    assert services.serving_folder.read()["cells"]["dock-7"].get("fleet") is None, "never back to a deleted one"
    assert protocol_delete(raw, admin, "model", "cells/dock-7").is_success
    assert ask("DELETE", "/cells/dock-7").status_code == 204
    assert ask("POST", "/cells", {"name": "dock-7"}).is_success
    assert not services.registry.examine(quick=True).damaged


def test_a_version_whose_tag_was_deleted_is_never_made_again(
    raw: TestClient[Any], admin: Headers, services: Services, tmp_path: Path
) -> None:
    assert [make_variant(services, tmp_path) for _ in range(2)] == ["v1", "v2"]
    tag = "/api/models/cells/dock-7/tag/v2"
    assert raw.delete(tag, headers=admin).status_code == 403
    promote(services, "v2")
    services.promotions.rollback("dock-7", "fleet", actor="t", note="")
    services.registry.stages.move(
        "dock-7",
        services.variants.standing("dock-7", "v2").variant,
        "archived",
        actor="t",
        evidence={},
        policy_digest=services.registry.policies.current().digest,
        note="",
    )
    assert raw.delete(tag, headers=admin).is_success
    assert make_variant(services, tmp_path) == "v3"
    assert services.variants.get("dock-7", "v3").stage == "candidate"


def test_a_base_that_variants_are_made_on_goes_by_no_door(
    raw: TestClient[Any], admin: Headers, services: Services, tmp_path: Path
) -> None:
    make_variant(services, tmp_path)
    assert protocol_delete(raw, admin, "model", "base/universal").status_code == 409
    assert raw.delete("/api/models/base/universal/tag/v1", headers=admin).status_code == 409
    moved = raw.post(
        "/api/repos/move", json={"fromRepo": "base/universal", "toRepo": "base/other", "type": "model"}, headers=admin
    )
    assert moved.status_code == 409
    moved = raw.post(
        "/api/repos/move", json={"fromRepo": "cells/dock-7", "toRepo": "cells/dock-8", "type": "model"}, headers=admin
    )
    assert moved.status_code == 409
    assert protocol_delete(raw, admin, "model", "cells/dock-7").is_success
    assert raw.delete("/api/models/base/universal/tag/v1", headers=admin).is_success


def test_a_team_leaves_no_token_and_a_user_no_reservation(ask: Ask, services: Services) -> None:
    services.users.put("ann", teams=["acme"])
    services.cells.create("dock-7", "", "acme")
    ci = bearer(services.tokens.issue("ci", ["contribute", "team:acme"]))
    ann = bearer(services.tokens.issue("a", {"contribute"}, user="ann"))
    body = manifest(("f.txt", b"frames"))
    assert ask("POST", "/datasets/acme/d/uploads", body, headers=ann).is_success
    refused = ask("DELETE", "/teams/acme")
    assert (refused.status_code, "dock-7" in refused.json()["detail"]) == (409, True)
    assert ask("DELETE", "/cells/dock-7").status_code == 204
    assert ask("DELETE", "/teams/acme").status_code == 204
    assert ask("GET", "/datasets", headers=ci).status_code == 401
    assert ask("DELETE", "/users/ann").status_code == 204
    assert services.registry.catalog.query("SELECT count(*) FROM hub_reservations") == [(0,)]
    services.users.put("ann", teams=["acme"])
    assert ask("GET", "/datasets", headers=ann).status_code == 401


def test_a_token_that_is_made_while_its_user_goes_is_none(services: Services) -> None:
    """Between the look whether there is such a user and the token."""
    services.users.put("ann")
    find = services.users.get

    def gone_by_then(name: str) -> Any:
        found = find(name)
        services.users.delete(name)
        return found

    services.users.get = gone_by_then  # type: ignore[method-assign]
    operator = Identity("o", frozenset({Scope.ADMIN}))
    with pytest.raises(UnknownUserError):
        mint(services.tokens, services.users, operator, TokenIn(name="t", scopes=["read"], user="ann"))
    assert [one for one in services.tokens.all() if one.user] == []


def test_a_cell_made_anew_under_a_clock_that_was_put_back_counts(
    ask: Ask,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cell before it was deleted at a later time than it is now."""
    import time

    services.cells.create("dock-9", "")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    assert ask("DELETE", "/cells/dock-9").status_code == 204
    monkeypatch.setattr(time, "time", real)
    services.cells.create("dock-9", "")
    from serving.observed.telemetry import INCOMING, PREDICTIONS, write_segment
    from tests.hub.rollout.test_production import outcome, prediction

    rows = [prediction("new", cell="dock-9", variant=None)]
    write_segment(services.production.telemetry.folder / INCOMING, PREDICTIONS, rows)
    assert ask("POST", "/outcomes", {"outcomes": [outcome("new", cell="dock-9")]}).is_success
    (rate,) = ask("GET", "/outcomes/rates?by=cell&cell=dock-9").json()["rates"]
    assert rate["picks"] == 1
