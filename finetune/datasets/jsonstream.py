"""JSON files piece by piece: a gigabyte of annotations never lies in memory at once, and every piece knows its line.

The standard library's scanner decodes one element after the other out of a sliding window of text. A general
streaming parser is an order of magnitude slower on arrays of many small objects, and none of those tried names lines.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from finetune.datasets.limits import MAX_JSON_BYTES, MAX_TEXT_BYTES
from finetune.datasets.tree import unicode_form
from finetune.errors import DatasetError

_CHUNK = 1 << 20
_WHOLE = 1 << 20
"""Files of so many bytes are read at once."""
_MENDED = 20
"""So many commas too much are overlooked in one entry: each costs another decoding of it."""
_IN_LATIN = re.compile(r"[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][A-Za-z]")
_SPACE = re.compile(r"[ \t\n\r]*")
# How close to the window's end a fault may be the window's fault: the longest token that can be cut is "\uXXXX".
_CUT = 16

Told = Callable[[str], None]
"""Hears which encoding a file is taken to have."""

LIST = -1
"""`Item.number` of the announcement of a list, before its elements."""


class Item(NamedTuple):
    """A piece of a document: the value of a member of the top-level object, or an element of one of its lists.

    `key` is the member's name, "" where the document is itself a list. `number` counts the elements of a list from 0,
    is `LIST` for the announcement of a list (`value` is then None) and None for a value that is not a list. `line` is
    where the piece begins.
    """

    key: str
    number: int | None
    value: object
    line: int


def stream_json(path: Path, where: str, *, max_bytes: int = MAX_JSON_BYTES, told: Told | None = None) -> Iterator[Item]:
    """The pieces of a JSON file in their order; a document that is neither object nor list is one piece.

    `where` is the file's name for errors. A file that is no Unicode is read in the encoding that it is likely to have,
    if it is one, where somebody is `told` of that. Raises DatasetError with its line for what is not JSON, is nested
    too deeply, names a top-level member twice, or is over the limits.
    """
    try:
        weight = path.stat().st_size
        if weight > max_bytes:
            raise DatasetError(f"has {weight:,} bytes; the limit is {max_bytes:,}", path=Path(where))
        with _opened(path, weight, told) as file:
            scanner = _Scanner(file, where)
            yield from _document(scanner)
            if scanner.peek():
                raise scanner.error("text follows the end of the document")
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror}", path=Path(where)) from error
    except UnicodeDecodeError as error:
        text = f"cannot be read as JSON: it is not UTF-8 ({error.reason}); open it in an editor and save it as UTF-8"
        raise DatasetError(text, path=Path(where)) from error


def _opened(path: Path, weight: int, told: Told | None) -> TextIO:
    """A file as text: Unicode by its first bytes, or where that does not fit and may be told, a Chinese encoding.

    GB2312 is what old versions of LabelMe write on Chinese Windows. Its characters are pairs of high bytes and stand in
    no Latin word, which tells them from Western encodings. Raises OSError, UnicodeDecodeError.
    """
    if weight > _WHOLE and (told is None or weight > MAX_TEXT_BYTES):
        with path.open("rb") as head:
            codec = unicode_form(head.read(4))
        return path.open(encoding=codec, newline="")
    data = path.read_bytes()
    try:
        return io.StringIO(data.decode(unicode_form(data[:4])), newline="")
    except UnicodeDecodeError:
        text = chinese(data) if told is not None else None
        if text is None or told is None:
            raise
        told("gb2312")
        return io.StringIO(text, newline="")


def chinese(data: bytes) -> str | None:
    """A text in GB2312 that is no other encoding's, as far as one sees; None for other bytes."""
    try:
        text = data.decode("gb2312")
    except UnicodeDecodeError:
        return None
    return None if _IN_LATIN.search(text) else text


def load_json(path: Path, where: str, *, max_bytes: int = MAX_TEXT_BYTES, told: Told | None = None) -> object:
    """A whole JSON file of moderate size. Raises DatasetError like `stream_json`."""
    members: dict[str, object] = {}
    elements: list[object] = []
    whole: object = members
    for item in stream_json(path, where, max_bytes=max_bytes, told=told):
        if item.number == LIST:
            elements = []
            if item.key:
                members[item.key] = elements
            else:
                whole = elements
        elif item.number is not None:
            elements.append(item.value)
        elif item.key:
            members[item.key] = item.value
        else:
            whole = item.value
    return whole


