"""`parcelhub bench api` on next to nothing: it fills, starts a hub and times every kind of call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.cli.main import run


@pytest.mark.slow
def test_the_benchmark_fills_a_hub_and_times_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "api.json"
    sizes = ["--variants", "6", "--datasets", "4", "--images", "400", "--calls", "3"]
    assert run(["bench", "api", *sizes, "--keep", str(tmp_path / "kept"), "--json", str(target)]) == 0
    found = json.loads(target.read_text())
    assert (found["variants"], found["datasets"], found["images"]) == (6, 4, 400)
    assert len(found["calls"]) > 12 and all(call["p99_ms"] >= call["p50_ms"] > 0 for call in found["calls"])
    assert "images, a page of 100" in capsys.readouterr().out
