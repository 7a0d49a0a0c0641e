"""The stock `huggingface_hub` client, in processes and with caches of its own, against a real server."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from hub.app import create_app
from hub.locks import free_ports
from hub.services import Services
from hub.settings import Settings
from registry.types import RepoId
from tests.hub.material import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MIB = 1024**2

UPLOAD = """
import sys
from huggingface_hub import HfApi
api, work = HfApi(), sys.argv[1]
api.create_repo("acme/net", exist_ok=True)
for name in sys.argv[2:]:
    source = f"{work}/{name}"
    if name.startswith("bytes-"):
        source = open(source, "rb").read()
    api.upload_file(path_or_fileobj=source, path_in_repo=name, repo_id="acme/net")
"""
UPLOAD_FOLDER = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("acme/net", exist_ok=True)
api.upload_folder(folder_path=sys.argv[1], repo_id="acme/net")
"""
DOWNLOAD = """
import hashlib, json, sys
from pathlib import Path
from huggingface_hub import HfApi, snapshot_download
folder = Path(snapshot_download("acme/net"))
files = [path for path in folder.rglob("*") if path.is_file()]
digests = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
xet = [file.path for file in HfApi().list_repo_tree("acme/net", recursive=True) if getattr(file, "xet_hash", None)]
print(json.dumps({"files": digests, "xet": xet}))
"""


