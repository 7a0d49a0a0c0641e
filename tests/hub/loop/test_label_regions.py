"""Regions: what a person sends is checked, what nobody touched stays, and no request makes endless work."""

from __future__ import annotations

import json
import secrets
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from hub.errors import LabelError
from hub.loop.labelling.rank import Candidate, at_random, by_doubt, by_gain, doubt_of
from hub.loop.labelling.regions import MAX_DRAWN, counts_of, polygons_of, rasterised
from hub.schemas import labels as s
from hub.services import Services
from serving.instances import encode_masks
from tests.hub.loop.labels import (
    CELL,
    HEIGHT,
    WIDTH,
    Client,
    answer,
    box_mask,
    capture,
    people,
    ring_mask,
)

GOOD = [[(10.0, 10.0), (40.0, 10.0), (40.0, 30.0), (10.0, 30.0)]]
BAD: dict[str, Any] = {
    "not a number": {"polygons": [[[[float("nan"), 1], [2, 2], [3, 1]]]]},
    "infinite": {"polygons": [[[[1e999, 1], [2, 2], [3, 1]]]]},
    "outside": {"polygons": [[[[1, 1], [2000, 2], [3, 10]]]]},
    "two points": {"polygons": [[[[1, 1], [20, 2]]]]},
    "no pixel": {"polygons": [[[[1, 1], [1, 1], [1, 1]]]]},
    "a ring too long": {"polygons": [[[[k % 100, k % 90] for k in range(s.MAX_RING_POINTS + 1)]]]},
    "too many parts": {"polygons": [GOOD] * (s.MAX_POLYGONS + 1)},
    "too many holes": {"polygons": [GOOD * (s.MAX_RINGS + 1)]},
    "another class": {"label": "pallet", "polygons": [GOOD]},
    "nothing": {},
    "two things": {"keep": "x", "polygons": [GOOD]},
    "what was not shown": {"keep": "0123456789ab"},
    "runs of another size": {"mask": {"size": [10, 10], "counts": "0d0"}},
    "runs that do not fill": {"mask": {"size": [HEIGHT, WIDTH], "counts": "11"}},
    "runs that are none": {"mask": {"size": [HEIGHT, WIDTH], "counts": "\u00e9~ "}},
    "an unknown field": {"polygons": [GOOD], "evil": 1},
}


