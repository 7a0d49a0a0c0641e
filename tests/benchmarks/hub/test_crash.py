"""A hub that is killed under uploads keeps what it acknowledged. `parcelhub bench crash` does this 200 times."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from benchmarks.hub.clients import bench_clients
from benchmarks.hub.crash import run_crashes
from benchmarks.hub.fill import name_of
from benchmarks.hub.uploads import noise, packed
from hub.cli.main import run
from registry import Registry
from tests.scale import scaled


def test_packed_files_are_what_the_store_takes(tmp_path: Path) -> None:
    data = noise(random.Random(1))
    sha256 = hashlib.sha256(data).hexdigest()
    name, xorb, shard = packed(data, sha256)
    with Registry.open(tmp_path) as registry:
        assert registry.xet.put_xorb(name, [xorb])
        (file,) = registry.xet.register(shard)
        assert (file.sha256, file.size) == (sha256, len(data))
        assert registry.blobs.read(sha256) == data


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kills_under_uploads(tmp_path: Path) -> None:
    found = run_crashes(tmp_path, rounds=scaled(2, 20), longest=4.0)
    assert (found.lost, found.torn_refs, found.damage) == ([], [], [])
    assert found.rounds == scaled(2, 20)
    assert min(found.acknowledged, found.outcomes, found.promotions, found.memberships) > 0
    assert found.cut_off


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_clients(tmp_path: Path) -> None:
    found = bench_clients(tmp_path, clients=20, seconds=scaled(2, 20), large_mib=8, report=lambda what: None)
    assert (found.errors, found.damage) == ([], [])
    assert found.commits
    assert found.large_bytes == 8 * 1024**2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_benchmark_of_the_registry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "figures.json"
    words = f"--models 3 --versions 11 --calls 3 --folder {tmp_path / 'b'} --json {target}".split()
    assert run(["bench", "registry", *words]) == 0
    figures = json.loads(target.read_text())
    assert figures["filled"]["models"] == 3
    assert figures["direct"]["lineage down"]["count"] == 3
    assert figures["http"]["filter by tag"]["p99"] > 0
    assert "lineage up" in capsys.readouterr().out
    with Registry.open(tmp_path / "b" / "data") as registry:
        assert len(registry.repos.history(name_of(1), "v11")) == 11
        assert not registry.examine(quick=True).damaged