@dataclass
class Hub:
    """A hub that listens, and what is inside it."""

    url: str
    token: str
    services: Services
    folder: Path
    requests: list[str]

    def client(self, code: str, *args: str, home: str = "home", check: bool = True, **env: str) -> str:
        """Run code in a process of its own; gives its output, or its complaints if it fails and may."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        mine = {"HF_ENDPOINT": self.url, "HF_TOKEN": self.token, "HF_HOME": str(self.folder / home)}
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            env=kept | mine | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | env,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout if done.returncode == 0 else done.stderr

    def stored(self) -> int:
        """Bytes in the store of xorbs."""
        return sum(path.stat().st_size for path in (self.folder / "data/blobs/xorbs").rglob("*") if path.is_file())

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / "work" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return name

    def upload(self, *names: str, **options: str) -> str:
        return self.client(UPLOAD, str(self.folder / "work"), *names, **options)

    def answers(self, part: str) -> int:
        return sum(part in request for request in self.requests)


@pytest.fixture
def hub(settings: Settings, tmp_path: Path) -> Iterator[Hub]:
    (port,) = free_ports("127.0.0.1", 1)
    settings = replace(settings, max_blob_bytes=64 * MIB)
    inner = create_app(settings)
    requests: list[str] = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            requests.append(f"{scope['method']} {scope['path']}")
        await inner(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, 60)
        yield Hub(f"http://127.0.0.1:{port}", settings.client_token(), inner.state.services, tmp_path, requests)
    finally:
        server.should_exit = True
        thread.join()


def test_upload_and_download(hub):
    noise = random.Random(1).randbytes(8 * MIB)
    numbers = b"".join(number.to_bytes(4, "little") for number in range(500_000))
    files = {
        "weights.bin": noise,
        "bytes-numbers.bin": numbers,
        "tiny.bin": b"\0tiny",
        "notes.txt": b"plain text comes with the commit itself\n",
    }
    hub.upload(*(hub.write(name, data) for name, data in files.items()))
    assert hub.answers("/v1/xorbs/") >= 3
    assert hub.stored() < len(noise) + MIB  # the numbers shrink
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}

    by_xet = json.loads(hub.client(DOWNLOAD, home="second"))
    assert expected.items() <= by_xet["files"].items()
    assert sorted(by_xet["xet"]) == sorted(set(files) - {"notes.txt"})
    assert hub.answers("/xet-fetch/") >= 3
    fetched = hub.answers("/xet-fetch/")
    plain = json.loads(hub.client(DOWNLOAD, home="third", HF_HUB_DISABLE_XET="1"))
    assert expected.items() <= plain["files"].items()
    assert hub.answers("/xet-fetch/") == fetched

    # What the rest of the hub reads is the same.
    repos = hub.services.registry.repos
    for name, data in files.items():
        entry = repos.entry(RepoId.parse("acme/net"), "main", name)
        assert hub.services.registry.blobs.read(entry.sha256) == data


def test_a_changed_file_costs_what_changed(hub):
    data = random.Random(2).randbytes(20 * MIB)
    hub.upload(hub.write("a.bin", data))
    before = hub.stored()
    # A tenth is new, somewhere in the middle, and what follows lies elsewhere than before.
    new = random.Random(3).randbytes(2 * MIB)
    changed = data[: 9 * MIB] + new + data[11 * MIB - 777 :]
    hub.upload(hub.write("b.bin", changed))
    assert hub.stored() - before <= 1.3 * len(new)
    # The same bytes under another name cost nothing.
    before = hub.stored()
    hub.upload(hub.write("c.bin", changed))
    assert hub.stored() == before


def test_a_pickle_that_came_in_chunks_is_refused_at_the_commit(hub):
    hub.upload(hub.write("README.md", b"# Net"))
    repos = hub.services.registry.repos
    before = repos.tree(RepoId.parse("acme/net"), "main")
    name = hub.write("model.safetensors", pickle.dumps(random.Random(9).randbytes(12 * MIB)))
    said = hub.client(UPLOAD, str(hub.folder / "work"), name, check=False)
    assert "is a pickle" in said
    assert hub.answers("/v1/shards") > 0
    assert repos.tree(RepoId.parse("acme/net"), "main") == before


def test_a_client_without_memory_finds_what_is_stored(hub):
    data = random.Random(7).randbytes(12 * MIB)
    hub.upload(hub.write("a.bin", data))
    before = hub.stored()
    new = random.Random(8).randbytes(2 * MIB)
    changed = data[: 5 * MIB] + new + data[7 * MIB :]
    hub.upload(hub.write("b.bin", changed), home="elsewhere")
    assert hub.stored() - before <= 1.3 * len(new)
    entry = hub.services.registry.repos.entry(RepoId.parse("acme/net"), "main", "b.bin")
    assert hub.services.registry.blobs.read(entry.sha256) == changed


def test_a_folder_of_many_files(hub):
    dice = random.Random(4)
    for number in range(40):
        hub.write(f"frame-{number}.bin", b"\0" + dice.randbytes(30_000))
    hub.client(UPLOAD_FOLDER, str(hub.folder / "work"))
    tree = hub.services.registry.repos.tree(RepoId.parse("acme/net"), "main")
    found = {entry.path: entry.sha256 for entry in tree}
    for number in range(40):
        data = (hub.folder / "work" / f"frame-{number}.bin").read_bytes()
        assert found[f"frame-{number}.bin"] == hashlib.sha256(data).hexdigest()


def test_after_a_collection_clients_start_anew(hub):
    data = random.Random(5).randbytes(3 * MIB)
    hub.upload(hub.write("a.bin", data))
    hub.services.registry.repos.delete(RepoId.parse("acme/net"))
    xet = hub.services.registry.xet
    assert xet.collect(timedelta(0)).xorbs >= 1
    # The client of the same cache remembers those xorbs, but at another address.
    hub.upload(hub.write("a.bin", data + b"\0and more"))
    entry = hub.services.registry.repos.entry(RepoId.parse("acme/net"), "main", "a.bin")
    assert hub.services.registry.blobs.read(entry.sha256) == data + b"\0and more"


def test_xorbs_that_vanish_behind_a_clients_back_cost_one_failure(hub):
    data = random.Random(6).randbytes(3 * MIB)
    hub.upload(hub.write("a.bin", data))
    hub.services.registry.repos.delete(RepoId.parse("acme/net"))
    with hub.services.registry.catalog.write() as tx:  # as after an older state of the catalog was restored
        tx.execute("DELETE FROM xet_files")
        tx.execute("DELETE FROM xet_registrations")
        tx.execute("DELETE FROM xet_xorbs")
    name = hub.write("a.bin", data + b"\0and more")
    assert "409" in hub.upload(name, check=False)
    hub.upload(name)
    entry = hub.services.registry.repos.entry(RepoId.parse("acme/net"), "main", "a.bin")
    assert hub.services.registry.blobs.read(entry.sha256) == data + b"\0and more"


def test_an_upload_that_breaks_off_leaves_nothing(hub):
    hub.services.registry.repos.create(RepoId.parse("acme/net"), exist_ok=True)
    token = httpx.get(
        f"{hub.url}/api/models/acme/net/xet-write-token/main", headers={"Authorization": f"Bearer {hub.token}"}
    ).json()
    address = urlsplit(token["casUrl"])
    staging = hub.folder / "data/blobs/xorbs/staging"
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.putrequest("POST", f"{address.path}/v1/xorbs/default/{'0' * 64}")
    connection.putheader("Authorization", f"Bearer {token['accessToken']}")
    connection.putheader("Content-Length", str(8 * MIB))
    connection.endheaders()
    chunk = bytes([0, 0, 0, 1, 0, 0, 0, 1]) + random.Random(9).randbytes(64 * 1024)
    connection.send(chunk * 32)
    wait_for(lambda: any(path.stat().st_size for path in staging.iterdir()))
    connection.close()
    wait_for(lambda: not list(staging.iterdir()))
    assert hub.stored() == 0
