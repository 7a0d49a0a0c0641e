"""Promotions by rule: decided on evidence, judged by the gate, once for each cause, and a person may stop each."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.client.client import HubClient
from hub.errors import RefreshStateError
from hub.rollout.promoter import ACTOR, Facts, Promoter, decide
from hub.schemas.refresh import RefreshPolicyIn
from hub.schemas.serving import Trial
from hub.services import Services
from hub.settings import Settings
from tests.hub.loop.refresh_material import CELL, finish_refresh, first_variant, push_labels, slice_

POLICY = RefreshPolicyIn(min_labels=8, min_hours_between=0, promote="evidence")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The rules look when a test says so, and not by the clock."""
    return replace(settings, refresh=0, promote=0)


def offer(
    services: Services, client: HubClient, folder: Path, policy: RefreshPolicyIn = POLICY, *, worse: float = 0.0
) -> str:
    """A cell whose first variant is at the fleet, and a refresh that offers v2. Returns the refresh's id."""
    services.users.put("ann", teams=["acme"])
    services.cells.create(CELL, "", "acme")
    services.refreshes.set_policy(CELL, policy, "ann")
    first_variant(services, client, folder)
    services.promotions.promote(CELL, "v1", "fleet", actor="ann", note="")
    push_labels(client, folder, seed=1)
    services.refreshes.look()
    (run,) = services.refreshes.page(CELL, limit=10)
    finish_refresh(services, run.id, folder, slice_("dock-7@v1", worse))
    return run.id


def stages(services: Services) -> dict[str, str]:
    return {k: str(v).rpartition("@")[2] for k, v in services.registry.stages.current(CELL).items() if v is not None}


def settle(services: Services) -> int:
    """Look until nothing moves any more."""
    moved = 0
    for _ in range(6):
        now = services.promoter.look()
        moved += now
        if not now:
            break
    return moved


def steps(client: HubClient, kind: str) -> list[str]:
    return [one.title for one in client.timeline(CELL) if one.kind == kind]


def test_a_refresh_reaches_the_fleet_by_evidence_and_each_stage_begins_its_trial(
    services: Services, client: HubClient, tmp_path: Path
) -> None:
    run = offer(services, client, tmp_path)
    assert services.refreshes.of(CELL).promotion is not None
    assert settle(services) == 3 and stages(services) == {"fleet": "v2"}
    records = [one for one in services.registry.stages.history(CELL) if one.actor == ACTOR]
    assert [one.to_stage for one in reversed(records)] == ["station", "beta", "fleet"]
    assert run in records[0].note and "by evidence" in records[0].note
    trials: list[Trial] = services.production.trials.of_cell(CELL)
    assert {(one.variant, one.stage) for one in trials} >= {("dock-7@v2", "station"), ("dock-7@v2", "fleet")}
    told = client.timeline(CELL)
    moves = [one for one in told if "v2 was promoted" in one.title]
    assert [one.title.partition("to ")[2] for one in moves] == ["the fleet", "beta", "the test station"]
    assert moves[0].run == run and moves[0].actions == ["undo"] and moves[1].actions == []
    assert steps(client, "refresh").count("v2 waits on its way to beta") == 0
    assert services.refreshes.of(CELL).promotion.code == "done"  # type: ignore[union-attr]
    services.refreshes.undo(CELL, run, "ann", "not this one")
    assert stages(services) == {"fleet": "v1"}
    assert settle(services) == 0 and stages(services) == {"fleet": "v1"}


def test_what_the_gate_refuses_is_tried_once_and_stays(services: Services, client: HubClient, tmp_path: Path) -> None:
    offer(services, client, tmp_path, worse=-0.2)
    before = len(services.registry.stages.history(CELL))
    for _ in range(4):
        assert services.promoter.look() == 0
    assert len(services.registry.stages.history(CELL)) == before + 1
    assert stages(services) == {"fleet": "v1"}
    found = services.refreshes.of(CELL).promotion
    assert found is not None and found.code == "refused" and "dock-7@v1" in found.reason
    refused = [one for one in client.timeline(CELL) if "refused" in one.title]
    assert len(refused) == 1 and refused[0].tone == "bad"


