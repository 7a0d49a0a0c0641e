"""XML files piece by piece, with line numbers, without document types: no entity is ever declared, so none expands.

The standard library's expat underneath, which reads nothing but the bytes it is given; a document that brings a DTD is
refused before its first element. (`defusedxml` does the same on top of ElementTree, where lines are lost and the whole
tree is kept.)
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat  # the two doors that it leaves open are shut below

from finetune.datasets.limits import MAX_TEXT_BYTES, MAX_XML_BYTES
from finetune.errors import DatasetError

_CHUNK = 1 << 18
_DECLARED = re.compile(rb"""<\?xml[^>]*encoding=["']([A-Za-z0-9._-]+)["']""")
# Of several bytes a character: expat cannot, Python can.
_ENCODINGS = frozenset({"gb2312", "gbk", "gb18030", "big5", "shift_jis", "shift-jis", "euc-jp", "euc-kr", "cp949"})
_MAX_DEPTH = 32


class Start(NamedTuple):
    """An element begins on `line`; `path` are the names from the root to it."""

    path: tuple[str, ...]
    attributes: dict[str, str]
    line: int


class End(NamedTuple):
    """An element ends; `text` is what stood directly in it, between its children too."""

    path: tuple[str, ...]
    text: str
    line: int


def stream_xml(path: Path, where: str) -> Iterator[Start | End]:
    """The elements of an XML file in their order. `where` is the file's name for errors.

    Raises DatasetError with its line for what is not XML, brings a document type or entities, nests absurdly, or is
    over the limits.
    """
    codec = _foreign(path, where)
    decode = codecs.getincrementaldecoder(codec)().decode if codec else None
    parser = expat.ParserCreate("utf-8") if codec else expat.ParserCreate()
    parser.buffer_text = True
    events: list[Start | End] = []
    names: list[str] = []
    texts: list[list[str]] = []

    def fail(message: str) -> DatasetError:
        return DatasetError(message, path=Path(where), line=parser.CurrentLineNumber)

    def start(name: str, attributes: dict[str, str]) -> None:
        names.append(name)
        texts.append([])
        if len(names) > _MAX_DEPTH:
            raise fail(f"nests more than {_MAX_DEPTH} elements")
        events.append(Start(tuple(names), attributes, parser.CurrentLineNumber))

    def end(_: str) -> None:
        events.append(End(tuple(names), "".join(texts.pop()), parser.CurrentLineNumber))
        names.pop()

    def text(data: str) -> None:
        if texts:
            texts[-1].append(data)

    def forbidden(*_: object) -> int:
        raise fail("brings a document type (DTD) or entities, which no annotation file needs")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = forbidden
    try:
        weight = path.stat().st_size
        if weight > MAX_XML_BYTES:
            raise DatasetError(f"has {weight:,} bytes; the limit is {MAX_XML_BYTES:,}", path=Path(where))
        with path.open("rb") as file:
            quiet = 0
            while True:
                data = file.read(_CHUNK)
                parser.Parse(decode(data, not data) if decode else data, not data)
                # expat keeps a tag in memory until it is whole, and we an element's text.
                quiet = 0 if events else quiet + len(data)
                if quiet > MAX_TEXT_BYTES:
                    raise fail(f"one element is longer than {MAX_TEXT_BYTES:,} bytes")
                yield from events
                events.clear()
                if not data:
                    return
    except LookupError as error:  # expat asks Python for an encoding whose name it does not know
        raise DatasetError(
            f"declares an encoding that nobody knows ({error}); save it as UTF-8", path=Path(where)
        ) from error
    except UnicodeDecodeError as error:
        reason = f"says it is {codec}, and is not ({error.reason}); save it as UTF-8"
        raise DatasetError(reason, path=Path(where)) from error
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        if _of_windows(path):
            reason += "; it is not in UTF-8, and does not say in what it is: save it as UTF-8"
        raise DatasetError(f"is not XML: {reason}", path=Path(where), line=error.lineno) from error
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=Path(where)) from error


def _foreign(path: Path, where: str) -> str | None:
    """The encoding that a file declares, where it is one that expat does not know. Raises DatasetError."""
    try:
        with path.open("rb") as file:
            found = _DECLARED.match(file.read(200))
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=Path(where)) from error
    name = found[1].decode("ascii").lower() if found else ""
    return name if name in _ENCODINGS else None


def _of_windows(path: Path) -> bool:
    """Whether a file that declares no encoding is not in the one that it then has to be in."""
    try:
        with path.open("rb") as file:
            data = file.read(_CHUNK)
    except OSError:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return _DECLARED.match(data[:200]) is None
    return False


def root_of(path: Path, where: str) -> str:
    """The name of an XML file's root element. Raises DatasetError like `stream_xml`."""
    for event in stream_xml(path, where):
        return event.path[0]
    return ""
