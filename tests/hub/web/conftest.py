"""A browser that is signed in as the operator."""

from __future__ import annotations

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
