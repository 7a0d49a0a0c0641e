"""Change points reach the cell's timeline, each once, whichever way they came."""

from __future__ import annotations

import time
from typing import Any

from hub.client.client import HubClient
from hub.services import Services
from serving.observed.observer import CameraKey
from serving.observed.spool import UPLINK, Spool
from serving.observed.watch_samples import change_of


def told(client: HubClient, cell: str = "dock-7") -> list[tuple[str, str]]:
    return [(one.title, one.tone) for one in client.timeline(cell) if one.kind == "change"]


def test_what_a_site_tells_is_a_step_once(services: Services, client: HubClient) -> None:
    services.cells.create("dock-7", "", "acme")
    now = time.time() + 1
    spool = Spool(services.settings.telemetry_folder / UPLINK)
    for _ in range(2):  # a site that was killed says it again
        spool.put("1" * 32, now, change_of(CameraKey("dock-7", "l1", "top"), "novelty", now, 453600.0))
        spool.put("2" * 32, now, change_of(CameraKey("dock-7"), "unstable", now + 1, 453600.0))
        spool.put("3" * 32, now, change_of(CameraKey("nobody"), "doubt", now, 453600.0))
        services.production.alerts.take_up()
    assert told(client) == [
        ("Answers became less stable", "warn"), ("Something new shows (line l1, camera top)", "warn"),
    ]  # fmt: skip
    (step,) = [one for one in client.timeline("dock-7") if "new" in one.title]
    assert "453,600 looks" in step.reason and step.link == "/ui/captures?cell=dock-7"
    assert client.alerts() == []


def test_a_message_of_no_such_stream_is_left_out(services: Services, client: HubClient) -> None:
    services.cells.create("dock-7", "", "acme")
    now = time.time() + 1
    wrong: dict[str, Any] = change_of(CameraKey("dock-7"), "hunger", now, 2.0)
    Spool(services.settings.telemetry_folder / UPLINK).put("1" * 32, now, wrong)
    assert services.production.alerts.take_up() == 0 and told(client) == []


def test_picks_that_begin_to_fail_are_one_and_go_with_their_cell(services: Services, client: HubClient) -> None:
    services.cells.create("dock-7", "", "acme")
    at = time.time() + 1
    for _ in range(2):
        for observer in services.production.pick_changes.observers:
            observer("dock-7", at)
    assert told(client) == [("Picks fail more often than before", "warn")]
    client.delete_cell("dock-7")
    assert services.registry.catalog.query("SELECT * FROM loop_changes") == []
