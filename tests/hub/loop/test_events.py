"""Events at the hub: founded from captures, joined by later ones, ranked with reasons, changed by people, private."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from litestar.testing import TestClient

from hub.accounts.tokens import Scope
from hub.client.client import HubClient
from hub.errors import HubAnswerError
from hub.loop.timeline_sources.events import steps as timeline_of_events
from hub.loop.timeline_sources.source import Asked
from hub.migrations.tables_events import EVENTS
from hub.migrations.tables_loop import LOOP
from hub.schemas.events import Event
from hub.schemas.labels import FillIn
from hub.services import Services
from hub.settings import Settings
from registry.catalog.catalog import Catalog
from registry.catalog.migrations import REGISTRY
from tests.hub.loop.material_events import SINCE, WIDTH, keep, week
from tests.hub.web.material import Browser


@pytest.fixture
def cell(services: Services) -> str:
    services.cells.create("dock-7", "", "acme")
    return "dock-7"


def by_kind(client: HubClient) -> dict[str, Event]:
    """Events by the colour of their first picture: dark bags, or gold."""
    found = {}
    for one in client.package_events():
        picture = cv2.imdecode(np.frombuffer(client.finding_picture(one.typical[0].id), np.uint8), cv2.IMREAD_COLOR)
        middle = picture[picture.shape[0] // 2, picture.shape[1] // 2]
        found["gold" if int(middle.max()) > 120 else "bags"] = one
    return found


def test_what_is_new_founds_events_and_known_packages_none(services: Services, client: HubClient, cell: str) -> None:
    week(services, cell)
    events = client.package_events()
    assert sorted(one.findings for one in events) == [6, 6]
    first = events[0]
    assert first.cells[0].cell == cell and first.cells[0].findings == 6
    assert first.state == "new" and first.name.startswith("Event ") and "box" in first.name
    assert first.picks == 0 and first.failure_interval == (0.0, 1.0) and "taken to fail" in first.why
    assert len(first.typical) == 6 and first.novelty == pytest.approx(0.995)
    assert {one.label for one in client.event_findings(first.id)} == {"box"}
    assert client.package_events(cell="elsewhere") == [] and client.package_events(state="learnt") == []


def test_later_captures_join_and_nothing_moves(services: Services, client: HubClient, cell: str) -> None:
    week(services, cell)
    before = by_kind(client)
    own = {one.id: {f.id for f in client.event_findings(one.id)} for one in before.values()}
    client.change_event(before["gold"].id, name="gold foil", state="watched", note="the autumn sale")
    week(services, cell, frames=9, kinds=("gold", "rolls", "rolls"), start=SINCE + 86_400)
    after = client.package_events()
    assert len(after) == 3
    gold = client.package_event(before["gold"].id)
    assert (gold.name, gold.state, gold.note, gold.findings) == ("gold foil", "watched", "the autumn sale", 9)
    assert client.package_event(before["bags"].id).findings == 6
    for name, findings in own.items():
        assert findings <= {one.id for one in client.event_findings(name)}


def test_the_costliest_comes_first_and_says_why(services: Services, client: HubClient, cell: str) -> None:
    week(services, cell)
    events = by_kind(client)
    fails = [f"{cell}-{SINCE}-{k}" for k in range(1, 12, 2)]  # gold's
    goes_well = [f"{cell}-{SINCE}-{k}" for k in range(0, 12, 2)]
    services.production.telemetry.add_outcomes(
        [
            {"request_id": one, "outcome": "drop" if one in fails else "success", "picked_at": SINCE, "cell": cell,
             "line": None, "robot": None, "label": None, "served_by": None}
            for one in fails + goes_well
        ],
        reporter="r1",
    )  # fmt: skip
    ranked = client.package_events()
    assert [one.id for one in ranked] == [events["gold"].id, events["bags"].id]
    assert (ranked[0].failed, ranked[0].picks, ranked[1].failed) == (6, 6, 0)
    assert ranked[0].failure_interval[0] > 0.5 and "6 of its 6 picks failed (61 to 100 %)" in ranked[0].why
    client.change_event(events["gold"].id, state="ignored")
    assert client.package_events()[0].id == events["bags"].id


def test_known_packages_whose_picks_fail_become_an_event(services: Services, client: HubClient, cell: str) -> None:
    for k in range(8):
        keep(services, cell, ["box", "box"], SINCE + k, request=f"f{k}", seed=k)
    assert client.package_events() == []
    services.production.telemetry.add_outcomes(
        [{"request_id": f"f{k}", "outcome": "miss", "picked_at": SINCE, "cell": cell, "line": None, "robot": None,
          "label": None, "served_by": None} for k in range(8)],
        reporter="r1",
    )  # fmt: skip
    (event,) = client.package_events()
    assert event.failed == event.picks >= 4


def test_people_merge_and_split(services: Services, client: HubClient, cell: str) -> None:
    week(services, cell)
    events = by_kind(client)
    one, other = events["gold"].id, events["bags"].id
    merged = client.merge_events(one, other)
    assert merged.findings == 12 and [e.id for e in client.package_events()] == [one]
    with pytest.raises(HubAnswerError) as gone:
        client.package_event(other)
    assert gone.value.slug == "unknown-event"
    split = client.split_event(one, name="apart again")
    assert (split.name, split.findings, client.package_event(one).findings) == ("apart again", 6, 6)
    colours = {f.id for f in client.event_findings(split.id)}
    assert len({f.id for f in client.event_findings(one)} & colours) == 0
    chosen = [f.id for f in client.event_findings(split.id)][:2]
    assert client.split_event(split.id, chosen).findings == 2
    for wrong in (
        lambda: client.merge_events(one, one),
        lambda: client.split_event(split.id, [f.id for f in client.event_findings(split.id)]),
    ):
        with pytest.raises(HubAnswerError) as refused:
            wrong()
        assert refused.value.slug == "event-change"


def test_a_team_sees_the_events_findings_and_counts_of_its_own_cells(
    services: Services, client: HubClient, cell: str, member: Callable[[str], HubClient]
) -> None:
    services.cells.create("rival-1", "", "rival")
    week(services, cell)
    week(services, "rival-1")  # the very same kinds
    assert len(client.package_events()) == 4
    ann, eve = member("acme"), member("rival")
    (mine, theirs) = ann.package_events(), eve.package_events()
    assert {c.cell for one in mine for c in one.cells} == {cell} and sum(one.findings for one in mine) == 12
    assert {c.cell for one in theirs for c in one.cells} == {"rival-1"}
    ann.change_event(mine[0].id, name="our secret product")
    assert "secret" not in json.dumps([one.name for one in eve.package_events()])
    for attempt in (
        lambda: eve.package_event(mine[0].id),
        lambda: eve.event_findings(mine[0].id),
        lambda: eve.finding_picture(mine[0].typical[0].id),
        lambda: eve.change_event(mine[0].id, name="mine now"),
        lambda: eve.merge_events(theirs[0].id, mine[0].id),
        lambda: eve.split_event(mine[0].id),
    ):
        with pytest.raises(HubAnswerError) as refused:
            attempt()
        assert refused.value.slug == "unknown-event"
    with pytest.raises(HubAnswerError) as refused:
        client.merge_events(mine[0].id, theirs[0].id)  # not even the operator: a name would cross
    assert refused.value.slug == "event-change"


@pytest.fixture
def member(services: Services, as_job: Callable[[str], HubClient]) -> Callable[[str], HubClient]:
    def make(team: str) -> HubClient:
        services.users.put(f"of-{team}", teams=[team])
        scopes = [Scope.CONTRIBUTE, Scope.FINETUNE, Scope.PROMOTE]
        return as_job(services.tokens.issue(f"of-{team}", scopes, user=f"of-{team}"))

    return make


def test_a_cell_that_goes_takes_its_findings_with_it(services: Services, client: HubClient, cell: str) -> None:
    week(services, cell)
    assert len(client.package_events()) == 2
    services.cells.delete(cell)
    services.cells.create(cell, "", "rival")
    assert client.package_events() == [] and not list((services.settings.data / "events").glob("*.jpg"))


def test_a_picture_that_is_forgotten_is_in_no_event(services: Services, client: HubClient, cell: str) -> None:
    week(services, cell)
    event = client.package_events()[0]
    finding = client.event_findings(event.id)[0]
    services.production.captures.remove(finding.capture)  # it made room for newer ones: what was found stays
    assert client.finding_picture(finding.id)
    client._send("DELETE", f"/captures/{finding.capture}")
    with pytest.raises(HubAnswerError):
        client.finding_picture(finding.id)
    assert client.package_event(event.id).findings == event.findings - 1


def test_a_picture_that_is_forgotten_everywhere_is_in_no_event(
    services: Services, client: HubClient, cell: str
) -> None:
    week(services, cell)
    event = client.package_events()[0]
    finding = client.event_findings(event.id)[0]
    client.forget(capture=finding.capture)
    with pytest.raises(HubAnswerError):
        client.finding_picture(finding.id)
    assert client.package_event(event.id).findings == event.findings - 1


def test_events_are_steps_of_the_cells_timeline(services: Services, client: HubClient, cell: str) -> None:
    week(services, cell)
    events = client.package_events()
    asked = Asked(cell, 0.0, (float("inf"), ""), 50)
    steps = timeline_of_events(services.registry.catalog, asked)
    assert {one.link for one in steps} == {f"/ui/events/{one.id}" for one in events}
    assert all("6 findings of new packages" in one.reason for one in steps)
    assert timeline_of_events(services.registry.catalog, replace(asked, cell="elsewhere")) == []
    assert len(timeline_of_events(services.registry.catalog, replace(asked, limit=1))) == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"width": 0}, {"width": "x"}, {"width": WIDTH + 1}, {"embeddings": "!"}, {"novel": []}, {"novelty": [None]},
        {"unanswered": [[0, 0, 1, 1]]}, {"unanswered": [[0, "x"]], "embeddings_beside": ""},
        {"embeddings": __import__("base64").b64encode(np.full((1, WIDTH), np.nan, np.float16).tobytes()).decode()},
    ],
)  # fmt: skip
def test_a_capture_that_is_damaged_holds_nobody_up(
    services: Services, client: HubClient, cell: str, facts: dict[str, object]
) -> None:
    keep(services, cell, ["bags"], SINCE - 1, **facts)
    week(services, cell)
    assert sorted(one.findings for one in client.package_events()) == [6, 6]


def test_taking_up_twice_counts_once(services: Services, client: HubClient, cell: str) -> None:
    week(services, cell)
    events = services.production.events
    assert events.take_up() == 12 and events.take_up() == 0
    services.registry.catalog.run(lambda tx: tx.execute("DELETE FROM loop_captures_read"))  # killed before the mark
    events.take_up()
    assert sorted(one.findings for one in client.package_events()) == [6, 6]


def test_tables_of_before_events_open(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "catalog.duckdb", [REGISTRY, LOOP]):
        pass
    with Catalog.open(tmp_path / "catalog.duckdb", [REGISTRY, LOOP, EVENTS]) as catalog:
        assert catalog.query("SELECT count(*) FROM loop_events") == [(0,)]


def test_the_pages_show_events_and_change_them(
    raw: TestClient[Any], services: Services, settings: Settings, client: HubClient, cell: str
) -> None:
    browser = Browser(raw)
    browser.sign_in(settings.client_token())
    assert "No event" in browser.get("/ui/events")
    week(services, cell, start=time.time() - 7200)
    listed = browser.get("/ui/events")
    assert "Event 1: like box" in listed and "times a day" in listed and "/picture" in listed
    event = client.package_events()[0]
    shown = browser.get(f"/ui/events/{event.id}")
    assert shown.count("<figure>") == 6 and "The same as another?" in shown
    browser.post(f"/ui/events/{event.id}/change", {"name": "<b>foil</b>", "state": "watched", "note": ""})
    assert client.package_event(event.id).name == "<b>foil</b>"
    assert "&lt;b&gt;foil" in browser.get("/ui/events")
    browser.post(f"/ui/events/{event.id}/change", {"state": "haunted"}, status=400)
    chosen = client.event_findings(event.id)[0].id
    browser.post(f"/ui/events/{event.id}/split", {f"pick-{chosen}": "1", "name": "one"})
    assert client.package_event(event.id).findings == 5
    other = next(one.id for one in client.package_events() if one.name == "one")
    browser.post(f"/ui/events/{event.id}/merge", {"other": other})
    assert client.package_event(event.id).findings == 6


def test_the_labelling_queue_asks_first_for_what_events_would_gain(
    services: Services, client: HubClient, cell: str
) -> None:
    week(services, cell)
    events = client.package_events()
    gains = services.production.events.gains(cell)
    inside = {one.capture for event in events for one in client.event_findings(event.id)}
    assert gains and set(gains) <= inside and all(gain > 0 for gain in gains.values())
    for k in range(4):
        keep(services, cell, ["box", "box"], SINCE + 86_400.0 + 600.0 * k, request=f"later-{k}")
    assert client.fill_labels(cell, FillIn(limit=3)) == 3
    rows = services.registry.catalog.query("SELECT source, gain FROM label_tasks WHERE cell = ?", [cell])
    assert all(source.removeprefix("capture ") in gains and gain for source, gain in rows), "not the newest captures"
    client.change_event(events[0].id, state="ignored")
    client.change_event(events[1].id, state="learnt")
    assert services.production.events.gains(cell) == {}
