"""A dataset that comes as a ZIP archive, unpacked as if its maker meant harm.

Everything is decided before the first byte is written, from the archive's directory, and counted again while it is
unpacked, because a directory may lie: names that lead out of the folder, links, devices, names twice, encrypted
members, more files or bytes than we take, and members that grow beyond reason.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from finetune.datasets.export import drafted
from finetune.datasets.jsonstream import chinese
from finetune.errors import DatasetError

MAX_FILES = 200_000
MAX_TOTAL = 64 * 2**30
MAX_RATIO = 200
"""How many times its packed size a member may have: label files reach 30, bombs begin at 1,000."""
_SMALL = 1 << 20
_UTF8 = 0x800
_CHUNK = 1 << 20


def unpack(archive: Path, folder: Path, *, max_total: int = MAX_TOTAL, max_files: int = MAX_FILES) -> None:
    """Unpack a ZIP into `folder`, whole or not at all. Raises DatasetError that names the member to blame."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _checked(opened, max_total, max_files)
            with drafted(folder) as draft:
                _extract(opened, members, draft, max_total)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise DatasetError(f"cannot be unpacked: {error}", path=Path(archive.name)) from error


def _checked(opened: zipfile.ZipFile, max_total: int, max_files: int) -> dict[str, zipfile.ZipInfo]:
    """The files to unpack by their safe paths."""
    found: dict[str, zipfile.ZipInfo] = {}
    seen: set[str] = set()
    listed = opened.infolist()
    if len(listed) > max_files:
        raise DatasetError(f"holds {len(listed):,} members; the limit is {max_files:,}", path=_named(opened))
    total = 0
    for member in listed:
        path = _safe(member, opened)
        if member.is_dir() or member.filename.endswith("\\"):
            continue
        total += member.file_size
        if total > max_total:
            raise DatasetError(f"says it holds more than {max_total:,} bytes", path=_named(opened))
        if member.file_size > _SMALL and member.file_size > MAX_RATIO * max(member.compress_size, 1):
            text = f"{member.filename[:200]!r} would grow from {member.compress_size:,} to {member.file_size:,} bytes"
            raise DatasetError(f"{text}: that is no dataset", path=_named(opened))
        if path.lower() in seen:
            raise DatasetError(f"holds {path!r} twice", path=_named(opened))
        seen.add(path.lower())
        found[path] = member
    return found


def _named_by(member: zipfile.ZipInfo) -> str:
    """A member's name with slashes: old Windows tools write backslashes. Names in UTF-8 that no flag says are so, as
    macOS writes them, are read as UTF-8, and Chinese ones of Windows in its own encoding.
    """
    name = member.filename
    if not member.flag_bits & _UTF8 and not name.isascii():
        raw = name.encode("cp437", "replace")
        try:
            name = raw.decode("utf-8")
        except UnicodeError:
            name = chinese(raw) or member.filename
    return name.replace("\\", "/")


def _safe(member: zipfile.ZipInfo, opened: zipfile.ZipFile) -> str:
    name = _named_by(member)
    where = _named(opened)
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DatasetError(f"{name[:200]!r} is a link or a device, not a file", path=where)
    if member.flag_bits & 0x1:
        raise DatasetError(f"{name[:200]!r} is encrypted", path=where)
    plain = name.rstrip("/")
    parts = PurePosixPath(plain).parts
    bad = (
        not plain
        or plain.startswith("/")
        or plain[1:2] == ":"
        or "//" in plain
        or any(part in (".", "..") for part in plain.split("/"))
        or any(ord(char) < 32 for char in plain)
        or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts)
        or len(plain) > 1024
    )
    if bad:
        raise DatasetError(f"{name[:200]!r} is no path inside the dataset", path=where)
    return plain


def _extract(opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], draft: Path, max_total: int) -> None:
    total = 0
    for path, member in members.items():
        target = draft / path
        target.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with opened.open(member) as packed, target.open("xb") as out:
            while chunk := packed.read(_CHUNK):
                written += len(chunk)
                total += len(chunk)
                if written > member.file_size or total > max_total:
                    raise DatasetError(f"{path!r} holds more than the archive says", path=_named(opened))
                out.write(chunk)
    only = [entry for entry in draft.iterdir() if not entry.name.startswith((".", "__MACOSX"))]
    if len(only) == 1 and only[0].is_dir():  # the usual archive of a folder: its content is the dataset
        inner = only[0].rename(draft / f".{only[0].name}.inner")
        for entry in list(inner.iterdir()):
            shutil.move(str(entry), str(draft / entry.name))
        inner.rmdir()


def _named(opened: zipfile.ZipFile) -> Path:
    return Path(Path(opened.filename or "archive").name)
