"""A backup of a registry in use, restored elsewhere, is that registry; and a backup that is not says so."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from registry import AddFile, Registry, RepoId
from registry.backup.backup import make_backup, restore
from registry.backup.vault import Vault
from registry.errors import BackupError, DigestMismatchError
from tests.registry.xet_material import noise, put, register

REPO = RepoId.parse("acme/dock")


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def commit(registry: Registry, path: str, data: bytes) -> str:
    registry.repos.create(REPO, exist_ok=True)
    info = registry.blobs.put_bytes(data)
    file = AddFile(path, info.sha256, info.size)
    return registry.repos.commit(REPO, [file], message=path, author="ann").id


def contents(root: Path) -> dict[str, dict[str, bytes]]:
    """Every file of every commit."""
    with Registry.open(root) as registry:
        return {
            made.id: {file.path: registry.blobs.read(file.sha256) for file in registry.repos.tree(REPO, made.id)}
            for made in registry.repos.history(REPO, "main", limit=10_000)
        }


@pytest.mark.slow
def test_there_and_back(registry: Registry, root: Path, vault: Path, tmp_path: Path) -> None:
    for number in range(5):
        commit(registry, f"{number}.txt", b"%d" % number)
    file = register(registry.xet, [(put(registry.xet, noise(1)), 0, 7)])
    registry.repos.commit(REPO, [AddFile("big.bin", file.sha256, file.size)], message="big", author="ann")
    seen: list[str] = []
    done = make_backup(registry, root, vault, progress=lambda what, *_: seen.append(what))
    assert (done.damaged, done.copied_blobs) == ((), done.blobs)
    assert "blobs copied" in seen
    keys = [key.id for key in registry.keys.all()]
    registry.close()
    back = restore(vault, tmp_path / "new")
    assert (back.name, back.blobs) == (done.name, done.blobs)
    assert back.report.findings == []
    assert contents(tmp_path / "new") == contents(root)
    assert len(contents(root)) == 6
    with Registry.open(tmp_path / "new") as other:
        assert [key.id for key in other.keys.all()] == keys  # what was signed stays believed
        assert not other.examine().damaged


@pytest.mark.slow
def test_later_backups_copy_what_is_new(registry: Registry, root: Path, vault: Path, tmp_path: Path) -> None:
    for number in range(5):
        commit(registry, f"{number}.txt", b"%d" % number)
    first = make_backup(registry, root, vault)
    commit(registry, "new.txt", b"new")
    second = make_backup(registry, root, vault)
    assert (second.copied_blobs, second.copied_bytes) == (1, 3)
    assert second.blobs == first.blobs + 1
    assert Vault(vault).names() == sorted([first.name, second.name])
    assert restore(vault, tmp_path / "old", name=first.name).blobs == first.blobs
    assert len(contents(tmp_path / "old")) == 5
    restore(vault, tmp_path / "new")
    assert len(contents(tmp_path / "new")) == 6


@pytest.mark.slow
def test_while_uploads_and_collections_run(registry: Registry, root: Path, vault: Path, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()
    failures: list[BaseException] = []

    def guarded(work) -> None:
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            failures.append(error)
            raise

    def upload(name: int) -> None:
        acknowledged.append(commit(registry, f"{name}/{len(acknowledged)}", b"%d %d" % (name, time.monotonic_ns())))

    def churn() -> None:
        # A repo that is deleted at once, and its blob that no grace keeps.
        name = RepoId.parse("acme/churn")
        registry.repos.create(name, exist_ok=True)
        info = registry.blobs.put_bytes(b"%d" % time.monotonic_ns())
        registry.repos.commit(name, [AddFile("a", info.sha256, info.size)], message="a", author="t")
        registry.repos.delete(name)
        registry.collect(timedelta(seconds=20), timedelta(days=1))

    works = [lambda name=name: upload(name) for name in range(2)] + [churn]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 5 and not failures:
        time.sleep(0.05)
    for _ in range(2):
        before = list(acknowledged)
        done = make_backup(registry, root, vault)
        assert done.damaged == ()
        new = tmp_path / done.name
        back = restore(vault, new, name=done.name)
        assert back.report.findings == []
        kept = contents(new)
        assert set(before) <= kept.keys()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    registry.close()
    everything = contents(root)
    assert all(everything[one] == files for one, files in kept.items())
    with Registry.open(new) as other:
        assert not other.examine().damaged


class TestDamage:
    def test_in_the_registry_is_named_and_left_out(self, registry: Registry, root: Path, vault: Path) -> None:
        commit(registry, "good.txt", b"good")
        for data in (b"bad", b"gone"):
            commit(registry, f"{data.decode()}.txt", data)
        bad, gone = (registry.repos.entry(REPO, "main", f"{name}.txt").sha256 for name in ("bad", "gone"))
        path = registry.blobs.local_path(bad)
        assert path is not None
        path.chmod(0o644)
        path.write_bytes(b"BAD")
        registry.blobs.delete(gone)
        done = make_backup(registry, root, vault)
        assert done.damaged == tuple(sorted([bad, gone]))
        assert Vault(vault).read(done.name).damaged == done.damaged
        assert not Vault(vault).stores["blobs"].exists(bad)

    @pytest.mark.slow
    def test_in_the_backup(self, registry: Registry, root: Path, vault: Path, tmp_path: Path) -> None:
        commit(registry, "a.txt", b"good")
        sha256 = registry.repos.entry(REPO, "main", "a.txt").sha256
        make_backup(registry, root, vault)
        path = Vault(vault).stores["blobs"].local_path(sha256)
        assert path is not None
        path.chmod(0o644)
        path.write_bytes(b"BAD!")
        with pytest.raises(DigestMismatchError):
            restore(vault, tmp_path / "new")
        make_backup(registry, root, vault)  # a later one does not look again at what has the right size …
        assert path.read_bytes() == b"BAD!"
        make_backup(registry, root, vault, reread=True)  # … unless it is told to
        assert path.read_bytes() == b"good"
        # The first restore was cut short: it may go on where it is.
        assert restore(vault, tmp_path / "new").report.findings == []

    def test_restores_that_cannot_be(self, registry: Registry, root: Path, vault: Path, tmp_path: Path) -> None:
        with pytest.raises(BackupError, match="no backup at"):
            restore(tmp_path / "nothing", tmp_path / "new")
        commit(registry, "a.txt", b"good")
        name = make_backup(registry, root, vault).name
        with pytest.raises(BackupError, match="not empty"):
            restore(vault, root)
        with pytest.raises(BackupError, match="there is no backup"):
            restore(vault, tmp_path / "new", name="20200101T000000Z-000000000000")
        with pytest.raises(BackupError, match="no name of a backup"):
            restore(vault, tmp_path / "new", name="../../x")
        manifest = vault / "backups" / f"{name}.json"
        manifest.write_bytes(manifest.read_bytes().replace(b'"schema":1', b'"schema":2'))
        with pytest.raises(BackupError, match="not what its name says"):
            restore(vault, tmp_path / "new")
