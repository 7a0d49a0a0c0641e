"""Git's two pattern files: `.gitattributes` says which files are large, `.gitignore` which are none of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

MAX_FILE = 256 * 1024
"""Bytes of a pattern file that are read; a larger one is as good as none."""
MAX_RULES = 2000
MAX_SEGMENTS = 50

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
class _Rule:
    """A pattern, segment by segment; None stands for `**`. One of a single segment is about names anywhere."""

    segments: tuple[re.Pattern[str] | None, ...]
    anchored: bool
    yes: bool
    folders_only: bool

    def match(self, parts: Sequence[str]) -> bool:
        if not self.anchored:
            parts = parts[-1:]
        # Which numbers of parts the segments so far may have used up: no backtracking, however many stars.
        used = {0}
        for segment in self.segments:
            if segment is None:
                used = set(range(min(used), len(parts) + 1))
            else:
                used = {at + 1 for at in used if at < len(parts) and segment.match(parts[at])}
            if not used:
                return False
        return len(parts) in used


@dataclass(frozen=True, slots=True)
class Patterns:
    """The rules of one pattern file; the last one that matches decides."""

    rules: tuple[_Rule, ...]

    def match(self, path: str) -> bool:
        """Whether the file at `path` is meant, by itself or by a folder it lies in."""
        parts = path.split("/")
        # As git: what lies in a folder that is out stays out, whatever later rules say of the file.
        for depth in range(1, len(parts)):
            if self._decide("/".join(parts[:depth]), folder=True):
                return True
        return self._decide(path, folder=False)

    def match_file(self, path: str) -> bool:
        """Whether a rule is about the file itself; folders do not count (`.gitattributes` has it so)."""
        return self._decide(path, folder=False)

    def _decide(self, path: str, *, folder: bool) -> bool:
        parts = path.split("/")
        for rule in reversed(self.rules):
            if (folder or not rule.folders_only) and rule.match(parts):
                return rule.yes
        return False


@lru_cache(maxsize=256)
def large_files(attributes: bytes) -> Patterns:
    """Which files a `.gitattributes` gives to LFS."""
    rules = []
    for line in _lines(attributes):
        pattern, *settings = line.split()
        chosen = [setting for setting in settings if re.fullmatch(r"[-!]?filter(=.*)?", setting)]
        if chosen and pattern[0] not in "[!":
            rules += _rule(pattern, yes=chosen[-1] == "filter=lfs", folders_only=False)
    return Patterns(tuple(rules[:MAX_RULES]))


@lru_cache(maxsize=256)
def ignored_files(ignore: bytes) -> Patterns:
    """Which files a `.gitignore` leaves out."""
    rules = []
    for line in _lines(ignore):
        yes = not line.startswith("!")
        pattern = line if yes else line[1:]
        rules += _rule(pattern.rstrip("/").removeprefix("\\"), yes=yes, folders_only=pattern.endswith("/"))
    return Patterns(tuple(rules[:MAX_RULES]))


def _lines(data: bytes) -> list[str]:
    if len(data) > MAX_FILE:
        return []
    lines = (line.strip() for line in data.decode("utf-8", "replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _rule(pattern: str, *, yes: bool, folders_only: bool) -> list[_Rule]:
    anchored = "/" in pattern
    segments = pattern.strip("/").split("/")
    if not pattern.strip("/") or len(segments) > MAX_SEGMENTS:
        return []
    try:
        # fnmatch makes expressions that never backtrack over a star.
        compiled = [None if each == "**" else re.compile(translate(_like_fnmatch(each))) for each in segments]
    except re.error:
        return []
    return [_Rule(tuple(compiled), anchored, yes, folders_only)]


def _like_fnmatch(segment: str) -> str:
    """Git's way of saying a literal wildcard, or a negated class, in fnmatch's."""
    return re.sub(r"\\([*?\[])", r"[\1]", segment.replace("[^", "[!"))
