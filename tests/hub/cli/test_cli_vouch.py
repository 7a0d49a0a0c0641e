"""`model verify|statement|sign|lineage|policy` and `registry keys`, typed against a running hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.settings import Settings
from tests.hub.cli.test_cli import command


def test_what_an_operator_types(live_hub: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    where = ["--data", str(live_hub.data), "--hub", live_hub.url]
    code, said, _ = command(capsys, "model", "verify", "base/universal@v1", *where)
    assert code == 0 and "confirmed" in said
    code, said, _ = command(capsys, "model", "verify", "base/universal@v1", "--json", *where)
    assert code == 0 and json.loads(said)["statements"] == 1
    envelope = tmp_path / "base.dsse.json"
    assert command(capsys, "model", "statement", "base/universal@v1", "--out", str(envelope), *where)[0] == 0
    assert json.loads(envelope.read_text())["payloadType"] == "application/vnd.in-toto+json"
    code, said, _ = command(capsys, "model", "lineage", "base/universal@v1", "--down", *where)
    assert code == 0 and "base/universal@v1" in said
    assert command(capsys, "model", "lineage", "acme/nothing", *where)[0] == 3
    policy = tmp_path / "policy.yaml"
    policy.write_text("name: mine\nrules:\n  - {to: fleet, approvals: 1}\n")
    assert command(capsys, "model", "policy", "set", str(policy), *where)[0] == 0
    assert "mine" in command(capsys, "model", "policy", "show", *where)[1]
    policy.write_text("rules:\n  - {to: moon}\n")
    code, _, said = command(capsys, "model", "policy", "set", str(policy), *where)
    assert code == 2 and "must be one of" in " ".join(said.split())
    policy.write_text("rules:\n  - {to: fleet, evidence: [evaluation]}\n")  # as other tests expect it
    assert command(capsys, "model", "policy", "set", str(policy), *where)[0] == 0
    before = json.loads(command(capsys, "registry", "keys", "show", "--json", *where)[1])
    assert command(capsys, "registry", "keys", "rotate", *where)[0] == 0
    after = json.loads(command(capsys, "registry", "keys", "show", "--json", *where)[1])
    assert [key["signs"] for key in after] == [True, False]
    assert after[1]["id"] == before[0]["id"]
    assert command(capsys, "model", "verify", "base/universal@v1", *where)[0] == 0  # the running hub knows both
