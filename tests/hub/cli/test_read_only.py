# `disk` is a fixture
"""A data folder on a disk that turned read-only: what is there is answered, and whatever is written says why not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from hub.cli.main import run
from hub.settings import Settings
from tests.hub.cli.test_disk_full import disk as disk
from tests.hub.material import write_base_files
from tests.hub.rollout.test_production import outcome
from tests.hub.rollout.test_votes import bearer, manifest

WORDS = "read-only"


def remount(place: Path, how: str) -> None:
    """As a kernel does by itself when a disk fails: files that are open for writing would keep it from being asked."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True, capture_output=True)


def read_only(place: Path) -> None:
    """A second mount of the folder over itself, without writing: open files do not stop that."""
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True, capture_output=True)


def test_a_folder_that_turns_read_only_is_read_and_every_write_says_so(
    application: Litestar,
    disk: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = write_base_files(tmp_path / "base")
    settings = Settings.load({}, data=disk / "data", base_source=base)
    application.state.settings = settings
    with TestClient(application, raise_server_exceptions=False) as hub:
        services = hub.app.state.services
        services.users.put("ann", teams=["acme"])
        ann = bearer(services.tokens.issue("a", {"contribute"}, user="ann"))
        operator = bearer(settings.client_token())
        blob = services.registry.blobs.put_bytes(b"# kept")
        started = hub.post("/api/v1/datasets/acme/d/uploads", json=manifest(("f.txt", b"new")), headers=ann).json()
        digest = started["missing"][0]["sha256"]
        read_only(disk)
        try:
            put: Any = hub.put(f"/api/v1/uploads/{started['id']}/files/{digest}", content=b"new", headers=ann)
            told = hub.post("/api/v1/outcomes", json={"outcomes": [outcome("a")]}, headers=operator)
            for answer in (put, told):
                assert (answer.status_code, WORDS in answer.text) == (503, True), answer.text
            assert services.registry.blobs.read(blob.sha256) == b"# kept"
            assert hub.get("/api/v1/datasets", headers=ann).is_success
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
        again = hub.put(f"/api/v1/uploads/{started['id']}/files/{digest}", content=b"new", headers=ann)
        assert again.is_success, again.text
    # It does not start on such a disk, and says so in one sentence; nothing of the folder changed.
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    remount(disk, "bind,ro")
    try:
        code = run(["registry", "gc", "--data", str(disk / "data")])
        said = capsys.readouterr().err
        assert code != 0
        assert WORDS in said.lower()
        assert "Traceback" not in said
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert run(["registry", "fsck", "--data", str(disk / "data")]) == 0