def _document(scanner: _Scanner) -> Iterator[Item]:
    opening = scanner.peek()
    if opening == "[":
        yield from _list(scanner, "")
    elif opening != "{":
        line = scanner.line
        yield Item("", None, scanner.value(), line)
    else:
        seen = set()
        for _ in _separated(scanner, "}"):
            key = scanner.value() if scanner.peek() == '"' else None
            if not isinstance(key, str):
                raise scanner.error("expecting a name in double quotes")
            if key in seen:
                raise scanner.error(f"{key[:40]!r} is there twice")
            seen.add(key)
            scanner.take(":")
            if scanner.peek() == "[":
                yield from _list(scanner, key)
            else:
                line = scanner.line
                yield Item(key, None, scanner.value(), line)


def _list(scanner: _Scanner, key: str) -> Iterator[Item]:
    yield Item(key, LIST, None, scanner.line)
    for index in _separated(scanner, "]"):
        scanner.peek()
        line = scanner.line
        yield Item(key, index, scanner.value(), line)


def _separated(scanner: _Scanner, closing: str) -> Iterator[int]:
    """Count the entries of an object or list: the caller takes one between two steps."""
    scanner.take("[" if closing == "]" else "{")
    if scanner.peek() == closing:
        scanner.take(closing)
        return
    index = 0
    while True:
        yield index
        index += 1
        if scanner.peek() == closing:
            scanner.take(closing)
            return
        scanner.take(",")
        if scanner.peek() == closing:  # a comma too much, as people leave it who write JSON by hand
            scanner.take(closing)
            return


def _last_comma(text: str, start: int, at: int) -> int | None:
    """Where the comma stands that is too much, if that is the fault found at `at`: one before a closing bracket, as
    people leave it who write JSON by hand. None for other faults.
    """
    before = text[start:at].rstrip()
    comma = at if text[at : at + 1] == "," else start + len(before) - 1
    closing = text[comma + 1 : comma + 1 + _CHUNK].lstrip()[:1]
    return comma if text[comma : comma + 1] == "," and closing in ("]", "}") else None


class _Scanner:
    """A window of text that slides over a file; `line` is the line of the position."""

    def __init__(self, file: TextIO, where: str) -> None:
        self._file = file
        self._where = where
        self._text = ""
        self._at = 0
        self._decode = json.JSONDecoder().raw_decode
        self.line = 1

    def peek(self) -> str:
        """The next character that is not white space, "" at the end; the position moves to it."""
        while True:
            match = _SPACE.match(self._text, self._at)
            end = match.end() if match else self._at
            self._move(end)
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self.error(f"expecting {character!r}" + ("" if found else ", the file ends"))
        self._at += 1

    def value(self) -> object:
        """The JSON value at the position, which moves behind it."""
        self.peek()
        mended = 0
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _CUT
                if cut and self._more():
                    continue
                if mended < _MENDED and (comma := _last_comma(self._text, self._at, error.pos)) is not None:
                    mended += 1
                    self._text = f"{self._text[:comma]} {self._text[comma + 1 :]}"
                    continue
                raise self.error(error.msg, error.pos) from error
            except RecursionError as error:
                raise self.error("nested too deeply") from error
            except ValueError as error:  # a whole number of thousands of digits
                raise self.error(str(error)) from error
            # A number near the window's end may go on behind it: "-2.5e" is a whole -2.5 and a half of -2.5e3.
            if end + _CUT <= len(self._text) or not self._more():
                self._move(end)
                return value

    def error(self, message: str, position: int | None = None) -> DatasetError:
        at = self._at if position is None else position
        line = self.line + self._text.count("\n", self._at, at)
        return DatasetError(f"is not JSON: {message}", path=Path(self._where), line=line)

    def _move(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _more(self) -> bool:
        """Read on; what lies before the position is let go. False at the end of the file."""
        pending = len(self._text) - self._at
        if pending > MAX_TEXT_BYTES:
            raise self.error(f"one entry is longer than {MAX_TEXT_BYTES:,} characters")
        # At least as much again: a long entry is decoded a few times, not once per chunk.
        more = self._file.read(max(_CHUNK, pending))
        if more:
            self._text = self._text[self._at :] + more
            self._at = 0
        return bool(more)
