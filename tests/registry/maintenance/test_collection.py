"""Garbage goes, after its grace; what anything names stays, whatever else happens at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from registry import AddFile, Artifact, DeleteFile, Edge, MigrationSet, Registry, RepoId, Variant
from registry.errors import BlobNotFoundError
from registry.maintenance.collection import BlobsCollected
from tests.registry.conftest import EVALUATED, POLICY

NOW = timedelta(0)
LONG = timedelta(days=28)
REPO = RepoId.parse("acme/dock")
NOTES = MigrationSet("notes", ("CREATE TABLE notes (text VARCHAR, list VARCHAR[])",))


@pytest.fixture
def registry(any_place: Registry) -> Registry:
    return any_place


def old(registry: Registry) -> None:
    """Let the blobs be old: an object store's times have whole seconds, so one has to be over."""
    time.sleep(0.01 if registry.blobs.local_path(POLICY) else 1.1)


def collect(registry: Registry, *, dry_run: bool = False) -> BlobsCollected:
    old(registry)
    return registry.collect(NOW, LONG, dry_run=dry_run)[0]


class TestWhatGoes:
    @pytest.mark.slow
    def test_what_nothing_names(self, registry: Registry, add: Callable[[str, bytes], AddFile]) -> None:
        registry.repos.create(REPO)
        kept, lost = add("a", b"kept"), add("b", b"nobody wants this")
        registry.repos.commit(REPO, [kept], message="a", author="t")
        done = collect(registry, dry_run=True)
        assert (done.blobs, done.bytes) == (1, lost.size)
        assert registry.blobs.exists(lost.sha256)
        assert collect(registry) == done
        assert not registry.blobs.exists(lost.sha256)
        assert registry.blobs.read(kept.sha256) == b"kept"
        assert collect(registry).blobs == 0

    def test_the_young_stay(self, registry: Registry) -> None:
        blob = registry.blobs.put_bytes(b"just uploaded").sha256
        assert registry.collect(timedelta(hours=1), LONG)[0].blobs == 0
        assert registry.blobs.exists(blob)

    @pytest.mark.slow
    def test_history_keeps_and_a_deleted_repo_does_not(self, registry: Registry, add) -> None:
        registry.repos.create(REPO)
        file = add("a", b"once")
        registry.repos.commit(REPO, [file], message="a", author="t")
        registry.git_ids.of([file])
        registry.repos.commit(REPO, [DeleteFile("a")], message="b", author="t")
        assert collect(registry).blobs == 0
        registry.repos.squash(REPO, "main", message="one", author="t")
        old(registry)
        assert registry.collect(timedelta(days=7), LONG)[0].blobs == 0  # its old commits are still there, by their ids
        registry.repos.delete(REPO)
        assert collect(registry).blobs == 1
        assert registry.catalog.query("SELECT * FROM blob_git_ids") == []

    @pytest.mark.slow
    def test_what_was_promised_stays(self, registry: Registry) -> None:
        blob = registry.blobs.put_bytes(b"an old upload").sha256
        old(registry)
        moment = time.time()
        assert registry.blobs.sizes([blob])[blob] == 13  # a client is told that it need not send this
        assert registry.blobs.discard(blob, moment) is None
        registry.blobs.put_bytes(b"an old upload")
        assert registry.blobs.discard(blob, moment) is None
        assert registry.blobs.exists(blob)

    @pytest.mark.slow
    def test_decisions_decks_and_policies_stay(self, registry: Registry, add) -> None:
        repo = RepoId.parse("cells/dock-7")
        registry.repos.create(repo)
        made = registry.repos.commit(repo, [add("x.txt", b"1")], message="1", author="t", tags=["v1"])
        deck = registry.blobs.put_bytes(b'{"deck": 1}').sha256
        registry.lineage.record(
            [Edge(Artifact("variant", "cells/dock-7@v1", made.id), Artifact("deck", deck, deck), "deck")]
        )
        inner = registry.blobs.put_bytes(b"named by a record alone").sha256
        record = registry.blobs.put_bytes(f'{{"report": "{inner}"}}'.encode()).sha256
        evidence = EVALUATED | {"record": record}
        decision = registry.stages.move(
            "dock-7", Variant(repo, "v1"), "candidate", actor="ann", evidence=evidence, policy_digest=POLICY
        )
        assert collect(registry).blobs == 0
        for digest in (deck, inner, record, decision.id, POLICY):
            assert registry.blobs.exists(digest)

    def test_tables_of_other_floors_count(self, tmp_path: Path) -> None:
        with Registry.open(tmp_path / "d", extra_migrations=[NOTES]) as registry:
            one, two, three = (registry.blobs.put_bytes(b"%d" % n).sha256 for n in range(3))
            with registry.catalog.write() as tx:
                tx.execute("INSERT INTO notes VALUES (?, ?)", [f'{{"x": "sha256:{one}"}}', ["a", two]])
            assert collect(registry).blobs == 1
            assert registry.blobs.exists(one)
            assert registry.blobs.exists(two)
            assert not registry.blobs.exists(three)


