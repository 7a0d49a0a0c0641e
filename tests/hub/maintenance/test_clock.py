"""The clock is put ahead or back, at a start or while the hub runs: nothing is lost, nothing ends, nobody waits."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from hub.accounts.quotas import Limits, Quotas
from hub.accounts.tokens import Tokens
from hub.client.client import HubClient
from hub.client.maintenance import MaintenanceClient
from hub.clock import Elapsed, LeapWatch
from hub.jobs.queue import Jobs
from hub.locks import port_is_free
from hub.maintenance.housekeeping import Housekeeping
from hub.services import Services
from hub.settings import Settings
from hub.stack.processes import spawn, stop
from hub.webhooks.delivery import Postman
from registry.catalog.catalog import Catalog
from tests.hub.jobs.test_jobs import SPEC, Clock
from tests.hub.material import wait_for, write_base_files
from tests.hub.rollout.test_production import outcome, prediction

DAY = 86_400.0


class Machine:
    """Both clocks of a machine. `run` lets time pass, `put` puts the wall clock, `boot` starts the machine anew."""

    def __init__(self) -> None:
        self.wall, self.steady, self.name = 1_000_000.0, 50.0, "first"

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds

    def put(self, seconds: float) -> None:
        self.wall += seconds

    def boot(self, name: str, off: float) -> None:
        self.name, self.steady = name, 3.0
        self.wall += off

    def elapsed(self, file: Path) -> Elapsed:
        return Elapsed(file, now=lambda: self.wall, steady=lambda: self.steady, boot=self.name)


def test_a_leap_is_known_until_what_it_made_old_is_old(tmp_path: Path) -> None:
    machine, file = Machine(), tmp_path / "clock.json"
    one = machine.elapsed(file)
    one.look()
    machine.run(3600)
    assert one.leapt(7 * DAY) == 0
    machine.put(40 * DAY)
    assert one.leapt(7 * DAY) == pytest.approx(40 * DAY)
    one.look()
    # Also for the next process, and after a clock that was put back and right again.
    machine.run(6 * DAY)
    again = machine.elapsed(file)
    assert again.leapt(7 * DAY) == pytest.approx(40 * DAY)
    machine.put(-40 * DAY)
    assert again.leapt(7 * DAY) == pytest.approx(40 * DAY)
    machine.run(2 * DAY)
    assert again.leapt(7 * DAY) == 0
    assert again.leapt(28 * DAY) == pytest.approx(40 * DAY)


def test_a_clock_that_is_put_while_the_hub_is_down_is_noticed(tmp_path: Path) -> None:
    machine, file = Machine(), tmp_path / "clock.json"
    machine.elapsed(file).look()
    machine.run(600)
    machine.put(30 * DAY)
    assert machine.elapsed(file).leapt(7 * DAY) == pytest.approx(30 * DAY)


def test_a_machine_that_was_off_for_weeks_ages_nothing_by_more_than_a_day(tmp_path: Path) -> None:
    machine, file = Machine(), tmp_path / "clock.json"
    machine.elapsed(file).look()
    machine.boot("second", 3600)
    late = machine.elapsed(file)
    assert late.leapt(7 * DAY) == 0
    late.look()
    machine.boot("third", 100 * DAY)
    assert machine.elapsed(file).leapt(7 * DAY) == pytest.approx(99 * DAY)


@pytest.mark.parametrize("content", [b"", b"{", b'{"wall": "x"}', b"\xff" * 40])
def test_a_damaged_note_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clock.json").write_bytes(content)
    one = Machine().elapsed(tmp_path / "clock.json")
    one.look()
    assert one.leapt(7 * DAY) == 0


def test_workspaces_outlive_a_leap(tmp_path: Path) -> None:
    machine = Machine()
    elapsed = machine.elapsed(tmp_path / "clock.json")
    elapsed.look()
    (tmp_path / "jobs" / "failed").mkdir(parents=True)
    ended_at = machine.wall
    keeper = Housekeeping(
        tmp_path / "jobs",
        ended=lambda before: ["failed"] if ended_at < before else [],
        known=lambda: {"failed"},
        forget_uploads=lambda leapt: 0,
        forget_parts=lambda leapt: 0,
        workspace_grace=timedelta(days=7),
        elapsed=elapsed,
        now=lambda: machine.wall,
    )
    machine.put(30 * DAY)
    assert keeper.run().workspaces == 0
    machine.run(6 * DAY)
    assert keeper.run().workspaces == 0
    machine.run(2 * DAY)
    assert keeper.run().workspaces == 1


@pytest.fixture
def leaping(catalog: Catalog) -> tuple[Jobs, Tokens, Quotas, Clock, Clock]:
    clock, steady = Clock(), Clock()
    tokens, limits = Tokens(catalog, now=clock), Limits(running=2, queued=5, bytes=1000, minutes=60.0)
    quotas = Quotas(catalog, limits, now=clock)
    leaps = LeapWatch(clock, steady, least=10)
    jobs = Jobs(catalog, tokens, lease_seconds=30, max_attempts=1, quotas=quotas, now=clock, leaps=leaps)
    return jobs, tokens, quotas, clock, steady


def test_a_leap_takes_no_job_from_its_worker(leaping: tuple[Jobs, Tokens, Quotas, Clock, Clock]) -> None:
    jobs, tokens, quotas, clock, steady = leaping
    job_id = jobs.create(SPEC, "ann", team="acme").id
    held = jobs.claim("w1")
    assert held is not None
    clock.now += 3 * DAY
    steady.now += 2
    assert jobs.claim("w2") is None
    assert jobs.get(job_id).state == "running"
    assert tokens.identify(held.token).job == job_id
    # Silence is silence after it as before.
    for one in (clock, steady):
        one.now += 20
    jobs.heartbeat(job_id, "w1", 1)
    jobs.finish(job_id, "v1", {})
    assert jobs.get(job_id).used_seconds == pytest.approx(22)
    assert quotas.get("acme").minutes_used == pytest.approx(22 / 60, abs=0.01)


def test_a_run_that_ends_right_after_a_leap_is_not_one_of_days(
    leaping: tuple[Jobs, Tokens, Quotas, Clock, Clock],
) -> None:
    jobs, _, quotas, clock, steady = leaping
    job_id = jobs.create(SPEC, "ann", team="acme").id
    assert jobs.claim("w1")
    clock.now += 3 * DAY
    steady.now += 5
    jobs.fail(job_id, "it could not")
    assert jobs.get(job_id).used_seconds == pytest.approx(5)
    assert quotas.get("acme").minutes_used < 1


def test_a_clock_that_was_put_back_gives_nobody_minutes(leaping: tuple[Jobs, Tokens, Quotas, Clock, Clock]) -> None:
    jobs, _, quotas, clock, steady = leaping
    job_id = jobs.create(SPEC, "ann", team="acme").id
    assert jobs.claim("w1")
    clock.now -= 3 * DAY
    assert jobs.claim("w2") is None
    for one in (clock, steady):
        one.now += 29
    jobs.heartbeat(job_id, "w1", 1)
    assert quotas.get("acme").minutes_used == pytest.approx(29 / 60, abs=0.01)
    for one in (clock, steady):
        one.now += 31
    jobs.claim("w2")
    assert jobs.get(job_id).state == "failed", "its worker went silent"


def test_a_delivery_does_not_wait_for_a_clock_that_was_put_back(services: Services) -> None:
    clock = Clock()
    postman = Postman(services.registry.catalog, services.webhooks, seconds=1, first_pause=1, now=clock)
    with services.registry.catalog.write() as db:
        db.execute(
            "INSERT INTO hub_webhooks VALUES ('h', 'acme', 'http://127.0.0.1:1/', ['*'], [], '', true, 1, 'ann', ?)",
            [clock.now],
        )
        db.execute(
            "INSERT INTO hub_webhook_deliveries VALUES"
            " ('d', 'h', 'repo', '{}', '{}', 'pending', 1, ?, ?, NULL, NULL, '', NULL)",
            [clock.now, clock.now + 60],
        )
    services.webhooks.reload()
    assert postman.due() == []
    clock.now -= 5 * DAY
    assert [one.id for one in postman.due()] == ["d"]


def test_reservations_of_the_future_end(services: Services) -> None:
    clock, catalog = Clock(), services.registry.catalog
    quotas = Quotas(catalog, Limits(running=2, queued=5, bytes=1000, minutes=60.0), now=clock)
    reservations = quotas._reservations
    with catalog.write() as db:
        reservations.reserve(db, "acme", "ann", {"a" * 64: 900}, stored=0, limit=1000)
    clock.now -= 300 * DAY
    with catalog.write() as db:
        assert reservations.pending(db, "acme") == 900
    clock.now += 2 * DAY
    with catalog.write() as db:
        assert reservations.pending(db, "acme") == 0


def test_a_trial_that_began_in_the_future_sees_picks(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    with services.registry.catalog.write() as db:
        db.execute(
            "INSERT INTO rollout_trials VALUES ('t', 'dock-7', 'v1', 'fleet', 'running', ?, ?, 'ann', NULL, 0, 0, 0.0,"
            " NULL, NULL)",
            [
                '{"good":0.9,"bad":0.6,"alpha":0.01,"beta":0.01,"at_most":0,"repeat":true,"rollback":true}',
                real() + 9 * DAY,
            ],
        )
    telemetry = services.production.telemetry
    from serving.observed.telemetry import INCOMING, PREDICTIONS, write_segment

    services.production.trials.evaluate()
    facts = {"cell": "dock-7", "variant": "dock-7@v1", "stage": "fleet"}
    write_segment(telemetry.folder / INCOMING, PREDICTIONS, [prediction("r", at=real(), **facts)])
    telemetry.add_outcomes([outcome("r", "drop", picked_at=real())], reporter="robot")
    services.production.trials.evaluate()
    assert services.production.trials.get("t").picks == 1


# --- a real hub, as the operator's chapter has it -------------------------------------------------------------------


@contextmanager
def moved_hub(settings: Settings, ahead: Path, log: Path) -> Iterator[None]:
    with log.open("ab") as words:
        command = [sys.executable, "-m", "tests.hub.maintenance.moved_clock", str(ahead), "hub"]
        process = spawn(command, env=settings.environment() | {"PYTHONPATH": str(Path.cwd())}, stdout=words)
    try:

        def up() -> bool:
            assert process.poll() is None, log.read_text()
            return settings.admin_token_file.exists() and not port_is_free(settings.host, settings.port)

        wait_for(up, 400)
        yield
    finally:
        stop(process, grace_seconds=30)


def test_the_operators_chapter_on_a_clock_that_was_wrong(tmp_path: Path) -> None:
    base, ahead, log = write_base_files(tmp_path / "base"), tmp_path / "ahead", tmp_path / "hub.log"
    settings = Settings.load({}, data=tmp_path / "data", base_source=base).on_free_ports()
    settings = Settings.load(settings.environment(), blob_grace_days=1.0, xet_grace_days=1.0, workspace_days=1.0)
    ahead.write_text("0")
    repo, heads = f"ann/{uuid.uuid4().hex[:8]}", []

    def add(client: HubClient, name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.txt").write_text(name)
        client.push_folder("dataset", repo, folder, name)
        heads.append(name)

    def told() -> list[str]:
        answer = httpx.get(f"{settings.url}/api/datasets/{repo}/commits/main", headers=bearer(settings.client_token()))
        return [one["title"] for one in answer.json()][::-1]

    def as_ann(path: str, body: object = None) -> httpx.Response:
        return httpx.request("GET" if body is None else "POST", settings.url + path, headers=bearer(short), json=body)

    with moved_hub(settings, ahead, log):
        with HubClient.of(settings) as operator:
            operator.put_user("ann")
            short = operator.create_token("short", ["read", "contribute"], user="ann", seconds=3600)
            add(operator, "one")
            waiting = operator.put_blob(b"sent, and not committed yet")
        assert as_ann("/api/whoami-v2").status_code == 200

        # Ahead by forty days while it runs.
        ahead.write_text(str(40 * DAY))
        assert as_ann("/api/whoami-v2").status_code == 401
        with HubClient.of(settings) as operator, MaintenanceClient.of(settings) as care:
            assert care.collect().blobs == 0
            assert operator.has_blob(waiting)
            add(operator, "two")
            report = {"outcomes": [outcome("late", "drop")]}
            assert httpx.post(
                f"{settings.url}/api/v1/outcomes", json=report, headers=bearer(settings.client_token())
            ).is_success
    # A restart with the same wrong clock.
    with moved_hub(settings, ahead, log), HubClient.of(settings) as operator, MaintenanceClient.of(settings) as care:
        assert care.collect().blobs == 0
        assert operator.has_blob(waiting)

        # Put right, and too far: two days back.
        ahead.write_text(str(-2 * DAY))
        assert as_ann("/api/whoami-v2").status_code == 200, "the token is good again"
        add(operator, "three")
        assert told() == heads
        assert care.collect().blobs == 0
        report = {"outcomes": [outcome("early", picked_at=time.time() - 3 * DAY)]}
        assert httpx.post(
            f"{settings.url}/api/v1/outcomes", json=report, headers=bearer(settings.client_token())
        ).is_success
    ahead.write_text("0")
    with moved_hub(settings, ahead, log), HubClient.of(settings) as operator, MaintenanceClient.of(settings) as care:
        assert told() == heads
        assert operator.has_blob(waiting)
        assert not care.fsck(quick=False).damaged
        add(operator, "four")
        assert told() == heads
    words = log.read_text()
    assert "the clock leapt" in words
    assert "the clock was put back" in words
    assert "Traceback" not in words


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_picture_is_not_held_for_days(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    from hub.loop.labelling import rows

    catalog = services.registry.catalog
    now = 1_000_000.0
    with catalog.write() as tx:
        tx.execute(
            "INSERT INTO label_tasks VALUES"
            " ('t', 'c', 's', 'p', '.png', 1, 1, '', '', NULL, 0, 0, 'taken', 0, 'ann', ?, 1, NULL, 0, NULL)",
            [now + 600],
        )
        rows.give_back_expired(tx, "c", now - 9 * DAY, 600)
        assert tx.execute("SELECT state, lease_until FROM label_tasks").fetchone() == ("taken", now - 9 * DAY + 600)
        rows.give_back_expired(tx, "c", now - 9 * DAY + 601, 600)
        assert tx.execute("SELECT state FROM label_tasks").fetchone() == ("open",)