def test_by_default_the_timeline_asks_a_person_and_nothing_moves(
    services: Services, client: HubClient, tmp_path: Path
) -> None:
    offer(services, client, tmp_path, RefreshPolicyIn(min_labels=8, min_hours_between=0))
    for _ in range(3):
        assert services.promoter.look() == 0
    asked = [one for one in client.timeline(CELL) if "a person decides" in one.title]
    assert len(asked) == 1 and asked[0].title == "dock-7@v2 is ready for the test station: a person decides"
    assert asked[0].actions == ["veto"] and asked[0].link == "/ui/models/dock-7/v2"
    assert stages(services) == {"fleet": "v1"}
    services.promotions.promote(CELL, "v2", "station", actor="ann", note="")
    services.promoter.look()
    assert next(one.title for one in client.timeline(CELL) if "a person decides" in one.title).endswith(
        "ready for beta: a person decides"
    )


def test_off_pause_and_the_last_stage_are_kept_to(services: Services, client: HubClient, tmp_path: Path) -> None:
    run = offer(services, client, tmp_path, RefreshPolicyIn(min_labels=8, min_hours_between=0, promote="off"))
    assert services.promoter.look() == 0 and not [one for one in steps(client, "refresh") if "ready" in one]
    wanted = RefreshPolicyIn(min_labels=8, min_hours_between=0, promote="evidence", promote_until="beta", paused=True)
    services.refreshes.set_policy(CELL, wanted, "ann")
    assert services.promoter.look() == 0
    assert [one for one in steps(client, "refresh") if "paused" in one and "v2" in one]
    services.refreshes.pause(CELL, "ann", paused=False)
    assert settle(services) == 2 and stages(services) == {"fleet": "v1", "beta": "v2"}
    with pytest.raises(RefreshStateError, match="undo"):
        services.refreshes.veto(CELL, run, "ann")


def test_a_veto_stops_it_before_a_robot_has_it(services: Services, client: HubClient, tmp_path: Path) -> None:
    run = offer(services, client, tmp_path)
    services.refreshes.veto(CELL, run, "ann", "no")
    assert settle(services) == 0 and stages(services) == {"fleet": "v1"}


def test_where_a_line_tries_it_the_verdict_is_waited_for(services: Services, client: HubClient, tmp_path: Path) -> None:
    offer(services, client, tmp_path)
    services.production.rollouts.set_lines(CELL, {"line-1": "station"})
    assert settle(services) == 1 and stages(services) == {"fleet": "v1", "station": "v2"}
    assert steps(client, "refresh")[0] == "dock-7@v2 waits on its way to beta"
    (trial,) = [one for one in services.production.trials.of_cell(CELL) if one.stage == "station"]
    services.registry.catalog.run(
        lambda db: db.execute("UPDATE rollout_trials SET state = 'passed' WHERE id = ?", [trial.id])
    )
    assert settle(services) == 2 and stages(services) == {"fleet": "v2"}


def test_what_was_taken_back_is_not_offered_again(services: Services, client: HubClient, tmp_path: Path) -> None:
    offer(services, client, tmp_path)
    services.production.rollouts.set_lines(CELL, {"line-1": "station"})
    settle(services)
    services.promotions.rollback(CELL, "station", actor="watch", note="bad picks")
    for _ in range(3):
        assert services.promoter.look() == 0
    assert stages(services) == {"fleet": "v1"}
    assert len([one for one in steps(client, "refresh") if "taken back" in one]) == 1


