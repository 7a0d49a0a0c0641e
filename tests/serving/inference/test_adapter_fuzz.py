"""Damaged adapters are refused as adapters, or are adapters still; nothing else leaves their reader."""

from __future__ import annotations

from pathlib import Path

from benchmarks.serving.adapter_fuzz import run_adapters
from tests.scale import scaled


def test_no_damaged_adapter_raises_anything_else(tmp_path: Path) -> None:
    found = run_adapters(tmp_path / "adapter", files=scaled(300, 20_000))
    assert not found.escaped, found.examples
    assert found.refused > found.files / 3
    assert found.taken > found.files / 50, "some damage changes nothing that counts"
