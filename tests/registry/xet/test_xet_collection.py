"""The Xet store over time: what is needed stays, what nobody needs goes, and no crash changes that."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from registry import AddFile, Registry, RepoId
from registry.errors import UnknownXorbError, XetFileNotFoundError
from registry.xet import Collected, XetFile
from tests.registry.xet_material import content, make_xorb, noise, put, register

NOW = timedelta(0)
REPO = RepoId.parse("acme/dock")


@pytest.fixture
def registry(any_place: Registry) -> Registry:
    return any_place


class TestCollection:
    @pytest.fixture
    def commit(self, registry: Registry) -> Callable[[XetFile], None]:
        def commit(file: XetFile) -> None:
            registry.repos.create(REPO, exist_ok=True)
            registry.repos.commit(REPO, [AddFile("a.bin", file.sha256, file.size)], message="a", author="t")

        return commit

    def test_what_commits_need_stays(self, registry, store, commit):
        xorb, unused = put(store, noise(30)), put(store, noise(31))
        kept, lost = register(store, [(xorb, 0, 5)]), register(store, [(xorb, 3, 9)])
        commit(kept)
        done = store.collect(NOW)
        assert (done.files, done.xorbs) == (1, 1)
        assert done.bytes >= len(unused.body)
        assert registry.blobs.read(kept.sha256) == content([(xorb, 0, 5)])
        assert not registry.blobs.exists(lost.sha256)
        assert not store.touch_xorb(unused.name)
        registry.repos.delete(REPO)
        done = store.collect(NOW)
        assert (done.files, done.xorbs) == (1, 1)
        assert registry.catalog.query("SELECT count(*) FROM xet_xorbs") == [(0,)]
        with pytest.raises(XetFileNotFoundError):
            store.plan(kept.hash)

    def test_the_young_stay(self, registry, store):
        file = register(store, [(put(store, noise(32)), 0, 5)])
        put(store, noise(33))
        assert store.collect(timedelta(hours=1)) == Collected(0, 0, 0)
        assert registry.blobs.exists(file.sha256)

    def test_what_a_commit_asked_for_stays(self, registry, store, commit):
        file = register(store, [(put(store, noise(37)), 0, 5)])
        with registry.catalog.write() as tx:
            tx.execute("UPDATE xet_registrations SET registered_at = registered_at - INTERVAL 30 DAY")
            tx.execute("UPDATE xet_xorbs SET touched_at = touched_at - INTERVAL 30 DAY")
        assert registry.blobs.sizes([file.sha256])[file.sha256] == file.size  # a commit is about to come
        assert store.collect(timedelta(days=28)) == Collected(0, 0, 0)
        commit(file)
        assert len(registry.blobs.read(file.sha256)) == file.size
        registry.repos.delete(REPO)
        with registry.catalog.write() as tx:
            tx.execute("UPDATE xet_registrations SET registered_at = registered_at - INTERVAL 30 DAY")
        assert registry.blobs.size(file.sha256) == file.size  # somebody reads; nobody promised them anything
        assert store.collect(timedelta(days=28)).files == 1
        assert registry.blobs.sizes([file.sha256]) == {file.sha256: None}

    def test_clients_are_told_to_forget(self, store):
        xorb = put(store, noise(34))
        before = store.epoch("ada")
        assert store.collect(timedelta(hours=1)).xorbs == 0
        assert store.epoch("ada") == before
        assert store.collect(NOW).xorbs == 1
        after = store.epoch("ada")
        assert after != before
        with pytest.raises(UnknownXorbError):
            register(store, [(xorb, 0, 3)])
        store.renew_epoch("ada")
        assert store.epoch("ada") != after
        assert store.epoch("bob") == after
        assert register(store, [(put(store, noise(34)), 0, 3)])

    def test_what_a_crash_left_is_removed(self, registry, store):
        xorb = make_xorb(noise(35))
        file = register(store, [(put(store, noise(35)), 0, 3)])
        with registry.catalog.write() as tx:  # announced, and perhaps stored; nobody knows
            tx.execute("UPDATE xet_xorbs SET state = 'arriving'")
            tx.execute("DELETE FROM xet_files")
        assert not store.touch_xorb(xorb.name)
        assert store.collect(NOW).xorbs == 1
        assert not registry.blobs.exists(file.sha256)
        with registry.catalog.write() as tx:  # a collection that died half-way
            tx.execute("DELETE FROM xet_registrations")
        xorb = put(store, noise(36))
        with registry.catalog.write() as tx:
            tx.execute("UPDATE xet_xorbs SET state = 'leaving'")
        assert store.put_xorb(xorb.name, [xorb.body]) is True  # uploaded again before it went
        assert register(store, [(xorb, 0, 3)])
        assert store.collect(timedelta(hours=1)).xorbs == 0

    def test_a_xorb_that_comes_back_packed_otherwise(self, registry, store):
        chunks = [b"ab" * 500, b"xyz" * 300]
        put(store, chunks, (0,))
        with registry.catalog.write() as tx:
            tx.execute("UPDATE xet_xorbs SET state = 'leaving'")
        xorb = put(store, chunks, (1,))
        file = register(store, [(xorb, 0, 2)])
        assert registry.blobs.read(file.sha256) == b"".join(chunks)
        (blob,) = registry.catalog.query("SELECT blob FROM xet_xorbs")[0]
        assert store._xorbs.exists(blob)

    def test_uploads_during_collections(self, registry, store, commit):
        stop = threading.Event()

        def collect() -> None:
            while not stop.is_set():
                store.collect(timedelta(seconds=5))

        collector = threading.Thread(target=collect)
        collector.start()
        try:
            for seed in range(40, 50):
                xorb = put(store, noise(seed))
                file = register(store, [(xorb, 0, 12)])
                assert registry.blobs.read(file.sha256) == content([(xorb, 0, 12)])
        finally:
            stop.set()
            collector.join()


CHILD = """
import os, random, sys
from pathlib import Path
from registry import Registry
from tests.registry.xet_material import file_rows, make_shard, make_xorb

registry = Registry.open(Path(sys.argv[1]))
dice = random.Random()
while True:
    xorb = make_xorb([dice.randbytes(3000) for _ in range(20)], [0, 1])
    registry.xet.put_xorb(xorb.name, [xorb.body])
    (file,) = registry.xet.register(make_shard([file_rows([(xorb, 0, 20)])], [xorb]))
    os.write(1, f"{file.sha256} {file.size}\\n".encode())
"""


@pytest.mark.slow
def test_acknowledged_files_survive_kills(tmp_path):
    acknowledged: dict[str, int] = {}
    for number in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        first = child.stdout.readline()
        time.sleep(0.3 * number)
        child.send_signal(signal.SIGKILL)
        lines = (first + child.stdout.read()).splitlines(keepends=True)
        child.wait()
        acknowledged |= {line.split()[0]: int(line.split()[1]) for line in lines if line.endswith("\n")}
        with Registry.open(tmp_path) as registry:
            for sha256, size in acknowledged.items():
                assert len(registry.blobs.read(sha256)) == size
    assert len(acknowledged) >= 4
    with Registry.open(tmp_path) as registry:
        registry.xet.collect(NOW)
        stored = list((tmp_path / "blobs" / "xorbs" / "sha256").rglob("*/*/*"))
        assert [path for path in stored if path.is_file()] == []
