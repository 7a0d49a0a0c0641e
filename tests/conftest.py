"""For all tests: which may run beside each other, which need a server, where the time went, a count of statements.

hypothesis looks for wrong answers, not for slow machines.
"""

from __future__ import annotations

import gc
import time
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from registry import Cursor
from tests.scale import NIGHTLY, scaled

# Speed belongs to the benchmarks; a deadline here fails when a neighbour is busy.
# Few examples each time and many each night: what is rare is found by whoever looks long.
settings.register_profile(
    "house", deadline=None, max_examples=scaled(30, 1000), suppress_health_check=[HealthCheck.too_slow]
)
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
DEAREST = (
    "triton",
    "tests/finetune/pipelines/test_service.py",
    "tests/e2e/test_growth.py",
    "browser",
    "tests/e2e/test_refresh.py",
    "ray",
    "hf",
    "tests/benchmarks/finetune/test_claim.py",
    "tests/finetune/pipelines/test_growth.py",
    "tests/benchmarks/hub/test_crash.py",
    "tests/finetune/training/test_training.py",
    "tests/registry/maintenance/test_fsck.py",
    "tests/benchmarks/finetune/test_ablation.py",
    "tests/benchmarks/finetune/test_bakeoff.py",
)
"""Groups that take long begin early, the longest first: what begins last must be short, or one worker waits for it."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a server, and keep on one worker what shares something: a file, Triton, Ray, a hub, a browser."""
    groups = {}
    if not NIGHTLY:
        left = [item for item in items if item.get_closest_marker("nightly") is not None]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    for item in items:
        module = getattr(item, "module", None)
        triton = item.get_closest_marker("triton") is not None
        if (
            triton
            or SERVER_FIXTURES & set(getattr(item, "fixturenames", ()))
            or any(hasattr(module, name) for name in SERVER_NAMES)
        ):
            item.add_marker(pytest.mark.server)
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.examples)
        file = item.nodeid.partition("::")[0]
        group = next((name for name, files in GROUPS.items() if any(one in file for one in files)), file)
        groups[item] = group = "triton" if triton else group
        item.add_marker(pytest.mark.xdist_group(group))
    if hasattr(config, "workerinput"):
        places = {group: place for place, group in enumerate(DEAREST)}
        items.sort(key=lambda item: places.get(groups[item], len(places)))


def pytest_collection_finish() -> None:
    """What all modules brought is here to stay: else each full look for garbage visits some million objects."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Modules in C look for what was left when the interpreter ends."""
    gc.unfreeze()


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
        # By itself it begins with the files of the most tests; the longest ones have few.
        config.option.loadscopereorder = False
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
