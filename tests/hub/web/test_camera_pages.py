"""The page of a cell's cameras: what sites said last, alerts, silence, and who sees it."""

from __future__ import annotations

import time

import pytest

from hub.accounts.tokens import Scope
from hub.services import Services
from hub.web.pages_cameras import SILENT_S
from serving.observed.camera_words import CameraWord
from serving.observed.uplink import DiskUplink
from tests.hub.loop.test_sites import opened
from tests.hub.web.material import EVIL, Browser

CELL = "dock-7"
BASELINE = {"light": 0.98, "noise": 2.4, "fixed": 0.61, "edges": 12, "hours": 3}


@pytest.fixture
def uplink(services: Services) -> DiskUplink:
    """Of the site on this disk; the cell is another team's."""
    services.users.put("ann", teams=["acme"])
    services.users.put("bob", teams=["bolt"])
    services.cells.create(CELL, "", "acme")
    return DiskUplink(services.settings.telemetry_folder)


def health(at: float, line: str, **values: object) -> CameraWord:
    """A word about a camera's health."""
    told = {"state": "ok", "kind": None, "reason": "", "frames": 1234, "blind": [], "baseline": BASELINE, **values}
    return CameraWord("camera", CELL, line, "left", at, told)


def test_a_cell_without_a_camera_says_so(browser: Browser, uplink: DiskUplink) -> None:
    assert uplink is not None
    assert "No camera yet" in browser.get(f"/ui/cells/{CELL}/cameras")
    assert f"/ui/cells/{CELL}/cameras" in browser.get(f"/ui/cells/{CELL}")
    browser.get("/ui/cells/no-such-cell/cameras", status=404)


def test_each_camera_is_told_with_its_baseline_and_novelty(browser: Browser, uplink: DiskUplink) -> None:
    now = time.time()
    uplink.statistics(health(now, "l1", blind=["frozen", "light_part"]))
    streams = {"novelty": {"learnt": True, "evidence": 1.0}, "doubt": {"learnt": False, "evidence": 0.0}}
    told = {"state": "new", "frames": 77, "changes": 2, "values": {"novelty": 1.25}, "streams": streams, "limit": 9.0}
    uplink.statistics(CameraWord("novelty", CELL, "l1", "left", now, told))
    uplink.statistics(health(now - 2 * SILENT_S, "l2", state="cannot_tell", reason=EVIL, baseline=None))
    page = browser.get(f"/ui/cells/{CELL}/cameras")
    for said in (
        *("Line l1", "camera left", "In order.", "frozen, light part", "1,234", "noise 2.4 grey levels"),
        *(
            "61 % of the view",
            "12 of 16",
            "3 of 24",
            "something new, 2 changes",
            "novelty 1.25",
            "doubt (being learnt)",
        ),
        *("Line l2", "cannot tell", "site local"),
    ):
        assert said in page, said
    assert page.count(">silent<") == 1 and EVIL not in page


def test_a_camera_at_fault_comes_first_with_its_alert(browser: Browser, services: Services, uplink: DiskUplink) -> None:
    now = time.time()
    uplink.statistics(health(now, "l1"))
    uplink.statistics(health(now, "l2", state="fault", kind="blocked", since=now))
    uplink.put("1" * 32, now, opened(line="l2", camera="left", since=now, at=now))
    assert services.production.alerts.take_up() == 1
    page = browser.get(f"/ui/cells/{CELL}/cameras")
    assert page.index("Line l2") < page.index("Line l1")
    assert "The lens is dirty, or something is in front of it." in page and page.count('role="alert"') == 1
    assert f"/ui/cells/{CELL}/cameras" in browser.get("/ui/alerts")


def test_only_who_works_in_the_cell_sees_its_cameras(browser: Browser, services: Services, uplink: DiskUplink) -> None:
    uplink.statistics(health(time.time(), "l1"))
    tokens = {user: services.tokens.issue(f"of {user}", [Scope.READ], user=user) for user in ("ann", "bob")}
    assert "Sites" in browser.get(f"/ui/cells/{CELL}/cameras") or not services.production.sites.all()
    browser.sign_in(tokens["ann"])
    page = browser.get(f"/ui/cells/{CELL}/cameras")
    assert "Line l1" in page and "wishes not fetched" not in page, "sites' tokens are the operator's"
    browser.sign_in(tokens["bob"])
    browser.get(f"/ui/cells/{CELL}/cameras", status=404)
