"""Why picks failed, at the hub: from a robot's report to a verdict, seen and corrected by the cell's team."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from litestar.testing import TestClient

from finetune.scenes.generator import SceneGenerator
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.loop.failures import MAX_ROWS
from hub.migrations.tables_failures import FAILURES
from hub.services import Services
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY
from serving.inference.segmenter import Segmenter
from serving.instances import Instances
from serving.observed.captures import Capture
from serving.observed.telemetry import INCOMING, PREDICTIONS, write_segment
from tests.hub.loop.test_alerts import opened, send
from tests.hub.rollout.test_production import outcome, prediction
from tests.hub.web.material import Browser

NOW = time.time()


def mask_of(*boxes: tuple[int, int, int, int]) -> np.ndarray[Any, Any]:
    made = np.zeros((len(boxes), 120, 160), np.bool_)
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        made[number, y0:y1, x0:x1] = True
    return made


def asked(
    services: Services, request_id: str, found: Instances, image: Any = None, *, cell: str = "dock-7", **facts: Any
) -> str | None:
    """A request as the robots' server records it, and its frame, if one is kept."""
    facts = {"at": NOW, "variant": None, "stage": None, "line": None, "camera": None} | facts
    camera = facts.pop("camera")
    row = prediction(request_id, cell=cell, instances=len(found), height=found.height, width=found.width, **facts)
    write_segment(services.production.telemetry.folder / INCOMING, PREDICTIONS, [row])
    if image is None:
        return None
    served_by = f"base/{row['base']}"
    return services.production.captures.add(
        Capture(image, found, request_id, facts["at"], "low_score", served_by, cell, facts["line"], "arm", camera)
    )


@pytest.fixture
def cell(services: Services) -> str:
    services.cells.create("dock-7", "", "acme")
    services.cells.create("dock-8", "", "rivals")
    return "dock-7"


def frame(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 255, (120, 160, 3), np.uint8)


def test_verdicts_come_from_what_is_known_and_say_so(services: Services, client: HubClient, cell: str) -> None:
    two = Instances.from_masks(mask_of((10, 10, 60, 60), (80, 10, 140, 60)), ["box", "bag"], [0.9, 0.8])
    nested = Instances.from_masks(mask_of((10, 10, 90, 90), (12, 12, 50, 88)), ["box", "box"], [0.9, 0.8])
    for request, found in (("astray", two), ("item", two), ("nested", nested), ("lie", two), ("silent", two)):
        asked(services, request, found, frame())
    asked(services, "unseen", two)
    client.report_outcomes(
        [
            outcome("astray", "miss", instance=0, point=[150, 110]),
            outcome("item", "wrong_item", instance=1, label="box"),
            outcome("nested", "drop", instance=0, point=[60, 30]),
            outcome("silent", "drop"),
            outcome("unseen", "miss", instance=0),
        ]
    )
    # A robot whose request was not on record yet when it lied: found when it is judged.
    services.production.telemetry.add_outcomes(
        [{**outcome("lie", "miss"), "instance": 7, "point_x": None, "point_y": None}], reporter="r"
    )
    found_ = {one.request_id: one for one in client.failures()}
    assert {name: one.verdict for name, one in found_.items()} == {
        "astray": "not_vision",
        "item": "wrong_class",
        "nested": "merged",
        "silent": "cannot_tell",
        "unseen": "cannot_tell",
        "lie": "cannot_tell",
    }
    said = {name: one.evidence[0].text for name, one in found_.items()}
    assert "outside of the mask" in said["astray"]
    assert found_["astray"].evidence[0].numbers["pixels_outside"] > 50
    assert said["item"] == "The robot found a box in its gripper; the answer said bag"
    assert "picked instance 7; the answer had 2" in said["lie"]
    assert said["unseen"] == "No frame was kept of this pick"
    assert "does not say which of the 2" in said["silent"]
    assert found_["astray"].point == (150.0, 110.0)
    assert found_["unseen"].capture is None
    assert client.failures() == list(found_.values()), "taken up once"


