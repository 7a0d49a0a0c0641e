"""Git's two pattern files: `.gitattributes` says which files are large, `.gitignore` which are none of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from hub.protocol.wildmatch import Wildmatch, compile_pattern

MAX_FILE = 256 * 1024
"""Bytes of a pattern file that are read; a larger one is as good as none."""
MAX_RULES = 2000
MAX_LINE = 2048
"""Git ignores attributes in longer lines."""

_LARGE = frozenset(
    {"7z", "arrow", "avro", "bin", "bz2", "ckpt", "db", "duckdb", "ftz", "gguf", "gz", "h5", "joblib", "lz4", "mds"}
    | {"mlmodel", "model", "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pickle", "pkl", "pt", "pth", "rar"}
    | {"safetensors", "sqlite", "sqlite3", "tar", "tflite", "tgz", "wasm", "xz", "zip", "zst"}
)
_MEDIA = frozenset(
    {"aac", "avi", "bmp", "flac", "flv", "gif", "jpeg", "jpg", "m4a", "mkv", "mov", "mp3", "mp4", "ogg", "opus", "pcm"}
    | {"pdf", "png", "raw", "sam", "tif", "tiff", "wav", "webm", "webp"}
)


def default_attributes(repo_type: str) -> bytes:
    """The `.gitattributes` that a new repo begins with."""
    endings = sorted(_LARGE | _MEDIA if repo_type == "dataset" else _LARGE)
    patterns = [f"*.{ending}" for ending in endings] + ["saved_model/**/*", "*tfevents*"]
    return "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in patterns).encode()


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A pattern as git reads it: about the whole path if it has a slash, else about names in any folder."""

    glob: Wildmatch
    whole: bool
    folders_only: bool

    @classmethod
    def of(cls, text: bytes) -> _Pattern:
        folders_only = text.endswith(b"/")
        text = text[:-1] if folders_only else text
        whole = b"/" in text
        return cls(compile_pattern(text.removeprefix(b"/"), by_segment=whole), whole, folders_only)

    def match(self, path: bytes) -> bool:
        return self.glob.match(path if self.whole else path.rpartition(b"/")[2])


_Value = str | bool | None
"""What a line gives an attribute: a text, set, unset, or (None) unspecified again."""
_Values = tuple[tuple[str, _Value], ...]


@dataclass(frozen=True, slots=True)
class Attributes:
    """The rules of one `.gitattributes` at the root of a repo, and its macros."""

    rules: tuple[tuple[_Pattern, _Values], ...]
    macros: Mapping[str, _Values]
    _seen: dict[str, bool] = field(default_factory=dict, compare=False)

    def filter_of(self, path: str) -> _Value:
        """The attribute `filter` of the file at `path`, as `git check-attr` has it."""
        raw = path.encode()
        known: dict[str, _Value] = {}
        for pattern, values in reversed(self.rules):
            if pattern.folders_only or not pattern.match(raw):
                continue
            self._fill(values, known)
            if "filter" in known:
                return known["filter"]
        return None

    def match_file(self, path: str) -> bool:
        """Whether the file goes to LFS."""
        if (found := self._seen.get(path)) is None:
            if len(self._seen) > 200_000:
                self._seen.clear()
            found = self._seen[path] = self.filter_of(path) == "lfs"
        return found

    def _fill(self, values: _Values, known: dict[str, _Value]) -> None:
        for name, value in reversed(values):
            if name not in known:
                known[name] = value
                if value is True and name in self.macros:
                    self._fill(self.macros[name], known)


_BINARY: Mapping[str, _Values] = {"binary": (("diff", False), ("merge", False), ("text", False))}


@lru_cache(maxsize=64)
def large_files(attributes: bytes) -> Attributes:
    """Which files a `.gitattributes` gives to LFS."""
    rules: list[tuple[_Pattern, _Values]] = []
    macros = dict(_BINARY)
    for line in _lines(attributes):
        if len(line) >= MAX_LINE or not (line := line.lstrip(_BLANK)) or line.startswith(b"#"):
            continue
        name, rest = _first_word(line)
        values = _values(rest)
        if values is None or name.startswith(b"!"):
            continue
        if name.startswith(b"[attr]") and len(name) > len(b"[attr]"):
            # Of a macro's name, too, git takes what is up to the next blank.
            macro = re.split(rb"[ \t\r\n]", name.removeprefix(b"[attr]").lstrip(_BLANK), maxsplit=1)[0]
            if _NAME.fullmatch(macro):
                macros[macro.decode()] = values
        else:
            rules.append((_Pattern.of(name), values))
    return Attributes(tuple(rules[-MAX_RULES:]), macros)


