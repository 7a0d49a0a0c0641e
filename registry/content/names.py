"""Names that a file may be stored under, but that stock clients would never write to a disk: refused at the door."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PureWindowsPath
from typing import Final

from registry.errors import InvalidPathError
from registry.types import FileEntry, RepoId

FORBIDDEN_FOLDERS: Final = (".git", ".cache")
"""Folders that clients keep for themselves, at any depth."""


def check_new_path(path: str) -> str:
    """`path` itself, if clients can upload and download a file of this name. Raises InvalidPathError."""
    for segment in path.split("/"):
        if segment.lower() in FORBIDDEN_FOLDERS:
            raise InvalidPathError("path", path, f"must not lie under a folder {segment!r}, which clients keep")
        if PureWindowsPath(segment).drive:
            raise InvalidPathError("path", path, f"{segment[:2]!r} reads like a drive; clients refuse to download it")
    return path


def names_door(_repo: RepoId, added: Sequence[FileEntry]) -> None:
    """A content guard: looks at the names of what a commit adds. Raises InvalidPathError."""
    for entry in added:
        check_new_path(entry.path)
