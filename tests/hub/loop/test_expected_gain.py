"""What learning a cell's open events would gain: the share of its picks that failed on their packages."""

from __future__ import annotations

import pytest

from hub.client.client import HubClient
from hub.services import Services
from serving.observed.telemetry import INCOMING, PREDICTIONS, write_segment
from tests.hub.loop.material_events import SINCE, week
from tests.hub.rollout.test_production import outcome, prediction

CELL = "dock-7"


@pytest.fixture
def produced(services: Services, client: HubClient) -> Services:
    """A cell with 100 picks; six of them failed on the packages of one event."""
    services.cells.create(CELL, "", "acme")
    week(services, CELL)
    fails = [f"{CELL}-{SINCE}-{k}" for k in range(1, 12, 2)]
    ids = [*(f"{CELL}-{SINCE}-{k}" for k in range(12)), *(f"plain-{k}" for k in range(88))]
    telemetry = services.production.telemetry
    write_segment(telemetry.folder / INCOMING, PREDICTIONS, [prediction(one, at=SINCE) for one in ids])
    telemetry.add_outcomes(
        [outcome(one, "drop" if one in fails else "success", cell=CELL, picked_at=SINCE + 60.0) for one in ids],
        reporter="r1",
    )
    assert len(client.package_events()) == 2
    return services


def test_the_refresh_policy_knows_what_events_would_gain(produced: Services, client: HubClient) -> None:
    (gain,) = (found for one in produced.refreshes.gains if (found := one(CELL)) is not None)
    assert gain == (0.06, "6 of 100 picks in 7 days failed on packages of 1 open event")
    failing = next(one for one in client.package_events() if one.failed)
    client.change_event(failing.id, state="learnt")
    assert [one(CELL) for one in produced.refreshes.gains] == [None], "what is learnt is no gain any more"


def test_of_few_picks_and_of_other_cells_nothing_is_said(services: Services, client: HubClient) -> None:
    services.cells.create(CELL, "", "acme")
    week(services, CELL)
    ids = [f"{CELL}-{SINCE}-{k}" for k in range(12)]
    telemetry = services.production.telemetry
    write_segment(telemetry.folder / INCOMING, PREDICTIONS, [prediction(one, at=SINCE) for one in ids])
    telemetry.add_outcomes([outcome(one, "drop", cell=CELL, picked_at=SINCE + 60.0) for one in ids], reporter="r1")
    assert client.package_events()[0].failed
    (known,) = services.refreshes.gains
    assert known(CELL) is None and known("elsewhere") is None
