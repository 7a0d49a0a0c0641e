from __future__ import annotations

import hashlib
import itertools
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import BlobStore
from registry.errors import (
    BlobNotFoundError,
    BlobStoreError,
    DigestMismatchError,
    InvalidRangeError,
    InvalidValueError,
    TooLargeError,
)
from tests.scale import scaled

few = settings(max_examples=scaled(10, 200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["local", "remote"])
def blobs(request, tmp_path) -> BlobStore:
    """The same promises hold for a folder and for an object store (here one in memory)."""
    if request.param == "local":
        return BlobStore.open(tmp_path / "blobs")
    return BlobStore.open("memory:///", staging=tmp_path / "staging")


def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@few
@given(data=st.binary(max_size=3000), cuts=st.lists(st.integers(0, 3000), max_size=6), chunk=st.integers(1, 4000))
def test_any_bytes_in_any_chunks_come_back(blobs, data, cuts, chunk):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    info = blobs.put_stream((data[a:b] for a, b in itertools.pairwise(edges)), expected=sha(data))
    assert (info.sha256, info.size) == (sha(data), len(data))
    assert blobs.exists(info.sha256)
    assert blobs.size(info.sha256) == len(data)
    assert blobs.read(info.sha256) == data
    parts = list(blobs.iter_range(info.sha256, chunk=chunk))
    assert b"".join(parts) == data
    assert all(0 < len(part) <= chunk for part in parts)


@few
@given(data=st.binary(min_size=1, max_size=300), bounds=st.tuples(st.integers(0, 300), st.integers(0, 300)))
def test_ranges_are_slices(blobs, data, bounds):
    digest = blobs.put_bytes(data).sha256
    start, end = bounds
    if start <= end <= len(data):
        assert b"".join(blobs.iter_range(digest, start, end, chunk=7)) == data[start:end]
    else:
        with pytest.raises(InvalidRangeError):
            blobs.iter_range(digest, start, end)


@few
@given(data=st.binary(max_size=500), wrong=st.binary(max_size=500))
def test_a_wrong_digest_leaves_nothing(tmp_path_factory, data, wrong):
    root = tmp_path_factory.mktemp("blobs")
    blobs = BlobStore.open(root)
    expected = sha(wrong + b"!")
    if sha(data) == expected:
        return
    with pytest.raises(DigestMismatchError) as caught:
        blobs.put_stream([data], expected=expected)
    assert (caught.value.expected, caught.value.actual) == (expected, sha(data))
    assert files_under(root) == []


def test_too_large_stops_early_and_leaves_nothing(tmp_path):
    blobs = BlobStore.open(tmp_path / "b")
    sent = []

    def endless():
        while True:
            sent.append(1)
            yield b"x" * 100

    with pytest.raises(TooLargeError):
        blobs.put_stream(endless(), max_bytes=1000)
    assert len(sent) == 11
    assert files_under(tmp_path / "b") == []
    assert blobs.put_stream([b"x" * 1000], max_bytes=1000).size == 1000


def test_a_failing_source_leaves_nothing(tmp_path):
    blobs = BlobStore.open(tmp_path / "b")

    def broken():
        yield b"half"
        raise ConnectionError("the client went away")

    with pytest.raises(ConnectionError):
        blobs.put_stream(broken())
    assert files_under(tmp_path / "b") == []


def test_putting_again_changes_nothing(tmp_path):
    blobs = BlobStore.open(tmp_path / "b")
    digest = blobs.put_bytes(b"once").sha256
    path = blobs.local_path(digest)
    before = path.stat()
    blobs.put_bytes(b"once")
    assert path.stat().st_ino == before.st_ino
    assert len(files_under(tmp_path / "b")) == 1
    assert path.parts[-4:-1] == ("sha256", digest[:2], digest[2:4])


def test_a_torn_blob_heals_when_put_again(tmp_path):
    blobs = BlobStore.open(tmp_path / "b")
    digest = blobs.put_bytes(b"whole and sound").sha256
    path = blobs.local_path(digest)
    path.chmod(0o644)
    path.write_bytes(b"whole")
    with pytest.raises(DigestMismatchError):
        blobs.read(digest)
    blobs.put_bytes(b"whole and sound")
    assert blobs.read(digest) == b"whole and sound"


def test_what_is_not_there(blobs):
    absent = sha(b"absent")
    assert not blobs.exists(absent)
    assert blobs.local_path(absent) is None
    assert blobs.sizes([absent, absent]) == {absent: None}
    for ask in (blobs.size, blobs.read, blobs.iter_range):
        with pytest.raises(BlobNotFoundError):
            ask(absent)
    with pytest.raises(InvalidValueError):
        blobs.exists("../../etc/passwd")


def test_sizes_of_many(blobs):
    there = [blobs.put_bytes(b"x" * n).sha256 for n in range(5)]
    assert blobs.sizes([*there, sha(b"no")]) == dict(zip(there, range(5), strict=True)) | {sha(b"no"): None}


@pytest.mark.parametrize("link", [True, False])
def test_export(blobs, tmp_path, link):
    digest = blobs.put_bytes(b"weights").sha256
    target = tmp_path / "serving" / "a" / "model.safetensors"
    for _ in range(2):  # over an older export as well
        assert blobs.export_to(digest, target, link=link).size == 7
    assert target.read_bytes() == b"weights"
    assert files_under(tmp_path / "serving") == [target]
    source = blobs.local_path(digest)
    assert (source is not None and source.samefile(target)) == (link and source is not None)


def test_export_refuses_corrupt_bytes(tmp_path):
    blobs = BlobStore.open(tmp_path / "b")
    digest = blobs.put_bytes(b"weights").sha256
    path = blobs.local_path(digest)
    assert not path.stat().st_mode & stat.S_IWUSR
    path.chmod(0o644)
    path.write_bytes(b"Weights")
    for link in (True, False):
        with pytest.raises(DigestMismatchError):
            blobs.export_to(digest, tmp_path / "out" / "x", link=link)
    assert files_under(tmp_path / "out") == []


def test_leftovers_of_a_killed_process_go_after_a_day(tmp_path):
    blobs = BlobStore.open(tmp_path / "b")
    staging = tmp_path / "b" / "staging"
    old, young = staging / "old", staging / "young"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    day_ago = time.time() - 25 * 3600
    os.utime(old, (day_ago, day_ago))
    BlobStore.open(tmp_path / "b")
    assert files_under(staging) == [young]
    assert not blobs.exists(sha(b"x"))


@pytest.mark.parametrize("url", ["ftp://x/y", "az://nobody"])
def test_a_bad_url_is_a_clear_error(url, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(BlobStoreError, match="cannot open the blob store"):
        BlobStore.open(url)


def test_a_file_url_is_a_folder(tmp_path):
    blobs = BlobStore.open((tmp_path / "b").as_uri())
    path = blobs.local_path(blobs.put_bytes(b"x").sha256)
    assert path.is_relative_to(tmp_path / "b")


def test_threads_putting_the_same_bytes(tmp_path):
    blobs = BlobStore.open(tmp_path / "b")
    data = [b"%d" % (n % 3) * 1000 for n in range(24)]
    threads = [threading.Thread(target=blobs.put_bytes, args=(one,)) for one in data]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files_under(tmp_path / "b")) == 3
    assert all(blobs.read(sha(one)) == one for one in data)
