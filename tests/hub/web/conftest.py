"""A browser that is signed in as the operator, and the real one of the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from hub.settings import Settings
from tests.hub.web.material import Browser


@pytest.fixture
def stranger(raw: TestClient[Any]) -> Browser:
    """Nobody yet."""
    return Browser(raw)


@pytest.fixture
def browser(stranger: Browser, settings: Settings) -> Browser:
    """The operator's."""
    stranger.sign_in(settings.client_token())
    return stranger


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """One browser for all modules here. No longer than these: while its driver runs, the main thread has a running
    event loop, and tests elsewhere could not start theirs.
    """
    from tests.hub.web.chromium import launched  # skips the module that asks where there is no Playwright

    with launched() as browser:
        yield browser
