"""What is told to whom, signed and tried again; against a real receiver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.accounts.tokens import Identity, Scope
from hub.client.client import HubClient
from hub.errors import HubAnswerError, InputError
from hub.schemas import webhooks as w
from hub.services import Services
from hub.settings import Settings
from hub.webhooks.delivery import MAX_WAITING, Postman
from registry.types import FileEntry, RepoId
from serving.observed.spool import UPLINK, Spool
from tests.hub.http.test_access_table import _variant
from tests.hub.material import wait_for, write_base_files
from tests.hub.receivers import Letter, Receiver, receiving

DATA = RepoId("dataset", "acme", "frames")
THEIRS = RepoId("dataset", "rival", "frames")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    base = write_base_files(tmp_path / "base")
    return Settings.load({}, data=tmp_path / "data", base_source=base, webhook_allow="127.0.0.1/32", webhook_pause=0.05)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def ann(services: Services, as_job: Callable[[str], HubClient]) -> Iterator[HubClient]:
    services.users.put("ann", teams=["acme"])
    services.users.put("bob", teams=["rival"])
    with as_job(services.tokens.issue("ann-token", [Scope.CONTRIBUTE, Scope.FINETUNE], user="ann")) as client:
        yield client


@pytest.fixture
def bob(services: Services, ann: HubClient, as_job: Callable[[str], HubClient]) -> Iterator[HubClient]:
    with as_job(services.tokens.issue("bob-token", [Scope.CONTRIBUTE], user="bob")) as client:
        yield client


def commit(services: Services, repo: RepoId, text: str, message: str = "frames") -> None:
    blob = services.store.blobs.put_bytes(text.encode())
    services.registry.repos.commit(repo, [FileEntry("README.md", blob.sha256, blob.size)], message=message, author="a")


def hook(client: HubClient, receiver: Receiver, *events: str, team: str = "acme", **more: Any) -> w.NewSecret:
    return client.create_webhook(w.WebhookIn(url=receiver.url, events=list(events) or ["*"], team=team, **more))


def settled(client: HubClient, hook_id: str) -> list[w.Delivery]:
    """Its deliveries, newest first, once none of them waits."""
    wait_for(lambda: not client.deliveries(hook_id, state="pending"), 120)
    return client.deliveries(hook_id)


def test_every_kind_of_event_arrives_signed(
    services: Services, client: HubClient, ann: HubClient, receiver: Receiver, tmp_path: Path
) -> None:
    made = hook(ann, receiver)
    services.registry.repos.create(DATA, private=True)
    commit(services, DATA, "# Frames", "first frames")
    info = services.registry.repos.get(DATA)
    opened = services.hf.discussions.open(info, "Blurred", "frame 7 is", "ann")
    services.hf.discussions.edit(info, opened.num, 1, "frames 7 and 8 are", "ann")
    services.hf.discussions.set_status(info, opened.num, "closed", "ann")
    services.cells.create("dock-7", "", "acme")
    _variant(services, tmp_path, "dock-7", "acme/frames", "ann")
    services.promotions.rollback("dock-7", "fleet", actor="ann", note="")
    services.events.alert("drift", "brightness fell", cell="dock-7", data={"by": 0.4})
    deliveries = settled(ann, made.webhook.id)
    assert {(one.state, one.status, one.attempts) for one in deliveries} == {("delivered", 204, 1)}
    by_event = {letter.told["event"]: letter for letter in receiver.letters}
    assert set(by_event) >= {
        *("repo.created", "repo.commit", "discussion.opened", "discussion.comment", "discussion.comment-edited"),
        *("discussion.status", "job.queued", "job.running", "job.finished", "promotion.candidate", "promotion.moved"),
        *("promotion.rolled-back", "alert.drift"),
    }
    assert all(letter.is_signed_with(made.secret) for letter in receiver.letters)
    ids = [letter.headers["x-parcelhub-delivery"] for letter in receiver.letters]
    assert sorted(ids) == sorted(one.id for one in deliveries)
    assert [letter.told["delivery"] for letter in receiver.letters] == ids
    told = by_event["repo.commit"].told
    repo_commits = [one.told for one in receiver.letters if one.told["event"] == "repo.commit"]
    assert any(one["data"]["commits"][0]["message"] == "first frames" for one in repo_commits)
    assert told["happened_at"].endswith("Z")
    assert by_event["discussion.comment-edited"].told["data"]["text"] == "frames 7 and 8 are"
    assert by_event["job.finished"].told["data"]["variant"] == "dock-7@v1"
    assert by_event["promotion.moved"].told["data"]["to"] == "fleet"
    assert by_event["alert.drift"].told["data"] == {"text": "brightness fell", "by": 0.4}
    tampered = Letter("", receiver.letters[0].headers, receiver.letters[0].body + b" ")
    assert not tampered.is_signed_with(made.secret)


def test_what_is_rolled_back_is_not_told(services: Services, ann: HubClient, receiver: Receiver) -> None:
    made = hook(ann, receiver)

    def refuse(*_: object) -> None:
        raise InputError("not this one")

    services.registry.repos.observers.append(refuse)
    with pytest.raises(InputError):
        services.registry.repos.create(DATA)
    services.registry.repos.observers.remove(refuse)
    assert ann.deliveries(made.webhook.id) == []


def test_a_webhook_sees_what_its_team_sees(
    services: Services, client: HubClient, ann: HubClient, receiver: Receiver
) -> None:
    everything = hook(ann, receiver, watch=["*"])
    own = hook(ann, receiver)
    operators = client.create_webhook(w.WebhookIn(url=receiver.url))
    services.registry.repos.create(THEIRS, private=True)
    commit(services, THEIRS, "# classified")
    info = services.registry.repos.get(THEIRS)
    services.hf.discussions.open(info, "classified", "classified", "bob")
    services.cells.create("dock-8", "", "rival")
    services.events.alert("drift", "classified", cell="dock-8")
    services.events.alert("disk", "classified")
    services.events.alert("quota", "classified", team="rival")
    services.registry.directory.move(THEIRS, RepoId("dataset", "rival", "classified"))
    services.registry.repos.delete(RepoId("dataset", "rival", "classified"))
    assert ann.deliveries(everything.webhook.id) == ann.deliveries(own.webhook.id) == []
    told = {one.event for one in settled(client, operators.webhook.id)}
    assert told >= {"repo.created", "repo.commit", "repo.renamed", "repo.deleted", "discussion.opened"}
    assert told >= {"alert.drift", "alert.disk", "alert.quota"}

    services.registry.repos.create(THEIRS)  # public: whoever watches it is told, nobody else
    assert [one.event for one in settled(ann, everything.webhook.id)] == ["repo.created"]
    assert ann.deliveries(own.webhook.id) == []
    services.registry.directory.configure(THEIRS, private=True)
    assert len(ann.deliveries(everything.webhook.id)) == 1


def test_what_became_private_before_it_was_sent_is_withheld(
    services: Services, ann: HubClient, receiver: Receiver
) -> None:
    services.registry.repos.create(THEIRS)
    receiver.answer = lambda _: (503, {})
    made = hook(ann, receiver, watch=["rival/frames"])
    commit(services, THEIRS, "# open")
    receiver.wait(1)
    services.registry.directory.configure(THEIRS, private=True)
    (one,) = settled(ann, made.webhook.id)
    assert (one.state, one.status, one.next_try_at) == ("withheld", None, None)


def test_tried_again_with_the_same_id(services: Services, ann: HubClient, receiver: Receiver) -> None:
    answers = iter([(500, {}), (302, {"Location": "http://127.0.0.1:1/"}), (429, {})])
    receiver.answer = lambda _: next(answers, (200, {}))
    made = hook(ann, receiver, "repo.created")
    services.registry.repos.create(DATA)
    (one,) = settled(ann, made.webhook.id)
    assert (one.state, one.attempts, one.status, one.error) == ("delivered", 4, 200, "")
    assert {letter.headers["x-parcelhub-delivery"] for letter in receiver.letters} == {one.id}
    assert [letter.headers["x-parcelhub-attempt"] for letter in receiver.letters] == ["1", "2", "3", "4"]
    assert len({letter.body for letter in receiver.letters}) == 1


def test_given_up_after_so_many_tries_and_tried_again_by_hand(
    services: Services, ann: HubClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.webhooks.delivery.MAX_ATTEMPTS", 3)
    receiver.answer = lambda _: (500, {})
    made = hook(ann, receiver, "repo.created")
    services.registry.repos.create(DATA)
    (one,) = settled(ann, made.webhook.id)
    assert (one.state, one.attempts, one.error) == ("failed", 3, "the receiver answered 500")
    assert ann.webhook(made.webhook.id).failed == 1
    receiver.answer = lambda _: (200, {})
    ann.retry_delivery(made.webhook.id, one.id)
    assert settled(ann, made.webhook.id)[0].state == "delivered"


def test_a_receiver_that_hangs_does_not_hold_up_others(services: Services, ann: HubClient, receiver: Receiver) -> None:
    go_on = threading.Event()
    with receiving() as slow:
        slow.answer = lambda _: (200 if go_on.wait(60) else 500, {})
        hook(ann, slow, "repo")
        made = hook(ann, receiver, "repo")
        services.registry.repos.create(DATA)
        for number in range(5):
            commit(services, DATA, f"# {number}")
        assert len(settled(ann, made.webhook.id)) == 6
        assert len(slow.letters) == 1
        go_on.set()
        slow.wait(6)


def test_switched_off_and_on(services: Services, ann: HubClient, receiver: Receiver) -> None:
    made = hook(ann, receiver, "repo")
    ann.change_webhook(made.webhook.id, w.WebhookChange(active=False))
    services.registry.repos.create(DATA)
    with pytest.raises(HubAnswerError, match="switched off"):
        ann.test_webhook(made.webhook.id)
    ann.change_webhook(made.webhook.id, w.WebhookChange(active=True, events=["discussion"]))
    commit(services, DATA, "# not asked for")
    ann.test_webhook(made.webhook.id)
    assert [one.event for one in settled(ann, made.webhook.id)] == ["ping"]


def test_the_secret_is_shown_once_and_is_in_no_table(services: Services, ann: HubClient, receiver: Receiver) -> None:
    made = hook(ann, receiver)
    assert made.secret not in str(ann.webhooks())
    for (name,) in services.registry.catalog.query("SELECT table_name FROM duckdb_tables()"):
        rows = services.registry.catalog.query(f'SELECT * FROM "{name}"')  # noqa: S608  # of the catalog itself
        assert made.secret.removeprefix("whsec_") not in str(rows), name
    renewed = ann.renew_webhook_secret(made.webhook.id)
    assert renewed.secret != made.secret
    ann.test_webhook(made.webhook.id)
    (letter,) = receiver.wait(1)
    assert letter.is_signed_with(renewed.secret)
    assert not letter.is_signed_with(made.secret)


def test_a_teams_webhooks_are_its_own(
    services: Services, client: HubClient, ann: HubClient, bob: HubClient, receiver: Receiver
) -> None:
    made = hook(ann, receiver)
    assert bob.webhooks() == []
    assert [one.id for one in client.webhooks()] == [made.webhook.id]
    delivery = ann.test_webhook(made.webhook.id)
    calls: list[Callable[[], object]] = [
        lambda: bob.webhook(made.webhook.id),
        lambda: bob.change_webhook(made.webhook.id, w.WebhookChange(url="https://example.com/")),
        lambda: bob.delete_webhook(made.webhook.id),
        lambda: bob.renew_webhook_secret(made.webhook.id),
        lambda: bob.test_webhook(made.webhook.id),
        lambda: bob.deliveries(made.webhook.id),
        lambda: bob.delivery(made.webhook.id, delivery.id),
        lambda: bob.retry_delivery(made.webhook.id, delivery.id),
    ]
    for call in calls:
        with pytest.raises(HubAnswerError) as told:
            call()
        assert told.value.status == 404
    for team in ("acme", "", "cells", "base"):
        with pytest.raises(HubAnswerError) as told:
            hook(bob, receiver, team=team)
        assert told.value.status == 403
    operators = client.create_webhook(w.WebhookIn(url=receiver.url))
    with pytest.raises(HubAnswerError):
        ann.webhook(operators.webhook.id)


def test_private_addresses_and_nonsense_are_refused(ann: HubClient, settings: Settings) -> None:
    for wrong in (
        {"url": "http://127.0.0.2/"},
        {"url": "http://169.254.169.254/latest"},
        {"url": "gopher://example.com/"},
        {"url": "https://93.184.216.34/", "events": ["everything"]},
        {"url": "https://93.184.216.34/", "events": []},
        {"url": "https://93.184.216.34/", "watch": ["../etc"]},
    ):
        with pytest.raises(HubAnswerError) as told:
            ann._call("POST", "/webhooks", w.NewSecret, wrong)
        assert told.value.status == 400, wrong
    for number in range(20):
        ann.create_webhook(w.WebhookIn(url=f"https://receiver.invalid/{number}", team="acme"))
    with pytest.raises(HubAnswerError, match="at most 20"):
        ann.create_webhook(w.WebhookIn(url="https://receiver.invalid/", team="acme"))


def test_a_team_that_goes_takes_its_webhooks_along(services: Services, ann: HubClient, receiver: Receiver) -> None:
    hook(ann, receiver)
    mine = hook(ann, receiver, team="ann")
    services.users.delete_team("acme")
    assert [one.id for one in services.webhooks.page(limit=9)] == [mine.webhook.id]
    services.registry.repos.create(DATA, private=True)
    services.users.delete("ann")
    assert services.webhooks.page(limit=9) == []
    assert services.registry.catalog.query("SELECT * FROM hub_webhook_deliveries") == []


def test_a_cameras_fault_is_told_though_nobody_looks(services: Services, ann: HubClient, receiver: Receiver) -> None:
    made = hook(ann, receiver, "alert.camera")
    services.cells.create("dock-7", "", "acme")
    about = {"type": "alert", "alert": "a" * 32}
    fault = {"cell": "dock-7", "line": "l1", "camera": None, "kind": "blocked", "since": 1.0, "at": 20.0, "reason": ""}
    spool = Spool(services.settings.telemetry_folder / UPLINK)
    spool.put("1" * 32, 20.0, about | {"event": "open", **fault, "pictures": {}})
    spool.put("2" * 32, 900.0, about | {"event": "close", "at": 900.0})
    wait_for(lambda: len(receiver.letters) == 2, 120)
    assert {one.told["event"] for one in receiver.letters} == {"alert.camera.open", "alert.camera.closed"}
    assert all(one.is_signed_with(made.secret) for one in receiver.letters)
    (first,) = (one.told for one in receiver.letters if one.told["event"] == "alert.camera.open")
    assert (first["about"]["cell"], first["data"]["kind"], first["data"]["line"]) == ("dock-7", "blocked", "l1")


def test_alerts_have_any_name(services: Services, ann: HubClient, receiver: Receiver) -> None:
    made = hook(ann, receiver, "alert.robot")
    for name in ("robot.silent", "robot", "drift", "robots"):
        services.events.alert(name, "look", team="acme")
    assert [one.event for one in settled(ann, made.webhook.id)] == ["alert.robot", "alert.robot.silent"]
    for wrong in ("", "Loud", "a..b", "a b", ".a"):
        with pytest.raises(InputError):
            services.events.alert(wrong, "look")


def test_the_outbox_is_bounded(services: Services, ann: HubClient, receiver: Receiver) -> None:
    made = hook(ann, receiver)
    later = services.webhooks._now() + 1e6
    postman = Postman(services.registry.catalog, services.webhooks, seconds=1, first_pause=1)
    with services.registry.catalog.write() as tx:
        tx.execute(
            "INSERT INTO hub_webhook_deliveries SELECT 'd' || i, ?, 'repo.commit', '{}', '{}', 'pending', 0, i, ?,"
            " NULL, NULL, '', NULL FROM range(?) r(i)",
            [made.webhook.id, later, MAX_WAITING + 3],
        )
    postman.sweep()
    assert {one.id for one in ann.deliveries(made.webhook.id, state="failed")} == {"d0", "d1", "d2"}
    postman.sweep()  # what is over and old is forgotten
    assert ann.deliveries(made.webhook.id, state="failed") == []


def test_eyes_of_a_team_have_no_scope(services: Services, ann: HubClient, receiver: Receiver) -> None:
    made = hook(ann, receiver)
    eyes: Identity = services.webhooks.hook(made.webhook.id).eyes
    assert eyes.namespaces == {"acme"}
    assert not eyes.may(Scope.CONTRIBUTE)
    assert not services.hf.access.may_read(eyes, services.registry.repos.create(THEIRS, private=True))
