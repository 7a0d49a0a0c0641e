"""What may come into a dataset: looked at by content before it is stored, whatever it is called.

A dataset is pictures and text. A file that is neither, that is two things at once (a picture that is also an archive
or a page), or whose header claims more than we would ever decode, is refused with a sentence that says why.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal

from hub.errors import RefusedFileError
from registry.types import check_path
from serving.errors import ImageError
from serving.image_header import MAX_BYTES, MAX_PIXELS, image_size

Kind = Literal["image", "text", "parquet"]
KINDS: dict[str, Kind] = {
    **dict.fromkeys((".jpg", ".jpeg", ".png"), "image"),
    **dict.fromkeys((".json", ".md", ".txt", ".csv", ".yaml", ".yml", ".xml", ".jsonl", ".gitattributes"), "text"),
    ".parquet": "parquet",
}
_MAX_TEXT = 8 * 1024**3
_PICTURE_PAGE = re.compile(rb"<\s*(script|html|svg|iframe|body|\?php|!doctype)[\s>/]|<\?php", re.IGNORECASE)
_TEXT_PAGE = re.compile(rb"^\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<\s*(!doctype|html|script|svg|iframe)", re.I | re.S)
_UNSAFE = re.compile(r'[<>"|?*:]')
_ZIP_END = b"PK\x05\x06"
_KNOWN = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x80", "a pickle"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"%PDF", "a PDF"),
    (b"GIF8", "a GIF"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
)


def check_names(paths: Iterable[str]) -> None:
    """Raises InvalidPathError, RefusedFileError for a path that could mean something else to a disk or a page."""
    seen: dict[str, str] = {}
    for path in paths:
        check_path(path)
        if _UNSAFE.search(path):
            raise RefusedFileError(f'{path[:200]!r}: a file name must not hold any of < > " | ? * :')
        if any(part.startswith(" ") or part.endswith((" ", ".")) for part in path.split("/")):
            raise RefusedFileError(
                f"{path[:200]!r}: a name must neither begin nor end with a space, nor end with a dot"
            )
        other = seen.setdefault(path.lower(), path)
        if other is not path:
            raise RefusedFileError(f"{path!r} and {other!r} are one file on some disks; rename one")
        kind_of(path)


def kind_of(path: str) -> Kind:
    """What a file of this name must be. Raises RefusedFileError for names of nothing that a dataset holds."""
    name = PurePosixPath(path).name.lower()
    kind = KINDS.get(name if name.startswith(".") else PurePosixPath(name).suffix)
    if kind is None:
        raise RefusedFileError(
            f"{path!r}: a dataset holds JPEG and PNG images, JSON, CSV, YAML, XML, Markdown, text and Parquet files"
        )
    return kind


def check_size(path: str, size: int) -> None:
    """Raises RefusedFileError for a size that no file of the kind may have."""
    kind = kind_of(path)
    limit = MAX_BYTES if kind == "image" else _MAX_TEXT
    if size > limit:
        raise RefusedFileError(f"{path!r}: has {size:,} bytes; the limit for such a file is {limit:,}")
    if kind == "image" and size == 0:
        raise RefusedFileError(f"{path!r}: the image is empty")


def check_content(path: str, data: bytes | memoryview) -> Kind:
    """What the bytes are, if that is what the name says. Raises RefusedFileError."""
    kind = kind_of(path)
    try:
        if kind == "image":
            _check_image(data)
        elif kind == "text":
            _check_text(data)
        else:
            _check_parquet(data)
    except ValueError as error:
        raise RefusedFileError(f"{path!r}: {error}") from error
    return kind


def _check_image(data: bytes | memoryview) -> None:
    try:
        kind, height, width = image_size(bytes(data[: 64 * 1024]))
    except ImageError:
        try:  # cameras put large previews before the frame header
            kind, height, width = image_size(bytes(data))
        except ImageError as error:
            raise ValueError(f"is {_what(data)}, not a JPEG or PNG image ({error})") from error
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"the image is {width}x{height} pixels; the limit is {MAX_PIXELS:,} pixels")
    if kind == "png":
        _check_png_end(data)
    elif bytes(data[-2:]) != b"\xff\xd9" and b"\xff\xd9" not in bytes(data[-64 * 1024 :]):
        raise ValueError("the JPEG is cut short")
    if _ends_as_zip(data):
        raise ValueError("is a picture and a ZIP archive at once")
    if _PICTURE_PAGE.search(data):
        raise ValueError("is a picture that holds a page or a script")
    if b"%PDF-" in bytes(data[:1024]):
        raise ValueError("is a picture and a PDF at once")


def _check_parquet(data: bytes | memoryview) -> None:
    if bytes(data[:4]) != b"PAR1" or bytes(data[-4:]) != b"PAR1":
        raise ValueError(f"is {_what(data)}, not a Parquet file")


def _check_png_end(data: bytes | memoryview) -> None:
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        name = bytes(data[at + 4 : at + 8])
        at += 12 + length
        if name == b"IEND":
            if at != len(data):
                raise ValueError("has bytes behind the PNG's end")
            return
    raise ValueError("the PNG is cut short")


def _ends_as_zip(data: bytes | memoryview) -> bool:
    """Whether an archive's directory ends exactly where the file does: by chance its mark alone turns up anywhere."""
    tail = bytes(data[-(65_535 + 22) :])
    at = tail.rfind(_ZIP_END)
    while at >= 0:
        if at + 22 <= len(tail) and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return True
        at = tail.rfind(_ZIP_END, 0, at)
    return False


def _check_text(data: bytes | memoryview) -> None:
    head = bytes(data[:4096])
    if b"\0" in head or any(head.startswith(mark) for mark, _ in _KNOWN if mark != b"MZ" or b"\0" in head):
        raise ValueError(f"is {_what(data)}, not text")
    step = 1 << 20
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), step):
            piece = bytes(data[at : at + step])
            if b"\0" in piece:
                raise ValueError("is not text: it holds zero bytes")
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise ValueError("is not text in UTF-8") from error
    if _TEXT_PAGE.match(head):
        raise ValueError("is a page or a drawing with scripts, which datasets do not hold")


def _what(data: bytes | memoryview) -> str:
    head = bytes(data[:16])
    if not head:
        return "empty"
    if head.lstrip()[:1] == b"<":
        return "markup"
    return next((name for mark, name in _KNOWN if head.startswith(mark)), "something else")