def test_a_fault_of_the_camera_explains_the_pick(services: Services, client: HubClient, cell: str) -> None:
    two = Instances.from_masks(mask_of((10, 10, 60, 60)), ["box"], [0.9])
    send(services, opened(since=NOW - 60, at=NOW - 40), "1" * 32)
    asked(services, "there", two, line="l1")
    asked(services, "elsewhere", two, frame(), line="l2")
    asked(services, "before", two, line="l1", at=NOW - 600)
    client.alerts()
    client.report_outcomes([outcome(one, "miss", instance=0) for one in ("there", "elsewhere", "before")])
    verdicts = {one.request_id: (one.verdict, one.evidence[0].text) for one in client.failures()}
    assert verdicts["there"][0] == "camera_fault"
    assert "lens" in verdicts["there"][1]
    assert verdicts["elsewhere"][0] != "camera_fault"
    assert verdicts["before"][0] == "cannot_tell"


def test_frames_are_looked_at_again_by_the_model_that_answered(
    services: Services, client: HubClient, cell: str
) -> None:
    """The real base in a process of its own: the mask of two packages falls apart, its own masks hold."""
    base = services.settings.serving_folder / "base" / "real@v1"
    shutil.copytree(Path(__file__).parents[3] / "finetune" / "bases" / "universal", base)
    segmenter, scenes = Segmenter.load(base, device="cpu", slots=2), SceneGenerator(size=256, seed=3)
    answers = ((scene, segmenter.segment([scene.image])[0].filter(0.6)) for scene in map(scenes.scene, range(20)))
    scene, own = next((scene, own) for scene, own in answers if len(own) >= 2)
    joined = own.decode_masks()[:2].any(0)[None]
    merged = Instances.from_masks(np.ascontiguousarray(joined), [own.labels[0]], [0.9])
    asked(services, "merged", merged, cv2.imencode(".png", scene.image[..., ::-1])[1].tobytes(), base=base.name)
    asked(services, "fine", own, cv2.imencode(".png", scene.image[..., ::-1])[1].tobytes(), base=base.name)
    asked(services, "gone", own, frame(), base="gone@v1")
    client.report_outcomes([outcome(one, "drop", instance=0) for one in ("merged", "fine", "gone")])
    failures = services.production.failures
    assert failures.take_up() == 3
    while failures.look_again():
        pass
    found = {one.request_id: one for one in client.failures()}
    assert found["merged"].verdict == "merged", found["merged"].evidence
    assert found["merged"].evidence[0].numbers["share"] >= 0.34
    assert found["merged"].looks >= 4
    assert found["fine"].verdict == "not_vision", found["fine"].evidence
    assert "not served any more" in found["gone"].evidence[-1].text


def test_a_person_has_the_last_word_and_earlier_words_stay(
    services: Services, client: HubClient, cell: str, raw: TestClient[Any]
) -> None:
    asked(services, "q", Instances.from_masks(mask_of((10, 10, 60, 60)), ["box"], [0.9]))
    client.report_outcomes([outcome("q", "miss", instance=0)])
    (one,) = client.failures()
    with pytest.raises(HubAnswerError):
        client.correct_failure(one.id, "tired")  # type: ignore[arg-type]
    with pytest.raises(HubAnswerError) as absent:
        client.correct_failure("f" * 32, "merged")
    assert absent.value.slug == "unknown-failure"
    client.correct_failure(one.id, "split", "first thought")
    done = client.correct_failure(one.id, "merged", "two black bags")
    assert (done.verdict, done.judged, done.what) == ("merged", "cannot_tell", "merged with a neighbour")
    assert [(each.verdict, each.note) for each in done.corrections] == [
        ("merged", "two black bags"),
        ("split", "first thought"),
    ]
    assert all(each.by and each.at for each in done.corrections)
    # The frame comes late, the pick is judged again: the person's word stays.
    services.production.captures.add(
        Capture(
            frame(), Instances.from_masks(mask_of((10, 10, 60, 60)), ["box"]), "q", NOW, "sample", "base/u@v1",
            "dock-7", None, None,
        )
    )  # fmt: skip
    services.production.failures.take_up()
    again = client.failure(one.id)
    assert again.capture is not None
    assert (again.verdict, len(again.corrections)) == ("merged", 2)
    assert [each.id for each in client.failures(verdict="merged")] == [one.id]
    assert client.failures(verdict="cannot_tell") == []
    assert client.failures(since="2020-01-01", until="2020-12-31") == []
    assert len(client.failures(since="2020-01-01", cell="dock-7")) == 1
    with pytest.raises(HubAnswerError):
        client.failures(since="yesterday")


