"""Repositories as the API shows them: the registry's repos and blobs, spoken of in the API's structs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import msgspec

from hub.accounts.tokens import Identity
from hub.migrations.tables import timestamp
from hub.schemas import core as s
from registry.blobs.blobs import BlobStore
from registry.errors import BlobNotFoundError
from registry.repos.repos import DeleteFile, Repos
from registry.types import UNSET, Commit, Digest, FileEntry, Ref, RepoId, RepoInfo

SizesOf = Callable[[Sequence[Digest]], dict[Digest, int | None]]
"""The sizes in bytes of those blobs that somebody may use, None for others."""


class Reading(NamedTuple):
    """A file and its bytes, to be streamed."""

    entry: FileEntry
    chunks: Iterator[bytes]


class Store:
    """Repos and blobs of one registry."""

    def __init__(self, repos: Repos, blobs: BlobStore) -> None:
        self.repos = repos
        self.blobs = blobs

    def page(
        self, type_: s.RepoType | None, who: Identity, *, limit: int, after: str = "", also: Collection[str] = ()
    ) -> list[s.Repo]:
        """At most `limit` repos that `who` sees, by `type namespace/name`, those behind `after`; `also` names private
        ones of others that they see all the same, as `type/namespace/name`."""
        found = self.repos.list(type_, after=after, namespaces=who.seen, also=also, limit=limit)
        return [_repo(info) for info in found]

    def get(self, repo: RepoId) -> s.Repo:
        """The repo. Raises RepoNotFoundError."""
        return _repo(self.repos.get(repo))

    def ensure(self, repo: RepoId) -> s.Repo:
        """The repo, made if it is not there. Safe to repeat."""
        return _repo(self.repos.create(repo, exist_ok=True))

    def refs(self, repo: RepoId) -> list[s.Ref]:
        """Branches and tags; refs of other kinds, such as those of pull requests, are left out."""
        return [_ref(ref) for ref in self.repos.refs(repo) if ref.kind in ("branch", "tag")]

    def commit_of(self, repo: RepoId, revision: str) -> s.Commit:
        """The commit that a branch, tag or commit id stands for. Raises RepoNotFoundError, RevisionNotFoundError."""
        return commit_view(self.repos.resolve(repo, revision))

    def tree(self, repo: RepoId, revision: str) -> s.Tree:
        """All files of a revision, sizes in bytes. Raises RepoNotFoundError, RevisionNotFoundError."""
        commit = self.repos.resolve(repo, revision)
        files = [s.File(path=e.path, size=e.size, sha256=e.sha256) for e in self.repos.tree(repo, commit.id)]
        return s.Tree(commit=commit.id, files=files)

    def read(self, repo: RepoId, revision: str, path: str) -> Reading:
        """One file's entry and its bytes in pieces, read as they are taken. Raises NotFoundError, BlobStoreError."""
        entry = self.repos.entry(repo, revision, path)
        return Reading(entry, self.blobs.iter_range(entry.sha256))

    def commit(self, repo: RepoId, asked: s.CommitIn, author: str, sizes_of: SizesOf) -> s.Commit:
        """Commit blobs that were uploaded before, as far as `sizes_of` knows them. Raises BlobNotFoundError for
        another."""
        puts = [operation for operation in asked.operations if isinstance(operation, s.PutFile)]
        sizes = sizes_of([put.sha256 for put in puts])
        # Here, not by the registry: it would tell of a blob that the caller may not use that it is there, and its size.
        for digest, size in sizes.items():
            if size is None:
                raise BlobNotFoundError(digest)
        operations = [
            FileEntry(operation.path, operation.sha256, sizes[operation.sha256] or 0)
            if isinstance(operation, s.PutFile)
            else DeleteFile(operation.path)
            for operation in asked.operations
        ]
        parent = UNSET if isinstance(asked.expected_parent, msgspec.UnsetType) else asked.expected_parent
        made = self.repos.commit(repo, operations, message=asked.message, author=author, expected_parent=parent)
        return commit_view(made)


def _repo(info: RepoInfo) -> s.Repo:
    repo = info.id
    return s.Repo(
        type=repo.type, namespace=repo.namespace, name=repo.name, created_at=timestamp(info.created_at.timestamp())
    )


def _ref(ref: Ref) -> s.Ref:
    return s.Ref(name=ref.name, kind="tag" if ref.kind == "tag" else "branch", commit=ref.commit)


def commit_view(commit: Commit) -> s.Commit:
    """A commit as the API shows it."""
    return s.Commit(
        id=commit.id,
        parent=commit.parent,
        message=commit.message,
        author=commit.author,
        created_at=timestamp(commit.created_at.timestamp()),
    )
