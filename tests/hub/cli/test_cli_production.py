"""Commands about production against a live hub, and outcomes that outlive it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from hub.cli.main import run
from hub.settings import Settings
from hub.stack.processes import stop
from serving.observed.captures import CaptureStore
from serving.robot.client import RobotClient
from serving.robot.outcomes import Outcome, OutcomeReporter, hub_sender
from tests.hub.material import start_hub, wait_for, write_base_files
from tests.hub.rollout.test_production import capture

COMMANDS = (
    *(("outcomes", name) for name in ("rates", "report")),
    *(("captures", name) for name in ("list", "pull", "forget")),
    *(("refresh", name) for name in ("show", "set", "pause", "resume", "now", "veto", "undo")),
    ("cell", "timeline"),
    *(("alerts", name) for name in ("list", "show", "ack", "close")),
    *(("failures", name) for name in ("list", "show", "correct")),
    *(("events", name) for name in ("list", "show", "name", "state", "merge", "split")),
    *(("label", name) for name in ("list", "fill", "next", "propose", "export", "undo", "stats", "settings")),
    *(("rollout", name) for name in ("show", "lines", "share", "trial")),
    *(("robot", name) for name in ("add", "list", "remove")),
    *(("bench", name) for name in ("serving", "batching")),
)


@pytest.fixture
def here(live_hub: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in live_hub.environment().items():
        monkeypatch.setenv(name, value)
    return live_hub


def said(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    assert run(args) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_an_example(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, *words, "--help")
    assert "Example" in shown
    assert f"parcelhub {' '.join(words)}" in shown


def test_outcomes_rollout_robots_and_captures_by_hand(
    here: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(["cell", "create", "dock-9"])
    capsys.readouterr()
    assert json.loads(said(capsys, "outcomes", "report", "by-hand", "miss", "--cell", "dock-9", "--json")) == {
        "taken": 1,
        "repeated": 0,
    }
    assert "first one stays" in said(capsys, "outcomes", "report", "by-hand", "success")
    rates = json.loads(said(capsys, "outcomes", "rates", "--by", "cell", "--cell", "dock-9", "--json"))
    assert rates["rates"][0]["outcomes"] == {"miss": 1}
    assert "dock-9" in said(capsys, "outcomes", "rates", "--by", "cell")
    shown = json.loads(said(capsys, "rollout", "lines", "dock-9", "line-3=beta", "--json"))
    assert shown["lines"] == {"line-3": "beta"}
    assert "20% of the others" in said(capsys, "rollout", "share", "dock-9", "0.2")
    assert run(["rollout", "lines", "dock-9", "line-3=fleet"]) == 2
    assert run(["rollout", "trial", "dock-9", "--stage", "beta"]) == 5, "the base has the stage"
    assert run(["rollout", "show", "nowhere"]) == 3
    capsys.readouterr()
    token = json.loads(said(capsys, "robot", "add", "arm-9", "--cell", "dock-9", "--json"))["token"]
    (robot,) = json.loads(said(capsys, "robot", "list", "--json"))
    assert (robot["name"], robot["cells"]) == ("arm-9", ["dock-9"])
    with RobotClient("127.0.0.1:1", cell="dock-9", hub=here.url, token=token) as client:
        client.report_outcome("from-the-arm", "success")
    wait_for(lambda: _picks(capsys, "dock-9") == 2)
    said(capsys, "robot", "remove", robot["id"])
    store = CaptureStore(here.telemetry_folder / "captures")
    store.add(capture(1, cell="dock-9"))
    assert "low_score" in said(capsys, "captures", "list", "--cell", "dock-9")
    said(capsys, "captures", "pull", str(tmp_path / "draft"), "--cell", "dock-9")
    draft = json.loads((tmp_path / "draft" / "annotations.json").read_text())
    assert (tmp_path / "draft" / draft["images"][0]["file_name"]).is_file()
    assert (draft["categories"][0]["name"], draft["annotations"][0]["bbox"]) == ("carton", [5.0, 5.0, 4.0, 4.0])


def _picks(capsys: pytest.CaptureFixture[str], cell: str) -> int:
    rates = json.loads(said(capsys, "outcomes", "rates", "--by", "cell", "--cell", cell, "--json"))["rates"]
    return int(rates[0]["picks"]) if rates else 0


def test_outcomes_outlive_a_hub_that_is_killed(tmp_path: Path) -> None:
    """`kill -9` of the hub between and under reports: all arrive, each once."""
    base = write_base_files(tmp_path / "base")
    settings = Settings.load({}, data=tmp_path / "data", base_source=base).on_free_ports()
    hub = start_hub(settings, tmp_path / "hub.log")
    try:
        reporter = OutcomeReporter(hub_sender(settings.url, settings.client_token()), flush_every_s=0.02)
        for number in range(300):
            reporter.report(Outcome(f"k{number}", "success", time.time(), cell="dock-7"))
            if number == 150:
                hub.kill()
                hub.wait()
            time.sleep(0.002)
        assert reporter.waiting > 0
        hub = start_hub(settings, tmp_path / "hub.log")
        assert reporter.flush(120)
        reporter.close()
        assert reporter.dropped == 0
    finally:
        stop(hub, grace_seconds=20)
    from hub.rollout.telemetry import Telemetry

    groups, _ = Telemetry(settings.telemetry_folder).rates(["cell"])
    assert [(group.key, group.picks) for group in groups] == [(("dock-7",), 300)]


def test_events_by_the_command(here: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(said(capsys, "events", "list", "--state", "new", "--json")) == []
    for command in (("show",), ("name", "x"), ("state", "watched"), ("merge", "b" * 32), ("split",)):
        assert run(("events", command[0], "a" * 32, *command[1:])) != 0
        assert "there is no event" in capsys.readouterr().err