def test_a_new_gate_or_an_approval_is_another_try(services: Services, client: HubClient, tmp_path: Path) -> None:
    offer(services, client, tmp_path, worse=-0.2)
    services.promoter.look()
    services.promotions.approve(CELL, "v2", "station", by="ann", note="it may")
    before = len(services.registry.stages.history(CELL))
    services.promoter.look()
    services.promoter.look()
    assert len(services.registry.stages.history(CELL)) == before + 1


def test_two_hubs_and_many_threads_move_it_once(services: Services, client: HubClient, tmp_path: Path) -> None:
    offer(services, client, tmp_path, RefreshPolicyIn(**as_asked(POLICY, promote_until="station")))
    other = Promoter(
        services.registry.catalog, services.refreshes.policies, services.promotions, services.production.trials,
        services.registry.stages, services.registry.policies, services.production.rollouts.plan,
    )  # fmt: skip
    moved: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: moved.append(one.look())) for one in [services.promoter, other] * 4
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(moved) == 1 and stages(services) == {"fleet": "v1", "station": "v2"}
    made = [one for one in services.registry.stages.history(CELL) if one.actor == ACTOR and one.allowed]
    assert len(made) == 1


DIES = """
import os, signal, sys
from pathlib import Path
from hub.services import Services
from hub.settings import Settings

settings = Settings.load({}, data=Path(sys.argv[1]), base_source=Path(sys.argv[2]))
services = Services.open(settings)
promote = services.promotions.promote


def dies(*args, **more):
    if sys.argv[3] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    promote(*args, **more)
    os.kill(os.getpid(), signal.SIGKILL)


services.promotions.promote = dies
services.promoter.look()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hub_that_is_killed_at_a_move_makes_it_once(
    services: Services, client: HubClient, tmp_path: Path, when: str
) -> None:
    offer(services, client, tmp_path)
    data = tmp_path / "killed"
    shutil.copytree(services.settings.data, data, symlinks=True)  # nobody writes at the moment
    child = subprocess.run(
        [sys.executable, "-c", DIES, str(data), str(services.settings.base_source), when], check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL
    again = Services.open(replace(services.settings, data=data))
    try:
        settle(again)
        assert stages(again) == {"fleet": "v2"}
        made = [one for one in again.registry.stages.history(CELL) if one.actor == ACTOR]
        assert [one.to_stage for one in reversed(made)] == ["station", "beta", "fleet"]
    finally:
        again.close()


def as_asked(policy: RefreshPolicyIn, **other: Any) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__struct_fields__} | other


@pytest.mark.parametrize(
    ("mode", "paused", "facts", "code"),
    [
        ("off", False, Facts("dock-7@v2"), "off"),
        ("evidence", False, Facts(""), "nothing"),
        ("evidence", True, Facts("dock-7@v2"), "paused"),
        ("evidence", False, Facts("dock-7@v2"), "try"),
        ("ask", False, Facts("dock-7@v2"), "ask"),
        ("evidence", False, Facts("dock-7@v2", served_before=True), "taken back"),
        ("evidence", False, Facts("dock-7@v2", "station"), "try"),
        ("evidence", False, Facts("dock-7@v2", "station", used=True), "wait"),
        ("evidence", False, Facts("dock-7@v2", "station", used=True, trial=("t", "running", 3, 200)), "wait"),
        ("evidence", False, Facts("dock-7@v2", "station", used=True, trial=("t", "stopped", 3, 200)), "wait"),
        ("evidence", False, Facts("dock-7@v2", "station", used=True, trial=("t", "passed", 90, 200)), "try"),
        ("ask", False, Facts("dock-7@v2", "beta", used=True, trial=("t", "passed", 90, 200)), "ask"),
        ("evidence", False, Facts("dock-7@v2", "station", trial=("t", "failed", 90, 200)), "wait"),
        ("evidence", False, Facts("dock-7@v2", "fleet"), "done"),
    ],
)
def test_what_the_rule_decides(mode: Any, paused: bool, facts: Facts, code: str) -> None:
    assert decide(mode, "fleet", paused, facts).code == code
