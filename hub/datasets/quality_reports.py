"""What checks of datasets found: one file per content, so that the same files are never checked twice."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hub.errors import UNREADABLE
from hub.schemas.quality import Quality
from registry.durable import write_file
from registry.repos.repos import Repos
from registry.types import RepoId


class QualityReports:
    """By the digest of a revision's tree. Use from any number of threads."""

    def __init__(self, folder: Path, repos: Repos) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._repos = repos

    def found(self, repo: RepoId, commit: str) -> Quality | None:
        """What the check of a revision said; None before there was one. Raises NotFoundError."""
        return self.of_tree(self.tree(repo, commit))

    def of_tree(self, tree: str) -> Quality | None:
        """What was found in a tree."""
        try:
            return msgspec.json.decode(self._file(tree).read_bytes(), type=Quality)
        except (FileNotFoundError, *UNREADABLE):
            return None

    def keep(self, tree: str, quality: Quality) -> None:
        """Remember it, in place of what was found before."""
        write_file(self._file(tree), msgspec.json.encode(quality))

    def tree(self, repo: RepoId, commit: str) -> str:
        """The digest of what a revision holds. Raises NotFoundError."""
        return self._repos.resolve(repo, commit).tree

    def _file(self, tree: str) -> Path:
        return self._folder / f"{tree}.json"
