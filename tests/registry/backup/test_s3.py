"""Blobs in a bucket: everything against a real S3 endpoint, a moto server in a process of its own."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url

from registry import AddFile, Registry, RepoId
from registry.backup.backup import make_backup, restore
from registry.blobs.blobs import BlobStore
from registry.errors import BlobNotFoundError, BlobStoreError, DigestMismatchError, InvalidRangeError
from registry.maintenance.fsck import examine_folder
from tests.registry.xet_material import content, noise, put, register

pytest.importorskip("moto.server")
REPO = RepoId.parse("acme/dock")
LONG = timedelta(days=28)
MULTIPART = 13 * 1024 * 1024


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3 server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while True:
            assert process.poll() is None, "the S3 server ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < until, "the S3 server does not answer"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a fresh bucket, with everything in the environment that it takes."""
    import urllib.request

    for name, value in (
        ("AWS_ENDPOINT", endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),
    ):
        monkeypatch.setenv(name, value)
    name = f"hub-{uuid.uuid4().hex[:12]}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT"))  # noqa: S310  # our own server
    return f"s3://{name}"


@pytest.fixture
def blobs(bucket: str, tmp_path: Path) -> BlobStore:
    return BlobStore.open(f"{bucket}/hub", staging=tmp_path / "staging")


def keys(bucket: str) -> list[str]:
    return [meta["path"] for page in obstore.list(from_url(bucket)) for meta in page]


class TestBlobs:
    def test_bytes_and_ranges(self, blobs: BlobStore, bucket: str, tmp_path: Path) -> None:
        data = os.urandom(300_000)
        info = blobs.put_bytes(data)
        assert info.sha256 == hashlib.sha256(data).hexdigest()
        assert blobs.put_bytes(data) == info
        assert blobs.read(info.sha256) == data
        assert b"".join(blobs.iter_range(info.sha256, 1000, 70_000, chunk=999)) == data[1000:70_000]
        assert b"".join(blobs.iter_range(info.sha256, 299_999)) == data[-1:]
        assert list(blobs.iter_range(info.sha256, 5, 5)) == []
        with pytest.raises(InvalidRangeError):
            blobs.iter_range(info.sha256, 0, 300_001)
        assert keys(bucket) == [f"hub/sha256/{info.sha256[:2]}/{info.sha256[2:4]}/{info.sha256}"]
        assert [(one.sha256, one.size) for one in blobs.all()] == [(info.sha256, 300_000)]
        assert list((tmp_path / "staging").iterdir()) == []

    def test_many_parts(self, blobs: BlobStore) -> None:
        data = os.urandom(MULTIPART)
        info = blobs.put_stream(data[at : at + 1_000_000] for at in range(0, len(data), 1_000_000))
        assert blobs.size(info.sha256) == MULTIPART
        assert blobs.read(info.sha256) == data

    @pytest.mark.slow
    def test_nothing_wrong_becomes_visible(self, blobs: BlobStore, bucket: str, tmp_path: Path) -> None:
        with pytest.raises(DigestMismatchError):
            blobs.put_bytes(b"these", expected="0" * 64)
        with pytest.raises(RuntimeError), blobs.writer() as writer:
            writer.write(b"half of it")
            raise RuntimeError
        assert keys(bucket) == []
        assert list((tmp_path / "staging").iterdir()) == []

    def test_what_is_not_there(self, blobs: BlobStore, endpoint: str, tmp_path: Path) -> None:
        gone = "0" * 64
        assert blobs.sizes([gone, gone]) == {gone: None}
        assert blobs.discard(gone, time.time()) is None
        blobs.delete(gone)
        with pytest.raises(BlobNotFoundError):
            blobs.read(gone)
        other = BlobStore.open("s3://no-such-bucket-here", staging=tmp_path / "staging")
        with pytest.raises(BlobStoreError):
            other.put_bytes(b"x")

    @pytest.mark.slow
    @pytest.mark.timeout(1200)
    def test_listings_of_several_pages_are_in_order(self, blobs: BlobStore) -> None:
        with ThreadPoolExecutor(16) as pool:
            made = sorted(info.sha256 for info in pool.map(blobs.put_bytes, (b"%d" % n for n in range(1010))))
        assert [one.sha256 for one in blobs.all()] == made


