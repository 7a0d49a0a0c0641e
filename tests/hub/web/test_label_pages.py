"""The labelling pages without a browser: who sees what, and what is refused without the proof of a form."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from hub.schemas.labels import FillIn
from hub.services import Services
from hub.web.sessions import COOKIE
from tests.hub.loop.labels import capture, people
from tests.hub.web.material import EVIL, Browser

CELL = "dock-7"


@pytest.fixture
def tokens(services: Services) -> dict[str, str]:
    services.cells.create(CELL, EVIL, "acme", ["box"])
    capture(services, CELL, seed=1)
    return people(services)


def sign_in(browser: Browser, token: str) -> str:
    """The proof of forms of the session."""
    browser.sign_in(token)
    return browser.csrf()


def send(browser: Browser, method: str, address: str, proof: str, body: Any = None, **headers: str) -> Any:
    headers = {"X-CSRF-Token": proof} | headers
    return browser.client.request(method, address, json=body, headers=headers, follow_redirects=False)


def changes(task: str) -> list[tuple[str, str, Any]]:
    """Each change that the page's script can ask for."""
    accept = {"action": secrets.token_hex(16), "version": 1, "regions": []}
    return [
        ("POST", f"/ui/label/cells/{CELL}/next", None),
        ("POST", f"/ui/label/cells/{CELL}/fill", {}),
        ("POST", f"/ui/label/cells/{CELL}/batches", None),
        ("POST", f"/ui/label/cells/{CELL}/propagate", {"look_alike": "x"}),
        ("PUT", f"/ui/label/cells/{CELL}/settings", {"second_look": True}),
        ("POST", f"/ui/label/tasks/{task}/accept", accept),
        ("POST", f"/ui/label/tasks/{task}/move", {"what": "remove", "version": 0}),
    ]


def test_what_is_labelled_on_the_page_is_kept(stranger: Browser, services: Services, tokens: dict[str, str]) -> None:
    proof = sign_in(stranger, tokens["ann"])
    text = stranger.get(f"/ui/label/cells/{CELL}")
    assert "acme/dock-7-labels" in text and EVIL not in text and "label.js" in text
    work = send(stranger, "POST", f"/ui/label/cells/{CELL}/next", proof).json()
    picture = stranger.client.get(f"/ui/label/tasks/{work['task']['id']}/picture")
    assert picture.headers["content-type"] == "image/jpeg" and picture.content[:2] == b"\xff\xd8"
    regions = [{"label": "box", "keep": one["id"]} for one in work["regions"]]
    body = {"action": secrets.token_hex(16), "version": work["task"]["version"], "regions": regions, "seconds": 3}
    done = send(stranger, "POST", f"/ui/label/tasks/{work['task']['id']}/accept", proof, body)
    assert (done.status_code, done.json()["state"]) == (200, "labelled")
    assert send(stranger, "POST", f"/ui/label/cells/{CELL}/batches", proof).json()["pictures"] == 1
    assert "1 labelled" in stranger.get("/ui/label")


def test_a_script_without_the_proof_or_from_another_site_is_refused(
    stranger: Browser, services: Services, tokens: dict[str, str]
) -> None:
    proof = sign_in(stranger, tokens["ann"])
    services.labelling.fill(CELL, FillIn(), services.tokens.identify(tokens["ann"]))
    task = services.labelling.queue.page(CELL)[0].id
    for method, address, body in changes(task):
        for bad in ("", "0" * 64):
            assert send(stranger, method, address, bad, body).status_code == 403, address
        for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert send(stranger, method, address, proof, body, **header).status_code == 403, address
    assert services.labelling.queue.counts(CELL) == {"open": 1}
    assert not services.labelling.queue.settings(CELL).second_look


def test_another_teams_pictures_do_not_exist_and_a_reader_changes_none(
    stranger: Browser, services: Services, tokens: dict[str, str]
) -> None:
    services.labelling.fill(CELL, FillIn(), services.tokens.identify(tokens["ann"]))
    task = services.labelling.queue.page(CELL)[0].id
    proof = sign_in(stranger, tokens["rob"])
    assert CELL not in stranger.get("/ui/label")
    stranger.get(f"/ui/label/cells/{CELL}", status=404)
    for address in (f"/ui/label/tasks/{task}", f"/ui/label/tasks/{task}/picture"):
        assert stranger.client.get(address).status_code == 404
    for method, address, body in changes(task):
        assert send(stranger, method, address, proof, body).status_code == 404, address
    proof = sign_in(stranger, tokens["reader"])
    assert "may not label" in stranger.get(f"/ui/label/cells/{CELL}")
    assert stranger.client.get(f"/ui/label/tasks/{task}").status_code == 200
    for method, address, body in changes(task):
        assert send(stranger, method, address, proof, body).status_code == 403, address
    stranger.client.cookies.delete(COOKIE)
    for method, address, body in changes(task):
        assert send(stranger, method, address, proof, body).status_code in (302, 401, 403), address
    assert services.labelling.queue.counts(CELL) == {"open": 1}
