"""What in a file could run code, judged by its bytes: pickles, programs, and archives that hold or may hide them."""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import Final

from registry.content.pickles import is_pickle
from registry.content.window import HEAD, Window

MAX_MEMBERS: Final = 2_000
_TAIL: Final = 22 + 65_535
"""A zip archive's directory is announced in so many last bytes."""
_MEMBER_HEAD: Final = 64 * 1024
_PROGRAMS: Final = (
    (b"\x7fELF", "a Linux program or library (ELF)"),
    (b"\xfe\xed\xfa\xce", "a macOS program (Mach-O)"),
    (b"\xfe\xed\xfa\xcf", "a macOS program (Mach-O)"),
    (b"\xce\xfa\xed\xfe", "a macOS program (Mach-O)"),
    (b"\xcf\xfa\xed\xfe", "a macOS program (Mach-O)"),
    (b"\xca\xfe\xba\xbe", "a Java class or macOS program"),
    (b"\xca\xfe\xba\xbf", "a macOS program (Mach-O)"),
    (b"\0asm", "a WebAssembly program"),
    (b"dex\n", "an Android program"),
)
_PACKED: Final = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
)
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_OBJECT_DTYPE = re.compile(rb"""['"][|<>=]?O\d*['"]""")


def find_danger(window: Window) -> str | None:
    """What makes a file unfit for a model repo, as the end of "it is ..."; None if nothing was found.

    At most the head, the tail and the heads of an archive's members are read.
    """
    return _of_head(window.head, window) or _of_zip(window)


def _of_head(head: bytes, window: Window) -> str | None:
    whole = window.size <= len(head)
    for mark, name in _PROGRAMS:
        if head.startswith(mark):
            return name
    if _is_windows_program(head):
        return "a Windows program or library (PE)"
    if head[1:4] == b"\r\r\n" or (head[2:4] == b"\r\n" and len(head) >= 16 and head[1] in (0x0C, 0x0D, 0x0E)):
        return "compiled Python"
    if is_pickle(head, whole=whole):
        return "a pickle, which can run code when it is loaded; save the weights as safetensors"
    for mark, name in _PACKED:
        if head.startswith(mark):
            return f"packed with {name}, so nobody can see what is in it; upload the files themselves"
    if head.startswith(_ZLIB) and _unpacks(head):
        return "packed with zlib, so nobody can see what is in it; upload the files themselves"
    if head[257:262] == b"ustar":
        return "a tar archive; upload the files themselves"
    if head.startswith(b"\x93NUMPY") and _has_objects(head):
        return "a NumPy array of Python objects, which is a pickle"
    return None


def _is_windows_program(head: bytes) -> bool:
    if not head.startswith(b"MZ") or len(head) < 64:
        return False
    at = int.from_bytes(head[60:64], "little")
    # The stub may be long; one whose header lies beyond what was read is one all the same if it is no text.
    return head[at : at + 4] == b"PE\0\0" if at + 4 <= len(head) else b"\0" in head[:64]


def _has_objects(head: bytes) -> bool:
    wide = head[6:7] >= b"\x02"
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    return bool(_OBJECT_DTYPE.search(head[start : start + length]))


def _unpacks(head: bytes) -> bool:
    try:
        zlib.decompressobj().decompress(head, 1024)
    except zlib.error:
        return False
    return True


def _of_zip(window: Window) -> str | None:
    """Archives are found from behind, as their readers do: an archive may stand behind anything else."""
    if not window.head.startswith(b"PK\x03\x04"):
        tail = window.read(max(0, window.size - _TAIL), window.size)
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + 22 > len(tail) or at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
            return None
    try:
        with zipfile.ZipFile(window.file()) as archive:
            return _of_members(archive)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, ValueError, EOFError):
        return "a zip archive that cannot be read"


def _of_members(archive: zipfile.ZipFile) -> str | None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        return f"a zip archive of more than {MAX_MEMBERS} files"
    for member in members:
        if member.is_dir():
            continue
        if member.flag_bits & 1:
            return "a zip archive with a password"
        with archive.open(member) as opened:
            head = opened.read(min(_MEMBER_HEAD, HEAD))
        inside = Window(len(head) + (member.file_size > len(head)), lambda start, stop, head=head: head[start:stop])  # type: ignore[misc]
        found = "an archive in an archive" if head.startswith(b"PK\x03\x04") else _of_head(head, inside)
        if found:
            return f"a zip archive whose {member.filename[:80]!r} is {found}"
    return None