_BLANK = b" \t\r\n"
_NAME = re.compile(rb"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_ESCAPES = {ord(b"abfnrtv"[at : at + 1]): b"\a\b\f\n\r\t\v"[at] for at in range(7)} | {ord("\\"): 92, ord('"'): 34}


def _first_word(line: bytes) -> tuple[bytes, bytes]:
    """The pattern, quoted or not, and what comes behind it."""
    if line.startswith(b'"') and (quoted := _unquote(line)) is not None:
        return quoted
    found = re.match(rb"[^ \t\r\n]*", line)
    end = found.end() if found else 0
    return line[:end], line[end:]


def _unquote(line: bytes) -> tuple[bytes, bytes] | None:
    """What a text in C's quotes means, and the rest; None if it does not end, or has an escape that C has not."""
    out = bytearray()
    at = 1
    while at < len(line):
        byte = line[at]
        if byte == ord('"'):
            return bytes(out), line[at + 1 :]
        if byte != ord("\\"):
            out.append(byte)
            at += 1
            continue
        octal = re.match(rb"[0-3][0-7][0-7]", line[at + 1 : at + 4])
        if octal:
            out.append(int(octal[0], 8))
            at += 4
        elif at + 1 < len(line) and line[at + 1] in _ESCAPES:
            out.append(_ESCAPES[line[at + 1]])
            at += 2
        else:
            return None
    return None


def _values(rest: bytes) -> _Values | None:
    """What a line sets; None if a name in it is none, for which git leaves the whole line out."""
    values: list[tuple[str, _Value]] = []
    for word in rest.split():
        mark = word[:1] if word[:1] in (b"-", b"!") else b""
        name, equals, value = word[len(mark) :].partition(b"=")
        if not _NAME.fullmatch(name) or name.startswith(b"builtin_"):
            return None
        given: _Value = {b"-": False, b"!": None}.get(mark, value.decode("utf-8", "replace") if equals else True)
        values.append((name.decode(), given))
    return tuple(values)


@dataclass(frozen=True, slots=True)
class Ignored:
    """The rules of one `.gitignore`; the last one that matches decides."""

    rules: tuple[tuple[_Pattern, bool], ...]

    def match(self, path: str) -> bool:
        """Whether the file at `path` is left out, by itself or by a folder it lies in."""
        parts = path.encode().split(b"/")
        # As git: what lies in a folder that is out stays out, whatever later rules say of the file.
        for depth in range(1, len(parts)):
            if self._decide(b"/".join(parts[:depth]), folder=True):
                return True
        return self._decide(b"/".join(parts), folder=False)

    def _decide(self, path: bytes, *, folder: bool) -> bool:
        for pattern, yes in reversed(self.rules):
            if (folder or not pattern.folders_only) and pattern.match(path):
                return yes
        return False


@lru_cache(maxsize=64)
def ignored_files(ignore: bytes) -> Ignored:
    """Which files a `.gitignore` leaves out."""
    rules = []
    for line in _lines(ignore):
        text = _without_trailing_blanks(line.removesuffix(b"\r"))
        if not text or text.startswith(b"#"):
            continue
        yes = not text.startswith(b"!")
        text = text if yes else text[1:]
        if text.rstrip(b"/"):
            rules.append((_Pattern.of(text), yes))
    return Ignored(tuple(rules[-MAX_RULES:]))


def _without_trailing_blanks(line: bytes) -> bytes:
    """Spaces at the end count only behind a backslash."""
    end = len(line)
    while end and line[end - 1] == ord(" "):
        end -= 1
    escapes = len(line[:end]) - len(line[:end].rstrip(b"\\"))
    return line[: end + 1] if escapes % 2 and end < len(line) else line[:end]


def _lines(data: bytes) -> Iterator[bytes]:
    if len(data) <= MAX_FILE:
        yield from data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
