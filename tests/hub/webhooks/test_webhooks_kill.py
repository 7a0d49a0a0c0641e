"""The commands against a hub process, and what a SIGKILL between a commit and its delivery leaves to the next one."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from hub.cli.main import run
from hub.client.client import HubClient
from hub.locks import free_ports
from hub.settings import Settings
from hub.stack.processes import stop
from tests.hub.material import running_hub, start_hub, wait_for, write_base_files
from tests.hub.receivers import receiving


@pytest.mark.slow
def test_kill_between_commit_and_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base_files(tmp_path / "base")
    settings = Settings.load({}, data=tmp_path / "data", base_source=base).on_free_ports()
    settings = replace(settings, webhook_allow="127.0.0.1", webhook_pause=0.2)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "README.md").write_text("# Frames\n")
    log = tmp_path / "hub.log"
    (port,) = free_ports("127.0.0.1", 1)
    hub = start_hub(settings, log)
    try:
        assert run(["webhook", "create", f"http://127.0.0.1:{port}/hook", "--event", "repo.commit", "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        hook_id, secret = made["webhook"]["id"], made["secret"]
        assert run(["webhook", "test", hook_id, "--seconds", "20"]) == 1
        assert "nobody listens" in capsys.readouterr().err

        held = threading.Event()
        with receiving(port) as receiver, HubClient.of(settings) as client:
            receiver.answer = lambda letter: (200, {}) if letter.told["event"] == "ping" else (_wait(held), {})
            wait_for(lambda: "ping" in receiver.events())
            client.push_folder("dataset", "acme/frames", frames, "killed while this is told")
            wait_for(lambda: "repo.commit" in receiver.events())  # it is on its way, and has no answer
            os.kill(hub.pid, signal.SIGKILL)
            hub.wait()
            first = receiver.letters[-1]
            held.set()

        # Nobody listens now: a commit, its first try, and the end of the hub once more.
        hub = start_hub(settings, log)
        with HubClient.of(settings) as client:
            (frames / "more.md").write_text("# More\n")
            client.push_folder("dataset", "acme/frames", frames, "killed before this is told")
            os.kill(hub.pid, signal.SIGKILL)
            hub.wait()
    except BaseException:
        stop(hub, grace_seconds=5)
        raise

    with receiving(port) as receiver, running_hub(settings, log), HubClient.of(settings) as client:
        letters = receiver.wait(2)
        assert {one.told["data"]["commits"][0]["message"] for one in letters} == {
            "killed while this is told",
            "killed before this is told",
        }
        again = next(one for one in letters if one.told["delivery"] == first.told["delivery"])
        assert again.body == first.body
        assert all(one.is_signed_with(secret) for one in (first, *letters))
        wait_for(lambda: not client.deliveries(hook_id, state="pending"))
        assert run(["webhook", "deliveries", hook_id]) == 0
        shown = capsys.readouterr().out
        assert "delivered" in shown
        assert secret not in shown
        assert run(["webhook", "list"]) == 0
        assert hook_id in capsys.readouterr().out
        assert run(["webhook", "test", hook_id]) == 0
        assert "answered 204" in capsys.readouterr().out
        assert run(["webhook", "switch", hook_id, "off"]) == 0
        assert run(["webhook", "test", hook_id]) == 2
        assert run(["webhook", "delete", hook_id]) == 0
        assert run(["webhook", "deliveries", hook_id]) == 3
    assert secret not in log.read_text()


def _wait(held: threading.Event) -> int:
    held.wait(300)
    return 500
