"""A cell with captures and the people of its team."""

from __future__ import annotations

import pytest

from hub.services import Services
from tests.hub.loop.labels import CELL, capture, people


@pytest.fixture
def ready(services: Services) -> dict[str, str]:
    """A cell of the team acme with three captures, and people's tokens."""
    services.cells.create(CELL, "", "acme", ["box"])
    for seed in range(3):
        capture(services, CELL, seed=seed)
    return people(services)
