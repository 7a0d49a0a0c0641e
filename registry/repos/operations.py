"""What a commit is to change: its operations, and their effect on the files of a tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from registry.errors import EntryNotFoundError
from registry.types import FileEntry, RepoId, check_path

AddFile: TypeAlias = FileEntry
"""Put a file, stored as a blob before, at a path; replaces what is there."""


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """Take the file at a path away; with `or_folder` also the files below it, if it is a folder."""

    path: str
    or_folder: bool = False

    def __post_init__(self) -> None:
        check_path(self.path)


@dataclass(frozen=True, slots=True)
class DeleteFolder:
    """Take all files below a path away."""

    path: str

    def __post_init__(self) -> None:
        check_path(self.path)


Operation: TypeAlias = AddFile | DeleteFile | DeleteFolder


@dataclass(frozen=True, slots=True)
class CommitDraft:
    """A commit that is not made yet: operations in order, and the tags that are to name it."""

    operations: Sequence[Operation]
    message: str
    author: str
    tags: Sequence[str] = ()

    @property
    def added(self) -> list[FileEntry]:
        """The files that it puts somewhere."""
        return [op for op in self.operations if isinstance(op, FileEntry)]


def apply(repo: RepoId, branch: str, before: Sequence[FileEntry], operations: Sequence[Operation]) -> list[FileEntry]:
    """The files after the operations. Raises EntryNotFoundError (deleting what is not there)."""
    files = {entry.path: entry for entry in before}
    for operation in operations:
        if isinstance(operation, FileEntry):
            files[operation.path] = operation
        elif isinstance(operation, DeleteFolder) or (operation.or_folder and operation.path not in files):
            inside = [path for path in files if path.startswith(operation.path + "/")]
            if not inside:
                raise EntryNotFoundError(repo, branch, operation.path)
            for path in inside:
                del files[path]
        elif files.pop(operation.path, None) is None:
            raise EntryNotFoundError(repo, branch, operation.path)
    return list(files.values())
