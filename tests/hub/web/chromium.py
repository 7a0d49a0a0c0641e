"""A real Chromium whose pages are watched: for tests that import this, and are skipped where there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.settings import Settings

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
NEEDS_CHROMIUM = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed (Debian's package `chromium`)"),
]
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE_MS, POLL_MS = 240_000, 50
LARGE, SMALL = (1280, 900), (400, 800)


@dataclass(frozen=True)
class Site:
    """A hub as a process."""

    settings: Settings
    token: str

    def at(self, address: str) -> str:
        return self.settings.url + address


@contextmanager
def launched() -> Iterator[playwright.Browser]:
    """A browser without a window, and without a page."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def signed_in(
    browser: playwright.Browser, site: Site, *, expected: str, size: tuple[int, int] = LARGE, scheme: str = "light"
) -> Iterator[playwright.Page]:
    """A page of a session of its own that is signed in, closed in the end, however that comes.

    Fails then for what the console complained of (but for what matches `expected`, which tests provoke), for errors
    of scripts and for requests to other places than the hub.
    """
    context = browser.new_context(viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
    problems: list[str] = []
    try:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: problems.append(asked.url) if not asked.url.startswith(site.at("/")) else None)
        sign_in(page, site)
        yield page
    finally:
        context.close()
    surprises = [problem for problem in problems if not re.search(expected, problem)]
    assert surprises == [], surprises


def sign_in(page: playwright.Page, site: Site) -> None:
    page.goto(site.at("/ui/"))
    page.fill("#token", site.token)
    page.keyboard.press("Enter")
    page.wait_for_selector("nav.menu")


def until(page: playwright.Page, expression: str) -> None:
    """Wait for a JavaScript expression. The driver's own way needs `eval`, which the pages' policy forbids."""
    for _ in range(PATIENCE_MS // POLL_MS):
        try:
            if page.evaluate(expression):
                return
        except playwright.Error as error:
            if "context was destroyed" not in str(error):  # the page is loading anew: it is asked again
                raise
        page.wait_for_timeout(POLL_MS)
    raise AssertionError(expression)
