"""The uplink over the network: all is carried, counts once whoever is killed, and a site speaks for its cells."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient

from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.services import Services
from hub.settings import Settings
from serving.instances import Instances
from serving.observed import camera_words
from serving.observed.camera_words import CameraWord
from serving.observed.captures import Capture, CaptureStore, encoded
from serving.observed.carrier import HUB_MARK, AwayError, Carrier, lay_down
from serving.observed.segments import INCOMING
from serving.observed.uplink import CAPTURES, DiskUplink
from serving.observed.wishes import WISHES, waiting, wish
from tests.hub.conftest import SharedTransport
from tests.hub.loop.test_alerts import closed, opened
from tests.hub.material import wait_for

NOW = time.time()
ROOT = Path(__file__).parents[3]
CARRIES = """
import os, signal, sys
from pathlib import Path
import httpx
from serving.observed.carrier import Carrier


class Dies(httpx.HTTPTransport):
    '''Killed when the hub has answered so many times, before anybody here reads the answer.'''

    left = int(sys.argv[4])

    def handle_request(self, request):
        answer = super().handle_request(request)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


Carrier(Path(sys.argv[1]), sys.argv[2], sys.argv[3], transport=Dies()).once()
"""


def capture(number: int, cell: str = "dock-7", **more: Any) -> Capture:
    image = np.random.default_rng(number).integers(0, 255, (24, 32, 3), np.uint8)
    found = Instances.from_masks(np.ones((1, 24, 32), np.bool_), ["box"], [0.75])
    facts: dict[str, Any] = {"line": "l1", "robot": "arm", "camera": None, "at": NOW + number} | more
    return Capture(image, found, f"r{number}", reason="sample", served_by=f"{cell}@v1", cell=cell, **facts)


def line(number: int, cell: str = "dock-7") -> bytes:
    row = {"request_id": f"r{number}", "at": NOW + number, "cell": cell, "variant": f"{cell}@v1", "stage": "fleet",
           "instances": 1, "labels": {"box": 1}, "latency_ms": 1.0, "batch": 1, "table_version": 1}  # fmt: skip
    return json.dumps(row).encode()


def word(cell: str = "dock-7", at: float = NOW, **values: Any) -> CameraWord:
    return CameraWord("camera", cell, "l1", None, at, {"state": "ok", **values})


NAME = f"{int(NOW * 1000):013d}-aaaaaaaaaaaa"
ANSWER = {"label": "box", "score": 0.5, "box": [0, 0, 4, 4], "mask": Instances.from_masks(
    np.ones((1, 24, 32), np.bool_), ["box"], [0.5]).masks[0].decode()}  # fmt: skip
STATISTICS = json.dumps({"what": "camera", "cell": "dock-7", "line": None, "camera": None, "at": NOW})
LONG = {"type": "alert", "event": "close", "id": "a" * 32, "alert": "b" * 32, "at": NOW, "more": "y" * 600_000}


def told(*, picture: bytes = encoded(np.zeros((24, 32, 3), np.uint8))[0], **changes: Any) -> dict[str, Any]:
    """A capture as a site sends it."""
    document = {"request_id": "r1", "at": NOW, "reason": "sample", "served_by": "dock-7@v1", "cell": "dock-7",
                "line": None, "robot": None, "height": 24, "width": 32, "instances": [ANSWER]}  # fmt: skip
    return {"document": document | changes, "picture": base64.b64encode(picture).decode(), "kind": "image/jpeg"}


@pytest.fixture
def send(raw: TestClient[Any], services: Services, tmp_path: Path) -> Iterator[Callable[..., Carrier]]:
    """Carriers of the site `hall`, which serves dock-7, over the application."""
    for cell in ("dock-7", "dock-9"):
        services.cells.create(cell, "", "acme")
    token = services.production.sites.add("hall", ["dock-7"])
    made: list[Carrier] = []

    def carrier(folder: Path = tmp_path / "hall", with_token: str = token) -> Carrier:
        transport = SharedTransport(raw._transport)
        made.append(Carrier(folder, "http://testserver.local", with_token, transport=transport))
        return made[-1]

    yield carrier
    for one in made:
        one.close()


def test_all_that_a_site_says_reaches_a_hub_elsewhere(
    services: Services, client: HubClient, send: Callable[..., Carrier], tmp_path: Path
) -> None:
    uplink = DiskUplink(tmp_path / "hall")
    kept = uplink.capture(capture(1, observed={"strangeness": 2.5}))
    uplink.predictions([line(1), line(2), b"torn"])
    uplink.seal(now=True)
    uplink.put("1" * 32, NOW, opened(line="l2", since=NOW, at=NOW))
    uplink.statistics(word(frames=12))
    carrier = send()
    assert carrier.once() == 4 and carrier.refused == 0
    assert carrier.once() == 0
    found = services.production.captures.read(kept)
    assert (found["cell"], found["observed"]) == ("dock-7", {"strangeness": 2.5})
    assert found["instances"][0]["label"] == "box"
    assert services.production.captures.image(kept)[0][:3] == b"\xff\xd8\xff"
    assert [(one.cell, one.line, one.kind) for one in client.alerts()] == [("dock-7", "l2", "blocked")]
    assert [(one.site, one.values["frames"]) for one in client.site_cameras("dock-7")] == [("hall", 12)]
    services.production.telemetry.look(wait=True)
    assert services.production.telemetry.request("r2") is not None
    assert not list((tmp_path / "hall" / CAPTURES).iterdir()) and not list((tmp_path / "hall" / INCOMING).iterdir())


def test_each_counts_once_and_what_was_taken_away_does_not_come_back(
    services: Services, client: HubClient, send: Callable[..., Carrier], tmp_path: Path
) -> None:
    for _ in range(2):  # as a site does that did not hear that the hub had it
        uplink = DiskUplink(tmp_path / "hall")
        name = uplink.capture(capture(1))
        uplink.put("1" * 32, NOW, opened(line="l2", since=NOW - 5, at=NOW - 5))
        uplink.put("2" * 32, NOW, closed())
        send().once()
        assert [one.state for one in client.alerts()] == ["closed"]
        services.production.captures.remove(name)
    assert list(services.production.captures.names()) == []


def test_a_frame_of_a_camera_at_fault_is_not_kept_however_late_it_comes(
    services: Services, send: Callable[..., Carrier], tmp_path: Path
) -> None:
    uplink = DiskUplink(tmp_path / "hall")
    uplink.put("1" * 32, NOW, opened(since=NOW + 10, at=NOW + 20))
    send().once()
    uplink.capture(capture(11))
    uplink.capture(capture(2))
    uplink.capture(capture(12, line="l9"))
    send().once()
    kept = {services.production.captures.read(name)["request_id"] for name in services.production.captures.names()}
    assert kept == {"r2", "r12"}


def test_a_site_speaks_for_its_cells_alone(
    services: Services, client: HubClient, send: Callable[..., Carrier], tmp_path: Path
) -> None:
    uplink = DiskUplink(tmp_path / "hall")
    uplink.capture(capture(1, "dock-9"))
    uplink.put("1" * 32, NOW, opened(cell="dock-9"))
    uplink.statistics(word("dock-9"))
    uplink.predictions([line(1), line(2, "dock-9")])
    uplink.seal(now=True)
    uplink.capture(capture(3))  # what is not the site's to say is in nobody's way
    carrier = send()
    carrier.once()
    assert carrier.refused == 3
    kept = [services.production.captures.read(name)["request_id"] for name in services.production.captures.names()]
    assert kept == ["r3"] and client.alerts() == []
    services.production.telemetry.look(wait=True)
    known = [services.production.telemetry.request(f"r{number}") is not None for number in (1, 2)]
    assert known == [True, False]
    assert client.site_cameras() == []


def test_wishes_reach_each_site_once_with_its_own_token(
    services: Services, client: HubClient, send: Callable[..., Carrier], tmp_path: Path
) -> None:
    other = services.production.sites.add("yard", ["dock-9"])
    wishes = services.production.wishes
    assert wishes.ask("a" * 32, "dock-7", "failed_picks", NOW - 60, ["r1"]) == 2  # the hall, and this machine
    assert wishes.ask("a" * 32, "dock-7", "failed_picks", NOW - 60, ["r1"]) == 2
    send(tmp_path / "yard", other).once()
    assert list(waiting(tmp_path / "yard")) == []
    for _ in range(2):
        send().once()
    (found,) = waiting(tmp_path / "hall")
    assert (found.cell, found.reason, found.requests) == ("dock-7", "failed_picks", ("r1",))
    found.done()
    send().once()
    assert list(waiting(tmp_path / "hall")) == []
    assert {one.name: one.waiting for one in client.sites()} == {"hall": 0, "yard": 0, "local": 1}


def test_a_cell_that_goes_is_forgotten_by_the_sites_that_had_it(
    services: Services, client: HubClient, send: Callable[..., Carrier], tmp_path: Path
) -> None:
    uplink = DiskUplink(tmp_path / "hall")
    uplink.statistics(word())
    send().once()
    services.production.wishes.ask("a" * 32, "dock-7", "failed_picks", NOW - 60, ["r1"])
    client.delete_cell("dock-7")
    send().once()
    assert [one.reason for one in waiting(tmp_path / "hall")] == ["forget"], "its token had the cell when it went"
    assert client.site_cameras() == []
    client.create_cell("dock-7", team="acme")
    uplink.statistics(word(at=NOW + 0.5))
    carrier = send()
    carrier.once()
    assert carrier.refused == 1, "the token lost the cell: another one of the name is not its own"
    assert client.site_cameras() == []


def test_samples_that_nobody_fetches_expire_and_are_bounded(
    services: Services, send: Callable[..., Carrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.loop.sites import wishes as module

    monkeypatch.setattr(module, "MAX_WAITING", 12)
    clock = [NOW]
    wishes = module.Wishes(services.registry.catalog, now=lambda: clock[0])
    wishes.ask("f" * 32, "dock-7", "forget", NOW)
    for number in range(module.MAX_WAITING + 20):
        clock[0] += 1
        wishes.ask(f"{number:032x}", "dock-7", "failed_picks", NOW)
    left = [id_ for id_, _ in wishes.of_site("hall", limit=5000)]
    assert len(left) == module.MAX_WAITING + 1 and "f" * 32 in left and f"{0:032x}" not in left
    clock[0] += module.EXPIRES_S + 1
    assert [id_ for id_, _ in wishes.of_site("hall")] == ["f" * 32]


def test_the_newest_word_counts_in_whatever_order_they_come(services: Services, send: Callable[..., Carrier]) -> None:
    folder = services.settings.telemetry_folder
    statistics = services.production.site_statistics
    camera_words.keep(folder, word(at=NOW - 10, frames=2))
    assert [(one.site, one.values["frames"]) for one in statistics.of(None)] == [("local", 2)]
    camera_words.keep(folder, word(at=NOW - 20, frames=1))
    assert [one.values["frames"] for one in statistics.of(None)] == [2]
    camera_words.keep(folder, word(at=NOW - 5, frames=3))
    assert [one.values["frames"] for one in statistics.of(["dock-7"])] == [3]
    assert statistics.of(["dock-9"]) == []
    (folder / "statistics" / f"{'e' * 32}.json").write_text('{"what": "camera", "cell": 1}')
    assert len(statistics.of(None)) == 1


def test_a_hub_on_the_same_disk_is_only_asked_for_wishes(services: Services, send: Callable[..., Carrier]) -> None:
    folder = services.settings.telemetry_folder
    name = DiskUplink(folder).capture(capture(1))
    services.production.wishes.ask("a" * 32, "dock-7", "failed_picks", NOW - 60, [])
    token = services.settings.local_site_token()
    assert token is not None and (folder / HUB_MARK).is_file()
    assert send(folder, token).once() == 1
    assert [one.cell for one in waiting(folder)] == ["dock-7"]
    assert services.production.captures.read(name)["request_id"] == "r1"


def test_while_the_hub_is_away_nothing_goes(tmp_path: Path) -> None:
    uplink = DiskUplink(tmp_path)
    name = uplink.capture(capture(1))
    carrier = Carrier(tmp_path, "http://127.0.0.1:9", "hf_nobody", timeout_s=2.0)
    with pytest.raises(AwayError):
        carrier.once()
    carrier.close()
    assert CaptureStore(tmp_path / CAPTURES).read(name)["request_id"] == "r1"


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        ("PUT /captures/1700000000000-aaaaaaaaaaaa", {"document": {}, "picture": "", "kind": "image/jpeg"}, 400),
        ("PUT /captures/..%2F..%2Fx", None, 400),
        ("PUT /captures/abc", told(), 400),
        ("PUT /captures/²²²²²²²²²²²²²-aaaaaaaaaaaa", told(), 400),
        (f"PUT /captures/{NAME}", told(instances=[{**ANSWER, "mask": "o" * 40}]), 400),
        (f"PUT /captures/{NAME}", told(height=25), 400),
        (f"PUT /captures/{NAME}", told(picture=b"\xff\xd8\xff"), 400),
        (f"PUT /captures/{NAME}", told(observed={"x": "y" * 5_000_000}), 400),
        ("POST /messages", {"at": 1.0, "message": LONG}, 400),
        ("PUT /statistics/x", {**json.loads(STATISTICS), "values": {"x": "y" * 20_000}}, 400),
        ("PUT /predictions/..%2Fx", None, 400),
        ("POST /messages", {"at": 1.0, "message": {"type": "alert"}}, 400),
        ("POST /messages", {"at": 1.0, "message": {"type": "alert", "event": "open", "id": "x"}}, 400),
        ("PUT /statistics/x", {"what": "camera", "cell": "dock-7", "line": None, "camera": None, "at": -1}, 400),
    ],
    ids=["empty document", "a way out", "no id", "digits of another script", "damaged mask", "another size",
         "no picture", "long observations", "long message", "long word", "a way out of segments", "no event",
         "a short id", "no time"],
)  # fmt: skip
def test_what_is_none_is_refused(
    raw: TestClient[Any], services: Services, send: Callable[..., Carrier], route: str, body: Any, status: int
) -> None:
    services.production.sites.remove(next(one.id for one in services.production.sites.all() if one.name == "hall"))
    token = services.production.sites.add("hall", ["*"])
    method, where = route.split(" ")
    answer = raw.request(method, f"/api/v1/site{where}", json=body, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code in (status, 404), answer.text
    assert list(services.production.captures.names()) == []
    good = raw.put(f"/api/v1/site/captures/{NAME}", json=told(), headers={"Authorization": f"Bearer {token}"})
    assert good.status_code == 200 and list(services.production.captures.names()) == [NAME]


def test_a_removed_site_is_nobody(services: Services, client: HubClient, send: Callable[..., Carrier]) -> None:
    carrier = send()
    carrier.once()
    (hall,) = [one for one in client.sites() if one.name == "hall"]
    assert hall.heard_at is not None and hall.cells == ["dock-7"]
    client.remove_site(hall.id)
    with pytest.raises(AwayError, match="401"):
        carrier.once()
    with pytest.raises(HubAnswerError):
        client.remove_site(hall.id)


def test_a_wish_is_laid_down_once_whoever_is_killed_where(tmp_path: Path) -> None:
    document = {"cell": "dock-7", "reason": "failed_picks", "since": NOW, "until": None, "requests": []}
    assert lay_down(tmp_path, "a" * 32, document)
    assert not lay_down(tmp_path, "a" * 32, document)
    next(waiting(tmp_path)).done()
    assert not lay_down(tmp_path, "a" * 32, document) and not list(waiting(tmp_path))
    # Killed before the mark: it is fetched again. Killed after it: what lies aside is finished.
    taken = tmp_path / WISHES / "taken"
    (taken / f"{'b' * 32}.wish").write_text("{")
    assert lay_down(tmp_path, "b" * 32, document) and len(list(waiting(tmp_path))) == 1
    (taken / f"{'c' * 32}.wish").write_text(json.dumps(document))
    (taken / ("c" * 32)).touch()
    assert lay_down(tmp_path, "c" * 32, {}) and len(list(waiting(tmp_path))) == 2


def test_nothing_is_lost_or_doubled_when_either_end_is_killed(live_hub: Settings, tmp_path: Path) -> None:
    """A real hub, and a site that is killed after each of its requests in turn; the hub had taken it, the site did not
    hear so."""
    folder = tmp_path / "hall"
    with HubClient.of(live_hub) as client:
        for cell in ("far-1", "far-2"):
            client.create_cell(cell)
        token = client.add_site("far", ["far-1", "far-2"])
        client.delete_cell("far-2")  # wishes that the site forgets it
        uplink = DiskUplink(folder)
        names = {uplink.capture(capture(number, "far-1")) for number in range(3)}
        uplink.predictions([line(number, "far-1") for number in range(3)])
        uplink.seal(now=True)
        uplink.put("3" * 32, NOW, opened(alert="b" * 32, cell="far-1", line="l7", since=NOW, at=NOW))
        uplink.put("4" * 32, NOW + 1, closed("b" * 32))
        uplink.statistics(word("far-1", frames=9))
        killed, granted = 0, []
        for dies_at in range(1, 60):
            child = subprocess.run(
                [sys.executable, "-c", CARRIES, str(folder), live_hub.url, token, str(dies_at)], check=False, cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            for one in waiting(folder):
                granted.append((one.cell, one.reason))
                one.done()
            if child.returncode == 0:
                break
            assert child.returncode == -signal.SIGKILL
            killed += 1
        assert killed >= 3, "it was killed, and went on"
        assert granted == [("far-2", "forget")]
        kept = [one.id for one in client.captures(cell="far-1")]
        assert sorted(kept) == sorted(names)
        assert [(one.id, one.state) for one in client.alerts(cell="far-1")] == [("b" * 32, "closed")]
        assert [one.values["frames"] for one in client.site_cameras("far-1")] == [9]
        assert all(one.waiting == 0 for one in client.sites() if one.name == "far")
        wait_for(lambda: not list((folder / INCOMING).glob("*.jsonl")))


def test_what_the_watch_wishes_itself_lies_beside(tmp_path: Path) -> None:
    wish(tmp_path, "d" * 32, "dock-7", "novelty", NOW, ())
    assert [one.reason for one in waiting(tmp_path)] == ["novelty"]