def test_only_the_cells_own_people_see_them(
    services: Services, client: HubClient, cell: str, raw: TestClient[Any]
) -> None:
    capture = asked(services, "q", Instances.from_masks(mask_of((10, 10, 60, 60)), ["box"], [0.9]), frame())
    client.report_outcomes([outcome("q", "miss", instance=0)])
    (one,) = client.failures()
    for user, team in (("anna", "acme"), ("mallory", "rivals")):
        services.users.put(user, teams=[team])
    anna, mallory = (
        {"Authorization": f"Bearer {services.tokens.issue(user, {'promote', 'contribute'}, user=user)}"}
        for user in ("anna", "mallory")
    )
    robot = {"Authorization": f"Bearer {client.add_robot('arm', ['dock-7'])}"}
    assert [each["id"] for each in raw.get("/api/v1/failures", headers=anna).json()] == [one.id]
    assert raw.get("/api/v1/failures", headers=mallory).json() == []
    assert raw.get("/api/v1/failures", headers=robot).status_code == 403
    for address in (f"/api/v1/failures/{one.id}", f"/api/v1/captures/{capture}/image"):
        assert raw.get(address, headers=anna).status_code == 200, address
        assert raw.get(address, headers=mallory).status_code == 404, address
    assert (
        raw.post(f"/api/v1/failures/{one.id}/correct", json={"verdict": "merged"}, headers=mallory).status_code == 404
    )
    reader = {"Authorization": f"Bearer {services.tokens.issue('r', {'contribute'}, user='anna')}"}
    assert raw.post(f"/api/v1/failures/{one.id}/correct", json={"verdict": "merged"}, headers=reader).status_code == 403
    said = raw.post(f"/api/v1/failures/{one.id}/correct", json={"verdict": "merged"}, headers=anna).json()
    assert said["corrections"][0]["by"] == "anna"
    # A request id is the robot's word: another cell's frame is not shown by it.
    asked(services, "w", Instances.from_masks(mask_of((10, 10, 60, 60)), ["box"], [0.9]), cell="dock-8")
    services.production.captures.add(
        Capture(frame(), Instances.empty(120, 160), "w", NOW, "sample", "base/u@v1", "dock-7", None, None)
    )
    client.report_outcomes([outcome("w", "miss", instance=0)])
    assert {each.request_id: each.capture for each in client.failures()}["w"] is None


def test_what_is_of_a_deleted_cell_goes_and_the_table_is_bounded(
    services: Services, client: HubClient, cell: str
) -> None:
    services.users.put("anna", teams=["acme"])
    asked(services, "q", Instances.from_masks(mask_of((10, 10, 60, 60)), ["box"], [0.9]))
    client.report_outcomes([outcome("q", "miss", instance=0)])
    (one,) = client.failures()
    client.correct_failure(one.id, "merged")
    services.registry.catalog.run(
        lambda tx: tx.execute(
            "INSERT INTO loop_failures SELECT 'x' || i, 'x' || i, 'dock-7', NULL, NULL, NULL, NULL, 'miss', 1.0, 1.0,"
            " 1.0, NULL, NULL, NULL, NULL, NULL, NULL, 'cannot_tell', '[]', 0, false, 1.0, NULL"
            " FROM range(?) r(i)",
            [MAX_ROWS + 10],
        )
    )
    services.production.failures.take_up()
    count = "SELECT count(*) FROM loop_failures"
    assert services.registry.catalog.query(count)[0][0] == MAX_ROWS
    assert client.failure(one.id).verdict == "merged", "the newest stay"
    services.delete_cell("dock-7")
    assert services.registry.catalog.query(count)[0][0] == 0
    assert services.registry.catalog.query("SELECT count(*) FROM loop_corrections")[0][0] == 0
    services.cells.create("dock-7", "", "rivals")
    assert client.failures() == [], "another cell of its name inherits none"


