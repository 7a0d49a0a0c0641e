"""Signing in and out, and what protects forms: refusals that change nothing."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Scope, Tokens
from hub.errors import UnauthorizedError
from hub.services import Services
from hub.settings import Settings
from hub.web.guards import POLICY, Attempts
from hub.web.sessions import COOKIE, Sessions
from registry.catalog.catalog import Catalog
from tests.hub.web.material import Browser


def test_a_picture_without_a_session_is_refused_and_changes_no_form(stranger: Browser) -> None:
    """Pictures still on their way when a session ends must not undo the sign-in form that the person sees."""
    for kind in ("image", "empty"):
        answer = stranger.client.get("/ui/cells", headers={"sec-fetch-dest": kind}, follow_redirects=False)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
    asked = stranger.client.get("/ui/cells", headers={"sec-fetch-dest": "document"}, follow_redirects=False)
    assert asked.headers["location"].startswith("/ui/sign-in")


def test_who_has_no_session_signs_in_and_comes_back(stranger: Browser, settings: Settings) -> None:
    answer = stranger.client.get("/ui/cells?search=a", follow_redirects=False)
    assert answer.headers["location"] == "/ui/sign-in?next=%2Fui%2Fcells%3Fsearch%3Da"
    assert "Your token" in stranger.get("/ui/sign-in?next=%2Fui%2Fcells")
    answer = stranger.sign_in(settings.client_token(), back="/ui/cells?search=a")
    assert answer.headers["location"] == "/ui/cells?search=a"
    cookie = next(text for text in answer.headers.get_list("set-cookie") if text.startswith(COOKIE))
    assert {"HttpOnly", "SameSite=lax", "Path=/ui"} <= {part.strip() for part in cookie.split(";")}
    assert "Sign out" in stranger.get("/ui/")
    assert stranger.client.get("/", follow_redirects=False).headers["location"] == "/ui/"


def test_nobody_is_sent_elsewhere(stranger: Browser, settings: Settings) -> None:
    elsewhere = (
        "https://evil.example/",
        "//evil.example/ui/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/api/v1/cells",
    )
    for back in elsewhere:
        assert stranger.sign_in(settings.client_token(), back=back).headers["location"] == "/ui/", back


def test_a_wrong_token_opens_nothing_and_too_many_have_to_wait(stranger: Browser, settings: Settings) -> None:
    for _ in range(10):
        stranger.sign_in("ph_wrong", status=401)
    assert "Too many attempts" in stranger.sign_in(settings.client_token(), status=429).text
    assert COOKIE not in stranger.client.cookies


def test_a_job_opens_no_session(catalog: Catalog) -> None:
    tokens = Tokens(catalog)
    with catalog.write() as db:
        token = tokens.issue_for_job(db, "abc", "dock-7", seconds=60)
    with pytest.raises(UnauthorizedError):
        Sessions(catalog, tokens).open(token)


def test_a_session_ends_by_time_by_sign_out_and_with_its_token(catalog: Catalog) -> None:
    now = [1000.0]
    tokens = Tokens(catalog, now=lambda: now[0])
    sessions = Sessions(catalog, tokens, seconds=100, now=lambda: now[0])
    token = tokens.issue("ada", {Scope.READ})
    one, two, three = (sessions.open(token) for _ in range(3))
    assert sessions.count_like(one.secret) == 3
    rows = str(catalog.query("SELECT * FROM hub_sessions"))
    assert one.secret not in rows and token not in rows and hashlib.sha256(one.secret.encode()).hexdigest() in rows
    sessions.close(two.secret)
    assert sessions.find(two.secret) is None and sessions.find(one.secret) is not None
    assert one.csrf != three.csrf
    now[0] += 99
    assert sessions.find(one.secret) is not None
    now[0] += 2
    assert sessions.find(one.secret) is None
    four = sessions.open(token)
    assert catalog.query("SELECT count(*) FROM hub_sessions") == [(1,)]  # the old ones are gone
    tokens.revoke(hashlib.sha256(token.encode()).hexdigest()[:12])
    assert sessions.find(four.secret) is None
    assert sessions.find("made up") is None


def test_signing_out_everywhere_ends_all_sessions(browser: Browser, services: Services, settings: Settings) -> None:
    web = browser.client.app.state.web
    other = web.sessions.open(settings.client_token())
    browser.post("/ui/sign-out", {"everywhere": "1"})
    assert web.sessions.find(other.secret) is None
    assert browser.client.get("/ui/", follow_redirects=False).status_code == 302


FORMS = [
    ("/ui/cells", {"name": "dock-7"}),
    ("/ui/finetune", {"cell": "dock-7", "dataset": "a/b"}),
    ("/ui/jobs/abc/cancel", {}),
    ("/ui/jobs/abc/retry", {}),
    ("/ui/cells/dock-7/classes", {"class-box": "1"}),
    ("/ui/cells/dock-7/rollback", {"stage": "fleet"}),
    ("/ui/cells/dock-7/refresh/policy", {"min_labels": "5"}),
    ("/ui/cells/dock-7/refresh/pause", {}),
    ("/ui/cells/dock-7/refresh/runs/abc/veto", {}),
    ("/ui/models/dock-7/v1/promote", {"stage": "fleet"}),
    ("/ui/settings/tokens", {"name": "x", "scope-admin": "1"}),
    ("/ui/settings/tokens/abc/revoke", {}),
    ("/ui/datasets/a/b/check", {}),
    ("/ui/datasets/a/b/offer", {"action": "offer"}),
    ("/ui/growth/abc/stop", {"note": "enough"}),
    ("/ui/growth/contributions/abc", {"action": "accept", "expected": "tested"}),
    ("/ui/alerts/abc/acknowledge", {"note": "on it"}),
    ("/ui/alerts/abc/close", {}),
    ("/ui/failures/abc/correct", {"verdict": "merged"}),
    ("/ui/events/abc/change", {"name": "x"}),
    ("/ui/events/abc/merge", {"other": "x"}),
    ("/ui/events/abc/split", {"name": "x"}),
    ("/ui/sign-out", {}),
]


def test_a_form_without_its_proof_is_refused(browser: Browser) -> None:
    csrf = browser.csrf()
    for address, fields in FORMS:
        for proof in ({}, {"csrf": "0" * 64}, {"csrf": "é"}):
            answer = browser.client.post(address, data=fields | proof, follow_redirects=False)
            assert answer.status_code == 403 and "out of date" in answer.text, address
        good = fields | {"csrf": csrf}
        for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            answer = browser.client.post(address, data=good, headers=header, follow_redirects=False)
            assert answer.status_code == 403 and "another site" in answer.text, address
        assert browser.client.app.state.services.cells.all() == [], address
        assert "Sign out" in browser.get("/ui/"), address


def test_every_form_is_in_the_list_above(raw: TestClient[Any]) -> None:
    posts = {
        route.path
        for route in raw.app.routes
        if route.path.startswith("/ui") and "POST" in getattr(route, "methods", set())
    }
    # And /ui/sign-in, whose proof is tested by its own cookie; test_uploads.py and test_label_pages.py have what the
    # scripts of their pages post.
    forms = {one for one in posts if not one.startswith(("/ui/uploads/", "/ui/label/"))}
    assert len(forms) == len(FORMS) + 1, posts


def test_the_sign_in_form_is_tied_to_the_browser_that_asked(stranger: Browser, settings: Settings) -> None:
    stranger.get("/ui/sign-in")
    fields = {"csrf": "0" * 64, "token": settings.client_token()}
    assert stranger.client.post("/ui/sign-in", data=fields).status_code == 403
    stranger.client.cookies.clear()
    assert stranger.client.post("/ui/sign-in", data=fields).status_code == 403


def test_every_page_has_its_headers(browser: Browser) -> None:
    for address in ("/ui/", "/ui/cells", "/ui/nothing/here", "/ui/jobs/nope", "/ui/settings"):
        headers = browser.client.get(address).headers
        assert headers["content-security-policy"] == POLICY and "unsafe" not in POLICY
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    api = browser.client.get("/api/v1/cells")  # a cookie is no token
    assert api.status_code == 401


def test_what_a_token_may_not_do_is_not_offered_and_refused(stranger: Browser, services: Services) -> None:
    services.cells.create("dock-7", "")
    stranger.sign_in(services.tokens.issue("reader", {Scope.READ}))
    page = stranger.get("/ui/cells")
    assert "New cell" not in page and "New fine-tune" not in stranger.get("/ui/")
    stranger.post("/ui/cells", {"name": "mine"}, status=403)
    stranger.post("/ui/settings/tokens", {"name": "x", "scope-admin": "1"}, status=403)
    stranger.post("/ui/cells/dock-7/rollback", {"stage": "fleet"}, status=403)
    assert "Tokens</h2>" not in stranger.get("/ui/settings")


def test_the_operator_makes_and_revokes_tokens(browser: Browser, services: Services) -> None:
    services.users.put("ada", teams=["north"])
    browser.post("/ui/settings/tokens", {"name": "ada laptop", "user": "ada", "scope-read": "1"})
    token = browser.get("/ui/settings").partition('<code id="made">')[2].partition("<")[0]
    assert 'id="made"' not in browser.get("/ui/settings"), "a reload shows it no second time and makes no second one"
    assert len([one for one in services.tokens.all() if one.name == "ada laptop"]) == 1
    identity = services.tokens.identify(token)
    assert identity.user == "ada" and identity.scopes == {"read"}
    assert "no user" in browser.post("/ui/settings/tokens", {"name": "x", "user": "eve", "scope-read": "1"}, 200).text
    one = next(one for one in services.tokens.all() if one.name == "ada laptop")
    assert one.expires_at is not None
    browser.post(f"/ui/settings/tokens/{one.id}/revoke", {})
    with pytest.raises(UnauthorizedError):
        services.tokens.identify(token)
    own = next(one for one in services.tokens.all() if one.name == "admin")
    browser.post(f"/ui/settings/tokens/{own.id}/revoke", {}, status=403)


def test_attempts_are_forgotten_in_time() -> None:
    now = [0.0]
    attempts = Attempts(most=2, seconds=10, now=lambda: now[0])
    attempts.note("a")
    assert attempts.must_wait("a") == 0
    attempts.note("a")
    assert attempts.must_wait("a") == 10 and attempts.must_wait("b") == 0
    now[0] = 10.0
    assert attempts.must_wait("a") == 0
