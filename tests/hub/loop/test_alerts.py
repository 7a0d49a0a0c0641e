"""Alerts at the hub: taken up from the uplink exactly once, seen by the cell's team alone, closed by themselves."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.migrations.tables_loop import LOOP
from hub.services import Services
from hub.settings import Settings
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY
from serving.errors import CaptureNotFound
from serving.instances import Instances
from serving.observed.captures import Capture
from serving.observed.spool import UPLINK, Spool
from tests.hub.web.material import Browser

SINCE = 1_700_000_000.0
ALERT = "a" * 32


def jpeg(grey: int) -> str:
    _, data = cv2.imencode(".jpg", np.full((40, 60, 3), grey, np.uint8))
    return base64.b64encode(data.tobytes()).decode()


def opened(alert: str = ALERT, cell: str = "dock-7", **facts: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": "alert", "event": "open", "alert": alert, "cell": cell, "line": "l1", "camera": None, "kind": "blocked",
        "since": SINCE, "at": SINCE + 20, "reason": "", "pictures": {"before": jpeg(200), "after": jpeg(20)},
    }  # fmt: skip
    return document | facts


def closed(alert: str = ALERT) -> dict[str, Any]:
    return {"type": "alert", "event": "close", "alert": alert, "at": SINCE + 900}


def send(services: Services, document: dict[str, Any], message_id: str, at: float = SINCE) -> Spool:
    spool = Spool(services.settings.telemetry_folder / UPLINK)
    spool.put(message_id, at, document)
    return spool


@pytest.fixture
def cell(services: Services) -> str:
    services.cells.create("dock-7", "", "acme")
    return "dock-7"


def test_an_alert_opens_is_looked_after_and_closes_by_itself(services: Services, client: HubClient, cell: str) -> None:
    spool = send(services, opened(), "1" * 32)
    (alert,) = client.alerts()
    assert (alert.id, alert.cell, alert.line, alert.kind, alert.state) == (ALERT, cell, "l1", "blocked", "open")
    assert alert.since == "2023-11-14T22:13:20.000Z"
    assert "lens" in alert.what
    assert "Clean" in alert.remedy
    assert alert.pictures == ["before", "after"]
    shown = cv2.imdecode(np.frombuffer(client.alert_picture(ALERT, "after"), np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (40, 60, 3)
    assert list(spool.names()) == []
    assert client.acknowledge_alert(ALERT, "on my way").state == "acknowledged"
    send(services, closed(), "2" * 32)
    done = client.alert(ALERT)
    assert (done.state, done.closed_by, done.note) == ("closed", "the camera", "on my way")
    assert done.acknowledged_by
    with pytest.raises(HubAnswerError) as refused:
        client.close_alert(ALERT)
    assert refused.value.slug == "alert-state"
    assert client.alerts(state="open") == []
    assert [one.id for one in client.alerts(state="closed", cell=cell)] == [ALERT]


def test_a_message_counts_once_and_a_person_has_the_last_word(services: Services, client: HubClient, cell: str) -> None:
    send(services, opened(), "1" * 32)
    assert len(client.alerts()) == 1
    client.close_alert(ALERT, "it was the cleaner")
    send(services, opened(), "1" * 32)  # told again, as after a kill
    send(services, opened(), "3" * 32)  # and by another message
    send(services, closed(), "2" * 32)
    (alert,) = client.alerts()
    assert (alert.state, alert.note) == ("closed", "it was the cleaner")
    assert alert.closed_by != "the camera"


def test_a_cells_alerts_go_with_it_and_none_comes_for_a_cell_that_is_not_there(
    services: Services, client: HubClient, cell: str
) -> None:
    send(services, opened(), "1" * 32)
    assert len(client.alerts()) == 1
    services.cells.delete(cell)
    send(services, opened("b" * 32), "2" * 32)  # the site did not know yet
    services.cells.create(cell, "", "rival")
    assert client.alerts() == []
    assert not list((services.settings.data / "alerts").glob("*.jpg"))


def test_pages_of_alerts_go_on_where_the_last_one_ended(services: Services, client: HubClient, cell: str) -> None:
    for k in range(7):
        alert = f"{k:032x}"
        send(services, opened(alert, at=SINCE + k), f"{k + 100:032x}")
    seen: list[str] = []
    while found := client.alerts(limit="3", **({"after": seen[-1]} if seen else {})):
        seen += [one.id for one in found]
    assert seen == [f"{k:032x}" for k in reversed(range(7))]


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "haunted"},
        {"cell": ""},
        {"since": "yesterday"},
        {"since": float("nan")},
        {"alert": "../../etc"},
        {"event": "explode"},
        {"pictures": {"before": "x" * 600_000}},
        {"pictures": {"../../x": jpeg(1)}},
        {"reason": "x" * 501},
        {"line": 7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_message_is_left_out_and_holds_nobody_up(
    services: Services, client: HubClient, cell: str, change: dict[str, Any]
) -> None:
    folder = services.settings.telemetry_folder / UPLINK
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"0000000000001-{'4' * 32}.json").write_text(json.dumps({**opened(), **change, "id": "4" * 32}))
    (folder / f"0000000000002-{'5' * 32}.json").write_text("{")
    (folder / f"0000000000003-{'6' * 32}.json").write_text(json.dumps({**opened(), "id": "7" * 32}))
    send(services, opened("b" * 32), "8" * 32)
    assert [one.id for one in client.alerts()] == ["b" * 32]
    assert not list(Spool(folder).names())


def test_what_is_no_picture_is_not_kept(services: Services, client: HubClient, cell: str) -> None:
    html = base64.b64encode(b"<script>alert(1)</script>").decode()
    send(services, opened(pictures={"before": html, "after": jpeg(3)}), "1" * 32)
    assert client.alert(ALERT).pictures == ["after"]
    for name in ("before", "AFTER", "after/../../../admin.token", "after.jpg"):
        with pytest.raises(HubAnswerError) as refused:
            client.alert_picture(ALERT, name)
        assert refused.value.status in (400, 404)


def test_the_cells_team_alone_sees_and_changes_it(
    raw: TestClient[Any], services: Services, cell: str, settings: Settings
) -> None:
    for user, team in (("ann", "acme"), ("bob", "rival")):
        services.users.put(user, teams=[team])
    send(services, opened(), "1" * 32)
    scopes = [Scope.CONTRIBUTE, Scope.FINETUNE, Scope.PROMOTE]
    tokens = {
        "own": services.tokens.issue("ann", scopes, user="ann"),
        "other": services.tokens.issue("bob", scopes, user="bob"),
        "looks": services.tokens.issue("ann-looks", [Scope.READ], user="ann"),
        "robot": services.production.robots.add("arm", [cell]),
        "nobody": "",
    }

    def status(who: str, method: str, route: str) -> int:
        headers = {"Authorization": f"Bearer {tokens[who]}"} if tokens[who] else {}
        body = {"json": {}} if method == "POST" else {}
        return int(raw.request(method, f"/api/v1/alerts{route}", headers=headers, **body).status_code)

    routes = [("GET", f"/{ALERT}"), ("GET", f"/{ALERT}/pictures/after"), ("POST", f"/{ALERT}/acknowledge")]
    routes.append(("POST", f"/{ALERT}/close"))
    for method, route in routes:
        assert status("other", method, route) == 404
        assert status("robot", method, route) == 403
        assert status("nobody", method, route) == 401
    assert status("looks", "GET", f"/{ALERT}") == 200
    assert status("looks", "POST", f"/{ALERT}/close") == 403
    for who, seen in (("own", 1), ("other", 0), ("looks", 1)):
        answer = raw.get("/api/v1/alerts", headers={"Authorization": f"Bearer {tokens[who]}"})
        assert len(answer.json()) == seen
    stranger = Browser(raw)
    stranger.sign_in(tokens["other"])
    assert ALERT not in stranger.get("/ui/alerts")
    assert "lens" not in stranger.get(f"/ui/cells/{cell}")
    stranger.get(f"/ui/alerts/{ALERT}/pictures/after", status=404)
    stranger.post(f"/ui/alerts/{ALERT}/close", {"note": "mine"}, status=404)
    raw.cookies.clear()
    assert [status("own", method, route) for method, route in routes] == [200, 200, 200, 200]


def test_the_page_shows_pictures_and_takes_a_note(
    raw: TestClient[Any], services: Services, settings: Settings, cell: str
) -> None:
    browser = Browser(raw)
    browser.sign_in(settings.client_token())
    assert "No alert" in browser.get("/ui/alerts")
    send(services, opened(reason="<b>41 %</b>"), "1" * 32)
    shown = browser.get("/ui/alerts")
    assert "The lens is dirty" in shown
    assert "&lt;b&gt;41 %&lt;/b&gt;" in shown
    assert f"/ui/alerts/{ALERT}/pictures/before" in shown
    assert "The lens is dirty" in browser.get(f"/ui/cells/{cell}")
    browser.post(f"/ui/alerts/{ALERT}/acknowledge", {"note": "<i>seen</i>"})
    assert "&lt;i&gt;seen&lt;/i&gt;" in browser.get("/ui/alerts?state=acknowledged")
    browser.post(f"/ui/alerts/{ALERT}/close", {"note": ""})
    assert "The lens is dirty" not in browser.get(f"/ui/cells/{cell}")
    assert "The lens is dirty" in browser.get("/ui/alerts")


def test_frames_of_a_camera_at_fault_are_no_captures(services: Services, client: HubClient, cell: str) -> None:
    none = Instances(4, 4, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (), ())

    def kept(at: float, line: str) -> str:
        picture = np.zeros((4, 4, 3), np.uint8)
        return services.production.captures.add(
            Capture(picture, none, "r", at, "sample", "base/universal@v1", cell, line, None)
        )

    before, during, other = kept(SINCE - 60, "l1"), kept(SINCE + 5, "l1"), kept(SINCE + 5, "l2")
    send(services, opened(), "1" * 32)
    assert client.alerts()
    assert services.production.captures.read(before)
    assert services.production.captures.read(other)
    with pytest.raises(CaptureNotFound):
        services.production.captures.read(during)


KILLED = """
import os, signal, sys
from pathlib import Path
from hub.loop.uplink import Uplink
from hub.migrations.tables_loop import LOOP
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY
from serving.observed.spool import Spool
root = Path(sys.argv[1])
class Dies(Spool):
    def remove(self, name):
        os.kill(os.getpid(), signal.SIGKILL)