def test_the_tables_come_into_an_older_catalog(tmp_path: Path) -> None:
    path = tmp_path / "catalog.duckdb"
    Catalog.open(path, [REGISTRY]).close()
    again = Catalog.open(path, [REGISTRY, FAILURES])
    assert again.query("SELECT count(*) FROM loop_failures")[0][0] == 0
    again.close()


def test_pages_and_commands(services: Services, client: HubClient, cell: str, raw: TestClient[Any]) -> None:
    browser = Browser(raw)
    browser.sign_in(services.settings.client_token())
    found = Instances.from_masks(mask_of((10, 10, 60, 60), (80, 10, 140, 60)), ["box", "bag"], [0.9, 0.8])
    capture = asked(services, "q", found, frame())
    asked(services, "later", found, frame(1), at=NOW + 1)
    client.report_outcomes([outcome("q", "miss", instance=0, point=[150, 110], gripper="<b>cup</b>")])
    text = browser.get("/ui/failures")
    (one,) = client.failures()
    assert f"/ui/failures/{one.id}" in text
    assert "outside of the mask" in text
    detail = browser.get(f"/ui/failures/{one.id}")
    for words in ("picked here", f"/ui/captures/{capture}/image/full", "&lt;b&gt;cup", "box 90%"):
        assert words in detail, words
    browser.post(f"/ui/failures/{one.id}/correct", {"verdict": "loose_edge", "note": "<i>"})
    assert "Loose edge" in browser.get(f"/ui/failures/{one.id}")
    assert client.failure(one.id).corrections[0].note == "<i>"
    browser.post(f"/ui/failures/{one.id}/correct", {"verdict": "nonsense"}, status=400)
    assert "No failed pick like these" in browser.get("/ui/failures?verdict=split")
    assert "2026-11-30" in browser.get("/ui/failures?since=soon")
    browser.get(f"/ui/failures/{'0' * 32}", status=404)
    wall = browser.get("/ui/captures?outcome=miss")
    assert f"/ui/captures/{capture}" in wall
    assert wall.count('class="tile"') == 1
    assert browser.get("/ui/captures?outcome=none").count('class="tile"') == 1
    assert browser.get("/ui/captures").count('class="tile"') == 2
    assert browser.get("/ui/captures?until=2020-01-01").count('class="tile"') == 0
    assert "served by" in browser.get(f"/ui/captures/{capture}")
    picture = browser.client.get(f"/ui/captures/{capture}/image/thumb")
    assert cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR).shape == (120, 160, 3)
    assert browser.client.get(f"/ui/captures/{capture}/image/huge").status_code == 404
    assert browser.client.get("/ui/captures/nothing").status_code == 404


def test_captures_are_found_by_outcome_and_date(services: Services, client: HubClient, cell: str) -> None:
    day = 86_400.0
    names = [
        asked(services, f"r{number}", Instances.empty(120, 160), frame(), at=NOW - number * day) for number in range(5)
    ]
    client.report_outcomes([outcome("r1", "miss"), outcome("r3", "miss"), outcome("r2")])
    assert [one.id for one in client.captures(outcome="miss")] == [names[1], names[3]]
    assert [one.id for one in client.captures(outcome="none")] == [names[0], names[4]]
    assert [one.id for one in client.captures(outcome="miss", limit="1")] == [names[1]]
    assert [one.id for one in client.captures(outcome="miss", before=names[1] or "")] == [names[3]]
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW - 2.5 * day))
    assert [one.id for one in client.captures(since=at)] == names[:3]
    assert [one.id for one in client.captures(until=at)] == names[3:]
    with pytest.raises(HubAnswerError):
        client.captures(since="99999999999999")
