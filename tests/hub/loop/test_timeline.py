"""The timeline: every source on one list, page by page, for those who may see the cell; and its page's buttons."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.loop.timeline import Timeline
from hub.loop.timeline_sources import SOURCES
from hub.loop.timeline_sources.source import Asked, step_id, when
from hub.schemas.refresh import RefreshPolicyIn, Step
from hub.services import Services
from hub.settings import Settings
from registry.catalog.catalog import Catalog
from registry.types import RepoId
from tests.hub.loop.refresh_material import CELL, LABELS, finish_refresh, first_variant, push_labels, slice_
from tests.hub.loop.test_alerts import closed, opened, send
from tests.hub.web.material import Browser


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The rule looks when a test says so, and not by the clock."""
    return replace(settings, refresh=0)


@pytest.fixture
def cell(services: Services) -> str:
    for user, team in (("ann", "acme"), ("bob", "rival")):
        services.users.put(user, teams=[team])
    services.cells.create(CELL, "", "acme")
    services.refreshes.set_policy(CELL, RefreshPolicyIn(min_labels=8, min_hours_between=0), "ann", "as agreed")
    return CELL


@pytest.fixture
def lived(services: Services, client: HubClient, cell: str, tmp_path: Path) -> str:
    """A cell to which everything has happened once."""
    first_variant(services, client, tmp_path)
    services.promotions.promote(CELL, "v1", "fleet", actor="ann", note="the first")
    at = services.registry.catalog.query("SELECT created_at FROM hub_cells WHERE name = ?", [CELL])[0][0]
    send(services, opened(since=at + 1, at=at + 2), "1" * 32)
    send(services, closed() | {"at": at + 3}, "2" * 32)
    services.production.alerts.take_up()
    push_labels(client, tmp_path, seed=1)
    services.refreshes.look()
    (run,) = services.refreshes.page(CELL, limit=1)
    finish_refresh(services, run.id, tmp_path, slice_("dock-7@v1"))
    services.promotions.promote(CELL, "v2", "fleet", actor="ann", note="")
    return run.id


def test_everything_is_on_one_list_with_its_reason(services: Services, client: HubClient, lived: str) -> None:
    steps = client.timeline(CELL)
    assert {one.kind for one in steps} == {name for name, _ in SOURCES} - {"change", "event", "growth"}, (
        "test_changes.py, test_events.py, test_growth.py"
    )
    titles = [one.title for one in steps]
    for wanted in (
        "Alert: The lens is dirty",
        "Alert closed",
        f"Labels came into {LABELS}",
        "A refresh on 8 new images began",
        "dock-7@v2 is a candidate",
        "v2 was promoted to the fleet",
        "The refresh policy is version 1",
    ):
        assert any(title.startswith(wanted) for title in titles), (wanted, titles)
    assert [one.at for one in steps] == sorted((one.at for one in steps), reverse=True)
    began = next(one for one in steps if one.title.startswith("A refresh on"))
    assert began.reason == "8 new labelled images, 8 are enough" and began.run == lived
    assert next(one for one in steps if one.title == "The refresh policy is version 1").reason.startswith("as agreed")
    assert {one.kind for one in client.timeline(CELL, kind="alert")} == {"alert"}


def test_pages_hold_every_step_once(services: Services, client: HubClient, lived: str) -> None:
    whole = [one.id for one in client.timeline(CELL)]
    assert len(set(whole)) == len(whole) > 10
    for size in (1, 2, 5):
        found: list[str] = []
        while page := client.timeline(CELL, limit=str(size), after=found[-1] if found else ""):
            found += [one.id for one in page]
        assert found == whole, size
    for wrong in ("nothing", "9" * 20 + "-x", "-"):
        with pytest.raises(HubAnswerError, match="id of a step"):
            client.timeline(CELL, after=wrong)


def test_steps_of_one_moment_lose_none(services: Services, cell: str) -> None:
    """More steps of one source in one millisecond than a page holds."""
    now = 2e9

    def steps(_: Catalog, asked: Asked) -> list[Step]:
        made = [Step(id=step_id(now, "many", f"{k:03}"), at=when(now), kind="many", title=str(k)) for k in range(12)]
        return asked.page(made)

    timeline = Timeline(services.registry.catalog, (("many", steps),))
    found: list[str] = []
    while page := timeline.page(CELL, limit=5, after=found[-1] if found else ""):
        found += [one.id for one in page]
    assert [one[-3:] for one in found] == [f"{k:03}" for k in reversed(range(12))]


