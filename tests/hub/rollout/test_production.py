"""Outcomes, captures, roll-outs, trials and robots over the real application."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import duckdb
import numpy as np
import pytest
from litestar.testing import TestClient

from hub.client.client import HubClient
from hub.rollout.statistics import SequentialTest
from hub.rollout.telemetry import Telemetry
from hub.rollout.trials import PICKS_AT_MOST
from hub.services import Services
from registry.canonical import JSON
from serving.errors import Unauthorized
from serving.folder.access import RobotAccess
from serving.instances import Instances
from serving.observed.captures import Capture, CapturePolicy, CaptureStore
from serving.observed.telemetry import INCOMING, PREDICTIONS, Prediction, Recorder, SegmentWriter, write_segment
from serving.robot.outcomes import Outcome, OutcomeReporter
from tests.hub.material import wait_for
from tests.hub.rollout.test_bases_and_folder import make_variant, promote

Ask = Callable[..., Any]


def prediction(request_id: str, **facts: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "request_id": request_id, "at": time.time(), "cell": "dock-7", "line": None, "robot": None,
        "variant": "dock-7@v1", "base": "universal@v1", "stage": "fleet", "table_version": 1, "instances": 1,
        "top_score": 0.9, "top_label": "carton", "labels": "{}", "latency_ms": 9.0, "batch": 1, "error": None,
    }  # fmt: skip
    return row | facts


def outcome(request_id: str, name: str = "success", **facts: Any) -> dict[str, Any]:
    return {"request_id": request_id, "outcome": name, "picked_at": time.time(), **facts}


@pytest.fixture
def ask(raw: TestClient[Any], admin: dict[str, str]) -> Ask:
    def send(method: str, route: str, body: object = None, *, headers: dict[str, str] | None = None) -> Any:
        return raw.request(method, f"/api/v1{route}", json=body, headers=headers or admin)

    return send


@pytest.fixture
def telemetry(tmp_path: Path) -> Telemetry:
    return Telemetry(tmp_path / "telemetry")


def test_outcomes_join_their_predictions_and_count_once(telemetry: Telemetry) -> None:
    incoming = telemetry.folder / INCOMING
    rows = [
        prediction("a"),
        prediction("b", stage="beta", variant="dock-7@v2"),
        prediction("c", variant=None, stage=None),
    ]
    write_segment(incoming, PREDICTIONS, rows)
    assert telemetry.add_outcomes([outcome("a"), outcome("b", "drop"), outcome("a", "miss")], reporter="r") == (2, 1)
    assert telemetry.add_outcomes([outcome("a", "miss"), outcome("c")], reporter="r") == (1, 1)
    said = outcome("x", "miss", cell="dock-8", served_by="dock-8@v4 on base/universal@v1", label="bag")
    telemetry.add_outcomes([said], reporter="r")
    groups, unmatched = telemetry.rates(["cell", "variant", "base", "stage", "class"])
    assert unmatched == 1
    assert {group.key: dict(group.outcomes) for group in groups} == {
        ("dock-7", "dock-7@v1", "universal@v1", "fleet", "carton"): {"success": 1},
        ("dock-7", "dock-7@v2", "universal@v1", "beta", "carton"): {"drop": 1},
        ("dock-7", None, "universal@v1", None, "carton"): {"success": 1},
        ("dock-8", "dock-8@v4", "universal@v1", None, "bag"): {"miss": 1},
    }
    assert telemetry.picks("dock-7", "dock-7@v1", "fleet", 0.0) == [("a", True)]
    assert telemetry.picks("dock-8", "dock-8@v4", "fleet", 0.0) == [], "nobody votes on what no robot asked"
    assert telemetry.outcome_of(["a", "b", "zzz"]) == {"a": "success", "b": "drop"}
    assert not list(incoming.glob("*.jsonl")), "all is Parquet now"
    again = Telemetry(telemetry.folder)
    assert [g.picks for g in again.rates([])[0]] == [4]


def test_a_prediction_may_come_after_its_outcome_and_a_failed_request_is_none(telemetry: Telemetry) -> None:
    telemetry.add_outcomes([outcome("late"), outcome("bad", "miss")], reporter="r")
    assert telemetry.rates(["stage"])[1] == 2
    write_segment(telemetry.folder / INCOMING, PREDICTIONS, [prediction("late"), prediction("bad", error="image")])
    groups, unmatched = telemetry.rates(["stage"])
    assert (unmatched, {g.key: g.picks for g in groups}) == (1, {("fleet",): 1, (None,): 1})


def test_torn_repeated_and_many_segments_change_nothing(telemetry: Telemetry) -> None:
    incoming = telemetry.folder / INCOMING
    incoming.mkdir(parents=True)
    whole = json.dumps(prediction("whole"))
    (incoming / "predictions-1-1-0.jsonl").write_text(whole + '\n{"request_id": "torn", "at": 17')
    telemetry.add_outcomes([outcome("whole")], reporter="r")
    assert telemetry.rates([])[1] == 0
    # The hub was killed between writing the Parquet file and deleting the segment, twice.
    for name in ("predictions-1-1-0.jsonl", "predictions-9-9-0.jsonl"):
        (incoming / name).write_text(whole + "\n")
        assert [g.picks for g in telemetry.rates([])[0]] == [1]
    for number in range(30):
        telemetry.add_outcomes([outcome(f"n{number}")], reporter="r")
        telemetry.rates([])
    assert [g.picks for g in telemetry.rates([])[0]] == [31]
    day = next((telemetry.folder / "outcomes").iterdir())
    assert len(list(day.glob("*.parquet"))) < 24, "small files are merged"


def test_old_days_go(tmp_path: Path) -> None:
    old = tmp_path / "telemetry" / "outcomes" / "2020-01-01"
    old.mkdir(parents=True)
    telemetry = Telemetry(tmp_path / "telemetry", keep_days=30)
    telemetry.rates([])
    assert not old.exists()


def test_the_recorder_writes_whole_files_and_drops_the_oldest(tmp_path: Path) -> None:
    facts = prediction("r1", labels={"carton": 1})
    recorder = Recorder(tmp_path, None, tick_s=0.01)
    recorder.record(Prediction(**facts))
    recorder.close()
    segments = list((tmp_path / INCOMING).glob("*.jsonl"))
    assert json.loads(segments[0].read_text())["labels"] == '{"carton": 1}'
    part = tmp_path / INCOMING / f"{PREDICTIONS}-{1:020d}-999999999-0.part"
    part.write_text("{}\n")
    writer = SegmentWriter(tmp_path / INCOMING, PREDICTIONS, total_bytes=100)
    assert part.with_suffix(".jsonl").exists(), "what a killed process left is adopted"
    for _ in range(5):
        writer.append([b"x" * 60])
        writer.seal()
    assert len(list((tmp_path / INCOMING).glob("*.jsonl"))) == 1


def test_rates_over_rest(ask: Ask, services: Services) -> None:
    write_segment(
        services.production.telemetry.folder / INCOMING, PREDICTIONS, [prediction(f"p{i}") for i in range(20)]
    )
    body = {"outcomes": [outcome(f"p{i}", "miss" if i < 2 else "success") for i in range(20)]}
    assert ask("POST", "/outcomes", body).json() == {"taken": 20, "repeated": 0}
    assert ask("POST", "/outcomes", body).json() == {"taken": 0, "repeated": 20}
    answer = ask("GET", "/outcomes/rates?by=cell,variant").json()
    (one,) = answer["rates"]
    assert one["group"] == {"cell": "dock-7", "variant": "dock-7@v1"}
    assert (one["picks"], one["successes"], one["outcomes"]) == (20, 18, {"success": 18, "miss": 2})
    assert (round(one["low"], 4), round(one["high"], 4)) == (0.699, 0.9721)
    assert ask("GET", "/outcomes/rates?by=cell&variant=other@v1").json()["rates"] == []
    assert ask("GET", "/outcomes/rates?by=class&class=carton").json()["rates"][0]["picks"] == 20
    assert ask("GET", "/outcomes/rates?by=class&class=bag").json()["rates"] == []
    for wrong in ("by=shoe", "by=cell,cell", "days=0"):
        assert ask("GET", f"/outcomes/rates?{wrong}").status_code == 400
    bad = [{"outcome": "fine"}, {"request_id": "a b"}, {"picked_at": -1}, {"shoe": 1}, {"label": "x" * 300}]
    for wrong_field in bad:
        assert ask("POST", "/outcomes", {"outcomes": [outcome("q") | wrong_field]}).status_code == 400
    assert ask("POST", "/outcomes", {"outcomes": [outcome("q")] * 1001}).status_code == 400


def test_a_robot_may_report_for_its_cells_and_nothing_else(ask: Ask, services: Services, client: HubClient) -> None:
    client.create_cell("dock-7")
    client.create_cell("dock-8")
    token = ask("POST", "/robots", {"name": "arm-1", "cells": ["dock-7"]}).json()["token"]
    robot = {"Authorization": f"Bearer {token}"}
    assert ask("POST", "/robots", {"name": "arm-1", "cells": ["dock-7"]}).status_code == 400, "the name is taken"
    assert ask("POST", "/robots", {"name": "arm-2", "cells": ["nowhere"]}).status_code == 404
    post = "/outcomes"
    assert ask("POST", post, {"outcomes": [outcome("a", cell="dock-7"), outcome("b")]}, headers=robot).is_success
    assert ask("POST", post, {"outcomes": [outcome("c", cell="dock-8")]}, headers=robot).status_code == 403
    for method, route in (
        *(("GET", path) for path in ("/models", "/cells", "/routing", "/captures", "/outcomes/rates", "/robots")),
        ("POST", "/cells"),
        ("PUT", "/rollouts/dock-7/share"),
    ):
        assert ask(method, route, {}, headers=robot).status_code == 403, route
    access = RobotAccess(services.settings.serving_folder, check_every_s=0.0)
    assert access.check(token, "dock-7").robot == "arm-1"
    for wrong in ((token, "dock-8"), (None, "dock-7"), ("ph_x", "dock-7")):
        with pytest.raises(Unauthorized):
            access.check(*wrong)
    (listed,) = ask("GET", "/robots").json()
    assert (listed["name"], listed["cells"]) == ("arm-1", ["dock-7"])
    assert ask("DELETE", f"/robots/{listed['id']}").status_code == 204
    assert ask("DELETE", f"/robots/{listed['id']}").status_code == 404
    with pytest.raises(Unauthorized):
        access.check(token, "dock-7")
    assert ask("POST", post, {"outcomes": [outcome("d")]}, headers=robot).status_code == 401


def test_the_reporter_reaches_the_real_hub(raw: TestClient[Any], ask: Ask, admin: dict[str, str]) -> None:
    def send(batch: Any) -> bool:
        return bool(raw.post("/api/v1/outcomes", json={"outcomes": list(batch)}, headers=admin).is_success)

    reporter = OutcomeReporter(send, flush_every_s=0.01)
    for number in range(40):
        reporter.report(Outcome(f"r{number}", "success" if number % 4 else "drop", time.time(), cell="dock-7"))
    assert reporter.flush(20)
    reporter.close()
    (one,) = ask("GET", "/outcomes/rates?by=cell").json()["rates"]
    assert (one["picks"], one["successes"]) == (40, 30)


def test_lines_and_share_reach_the_routing_table(ask: Ask, services: Services, tmp_path: Path) -> None:
    first, second = make_variant(services, tmp_path), make_variant(services, tmp_path)
    promote(services, first)
    services.promotions.promote("dock-7", second, "beta", actor="t", note="")
    got = ask("PUT", "/rollouts/dock-7/lines", {"lines": {"line-3": "beta", "bench": "station"}}).json()
    assert (got["fleet"], got["beta"], got["lines"]) == (f"dock-7@{first}", f"dock-7@{second}", {"line-3": "beta", "bench": "station"})  # fmt: skip # noqa: E501
    version = got["routing_version"]
    got = ask("PUT", "/rollouts/dock-7/share", {"share": 0.2}).json()
    assert got["routing_version"] == version + 1
    route = services.serving_folder.read()["cells"]["dock-7"]
    assert (route["lines"], route["beta_share"]) == ({"line-3": "beta", "bench": "station"}, 0.2)
    assert ask("PUT", "/rollouts/dock-7/share", {"share": 1.2}).status_code == 400
    assert ask("PUT", "/rollouts/nowhere/share", {"share": 0.2}).status_code == 404
    assert ask("PUT", "/rollouts/dock-7/lines", {"lines": {"l": "fleet"}}).status_code == 400
    assert ask("GET", "/rollouts/nowhere").status_code == 404


def report(services: Services, variant: str, stage: str, good: float, count: int, seed: int = 0) -> None:
    """Picks of a variant whose true success rate is `good`."""
    rng = random.Random(seed)
    ids = [f"{variant}-{stage}-{seed}-{number}" for number in range(count)]
    folder = services.production.telemetry.folder / INCOMING
    write_segment(folder, PREDICTIONS, [prediction(i, variant=variant, stage=stage) for i in ids])
    rows = [outcome(i, "success" if rng.random() < good else "miss") for i in ids]
    services.production.telemetry.add_outcomes(rows, reporter="t")


def test_bad_outcomes_roll_back_by_themselves_and_say_why(services: Services, tmp_path: Path, ask: Ask) -> None:
    first, second = make_variant(services, tmp_path), make_variant(services, tmp_path)
    promote(services, first)
    report(services, f"dock-7@{first}", "fleet", 0.95, 300)
    promote(services, second)
    running = ask("GET", "/rollouts/dock-7").json()["trials"][0]
    assert (running["variant"], running["state"], running["repeat"]) == (f"dock-7@{second}", "running", True)
    assert 0.91 < running["good"] < 0.98, "the variant before it is the measure"
    report(services, f"dock-7@{second}", "fleet", 0.55, 60)
    services.production.watch.arrived({"dock-7"})
    wait_for(lambda: services.serving_folder.read()["cells"]["dock-7"]["fleet"] == f"dock-7@{first}")
    wait_for(lambda: ask("GET", f"/trials/{running['id']}").json()["state"] == "failed")
    trial = ask("GET", f"/trials/{running['id']}").json()
    record = services.registry.stages.decision(trial["decision"])
    assert (record.kind, record.actor, record.allowed) == ("rollback", "watch", True)
    assert "picks succeeded" in record.note
    assert record.evidence["trial"] == {"id": trial["id"], "document": trial["evidence"]}
    document: dict[str, JSON] = json.loads(services.store.blobs.read(trial["evidence"]))
    terms = {name: document["test"][name] for name in ("good", "bad", "alpha", "beta", "repeat")}  # type: ignore
    again = SequentialTest(**terms).run(success for _, success in document["picks"])  # type: ignore
    assert again.verdict == "bad", "whoever doubts it can make the test again from the document"
    assert ask("GET", "/rollouts/dock-7").json()["trials"][0]["variant"] == f"dock-7@{first}", "watched once more"


def test_a_station_trial_ends_with_evidence_for_the_next_stage(services: Services, tmp_path: Path, ask: Ask) -> None:
    version = make_variant(services, tmp_path)
    services.promotions.promote("dock-7", version, "station", actor="t", note="")
    trial = ask("GET", "/rollouts/dock-7").json()["trials"][0]
    assert trial["picks_at_most"] == PICKS_AT_MOST["station"]
    report(services, f"dock-7@{version}", "station", 0.97, 199)
    services.production.trials.evaluate()
    wait_for(lambda: ask("GET", f"/trials/{trial['id']}").json()["state"] == "passed")
    services.promotions.promote("dock-7", version, "beta", actor="t", note="")
    evidence = services.registry.stages.history("dock-7")[0].evidence
    assert evidence["station_trial"]["trial"] == trial["id"]  # type: ignore
    assert services.store.blobs.exists(evidence["station_trial"]["document"])  # type: ignore


def test_trials_by_hand(services: Services, tmp_path: Path, ask: Ask) -> None:
    version = make_variant(services, tmp_path)
    route = "/rollouts/dock-7/trials"
    assert ask("POST", route, {"stage": "beta"}).status_code == 409, "the base has the stage"
    services.promotions.promote("dock-7", version, "beta", actor="t", note="")
    assert ask("POST", route, {"stage": "beta", "good": 0.5, "bad": 0.9}).status_code == 409
    made = ask("POST", route, {"stage": "beta", "good": 0.9, "bad": 0.8, "picks": 50, "rollback": False}).json()
    states = [one["state"] for one in ask("GET", "/rollouts/dock-7").json()["trials"]]
    assert sorted(states) == ["running", "stopped"], "one trial at a stage at a time"
    report(services, f"dock-7@{version}", "beta", 0.3, 50)
    services.production.trials.evaluate()
    wait_for(lambda: ask("GET", f"/trials/{made['id']}").json()["state"] == "failed")
    assert services.serving_folder.read()["cells"]["dock-7"]["beta"] == f"dock-7@{version}", "told not to roll back"
    again = ask("POST", route, {"stage": "beta"}).json()
    assert ask("DELETE", f"/trials/{again['id']}").json()["state"] == "stopped"
    assert ask("GET", "/trials/nothing").status_code == 404


@pytest.fixture
def captures(services: Services) -> CaptureStore:
    return services.production.captures


def capture(number: int, *, top: float = 0.4, raw_pixels: bool = False, cell: str = "dock-7") -> Capture:
    pixels = np.full((40, 60, 3), number % 255, np.uint8)
    _, data = cv2.imencode(".png", pixels)
    masks = np.zeros((1, 40, 60), np.bool_)
    masks[0, 5:9, 5:9] = True
    found = Instances.from_masks(masks, ["carton"], [top])
    image = pixels if raw_pixels else data.tobytes()
    return Capture(image, found, f"r{number}", 1.7e9 + number, "low_score", "base/universal@v1", cell, "l1", "arm")


def test_captures_are_read_through_the_api(ask: Ask, captures: CaptureStore, services: Services) -> None:
    names = [captures.add(capture(number, raw_pixels=number == 2, cell=f"dock-{number % 2}")) for number in range(5)]
    services.production.telemetry.add_outcomes([outcome("r4", "drop")], reporter="t")
    listed = ask("GET", "/captures?limit=2").json()
    assert [one["id"] for one in listed] == [names[4], names[3]]
    assert listed[0]["outcome"] == "drop"
    assert [one["id"] for one in ask("GET", f"/captures?before={names[3]}&cell=dock-0").json()] == [names[2], names[0]]
    one = ask("GET", f"/captures/{names[0]}").json()
    assert (one["reason"], one["line"], one["instances"][0]["label"], one["height"]) == (
        "low_score",
        "l1",
        "carton",
        40,
    )
    picture = ask("GET", f"/captures/{names[2]}/image")
    assert picture.headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR).shape == (40, 60, 3)
    assert ask("GET", f"/captures/{names[0]}/image").headers["content-type"] == "image/png"
    for wrong in ("nothing", "..%2F..%2Fadmin.token", names[0][:-1]):
        assert ask("GET", f"/captures/{wrong}").status_code == 404
        assert ask("GET", f"/captures/{wrong}/image").status_code == 404
    assert ask("DELETE", f"/captures/{names[0]}").status_code == 204
    assert ask("GET", f"/captures/{names[0]}").status_code == 404


def test_captures_stay_inside_their_bounds(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path, CapturePolicy(max_count=4))
    names = [store.add(capture(number)) for number in range(10)]
    assert list(store.names()) == names[:5:-1]
    (tmp_path / ".1700000000000-aaaaaaaaaaaa.jpg").write_bytes(b"half a file")
    size = sum(path.stat().st_size for path in tmp_path.glob(f"{names[-1]}*"))
    smaller = CaptureStore(tmp_path, CapturePolicy(max_bytes=2 * size + 20))
    last = smaller.add(capture(11))
    assert next(smaller.names()) == last
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * size + 20
    assert not list(tmp_path.glob(".*")), "what a killed writer left is gone"


def test_which_frames_are_kept() -> None:
    policy = CapturePolicy(low_score=0.5, share=0.1)
    assert policy.reason("r", None) == policy.reason("r", 0.49) == "low_score"
    kept = [i for i in range(3000) if policy.reason(f"r{i}", 0.9) == "sample"]
    assert 240 < len(kept) < 360
    assert kept == [i for i in range(3000) if policy.reason(f"r{i}", 0.9) == "sample"], "the same ones again"
    assert CapturePolicy(max_count=0).reason("r", 0.1) is None
    with pytest.raises(ValueError, match="not a capture policy"):
        CapturePolicy(share=2.0)


def test_an_outcome_says_which_instance_was_picked_and_where(
    ask: Ask, services: Services, raw: TestClient[Any], admin: dict[str, str]
) -> None:
    telemetry = services.production.telemetry
    incoming = telemetry.folder / INCOMING
    write_segment(incoming, PREDICTIONS, [prediction(n, instances=2, height=200, width=300) for n in ("q", "w", "e")])
    write_segment(incoming, PREDICTIONS, [prediction("before", instances=2)])  # as an earlier version recorded it
    pick = {"instance": 1, "point": [299.5, 0], "gripper": "suction 40 mm"}
    assert ask("POST", "/outcomes", {"outcomes": [outcome("q", "miss", **pick)]}).json()["taken"] == 1
    assert ask("POST", "/outcomes", {"outcomes": [outcome("before", "drop", point=[9000, 1])]}).is_success
    assert ask("POST", "/outcomes", {"outcomes": [outcome("w", "drop")]}).is_success, "as earlier clients say it"
    for lie in ({"instance": 2}, {"point": [301, 10]}, {"point": [10, 201]}):
        refused = ask("POST", "/outcomes", {"outcomes": [outcome("e", "miss", **lie)]})
        assert refused.status_code == 400, lie
        assert "'e'" in refused.json()["detail"]
    for lie in (
        {"instance": -1}, {"instance": 1.5}, {"instance": 10**12}, {"point": [1]}, {"point": [-1, 2]},
        {"point": [1e300, 2]}, {"gripper": "x" * 300}, {"gripper": 3},
    ):  # fmt: skip
        assert ask("POST", "/outcomes", {"outcomes": [outcome("e", "miss", **lie)]}).status_code == 400, lie
    text = f'{{"outcomes": [{{"request_id": "e", "outcome": "miss", "picked_at": {time.time()}, "point": [NaN, 1]}}]}}'
    assert raw.post("/api/v1/outcomes", content=text, headers=admin).status_code == 400
    found = {pick.request_id: pick for pick in telemetry.failed(0.0)}
    assert found.keys() == {"q", "w", "before"}
    one = found["q"]
    assert (one.outcome, one.instance, one.point, one.gripper) == ("miss", 1, (299.5, 0.0), "suction 40 mm")
    assert (one.cell, one.variant, found["w"].instance, found["w"].point) == ("dock-7", "dock-7@v1", None, None)
    again = Telemetry(telemetry.folder)
    assert {pick.request_id: pick for pick in again.failed(0.0)} == found, "as the files say it"
    assert {g.key: g.picks for g in again.rates(["gripper"])[0]} == {("suction 40 mm",): 1, (None,): 2}


def test_files_of_before_have_no_picks_and_are_read(telemetry: Telemetry, tmp_path: Path) -> None:
    write_segment(telemetry.folder / INCOMING, PREDICTIONS, [prediction("a"), prediction("b", height=4, width=4)])
    telemetry.add_outcomes([outcome("a", "miss")], reporter="r")
    telemetry.rates([])
    for kind, gone in (("outcomes", "instance, point_x, point_y, gripper"), ("predictions", "height, width")):
        for path in (telemetry.folder / kind).glob("*/*.parquet"):
            old = tmp_path / "old.parquet"
            duckdb.sql(f"COPY (SELECT * EXCLUDE ({gone}) FROM '{path}') TO '{old}' (FORMAT parquet)")  # noqa: S608
            old.replace(path)
    again = Telemetry(telemetry.folder)
    again.add_outcomes([{**outcome("b", "drop"), "instance": 0, "point_x": 1.0, "point_y": 2.0}], reporter="r")
    found = {pick.request_id: (pick.instance, pick.point) for pick in again.failed(0.0)}
    assert found == {"a": (None, None), "b": (0, (1.0, 2.0))}
    assert again.damaged == []
