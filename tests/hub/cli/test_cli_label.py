"""`parcelhub label` against a live hub: a queue is filled, a picture labelled by a program, put away and taken back."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.cli.main import run
from hub.client.client import HubClient
from hub.schemas import labels as s
from hub.settings import Settings
from serving.instances import Instances
from serving.observed.captures import Capture, CaptureStore


@pytest.fixture
def here(live_hub: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in live_hub.environment().items():
        monkeypatch.setenv(name, value)
    return live_hub


def said(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    assert run([*args, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_queue_by_commands(here: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(["cell", "create", "labelled-cell"])
    capsys.readouterr()
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 10:40, 10:50] = True
    found = Instances.from_masks(mask, ["box"], [0.9])
    frame = np.full((60, 80, 3), 120, np.uint8)
    kept = Capture(frame, found, secrets.token_hex(8), 1.7e9, "sample", "x@v1", "labelled-cell", None, None)
    CaptureStore(here.telemetry_folder / "captures").add(kept)
    assert said(capsys, "label", "fill", "labelled-cell") == {"made": 1}
    assert run(["label", "list"]) == 0
    assert "labelled-cell" in capsys.readouterr().out
    (task,) = said(capsys, "label", "list", "--cell", "labelled-cell", "--state", "open")
    work = said(capsys, "label", "next", "labelled-cell", "--out", str(tmp_path))
    assert work["task"]["id"] == task["id"]
    assert (tmp_path / f"{task['id']}.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert json.loads((tmp_path / f"{task['id']}.json").read_text())["regions"][0]["label"] == "box"
    with HubClient.of(here) as client:
        region = s.RegionIn(label="box", keep=work["regions"][0]["id"])
        answer = s.Accept(action=secrets.token_hex(16), version=work["task"]["version"], regions=[region], clicks=2)
        client.accept_labels(task["id"], answer)
    assert run(["label", "export", "labelled-cell"]) != 0, "the cell has no team, and no dataset is named"
    assert "which dataset" in capsys.readouterr().err
    chosen = said(capsys, "label", "settings", "labelled-cell", "--dataset", "acme/by-command", "--second-look")
    assert chosen["second_look"] and chosen["dataset"] == "acme/by-command"
    batch = said(capsys, "label", "export", "labelled-cell")
    assert (batch["pictures"], batch["instances"], batch["dataset"]) == (1, 1, "acme/by-command")
    assert said(capsys, "label", "export", "labelled-cell") is None
    assert said(capsys, "label", "stats", "labelled-cell")["clicks"] == 2
    assert said(capsys, "label", "undo", "labelled-cell", batch["id"])["undone_at"]
    assert run(["label", "undo", "labelled-cell", batch["id"]]) == 5
    assert said(capsys, "label", "list", "--cell", "labelled-cell")[0]["state"] == "open"
    assert run(["label", "next", "nowhere"]) == 3


def test_pictures_go_to_another_tool_and_come_back_by_commands(
    here: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["cell", "create", "handed-cell"])
    capsys.readouterr()
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 10:40, 10:50] = True
    mask[0, 20:30, 20:30] = False
    for number in range(2):
        found = Instances.from_masks(mask, ["box"], [0.9])
        frame = np.full((60, 80, 3), 90 + number, np.uint8)
        kept = Capture(frame, found, secrets.token_hex(8), 1.7e9, "sample", "x@v1", "handed-cell", None, None)
        CaptureStore(here.telemetry_folder / "captures").add(kept)
    assert said(capsys, "label", "fill", "handed-cell") == {"made": 2}
    where = ["handed-cell", "--to", "fiftyone", "--folder", str(tmp_path / "set")]
    assert said(capsys, "label", "push", *where)["sent"] == 2
    document = json.loads((tmp_path / "set" / "samples.json").read_text())
    first, second = document["samples"]
    first["tags"] = ["accepted"]
    (tmp_path / "set" / "samples.json").write_text(json.dumps(document))
    pulled = said(capsys, "label", "pull", *where, "--give-back")
    assert (pulled["new"], pulled["given_back"]) == (1, 1)
    assert pulled["counts"] == {"labelled": 1, "given back": 1}
    (left,) = json.loads((tmp_path / "set" / "samples.json").read_text())["samples"]
    assert left["parcelhub_task"] == first["parcelhub_task"] and not (tmp_path / "set" / second["filepath"]).exists()
    assert [one["state"] for one in said(capsys, "label", "status", "handed-cell")] == ["labelled"]
    assert run(["label", "status", "handed-cell"]) == 0
    assert "labelled" in capsys.readouterr().out
    # What the options lack, and a token that others can read, is told before anything is sent.
    monkeypatch.delenv("CVAT_ACCESS_TOKEN", raising=False)
    token = tmp_path / "token"
    token.write_text("secret-of-a-test")
    token.chmod(0o644)
    cvat = ["label", "push", "handed-cell", "--to", "cvat", "--url", "http://127.0.0.1:9"]
    for arguments, word in (
        (["label", "push", "handed-cell", "--to", "fiftyone"], "--folder"),
        (["label", "push", "handed-cell", "--to", "cvat"], "--url"),
        (cvat, "CVAT_ACCESS_TOKEN"),
        ([*cvat, "--token-file", str(token)], "chmod 600"),
    ):
        assert run(arguments) == 2
        told = capsys.readouterr().err
        assert word in told and "secret-of-a-test" not in told
    token.chmod(0o600)
    assert run([*cvat, "--token-file", str(token)]) == 1
    assert "does not answer" in capsys.readouterr().err
