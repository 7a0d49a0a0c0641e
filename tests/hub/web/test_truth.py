"""What pages say is so: decisions in words, notices by key, refusals that leave nothing behind, jobs that wait."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest

from hub.cli.service import tell_up
from hub.client.client import HubClient
from hub.schemas.core import FinetuneIn, ProgressIn
from hub.schemas.resources import QuotaIn
from hub.services import Services
from hub.settings import Settings
from hub.web.promotion_forms import in_words, outcome
from hub.web.render import NOTICES
from hub.web.sessions import OnceShown
from registry.stage_types import DecisionRecord, Stage
from registry.types import FileEntry, RepoId, Variant
from tests.hub.web.material import Browser, finish_job, push_rectangles

ACME = "acme/dock"


@pytest.fixture
def pushed(client: HubClient, tmp_path: Path) -> str:
    return push_rectangles(client, ACME, tmp_path / "data")


def decision(
    to: Stage,
    *,
    origin: Stage | None = "candidate",
    kind: Literal["move", "rollback"] = "move",
    actor: str = "ann",
    verdict: Literal["allowed", "refused"] = "allowed",
    holder: str = "",
) -> DecisionRecord:
    repo = RepoId("model", "cells", "dock")
    return DecisionRecord(
        kind=kind, cell="dock", variant=Variant(repo, "v2"), commit="0" * 64, from_stage=origin, to_stage=to,
        holder=Variant(repo, holder) if holder else None, actor=actor, note="", evidence={}, policy=None, restores=None,
        verdict=verdict, reason="", previous=None, decided_at=datetime.now(UTC),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("record", "words", "word"),
    [
        (decision("fleet"), "v2 was promoted to the fleet", "done"),
        (decision("fleet", verdict="refused"), "v2 was refused for the fleet", "refused"),
        (decision("candidate", origin=None), "v2 was made", "done"),
        (
            decision("candidate", origin="fleet", actor="watch"),
            "v2 was rolled back automatically: the shared base serves the fleet again", "rolled back",
        ),
        (
            decision("fleet", kind="rollback", actor="watch", holder="v3"),
            "v3 was rolled back automatically: v2 serves the fleet again", "rolled back",
        ),
        (
            decision("station", kind="rollback", holder="v3"),
            "v3 was rolled back: v2 serves the test station again", "rolled back",
        ),
        (decision("archived"), "v2 was put away", "done"),
    ],
)  # fmt: skip
def test_decisions_are_told_in_words(record: DecisionRecord, words: str, word: str) -> None:
    assert (in_words(record), outcome(record)) == (words, word)


def test_a_refused_finetune_leaves_no_cell_behind(browser: Browser, services: Services, pushed: str) -> None:
    form = {"dataset": ACME, "new_cell": "dock"}
    services.quotas.set("acme", QuotaIn(queued=0))
    services.quotas.set("dock", QuotaIn(queued=0))
    assert "queued jobs" in browser.post("/ui/finetune", form, status=429).text
    assert services.cells.all() == [] and services.jobs.all() == []
    browser.post("/ui/finetune", form | {"dataset": "acme/nothing"}, status=404)
    repo = RepoId("dataset", "acme", "bare")
    services.store.repos.create(repo)
    info = services.store.blobs.put_bytes(b"# nothing\n")
    services.store.repos.commit(repo, [FileEntry("README.md", info.sha256, info.size)], message="x", author="ann")
    refused = browser.post("/ui/finetune", form | {"dataset": "acme/bare"}, status=400).text
    assert "cannot be used as it is" in refused and services.cells.all() == []
    services.quotas.set("acme", QuotaIn(queued=5))
    browser.post("/ui/finetune", form)
    assert [cell.name for cell in services.cells.all()] == ["dock"]


def test_a_job_that_waits_or_starves_says_so(
    browser: Browser, client: HubClient, services: Services, pushed: str
) -> None:
    services.cells.create("dock", "")
    first = services.finetunes.request(FinetuneIn(cell="dock", dataset=ACME, seed=1), "admin")
    second = services.finetunes.request(FinetuneIn(cell="dock", dataset=ACME, seed=2), "admin")
    assert "1 job before it" in browser.get(f"/ui/jobs/{second.id}")
    assert client.job(second.id).life.startswith("Waiting for ") and "the next one" in client.job(first.id).life
    claim = services.jobs.claim("w1")
    assert claim is not None and claim.job.id == first.id
    assert "Starting for" in browser.get(f"/ui/jobs/{first.id}")
    told = browser.client.get(f"/ui/jobs/{first.id}/log").headers["X-Job-Life"]
    assert "Starting for" in told and "sign of life" in told
    services.jobs.progress(first.id, ProgressIn(stage="train", step=1, total=2, message="step \x1b[1m1\x1b[0m\r"))
    assert client.job(first.id).life.startswith("Running for")
    progress = client.job(first.id).progress
    assert progress is not None and progress["message"] == "step 1"


def test_logs_reach_pages_without_control_characters(browser: Browser, services: Services, pushed: str) -> None:
    services.cells.create("dock", "")
    job = services.finetunes.request(FinetuneIn(cell="dock", dataset=ACME), "admin")
    services.job_logs.append(job.id, 0, "one\x1b[31m red\x1b[0m\n 10%|#  | 1/9\r 99%|## | 9/9\n\x07two\n")
    assert browser.get(f"/ui/jobs/{job.id}/log") == "one red\ntwo\n"
    assert "\x1b" not in browser.get(f"/ui/jobs/{job.id}")


def test_a_notice_is_one_of_ours_and_the_verdict_is_in_rest(
    browser: Browser, client: HubClient, services: Services, pushed: str, tmp_path: Path
) -> None:
    assert "call 555" not in browser.get("/ui/?notice=call 555")
    assert NOTICES["revoked"] in browser.get("/ui/?notice=revoked")
    services.cells.create("dock", "")
    job = services.finetunes.request(FinetuneIn(cell="dock", dataset=ACME), "admin")
    name = finish_job(services, job, tmp_path / "v", "one")
    for judged in (client.variant(name).judgement, client.job(job.id).judgement):
        assert judged is not None and (judged.verdict, judged.stage) == ("ready", "fleet")
    assert 'value="fleet" checked' in browser.get(f"/ui/models/dock/{name.partition('@')[2]}")


def test_a_token_is_shown_once() -> None:
    now = [0.0]
    once = OnceShown(seconds=10, most=2, now=lambda: now[0])
    once.put("a", "one")
    assert (once.take("b"), once.take("a"), once.take("a")) == ("", "one", "")
    once.put("a", "late")
    now[0] = 11.0
    assert once.take("a") == ""
    for name in "abc":
        once.put(name, name)
    assert [once.take(name) for name in "abc"] == ["", "b", "c"], "memory is bounded"


def test_a_first_start_says_where_the_token_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, services: Services
) -> None:
    settings = Settings.load({}, data=tmp_path / "elsewhere")
    tell_up(settings, first=True)
    said = capsys.readouterr().err.replace("\n", "")
    assert f"{settings.url}/ui/" in said and str(settings.admin_token_file) in said
    tell_up(settings, first=False)
    assert "admin.token" not in capsys.readouterr().err
    file = tmp_path / "admin.token"
    with caplog.at_level(logging.INFO, "parcelhub.hub"):
        services.tokens.ensure_admin(file)
        services.tokens.ensure_admin(file)
    assert caplog.text.count(str(file)) == 1 and file.read_text().strip() not in caplog.text


@pytest.mark.usefixtures("pushed")
def test_a_note_that_is_being_typed_is_not_reloaded_away(browser: Browser) -> None:
    """The page of an offer that is being checked follows by itself only where nothing can be typed."""
    where = f"/ui/datasets/{ACME}"
    assert "Offer this dataset" in browser.get(f"{where}/contribution")
    browser.post(f"{where}/offer", {"action": "offer"})
    told = browser.get(f"{where}/contribution")
    assert "Withdraw" in told and "Look again" in told and "offered" in told
    assert "http-equiv" not in told