class TestAtTheSameTime:
    @pytest.mark.slow
    def test_what_is_held_stays(self, registry: Registry) -> None:
        blob = registry.blobs.put_bytes(b"about to be committed").sha256
        with registry.blobs.holding([blob]):
            assert collect(registry).blobs == 0
        assert collect(registry).blobs == 1

    @pytest.mark.slow
    def test_commits_beside_collections(self, registry: Registry, add) -> None:
        """Without any grace: a commit may find its blob gone, but never names one that is."""
        registry.repos.create(REPO)
        stop = threading.Event()
        failures: list[BaseException] = []
        made: list[AddFile] = []

        def upload(name: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    # Every third is one that was there before, and that nobody needs yet.
                    file = add(f"{name}/{number}", b"%d %d" % (name, number // 3))
                    registry.repos.commit(REPO, [file], message="m", author="t")
                    made.append(file)
                except BlobNotFoundError:
                    continue
                except BaseException as error:
                    failures.append(error)
                    raise

        threads = [threading.Thread(target=upload, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        removed = 0
        until = time.monotonic() + 12
        while time.monotonic() < until and (len(made) < 30 or removed < 3):
            registry.blobs.put_bytes(os.urandom(20))
            removed += registry.collect(NOW, LONG)[0].blobs
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert made
        for entry in registry.repos.tree(REPO, "main"):
            assert len(registry.blobs.read(entry.sha256)) == entry.size
        assert {file.path for file in made} <= {file.path for file in registry.repos.tree(REPO, "main")}
        assert not registry.examine().damaged


CHILD = """
import sys
from datetime import timedelta
from pathlib import Path
from registry import Registry

with Registry.open(Path(sys.argv[1])) as registry:
    sys.stdout.write("open\\n")
    sys.stdout.flush()
    registry.collect(timedelta(0), timedelta(days=1))
    sys.stdout.write("done\\n")
"""


@pytest.mark.slow
def test_a_kill_in_the_middle(tmp_path: Path) -> None:
    root = tmp_path / "d"
    with Registry.open(root) as registry:
        registry.repos.create(REPO)
        for number in range(40):
            info = registry.blobs.put_bytes(b"kept %d" % number)
            file = AddFile(f"{number}", info.sha256, info.size)
            registry.repos.commit(REPO, [file], message="m", author="t")
        for number in range(600):
            registry.blobs.put_bytes(b"lost %d" % number)
    stored = [path for path in (root / "blobs" / "sha256").rglob("*") if path.is_file()]
    for path in stored:
        os.utime(path, (1e9, 1e9))
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    # As soon as the first one is gone, it is in the middle of things.
    while all(path.exists() for path in stored) and child.poll() is None:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    with Registry.open(root) as registry:
        assert not registry.examine().damaged
        registry.collect(NOW, LONG)
        assert not registry.examine().damaged
        assert len(list(registry.blobs.all())) == 41  # and the policy
