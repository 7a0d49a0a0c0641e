"""A real small disk that is full: refused in words, nothing lost, and the operator's chapter to its end."""

from __future__ import annotations

import contextlib
import os
import subprocess

import pytest

from hub.cli.main import run
from hub.error_table import problem_of
from registry.blobs.disk import Room
from registry.errors import DiskFullError
from registry.registry import Registry


@pytest.fixture
def disk(tmp_path):
    """A file system of 48 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"file systems may not be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place):
    """What another program may do."""
    with (place / "other").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096) == 4096:
            pass
    with (place / "rest").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x"):
            pass


def test_a_full_disk_refuses_files_and_rows_and_the_chapter_makes_room(disk, monkeypatch):
    root = disk / "data"
    with Registry.open(root, reserve=64 << 20) as opened:
        kept = opened.blobs.put_bytes(b"acknowledged")
        opened.blobs.put_bytes(os.urandom(4 << 20))
        assert opened.room.held == opened.room.size > 0
        fill(disk)
        with pytest.raises(DiskFullError, match="disk full") as refused:
            opened.blobs.put_bytes(b"more")
        assert problem_of(refused.value).status == 507
        with pytest.raises(DiskFullError, match="disk full"), opened.catalog.write() as tx:
            tx.execute("CREATE TABLE more (x INTEGER)")
        assert opened.blobs.read(kept.sha256) == b"acknowledged"
    # It opens all the same, on a disk without a byte, with its reserve and without.
    with Registry.open(root, reserve=64 << 20) as opened:
        assert opened.blobs.read(kept.sha256) == b"acknowledged"
        assert opened.room.held == 0, "given back, so that rows can be written"
    monkeypatch.setenv("PARCELHUB_BLOB_GRACE_DAYS", "0")
    assert run(["registry", "gc", "--data", str(root)]) == 0
    (disk / "other").unlink()
    with Registry.open(root, reserve=64 << 20) as opened:
        assert opened.room.held == opened.room.size, "made again when there is room"
        opened.blobs.put_bytes(b"more")


def test_gc_makes_room_where_not_even_the_reserve_is_left(disk, monkeypatch):
    root = disk / "data"
    with Registry.open(root, reserve=64 << 20) as opened:
        garbage = opened.blobs.put_bytes(os.urandom(8 << 20))
    fill(disk)
    assert run(["registry", "reserve", "--give-back", "--data", str(root)]) == 0
    assert not (root / "reserve").exists()
    with (disk / "third").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    monkeypatch.setenv("PARCELHUB_BLOB_GRACE_DAYS", "0")
    assert run(["registry", "gc", "--data", str(root)]) == 0
    with Registry.open(root, reserve=64 << 20) as opened:
        assert not opened.blobs.exists(garbage.sha256)
        opened.blobs.put_bytes(b"there is room again")
    assert run(["registry", "fsck", "--data", str(root)]) == 0


def test_the_reserve_is_small_on_a_small_disk(disk):
    assert Room(disk, 64 << 20).size <= (48 << 20) // 32
