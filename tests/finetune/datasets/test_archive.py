"""ZIP archives that mean harm, and ones that do not."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.datasets import archive
from finetune.errors import DatasetError


def packed(target: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(target, "w", compression) as out:
        for name, data in members.items():
            out.writestr(zipfile.ZipInfo(name), data, compression)
    return target


def linked(target: Path) -> Path:
    info = zipfile.ZipInfo("images/a.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(target, "w") as out:
        out.writestr(info, "/etc/passwd")
    return target


def encrypted(target: Path) -> Path:
    packed(target, {"a.txt": b"x"}, zipfile.ZIP_STORED)
    data = bytearray(target.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    target.write_bytes(data)
    return target


def lying(target: Path) -> Path:
    """A member whose directory entry says ten bytes, of a stream of a million."""
    packed(target, {"a.txt": b"0" * 1_000_000})
    data = bytearray(target.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(mark) + offset, 10)
    target.write_bytes(data)
    return target


HOSTILE: list[tuple[str, Callable[[Path], Path], str]] = [
    ("slip", lambda t: packed(t, {"../../evil.txt": b"x"}), "no path inside"),
    ("slip inside", lambda t: packed(t, {"images/../../evil.txt": b"x"}), "no path inside"),
    ("absolute", lambda t: packed(t, {"/etc/evil.txt": b"x"}), "no path inside"),
    ("drive", lambda t: packed(t, {"C:/evil.txt": b"x"}), "no path inside"),
    ("backslash", lambda t: packed(t, {"..\\evil.txt": b"x"}), "no path inside"),
    ("link", linked, "a link or a device"),
    ("encrypted", encrypted, "is encrypted"),
    ("bomb", lambda t: packed(t, {"a.txt": b"0" * 25_000_000}), "would grow from"),
    ("lie", lying, "cannot be unpacked|holds more than"),
    ("twice", lambda t: packed(t, {"a.txt": b"x", "A.txt": b"y"}), "holds 'A.txt' twice"),
    ("many", lambda t: packed(t, {f"{k}.txt": b"" for k in range(60)}), "60 members; the limit is 50"),
    ("large", lambda t: packed(t, {f"{k}.bin": b"0" * 900_000 for k in range(40)}), "more than 30,000,000 bytes"),
    ("no zip", lambda t: t.write_bytes(b"PK\x03\x04 nothing") and t, "cannot be unpacked"),
]


@pytest.mark.parametrize(("make", "said"), [pytest.param(*case[1:], id=case[0]) for case in HOSTILE])
def test_hostile_archives_leave_nothing(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    source = make(tmp_path / "set.zip")
    with pytest.raises(DatasetError, match=said):
        archive.unpack(source, tmp_path / "deep" / "out", max_total=30_000_000, max_files=50)
    found = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"set.zip"}
    assert not (tmp_path / "deep" / "out").exists()


@pytest.mark.parametrize("prefix", ["", "dock-7/"])
def test_an_archive_becomes_the_folder_it_was_made_of(tmp_path: Path, prefix: str) -> None:
    members = {f"{prefix}images/ä b.png": b"picture", f"{prefix}annotations.json": b"{}"}
    archive.unpack(packed(tmp_path / "set.zip", members), tmp_path / "out")
    assert (tmp_path / "out" / "annotations.json").read_bytes() == b"{}"
    assert (tmp_path / "out" / "images" / "ä b.png").read_bytes() == b"picture"
