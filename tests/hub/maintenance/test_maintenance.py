"""Examination, collection, backup and restore: through a running hub, and on the folder of one that is stopped."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import httpx
import pytest

from hub.cli.main import run
from hub.client.client import HubClient
from hub.client.maintenance import MaintenanceClient
from hub.errors import HubAnswerError, MaintenanceBusyError
from hub.services import Services
from hub.settings import Settings
from registry import Registry, RepoId
from tests.hub.conftest import SharedTransport


@pytest.fixture
def care(raw, settings: Settings) -> MaintenanceClient:
    transport = SharedTransport(raw._transport)
    return MaintenanceClient("http://testserver.local", settings.client_token(), transport=transport)


class TestRunning:
    def test_fsck_and_backup(self, care: MaintenanceClient, dataset: str, services: Services, tmp_path: Path) -> None:
        seen: list[str] = []
        found = care.fsck(quick=False, progress=lambda what, *_: seen.append(what))
        assert not found.damaged
        assert found.findings == []
        assert found.checked["commits"] >= 2
        assert seen
        first = care.backup(str(tmp_path / "vault"))
        assert first.damaged == []
        assert first.copied_blobs == first.blobs > 0
        assert care.backup(str(tmp_path / "vault"), reread=True).copied_blobs == 0
        sha256 = services.registry.repos.tree(RepoId.parse(dataset, "dataset"), "main")[0].sha256
        services.registry.blobs.delete(sha256)
        found = care.fsck(quick=True)
        assert found.damaged
        assert [one["name"] for one in found.findings] == [sha256]

    def test_gc(self, care: MaintenanceClient, services: Services) -> None:
        services.registry.blobs.put_bytes(b"nobody wants this")
        done = care.collect(dry_run=True)
        assert (done.dry_run, done.blobs) == (True, 0)  # it is young

    def test_bad_targets(self, care: MaintenanceClient, settings: Settings) -> None:
        for wrong in ("relative/folder", "http://example.com/x", str(settings.data / "inside")):
            with pytest.raises(HubAnswerError) as caught:
                care.backup(wrong)
            assert caught.value.status == 400

    def test_for_operators_only(self, raw, client: HubClient) -> None:
        token = client.create_token("reader", ["read"])
        care = MaintenanceClient("http://testserver.local", token, transport=SharedTransport(raw._transport))
        with pytest.raises(HubAnswerError) as caught:
            care.fsck(quick=True)
        assert caught.value.status == 403

    def test_one_at_a_time(self, services: Services) -> None:
        gate = threading.Event()
        lines = services.maintenance.streamed(lambda tell: gate.wait(60))
        with pytest.raises(MaintenanceBusyError):
            services.maintenance.streamed(lambda tell: 2)
        gate.set()
        assert [json.loads(line) for line in lines] == [{"result": True}]
        assert [json.loads(line) for line in services.maintenance.streamed(lambda tell: 3)] == [{"result": 3}]

    def test_an_error_is_told(self, care: MaintenanceClient, services: Services, monkeypatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("no more disk")

        monkeypatch.setattr(services.registry, "examine", broken)
        with pytest.raises(HubAnswerError, match="no more disk"):
            care.fsck(quick=True)


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a registry that nobody has open."""
    for name in ("PARCELHUB_DATA", "PARCELHUB_HUB_URL", "PARCELHUB_BLOBS"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "stopped"
    with Registry.open(root) as registry:
        repo = RepoId.parse("acme/dock")
        registry.repos.create(repo)
        from registry import AddFile

        info = registry.blobs.put_bytes(b"here")
        registry.repos.commit(repo, [AddFile("a.txt", info.sha256, info.size)], message="a", author="t")
        registry.blobs.put_bytes(b"nobody wants this")
    return root


class TestStopped:
    @pytest.mark.slow
    def test_fsck(self, stopped: Path, capsys) -> None:
        assert run(["registry", "fsck", "--data", str(stopped), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["damaged"] is False
        path = next(
            path for path in (stopped / "blobs" / "sha256").rglob("*") if path.is_file() and path.stat().st_size == 4
        )
        path.chmod(0o644)
        path.write_bytes(b"hexe")
        assert run(["registry", "fsck", "--data", str(stopped), "--quick"]) == 0
        assert run(["registry", "fsck", "--data", str(stopped)]) == 1
        assert "blob-digest" in capsys.readouterr().out
        assert run(["registry", "fsck", "--data", str(stopped / "none")]) == 2

    def test_reindex(self, stopped: Path, capsys) -> None:
        assert run(["registry", "reindex", "--data", str(stopped)]) == 0
        assert "refs_by_repo" in capsys.readouterr().out
        assert run(["registry", "fsck", "--data", str(stopped)]) == 0
        with Registry.open(stopped):
            assert run(["registry", "reindex", "--data", str(stopped)]) == 2
        assert "already open" in " ".join(capsys.readouterr().err.split())
        assert run(["registry", "reindex", "--data", str(stopped / "none")]) == 2

    def test_gc(self, stopped: Path, capsys, monkeypatch) -> None:
        monkeypatch.setenv("PARCELHUB_BLOB_GRACE_DAYS", "0")
        for flags, left in ((["--dry-run"], 1), ([], 1), ([], 0)):
            assert run(["registry", "gc", "--data", str(stopped), "--json", *flags]) == 0
            assert json.loads(capsys.readouterr().out)["blobs"] == left

    def test_there_and_back(self, stopped: Path, tmp_path: Path, capsys) -> None:
        vault = str(tmp_path / "vault")
        assert run(["backup", "--data", str(stopped), "--out", vault, "--json"]) == 0
        name = json.loads(capsys.readouterr().out)["name"]
        assert run(["restore", "--from", vault, "--list"]) == 0
        assert name in capsys.readouterr().out
        assert run(["restore", "--from", vault, "--data", str(stopped)]) == 2  # not empty
        shutil.rmtree(stopped)
        assert run(["restore", "--from", vault, "--data", str(stopped)]) == 0
        assert "sound" in capsys.readouterr().out


def test_commands_find_the_running_hub(live_hub: Settings, tmp_path: Path, capsys, monkeypatch) -> None:
    """The same words, whether the hub has the folder open or not."""
    for key, value in live_hub.environment().items():
        monkeypatch.setenv(key, value)
    assert run(["registry", "fsck", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checked"]["commits"] >= 1
    assert run(["backup", "--out", str(tmp_path / "vault"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["damaged"] == []
    assert run(["registry", "gc", "--dry-run"]) == 0
    assert run(["restore", "--from", str(tmp_path / "vault"), "--data", str(tmp_path / "new")]) == 0
    assert httpx.get(f"{live_hub.url}/api/v1/health").status_code == 200
