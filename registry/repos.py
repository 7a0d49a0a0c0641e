"""Repos: named histories of trees, with branches that move and tags that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from registry import trees
from registry.blobs import BlobStore
from registry.canonical import canonical_json, sha256_of
from registry.catalog import Catalog, Cursor, from_db, to_db
from registry.errors import (
    BlobNotFoundError,
    EntryNotFoundError,
    InvalidValueError,
    RefConflictError,
    RefExistsError,
    RepoExistsError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from registry.types import (
    UNSET,
    Commit,
    Digest,
    FileEntry,
    Ref,
    RefKind,
    RepoId,
    RepoType,
    Unset,
    check_path,
    check_ref_name,
)

MAX_MESSAGE = 10_000
MAX_AUTHOR = 200
MIN_SHORT_ID = 7
"""A commit id may be shortened to this many characters (or to git's 40) if it stays unambiguous in its repo."""

_HEX = frozenset("0123456789abcdef")

AddFile: TypeAlias = FileEntry
"""Put a file, stored as a blob before, at a path; replaces what is there."""


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """Take the file at a path away."""

    path: str

    def __post_init__(self) -> None:
        check_path(self.path)


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """A repo as it was created; `created_at` is aware UTC."""

    id: RepoId
    private: bool
    created_at: datetime


DeleteGuard: TypeAlias = Callable[[Cursor, RepoId], None]
"""Called inside the transaction that deletes a repo; raises to keep the repo."""


class Repos:
    """The repos of a registry. Use from any number of threads."""

    def __init__(self, catalog: Catalog, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self.delete_guards: list[DeleteGuard] = []

    def create(self, repo: RepoId, *, private: bool = False, exist_ok: bool = False) -> RepoInfo:
        """Create an empty repo; with `exist_ok` an existing one is given back as it is.

        Raises RepoExistsError.
        """
        with self._catalog.write() as tx:
            row = tx.execute(_REPO, _names(repo)).fetchone()
            if row is not None:
                if exist_ok:
                    return RepoInfo(repo, row[1], from_db(row[2]))
                raise RepoExistsError(repo)
            now = datetime.now(UTC)
            tx.execute(
                "INSERT INTO repos (type, namespace, name, private, created_at) VALUES (?, ?, ?, ?, ?)",
                [*_names(repo), private, to_db(now)],
            )
        return RepoInfo(repo, private, now)

    def get(self, repo: RepoId) -> RepoInfo:
        """Raises RepoNotFoundError."""
        _, private, created_at = self._row(repo)
        return RepoInfo(repo, private, from_db(created_at))

    def delete(self, repo: RepoId) -> None:
        """Delete the repo with its commits and refs. Blobs and trees stay: other repos may share them.

        Raises RepoNotFoundError, and what a guard raises (RepoInUseError while robots are served from it).
        """
        with self._catalog.write() as tx:
            key = _key(tx, repo)
            for guard in self.delete_guards:
                guard(tx, repo)
            tx.execute("DELETE FROM refs WHERE repo = ?", [key])
            tx.execute("DELETE FROM commits WHERE repo = ?", [key])
            tx.execute("DELETE FROM repos WHERE key = ?", [key])

    def list(
        self,
        type: RepoType | None = None,
        *,
        prefix: str = "",
        limit: int = 100,
        offset: int = 0,
    ) -> list[RepoInfo]:
        """Repos in order of type and name; `prefix` is compared with `namespace/name`."""
        rows = self._catalog.query(
            "SELECT type, namespace, name, private, created_at FROM repos "
            "WHERE (?::VARCHAR IS NULL OR type = ?) AND starts_with(namespace || '/' || name, ?) "
            "ORDER BY type, namespace, name LIMIT ? OFFSET ?",
            [type, type, prefix, limit, offset],
        )
        return [RepoInfo(RepoId(*row[:3]), row[3], from_db(row[4])) for row in rows]

    def commit(
        self,
        repo: RepoId,
        operations: Sequence[AddFile | DeleteFile],
        *,
        message: str,
        author: str,
        branch: str = "main",
        expected_parent: Digest | Unset | None = UNSET,
        tags: Sequence[str] = (),
    ) -> Commit:
        """Apply the operations, in order, to the head of `branch`: tree, commit, branch and tags in one step.

        `main` comes into being with its first commit; other branches are made by `branch`. A commit that changes
        no file is a commit all the same. `expected_parent` is the head the caller saw (None: no commit yet);
        without it the operations apply to whatever the head is. Durable when it returns.

        Raises BlobNotFoundError (blobs come first, with the size they are said to have), EntryNotFoundError
        (deleting what is not there), RefConflictError (the branch has moved), RefExistsError (a tag is taken),
        InvalidNameError, InvalidPathError, InvalidValueError, RepoNotFoundError, RevisionNotFoundError.
        """
        _check_text("message", message, MAX_MESSAGE)
        _check_text("author", author, MAX_AUTHOR)
        for name in (branch, *tags):
            check_ref_name(name)
        self._check_blobs([op for op in operations if isinstance(op, FileEntry)])
        while True:
            key = self._row(repo)[0]
            head = self._head(repo, key, branch)
            if not isinstance(expected_parent, Unset) and expected_parent != head:
                raise RefConflictError(repo, branch, expected_parent, head)
            # A large tree is built outside the lock, so that other writers do not wait for it.
            before = self.tree(repo, head) if head else ()
            tree = trees.build(_apply(repo, branch, before, operations))
            with self._catalog.write() as tx:
                if _key(tx, repo) != key or self._head(repo, key, branch) != head:
                    continue  # somebody else's commit came first: look again
                commit = _make(repo, head, tree.digest, message, author)
                trees.store(tx, tree)
                _insert_commit(tx, key, commit)
                tx.execute(
                    "INSERT INTO refs VALUES (?, ?, 'branch', ?) ON CONFLICT DO UPDATE SET commit = excluded.commit",
                    [key, branch, commit.id],
                )
                for name in tags:
                    _insert_ref(tx, repo, key, Ref(name, "tag", commit.id))
            return commit

    def resolve(self, repo: RepoId, revision: str) -> Commit:
        """The commit that a branch, a tag or a commit id (from 7 characters on) names, in this order.

        Raises RepoNotFoundError, RevisionNotFoundError.
        """
        key = self._row(repo)[0]
        rows = self._catalog.query(
            f"SELECT {_COMMIT} FROM commits WHERE id = (SELECT commit FROM refs WHERE repo = ? AND name = ?)",  # noqa: S608
            [key, revision],
        )
        if not rows and MIN_SHORT_ID <= len(revision) <= 64 and _HEX.issuperset(revision):
            rows = self._catalog.query(
                f"{_REPO_COMMITS} SELECT {_COMMIT} FROM mine WHERE starts_with(id, ?) LIMIT 2",  # noqa: S608
                [key, revision],
            )
            if len(rows) > 1:
                raise RevisionNotFoundError(repo, revision, "more than one commit id begins so")
        if not rows:
            raise RevisionNotFoundError(repo, revision)
        return _commit(repo, rows[0])

    def tree(self, repo: RepoId, revision: str) -> tuple[FileEntry, ...]:
        """All files of a revision, sorted by path. Raises as `resolve`."""
        return trees.load(self._catalog, self.resolve(repo, revision).tree)

    def entry(self, repo: RepoId, revision: str, path: str) -> FileEntry:
        """The file at `path`. Raises EntryNotFoundError, and as `resolve`."""
        found = trees.find(self._catalog, self.resolve(repo, revision).tree, path)
        if found is None:
            raise EntryNotFoundError(repo, revision, path)
        return found

    def refs(self, repo: RepoId) -> tuple[Ref, ...]:
        """All branches, then all tags, each by name. Raises RepoNotFoundError."""
        rows = self._catalog.query(
            "SELECT name, kind, commit FROM refs WHERE repo = ? ORDER BY kind, name", [self._row(repo)[0]]
        )
        return tuple(Ref(*row) for row in rows)

    def ref(self, repo: RepoId, name: str) -> Ref:
        """The branch or tag of this name. Raises RepoNotFoundError, RevisionNotFoundError."""
        rows = self._catalog.query(
            "SELECT name, kind, commit FROM refs WHERE repo = ? AND name = ?", [self._row(repo)[0], name]
        )
        if not rows:
            raise RevisionNotFoundError(repo, name, "no such branch or tag")
        return Ref(*rows[0])

    def tag(self, repo: RepoId, name: str, revision: str) -> Ref:
        """Tag a revision for good; tagging the same commit again is a no-op.

        Raises RefExistsError if the name is taken, InvalidNameError, and as `resolve`.
        """
        return self._new_ref(repo, name, "tag", revision)

    def branch(self, repo: RepoId, name: str, revision: str) -> Ref:
        """Start a branch at a revision; a no-op if it is there already.

        Raises RefExistsError if the name is taken, InvalidNameError, and as `resolve`.
        """
        return self._new_ref(repo, name, "branch", revision)

    def history(self, repo: RepoId, revision: str, limit: int = 100) -> tuple[Commit, ...]:
        """The commit of a revision and its ancestors, newest first, at most `limit`. Raises as `resolve`.

        Go on with the last one's `parent` as the revision.
        """
        head = self.resolve(repo, revision)
        key = self._row(repo)[0]
        # One statement, not one per step: `depth` bounds it to the wanted stretch of each branch.
        rows = self._catalog.query(
            f"{_REPO_COMMITS} SELECT {_COMMIT} FROM mine WHERE depth > "  # noqa: S608
            "(SELECT depth FROM commits WHERE id = ?) - ?",
            [key, head.id, limit],
        )
        by_id = {row[0]: row for row in rows}
        found: list[Commit] = []
        at: Digest | None = head.id
        while at in by_id and len(found) < limit:
            found.append(_commit(repo, by_id[at]))
            at = found[-1].parent
        return tuple(found)

    def _row(self, repo: RepoId) -> tuple[Any, ...]:
        rows = self._catalog.query(_REPO, _names(repo))
        if not rows:
            raise RepoNotFoundError(repo)
        return rows[0]

    def _head(self, repo: RepoId, key: int, branch: str) -> Digest | None:
        rows = self._catalog.query("SELECT kind, commit FROM refs WHERE repo = ? AND name = ?", [key, branch])
        if not rows:
            if branch != "main":
                raise RevisionNotFoundError(repo, branch, "no such branch; start it first")
            return None
        kind, commit = rows[0]
        if kind != "branch":
            raise RefExistsError(repo, branch, commit)
        return str(commit)

    def _new_ref(self, repo: RepoId, name: str, kind: RefKind, revision: str) -> Ref:
        check_ref_name(name, kind)
        with self._catalog.write() as tx:
            ref = Ref(name, kind, self.resolve(repo, revision).id)
            _insert_ref(tx, repo, _key(tx, repo), ref)
        return ref

    def _check_blobs(self, entries: Sequence[FileEntry]) -> None:
        sizes = self._blobs.sizes([entry.sha256 for entry in entries])
        for entry in entries:
            if sizes[entry.sha256] != entry.size:
                raise BlobNotFoundError(entry.sha256, claimed=entry.size, actual=sizes[entry.sha256])


_REPO = "SELECT key, private, created_at FROM repos WHERE type = ? AND namespace = ? AND name = ?"
# DuckDB asks an index only about a lone condition; with a second one beside it, it reads the whole table.
_REPO_COMMITS = "WITH mine AS MATERIALIZED (SELECT * FROM commits WHERE repo = ?)"
_COMMIT = "id, parent, message, author, created_at, tree"


def _names(repo: RepoId) -> tuple[str, str, str]:
    return repo.type, repo.namespace, repo.name


def _key(tx: Cursor, repo: RepoId) -> int:
    row = tx.execute(_REPO, _names(repo)).fetchone()
    if row is None:
        raise RepoNotFoundError(repo)
    return int(row[0])


def _commit(repo: RepoId, row: tuple[Any, ...]) -> Commit:
    commit_id, parent, message, author, created_at, tree = row
    return Commit(commit_id, repo, parent, message, author, from_db(created_at), tree)


def _make(repo: RepoId, parent: Digest | None, tree: Digest, message: str, author: str) -> Commit:
    now = datetime.now(UTC)
    content = canonical_json(
        {
            "repo": {"type": repo.type, "namespace": repo.namespace, "name": repo.name},
            "parent": parent,
            "tree": tree,
            "message": message,
            "author": author,
            "created_at": now.isoformat(timespec="microseconds"),
        }
    )
    return Commit(sha256_of(content), repo, parent, message, author, now, tree)


def _insert_commit(tx: Cursor, key: int, commit: Commit) -> None:
    tx.execute(
        "INSERT OR IGNORE INTO commits "
        "SELECT ?, ?, ?, coalesce((SELECT depth FROM commits WHERE id = ?), 0) + 1, ?, ?, ?, ?",
        [
            commit.id,
            key,
            commit.parent,
            commit.parent,
            commit.tree,
            commit.message,
            commit.author,
            to_db(commit.created_at),
        ],
    )


def _insert_ref(tx: Cursor, repo: RepoId, key: int, ref: Ref) -> None:
    row = tx.execute("SELECT kind, commit FROM refs WHERE repo = ? AND name = ?", [key, ref.name]).fetchone()
    if row is None:
        tx.execute("INSERT INTO refs VALUES (?, ?, ?, ?)", [key, ref.name, ref.kind, ref.commit])
    elif row != (ref.kind, ref.commit):
        raise RefExistsError(repo, ref.name, row[1])


def _apply(
    repo: RepoId, branch: str, before: Sequence[FileEntry], operations: Sequence[AddFile | DeleteFile]
) -> list[FileEntry]:
    files = {entry.path: entry for entry in before}
    for operation in operations:
        if isinstance(operation, FileEntry):
            files[operation.path] = operation
        elif files.pop(operation.path, None) is None:
            raise EntryNotFoundError(repo, branch, operation.path)
    return list(files.values())


def _check_text(what: str, value: str, limit: int) -> None:
    if len(value) > limit or "\0" in value:
        raise InvalidValueError(what, value, f"must have at most {limit} characters and no NUL")