def test_labels_that_cannot_be_are_refused_and_change_nothing(as_job: Client, ready: dict[str, str], raw: Any) -> None:
    with as_job(ready["ann"]) as ann:
        work = ann.next_label_task(CELL)
        assert work is not None
        address = f"/api/v1/labels/tasks/{work.task.id}/accept"
        headers = {"Authorization": f"Bearer {ready['ann']}", "Content-Type": "application/json"}
        body = {"action": secrets.token_hex(16), "version": work.task.version}
        for what, bad in BAD.items():
            text = json.dumps(body | {"regions": [{"label": "box", **bad}]})  # writes NaN, as a careless client does
            sent = raw.post(address, content=text, headers=headers)
            assert sent.status_code in (400, 422), (what, sent.text)
        kept = {"label": "box", "keep": work.regions[0].id}
        assert raw.post(address, json=body | {"regions": [kept, kept]}, headers=headers).status_code == 422
        many = body | {"regions": [{"label": "box", "polygons": [GOOD]}] * (s.MAX_REGIONS + 1)}
        assert raw.post(address, json=many, headers=headers).status_code == 400
        ring = [[k % 100, k % 90] for k in range(s.MAX_RING_POINTS)]
        large = body | {"regions": [{"label": "box", "polygons": [[ring]]}] * (s.MAX_POINTS // len(ring) + 1)}
        assert raw.post(address, json=large, headers=headers).status_code == 422
        assert ann.label_task(work.task.id).task.state == "taken"
        assert ann.label_stats(CELL).pictures == 0
        assert ann.accept_labels(work.task.id, answer(work)).state == "labelled"


def test_a_ring_that_crosses_itself_is_stored_as_it_is_drawn(as_job: Client, ready: dict[str, str]) -> None:
    bow = [(10.0, 10.0), (50.0, 50.0), (50.0, 10.0), (10.0, 50.0)]
    counts, area = rasterised([[bow]], HEIGHT, WIDTH)
    mask = coco_mask.decode({"size": [HEIGHT, WIDTH], "counts": counts}).astype(bool)
    assert not mask[12, 30] and not mask[48, 30] and mask[30, 12] and mask[30, 48], "two wings, by the even-odd rule"
    assert 700 < area < 900
    with as_job(ready["ann"]) as ann:
        work = ann.next_label_task(CELL)
        assert work is not None
        done = ann.accept_labels(work.task.id, answer(work, regions=[s.RegionIn(label="box", polygons=[[bow]])]))
        assert ann.label_task(done.id).regions[0].mask.counts == counts


def test_work_is_bounded_whatever_is_sent() -> None:
    ring = [(float(8000 * (k % 2)), float(k)) for k in range(5000)]
    with pytest.raises(LabelError, match="to and fro"):
        rasterised([[ring]], 6000, 8000)
    board = np.indices((300, 400)).sum(0) % 2 == 0
    assert len(polygons_of(encode_masks(board[None])[0].decode(), 300, 400)) <= MAX_DRAWN
    with pytest.raises(LabelError, match="limit"):
        counts_of("1" * (s.MAX_COUNTS + 1), 6000, 8000)
    hole = [(10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0)]
    whole = [(0.0, 0.0), (8000.0, 0.0), (8000.0, 6000.0), (0.0, 6000.0)]
    assert rasterised([[whole, hole]], 6000, 8000)[1] == 8000 * 6000 - 100
    assert rasterised([[hole, whole]], 6000, 8000)[1] == 0


def test_outlines_of_parts_with_holes_and_islands_come_back_pixel_by_pixel() -> None:
    counts = encode_masks(ring_mask()[None])[0].decode()
    exact = polygons_of(counts, HEIGHT, WIDTH, exact=True)
    assert sorted(len(polygon) for polygon in exact) == [1, 1, 2], "the island is a part of its own, the hole is not"
    assert rasterised(exact, HEIGHT, WIDTH)[0] == counts
    simple = polygons_of(counts, HEIGHT, WIDTH)
    assert rasterised(simple, HEIGHT, WIDTH)[0] == counts, "right angles are simple already"


def test_regions_that_are_unsure_or_claim_one_place_are_shown_as_such(services: Services, as_job: Client) -> None:
    services.cells.create(CELL, "", "acme", ["box"])
    masks = [box_mask(5, 5, 40, 40), box_mask(8, 6, 40, 40), box_mask(60, 10, 90, 60), box_mask(95, 5, 120, 60)]
    capture(services, CELL, seed=1, masks=masks, labels=["box", "box", "bag", "box"], scores=[0.9, 0.8, 0.95, 0.3])
    with as_job(people(services)["ann"]) as ann:
        work = ann.next_label_task(CELL)
        assert work is not None
        assert [(one.low, one.disputed, one.offered) for one in work.regions] == [
            (False, True, False), (False, True, True), (False, True, False), (True, False, True),
        ]  # fmt: skip
        assert work.classes == ["box"] and work.task.proposed_by == "dock-7@v1"


def test_rules_of_ranking() -> None:
    assert doubt_of([]) == doubt_of([0.99], "miss") == doubt_of([0.5]) == 1.0
    assert doubt_of([1.0, 0.0]) == 0.0
    alike = [Candidate("a", 0.9, "g"), Candidate("b", 0.8, "g"), Candidate("c", 0.5, "")]
    ranks = by_doubt(alike)
    assert ranks[0] > ranks[2] > ranks[1], "of two that look alike the second comes later"
    assert by_gain([Candidate("a", 1.0, ""), Candidate("b", 0.0, "", 0.1)])[1] > 10
    assert by_gain([Candidate("a", 1.0, "", float("nan"))])[0] < 2
    assert at_random(alike) == at_random(alike) and len(set(at_random(alike))) == 3
