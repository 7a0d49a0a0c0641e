"""For all tests: which may run beside each other, which need a server, where the time went, a count of statements.

hypothesis looks for wrong answers, not for slow machines.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from registry import Cursor

# Speed belongs to the benchmarks; a deadline here fails when a neighbour is busy.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

SERVER_FIXTURES = frozenset({"raw", "services", "client", "live_hub", "browser", "chromium"})
"""What boots the application or a process of it; who asks for one is no unit test."""
SERVER_NAMES = ("start_hub", "running_hub", "running_server", "ThreadedMotoServer", "TritonServer", "bench_clients")
"""What modules import that start one themselves."""
GROUPS = {
    "ray": ("test_ray", "test_two_processes"),
    "hf": ("tests/hub/hf/",),
    "browser": ("tests/hub/web/test_browser",),
}
"""Files whose tests share a server, a cluster or a browser, beside those that start Triton."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, and keep on one worker what shares something: a file, Triton, Ray, a hub, a browser."""
    for item in items:
        module = getattr(item, "module", None)
        triton = item.get_closest_marker("triton") is not None
        if (
            triton
            or SERVER_FIXTURES & set(getattr(item, "fixturenames", ()))
            or any(hasattr(module, name) for name in SERVER_NAMES)
        ):
            item.add_marker(pytest.mark.server)
        file = item.nodeid.partition("::")[0]
        group = next((name for name, files in GROUPS.items() if any(one in file for one in files)), file)
        item.add_marker(pytest.mark.xdist_group("triton" if triton else group))


class WhereTimeWent:
    """Seconds of each folder and of the tests that `slow` marks, said at the end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.count: Counter[str] = Counter()
        self.unmarked: dict[str, float] = defaultdict(float)
        self.begun = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = report.nodeid.partition("::")[0].rpartition("/")[0]
        self.seconds[folder] += report.duration
        if report.when == "call":
            self.count[folder] += 1
            if report.duration > MOST_SECONDS and "slow" not in report.keywords:
                self.unmarked[report.nodeid] = report.duration

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if sum(self.count.values()) < 50:  # somebody looks at a few tests, not at the suite
            return
        terminalreporter.section(f"where {time.monotonic() - self.begun:.0f} s went")
        for folder, seconds in sorted(self.seconds.items(), key=lambda pair: -pair[1]):
            terminalreporter.write_line(f"{seconds:8.1f} s  {self.count[folder]:5} tests  {folder}")
        for nodeid, seconds in sorted(self.unmarked.items(), key=lambda pair: -pair[1])[:20]:
            terminalreporter.write_line(f"{seconds:8.1f} s and not marked slow: {nodeid}")


MOST_SECONDS = 2.0


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(WhereTimeWent(), "where-time-went")


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