class TestRegistry:
    def fill(self, root: Path, bucket: str) -> dict[str, bytes]:
        """Commits of files that came whole and in chunks; gives what they hold."""
        with Registry.open(root, blobs_url=bucket) as registry:
            registry.repos.create(REPO)
            files = {"a.txt": b"a", "b/c.bin": os.urandom(50_000)}
            added = []
            for path, data in files.items():
                info = registry.blobs.put_bytes(data)
                added.append(AddFile(path, info.sha256, info.size))
            xorb = put(registry.xet, noise(3))
            file = register(registry.xet, [(xorb, 1, 7)])
            registry.repos.commit(
                REPO, [*added, AddFile("x.bin", file.sha256, file.size, lfs=True)], message="m", author="t"
            )
        return files | {"x.bin": content([(xorb, 1, 7)])}

    def read(self, root: Path, url: str | None) -> dict[str, bytes]:
        with Registry.open(root, blobs_url=url) as registry:
            return {file.path: registry.blobs.read(file.sha256) for file in registry.repos.tree(REPO, "main")}

    @pytest.mark.slow
    def test_a_restart_and_fsck(self, bucket: str, tmp_path: Path) -> None:
        root = tmp_path / "data"
        files = self.fill(root, bucket)
        assert self.read(root, bucket) == files
        assert examine_folder(root, blobs_url=bucket).findings == []
        store = from_url(bucket)
        lost = hashlib.sha256(b"a").hexdigest()
        bad = hashlib.sha256(files["b/c.bin"]).hexdigest()
        obstore.delete(store, f"sha256/{lost[:2]}/{lost[2:4]}/{lost}")
        obstore.put(store, f"sha256/{bad[:2]}/{bad[2:4]}/{bad}", bytes(50_000))
        (xorb,) = [key for key in keys(bucket) if key.startswith("xorbs/")]
        body = bytearray(obstore.get(store, xorb).bytes().to_bytes())
        body[100] ^= 1
        obstore.put(store, xorb, bytes(body))
        report = examine_folder(root, blobs_url=bucket)
        found = {(one.kind, one.name) for one in report.findings}
        assert {("blob-missing", lost), ("blob-digest", bad), ("xorb-digest", xorb.rpartition("/")[2])} <= found

    @pytest.mark.slow
    def test_collection(self, bucket: str, tmp_path: Path) -> None:
        with Registry.open(tmp_path / "data", blobs_url=bucket) as registry:
            registry.repos.create(REPO)
            kept, lost = (registry.blobs.put_bytes(data) for data in (b"kept", b"lost"))
            registry.repos.commit(REPO, [AddFile("a", kept.sha256, kept.size)], message="m", author="t")
            assert registry.collect(timedelta(hours=1), LONG)[0].blobs == 0
            time.sleep(1.1)  # an object's time has whole seconds
            assert registry.collect(timedelta(0), LONG)[0].blobs == 1
            assert registry.blobs.exists(kept.sha256)
            assert not registry.blobs.exists(lost.sha256)

    @pytest.mark.slow
    @pytest.mark.parametrize("into", ["folder", "bucket"])
    def test_backup_to_a_bucket_and_back(self, bucket: str, tmp_path: Path, into: str) -> None:
        root = tmp_path / "data"
        files = self.fill(root, f"{bucket}/hub")
        with Registry.open(root, blobs_url=f"{bucket}/hub") as registry:
            first = make_backup(registry, root, f"{bucket}/vault")
            second = make_backup(registry, root, f"{bucket}/vault", reread=True)
        assert first.copied_blobs == first.blobs == second.blobs
        assert (second.copied_blobs, second.damaged) == (0, ())
        url = f"{bucket}/new" if into == "bucket" else None
        back = restore(f"{bucket}/vault", tmp_path / "new", blobs_url=url)
        assert back.report.findings == []
        assert back.name in (first.name, second.name)
        assert self.read(tmp_path / "new", url) == files
