"""Who may vote on a variant, running sums, moves that compare and swap, and what goes with what it hangs on."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from hub.errors import OutcomesWaitError, QuotaError, StageTakenError
from hub.rollout.statistics import SequentialTest
from hub.rollout.telemetry import Telemetry, wanted_of
from hub.rollout.votes import MAX_WAITING
from hub.services import Services
from hub.settings import Settings
from serving.observed.telemetry import INCOMING, PREDICTIONS, write_segment
from tests.hub.material import wait_for
from tests.hub.rollout.test_bases_and_folder import make_variant, promote
from tests.hub.rollout.test_production import Ask, ask, outcome, prediction, report  # noqa: F401  # `ask` is a fixture
from tests.scale import scaled

TEST = SequentialTest(0.9, 0.8, 0.05, 0.05, repeat=True)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def robot(ask: Ask, name: str, *cells: str) -> dict[str, str]:  # noqa: F811
    return bearer(ask("POST", "/robots", {"name": name, "cells": list(cells)}).json()["token"])


def requests(services: Services, ids: list[str], **facts: Any) -> None:
    write_segment(services.production.telemetry.folder / INCOMING, PREDICTIONS, [prediction(i, **facts) for i in ids])


def test_only_the_cells_own_vote(ask: Ask, services: Services, tmp_path: Path) -> None:  # noqa: F811
    """Another team's person, another cell's robot and another robot of the cell change nothing; nor do made-up ids."""
    first, second = make_variant(services, tmp_path), make_variant(services, tmp_path)
    services.cells.change("dock-7", team="acme")
    services.cells.create("dock-8", "", "rivals")
    services.users.put("mallory", teams=["rivals"])
    promote(services, first)
    promote(services, second)
    variant = f"dock-7@{second}"
    ids = [f"q{number}" for number in range(80)]
    requests(services, ids, variant=variant, caller="arm-7")
    mallory = bearer(services.tokens.issue("m", {"promote", "contribute"}, user="mallory"))
    theirs, neighbour = robot(ask, "arm-8", "dock-8"), robot(ask, "arm-9", "dock-7")
    drops = [outcome(one, "drop") for one in ids]
    for who in (mallory, theirs, neighbour):
        for body in (drops, [row | {"cell": "dock-7"} for row in drops], [row | {"cell": "dock-8"} for row in drops]):
            assert ask("POST", "/outcomes", {"outcomes": body}, headers=who).status_code == 403
    # Before the request is on record nobody can tell; it does not count when it comes.
    early = [outcome(f"late{number}", "drop", cell="dock-8") for number in range(80)]
    assert ask("POST", "/outcomes", {"outcomes": early}, headers=theirs).is_success
    made_up = [
        outcome(f"none{n}", "drop", cell="dock-7", served_by=f"{variant} on base/universal@v1") for n in range(80)
    ]
    assert ask("POST", "/outcomes", {"outcomes": made_up}, headers=neighbour).is_success
    requests(services, [f"late{number}" for number in range(80)], variant=variant, caller="arm-7")
    services.production.trials.evaluate()
    assert services.production.telemetry.picks("dock-7", variant, "fleet", 0.0) == []
    assert services.serving_folder.read()["cells"]["dock-7"]["fleet"] == variant
    # The one who asked is heard, though others spoke of its requests before.
    own = robot(ask, "arm-7", "dock-7")
    assert ask(
        "POST", "/outcomes", {"outcomes": [outcome(f"late{n}", "drop") for n in range(80)]}, headers=own
    ).is_success
    wait_for(lambda: services.serving_folder.read()["cells"]["dock-7"]["fleet"] == f"dock-7@{first}")


def test_outcomes_are_bounded_and_refused_in_words(ask: Ask, services: Services) -> None:  # noqa: F811
    services.cells.create("dock-7", "")
    own = robot(ask, "arm-7", "dock-7")
    for wrong, words in ((time.time() + 3600, "in the future"), (time.time() - 400 * 86_400, "older than")):
        answer = ask("POST", "/outcomes", {"outcomes": [outcome("a") | {"picked_at": wrong}]}, headers=own)
        assert answer.status_code == 400
        assert words in answer.json()["detail"]
    telemetry = services.production.telemetry
    for first in range(0, MAX_WAITING, 1000):
        telemetry.add_outcomes([outcome(f"w{n}") for n in range(first, first + 1000)], reporter="robot:arm-7")
    answer = ask("POST", "/outcomes", {"outcomes": [outcome("one-more")]}, headers=own)
    assert answer.status_code == 429
    assert "wait for requests" in answer.json()["detail"]
    with pytest.raises(OutcomesWaitError):
        telemetry.add_outcomes([outcome("one-more")], reporter="robot:arm-7")
    requests(services, [f"w{n}" for n in range(MAX_WAITING)])
    assert ask("POST", "/outcomes", {"outcomes": [outcome("one-more")]}, headers=own).is_success


@pytest.mark.parametrize("seed", range(scaled(3, 12)))
def test_a_running_sum_is_the_full_recount(tmp_path: Path, seed: int) -> None:
    """Whatever comes late, twice, from others or after a restart."""
    rng = random.Random(seed)
    telemetry = Telemetry(tmp_path)
    wanted = wanted_of("dock-7", "dock-7@v1", "fleet", 0.0)
    waiting: list[str] = []
    told: list[str] = []
    for step in range(40):
        ids = [f"{step}-{number}" for number in range(rng.randint(1, 40))]
        facts = {"cell": rng.choice(["dock-7"] * 4 + ["dock-8"]), "caller": rng.choice([None, "a", "b"])}
        if rng.random() < 0.5:
            waiting += ids
        else:
            write_segment(tmp_path / INCOMING, PREDICTIONS, [prediction(one, **facts) for one in ids])
        told += ids
        for speaker in rng.sample(["a", "b"], rng.randint(1, 2)):
            rows = [
                outcome(one, rng.choice(["success"] * 8 + ["drop"]), cell="dock-7")
                for one in rng.sample(told, min(len(told), 25))
            ]
            telemetry.add_outcomes(rows, reporter=f"robot:{speaker}", speaker=speaker)
        if waiting and rng.random() < 0.4:
            late = [waiting.pop(rng.randrange(len(waiting))) for _ in range(rng.randint(1, len(waiting)))]
            write_segment(tmp_path / INCOMING, PREDICTIONS, [prediction(one, **facts) for one in late])
        if rng.random() < 0.05:
            telemetry.close()
            telemetry = Telemetry(tmp_path)
        telemetry.look(wait=True)
        running = telemetry.progress("t", wanted, TEST).result
        picks = telemetry.picks("dock-7", "dock-7@v1", "fleet", 0.0)
        assert running == TEST.run(success for _, success in picks), f"after step {step}"
    assert len(picks) > 200
    telemetry.close()


def test_sums_of_many_picks_keep_a_tail_only_and_take_late_ones(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    wanted = wanted_of("dock-7", "dock-7@v1", "fleet", 0.0)
    telemetry.progress("t", wanted, TEST)
    telemetry.add_outcomes([outcome("first", "drop", cell="dock-7")], reporter="r")
    for first in range(0, 5000, 500):
        ids = [f"n{number}" for number in range(first, first + 500)]
        write_segment(tmp_path / INCOMING, PREDICTIONS, [prediction(one) for one in ids])
        telemetry.add_outcomes([outcome(one, cell="dock-7") for one in ids], reporter="r")
    assert len(telemetry.votes.tallies["t"]._keys) < 2048
    write_segment(tmp_path / INCOMING, PREDICTIONS, [prediction("first")])
    telemetry.look(wait=True)
    picks = telemetry.picks("dock-7", "dock-7@v1", "fleet", 0.0)
    assert picks[0] == ("first", False)
    assert telemetry.progress("t", wanted, TEST).result == TEST.run(success for _, success in picks)
    telemetry.close()


def test_a_request_recorded_while_files_are_taken_up_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry(tmp_path)
    wanted = wanted_of("dock-7", "dock-7@v1", "fleet", 0.0)
    telemetry.progress("t", wanted, TEST)
    real, late = telemetry._files.take_up, [prediction(f"n{number}") for number in range(30)]

    def take_up(*given: Any) -> None:
        if late:  # the robots' server seals a segment between the note of what came in and the files
            write_segment(tmp_path / INCOMING, PREDICTIONS, late)
            late.clear()
        real(*given)

    monkeypatch.setattr(telemetry._files, "take_up", take_up)
    telemetry.rates(["variant"])
    assert not late
    telemetry.add_outcomes([outcome(f"n{number}", cell="dock-7") for number in range(30)], reporter="r")
    telemetry.look(wait=True)
    picks = telemetry.picks("dock-7", "dock-7@v1", "fleet", 0.0)
    assert len(picks) == 30
    assert telemetry.progress("t", wanted, TEST).result == TEST.run(success for _, success in picks)
    telemetry.close()


def test_reports_wait_for_no_question(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    telemetry.look(wait=True)
    done = threading.Event()

    def tell() -> None:
        telemetry.add_outcomes([outcome("a")], reporter="r")
        done.set()

    with telemetry._lock:  # what a question or a look holds
        thread = threading.Thread(target=tell)
        thread.start()
        assert done.wait(60)
    thread.join()
    telemetry.close()


def test_the_watch_rolls_back_what_it_judged_and_nothing_else(services: Services, tmp_path: Path) -> None:
    first, second, third = (make_variant(services, tmp_path) for _ in range(3))
    promote(services, first)
    promote(services, second)
    trials, inner = services.production.trials, services.promotions.rollback
    moved: list[str] = []

    def in_between(*values: Any, **named: Any) -> Any:
        if not moved and named["actor"] == "watch":  # the operator is quicker by a moment
            moved.append(third)
            promote(services, third)
        return inner(*values, **named)

    services.promotions.rollback = in_between  # type: ignore[method-assign]
    report(services, f"dock-7@{second}", "fleet", 0.3, 80)
    trials.evaluate()
    wait_for(lambda: bool(moved))
    wait_for(lambda: all(one.state != "running" for one in trials.of_cell("dock-7") if one.variant.endswith(second)))
    assert services.serving_folder.read()["cells"]["dock-7"]["fleet"] == f"dock-7@{third}"
    assert [one.variant for one in trials.of_cell("dock-7") if one.state == "running"] == [f"dock-7@{third}"]
    with pytest.raises(StageTakenError):
        services.promotions.rollback("dock-7", "fleet", actor="t", note="", expected=f"dock-7@{second}")


def test_a_variant_that_came_back_is_not_the_one_that_was_judged(services: Services, tmp_path: Path) -> None:
    first, second = make_variant(services, tmp_path), make_variant(services, tmp_path)
    promote(services, first)
    promote(services, second)
    _, placed = services.promotions.placed_by("dock-7", "fleet")
    services.promotions.rollback("dock-7", "fleet", actor="t", note="")
    promote(services, second)
    with pytest.raises(StageTakenError):
        services.promotions.rollback(
            "dock-7", "fleet", actor="watch", note="", expected=f"dock-7@{second}", placed_by=placed
        )


def test_a_rollback_over_rest_says_what_it_means(ask: Ask, services: Services, tmp_path: Path) -> None:  # noqa: F811
    first, second = make_variant(services, tmp_path), make_variant(services, tmp_path)
    promote(services, first)
    promote(services, second)
    refused = ask("POST", "/models/dock-7/rollback", {"stage": "fleet", "expected": f"dock-7@{first}"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:parcelhub:problem:stage-taken")
    body = {"stage": "fleet", "expected": f"dock-7@{second}"}
    assert ask("POST", "/models/dock-7/rollback", body).json()["version"] == f"dock-7@{first}"


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_members_changed_at_once_over_http_are_all_there(live_hub: Settings) -> None:
    headers = bearer(live_hub.client_token())
    with httpx.Client(base_url=f"{live_hub.url}/api/v1", headers=headers, timeout=60) as hub:
        for round_ in range(10):
            teams = [f"votes-{round_}-{number}" for number in range(6)]
            hub.put(f"/users/member-{round_}", json={"teams": []}).raise_for_status()
            hub.put(f"/users/seed-{round_}", json={"teams": teams}).raise_for_status()
            answers = at_once(
                [lambda team=team, at=round_: hub.put(f"/teams/{team}/members/member-{at}") for team in teams]  # type: ignore[misc]
            )
            assert [one.status_code for one in answers] == [200] * len(teams)
            for team in teams:
                assert f"member-{round_}" in hub.get(f"/teams/{team}").json()["members"]


def test_different_changes_of_a_cell_at_once_are_all_there(services: Services) -> None:
    services.cells.create("dock-7", "")
    for number in range(20):
        at_once(
            [
                lambda number=number: services.cells.change("dock-7", description=f"d{number}"),  # type: ignore[misc]
                lambda number=number: services.cells.change("dock-7", team=f"t{number}"),  # type: ignore[misc]
            ]
        )
        cell = services.cells.get("dock-7")
        assert (cell.description, cell.team) == (f"d{number}", f"t{number}")


def test_two_approvals_of_one_person_at_once_are_one(services: Services, tmp_path: Path) -> None:
    version = make_variant(services, tmp_path)
    at_once([lambda: services.promotions.approve("dock-7", version, "fleet", by="ann", note="")] * 4)
    rows = services.registry.catalog.query("SELECT count(*) FROM approvals")
    assert rows == [(1,)]


def test_nothing_of_a_deleted_cell_is_inherited(ask: Ask, services: Services) -> None:  # noqa: F811
    services.cells.create("dock-9", "")
    ask("PUT", "/rollouts/dock-9/share", {"share": 0.4})
    ask("PUT", "/rollouts/dock-9/lines", {"lines": {"l": "beta"}})
    only, both = (
        robot(ask, "arm-1", "dock-9"),
        robot(ask, "arm-2", "dock-9", "dock-8") if services.cells.create("dock-8", "") else {},
    )
    requests(services, ["old"], cell="dock-9", variant=None)
    assert ask("POST", "/outcomes", {"outcomes": [outcome("old", "drop")]}, headers=only).is_success
    assert ask("DELETE", "/cells/dock-9").status_code == 204
    assert ask("POST", "/outcomes", {"outcomes": [outcome("b")]}, headers=only).status_code == 401
    assert [(one["name"], one["cells"]) for one in ask("GET", "/robots").json()] == [("arm-2", ["dock-8"])]
    assert ask("POST", "/outcomes", {"outcomes": [outcome("c", cell="dock-9")]}, headers=both).status_code == 403
    ask("POST", "/cells", {"name": "dock-9"})
    shown = ask("GET", "/rollouts/dock-9").json()
    assert (shown["beta_share"], shown["lines"], shown["trials"]) == (0.0, {}, [])
    assert ask("GET", "/outcomes/rates?by=cell&cell=dock-9").json()["rates"] == []
    assert services.serving_folder.read()["cells"]["dock-9"].get("beta_share", 0.0) == 0.0


def test_the_local_robot_has_a_token(raw: TestClient[Any], services: Services) -> None:
    assert services.settings.check_robots == 1
    token = services.settings.local_robot_token()
    assert token is not None
    assert services.tokens.identify(token).robot_cells == frozenset("*")
    assert services.settings.robot_token_file.stat().st_mode & 0o077 == 0
    services.production.robots.ensure_local(services.settings.robot_token_file)
    assert services.settings.local_robot_token() == token, "made once"


# --- quotas -----------------------------------------------------------------------------------------------------------


def manifest(*files: tuple[str, bytes]) -> dict[str, Any]:
    import hashlib

    return {
        "files": [{"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files]
    }


def test_uploads_that_were_put_and_aborted_stay_counted(services: Services, raw: TestClient[Any], ask: Ask) -> None:  # noqa: F811
    from hub.schemas.resources import QuotaIn

    services.users.put("ann", teams=["acme"])
    services.quotas.set("acme", QuotaIn(bytes=1000))
    ann = bearer(services.tokens.issue("a", {"contribute"}, user="ann"))
    for number in range(2):
        data = bytes([65 + number]) * 450
        body = manifest((f"f{number}.txt", data))
        made = ask("POST", f"/datasets/acme/d{number}/uploads", body, headers=ann)
        assert made.is_success, made.text
        put = raw.put(
            f"/api/v1/uploads/{made.json()['id']}/files/{body['files'][0]['sha256']}", content=data, headers=ann
        )
        assert put.is_success, put.text
        assert raw.delete(f"/api/v1/uploads/{made.json()['id']}", headers=ann).is_success
    third = ask("POST", "/datasets/acme/d9/uploads", manifest(("x.txt", b"z" * 450)), headers=ann)
    assert third.status_code == 429, third.text
    assert "wait for a commit" in third.json()["detail"]
    assert ask("PUT", "/datasets/acme/d0", {"private": False}, headers=ann).is_success
    batch = raw.post(
        "/datasets/acme/d0.git/info/lfs/objects/batch",
        json={"operation": "upload", "transfers": ["basic"], "objects": [{"oid": "ab" * 32, "size": 450}]},
        headers=ann,
    )
    assert (batch.status_code, "wait for a commit" in batch.text) == (413, True)


def test_reservations_at_once_never_exceed_the_limit(services: Services) -> None:
    from hub.schemas.resources import QuotaIn

    services.quotas.set("acme", QuotaIn(bytes=1000))

    def reserve(number: int) -> bool:
        try:
            services.quotas.reserve("acme", f"user:u{number}", {f"{number:064x}": 300})
        except QuotaError:
            return False
        return True

    assert sum(at_once([lambda number=number: reserve(number) for number in range(8)])) == 3  # type: ignore[misc]