uplink = Uplink(Catalog.open(root / "catalog.duckdb", [REGISTRY, LOOP]), Dies(root / "uplink"))
uplink.handlers.append(lambda tx, m: tx.execute("INSERT INTO loop_alerts SELECT ?, 'c', NULL, NULL, 'dark', '', 0, 0,"
                                                " 'open', NULL, NULL, NULL, NULL, ''", [m.id]))
uplink.take_up()
"""


def test_a_hub_that_is_killed_takes_each_message_once(tmp_path: Path) -> None:
    """Killed after the transaction and before the file is gone: the next one finds both."""
    from hub.loop.uplink import Message, Uplink
    from registry.catalog.cursor import Cursor

    spool = Spool(tmp_path / "uplink")
    spool.put("1" * 32, SINCE, opened())
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(spool.names())) == 1
    taken: list[str] = []

    def handle(_: Cursor, message: Message) -> None:
        taken.append(message.id)

    with Catalog.open(tmp_path / "catalog.duckdb", [REGISTRY, LOOP]) as catalog:
        uplink = Uplink(catalog, spool)
        uplink.handlers.append(handle)
        assert uplink.take_up() == 0
        assert taken == []
        assert list(spool.names()) == []
        assert catalog.query("SELECT count(*) FROM loop_alerts") == [(1,)]


def test_a_full_uplink_drops_the_oldest(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_messages=3)
    for k in range(5):
        spool.put(f"{k:032x}", time.time() + k, {"type": "alert"})
    assert [spool.read(name)["id"] for name in spool.names()] == [f"{k:032x}" for k in (2, 3, 4)]  # type: ignore[index]
    assert spool.dropped == 2
    spool.put(f"{4:032x}", time.time() + 9, {"type": "alert"})
    assert len(list(spool.names())) == 3
    for bad in ("x", "A" * 32, "../" + "0" * 29):
        with pytest.raises(ValueError, match="no message"):
            spool.put(bad, 0.0, {})
    with pytest.raises(ValueError, match="no message"):
        spool.put("0" * 32, 0.0, {"x": "y" * 600_000})
