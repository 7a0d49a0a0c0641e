"""For all tests: hypothesis looks for wrong answers, not for slow machines; and a count of SQL statements."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from registry import Cursor

# Speed belongs to the benchmarks; a deadline here fails when a neighbour is busy.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Every statement that the catalog runs from here on, and how often."""
    seen: Counter[str] = Counter()
    execute = Cursor.execute

    def counted(self: Cursor, sql: str, params: Any = ()) -> Cursor:
        seen[sql] += 1
        return execute(self, sql, params)

    monkeypatch.setattr(Cursor, "execute", counted)
    return seen