def test_only_who_may_see_the_cell_sees_its_timeline(
    raw: TestClient[Any], services: Services, client: HubClient, lived: str
) -> None:
    scopes = [Scope.CONTRIBUTE, Scope.FINETUNE, Scope.PROMOTE]
    tokens = {
        "own": services.tokens.issue("ann", scopes, user="ann"),
        "other": services.tokens.issue("bob", scopes, user="bob"),
        "robot": services.production.robots.add("arm", [CELL]),
    }

    def status(who: str, method: str, route: str, body: Any = None) -> int:
        headers = {"Authorization": f"Bearer {tokens[who]}"}
        more = {} if method == "GET" else {"json": body or {}}
        return int(raw.request(method, f"/api/v1/cells/{CELL}{route}", headers=headers, **more).status_code)

    routes: list[tuple[str, str, Any]] = [
        ("GET", "/timeline", None),
        ("GET", "/refresh", None),
        ("GET", "/refresh/policies", None),
        ("GET", "/refresh/runs", None),
        ("GET", f"/refresh/runs/{lived}", None),
        ("POST", "/refresh/pause", None),
        ("POST", "/refresh/resume", None),
        ("PUT", "/refresh/policy", {"policy": {}}),
        ("POST", f"/refresh/runs/{lived}/undo", None),
    ]
    for method, route, body in routes:
        assert status("other", method, route, body) == 404, route
        assert status("robot", method, route, body) == 403, route
    assert [status("own", *one) for one in routes] == [200] * len(routes)
    stranger = Browser(raw)
    stranger.sign_in(tokens["other"])
    stranger.get(f"/ui/cells/{CELL}/timeline", status=404)
    assert "Timeline" not in stranger.get(f"/ui/cells/{CELL}")
    stranger.post(f"/ui/cells/{CELL}/refresh/pause", {}, status=404)
    stranger.post(f"/ui/cells/{CELL}/refresh/runs/{lived}/undo", {}, status=404)


def test_labels_that_one_may_not_see_are_no_step(
    raw: TestClient[Any], services: Services, client: HubClient, cell: str, tmp_path: Path
) -> None:
    secret = "rival/secret"
    push_labels(client, tmp_path, seed=1, name=secret)
    services.registry.directory.configure(RepoId.parse(secret, "dataset"), private=True)
    services.refreshes.set_policy(CELL, RefreshPolicyIn(labels=[secret]), "admin")
    token = services.tokens.issue("ann", [Scope.FINETUNE, Scope.PROMOTE], user="ann")
    mine = raw.get(f"/api/v1/cells/{CELL}/timeline?kind=labels", headers={"Authorization": f"Bearer {token}"})
    assert mine.json() == []
    assert [one.kind for one in client.timeline(CELL, kind="labels")] == ["labels"]
    answer = raw.put(
        f"/api/v1/cells/{CELL}/refresh/policy",
        json={"policy": {"labels": [secret]}},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 400 and "that you may use" in answer.text


def test_the_page_tells_and_takes_back(
    raw: TestClient[Any], services: Services, client: HubClient, settings: Settings, lived: str
) -> None:
    browser = Browser(raw)
    browser.sign_in(settings.client_token())
    shown = browser.get(f"/ui/cells/{CELL}/timeline")
    assert "A refresh on 8 new images began" in shown and "8 new labelled images, 8 are enough" in shown
    assert re.findall(r"runs/\w+/(veto|undo)\"", shown) == ["undo", "undo"], "robots have it: it is undone"
    assert "Timeline, policy" in browser.get(f"/ui/cells/{CELL}")
    browser.post(f"/ui/cells/{CELL}/refresh/pause", {"note": "<i>rebuilt</i>"})
    shown = browser.get(f"/ui/cells/{CELL}/timeline")
    assert "&lt;i&gt;rebuilt&lt;/i&gt;" in shown and ">Resume<" in shown
    fields = {"expected": "2", "enabled": "1", "min_labels": "50", "begin": "22:00", "end": "06:00", "min_gain": ""}
    browser.post(f"/ui/cells/{CELL}/refresh/policy", fields | {"time_zone": "Europe/Berlin"})
    policy = services.refreshes.policies.get(CELL).policy
    assert (policy.min_labels, policy.min_gain, policy.begin, policy.paused) == (50, None, "22:00", True)
    browser.post(f"/ui/cells/{CELL}/refresh/policy", fields, status=409)
    browser.post(f"/ui/cells/{CELL}/refresh/policy", {"min_labels": "many", "expected": "3"}, status=400)
    browser.post(f"/ui/cells/{CELL}/refresh/burn", {}, status=400)
    browser.post(f"/ui/cells/{CELL}/refresh/runs/{lived}/undo", {})
    assert services.variants.get(CELL, "v2").stage == "archived"
    assert "The refresh was undone" in browser.get(f"/ui/cells/{CELL}/timeline?kind=refresh")
    browser.get(f"/ui/cells/{CELL}/timeline?after=nonsense", status=400)
