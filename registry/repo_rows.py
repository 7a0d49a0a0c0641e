"""Rows of the tables `repos`, `commits` and `refs`: how they are read, and the checks that all writers share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from registry.canonical import canonical_json, sha256_of
from registry.catalog import Catalog, Cursor, from_db, to_db
from registry.errors import InvalidValueError, RefExistsError, RepoNotFoundError
from registry.types import Commit, Digest, FileEntry, Ref, RefKind, RepoId, RepoInfo, split_ref

MAX_MESSAGE = 10_000
MAX_AUTHOR = 200

INFO = "type, namespace, name, key, private, gated, created_at"
REPO = f"SELECT {INFO} FROM repos WHERE type = ? AND namespace = ? AND name = ?"  # noqa: S608  # constants
# DuckDB asks an index only about a lone condition; with a second one beside it, it reads the whole table.
REPO_COMMITS = "WITH mine AS MATERIALIZED (SELECT * FROM commits WHERE repo = ?)"
COMMIT = "id, parent, message, author, created_at, tree"


def names_of(repo: RepoId) -> tuple[str, str, str]:
    """The repo as the parameters of `REPO`."""
    return repo.type, repo.namespace, repo.name


def handle_of(repo: RepoId) -> str:
    """The repo's name as it must be unique: in lower case."""
    return f"{repo.type}/{repo.namespace}/{repo.name}".lower()


def info_of_row(row: Sequence[Any]) -> RepoInfo:
    """From the columns `INFO`."""
    type_, namespace, name, key, private, gated, created_at = row
    return RepoInfo(RepoId(type_, namespace, name), key, private, gated, from_db(created_at))


def read_info(catalog: Catalog, repo: RepoId) -> RepoInfo:
    """As last committed. Raises RepoNotFoundError."""
    rows = catalog.query(REPO, names_of(repo))
    if not rows:
        raise RepoNotFoundError(repo)
    return info_of_row(rows[0])


def key_of(tx: Cursor, repo: RepoId) -> int:
    """Raises RepoNotFoundError."""
    row = tx.execute(REPO, names_of(repo)).fetchone()
    if row is None:
        raise RepoNotFoundError(repo)
    return info_of_row(row).key


def commit_of_row(repo: RepoId, row: Sequence[Any]) -> Commit:
    """From the columns `COMMIT`."""
    commit_id, parent, message, author, created_at, tree = row
    return Commit(commit_id, repo, parent, message, author, from_db(created_at), tree)


def new_commit(
    repo: RepoId, parent: Digest | None, tree: Digest, message: str, author: str, *, at: datetime | None = None
) -> Commit:
    """A commit made at a time, or now."""
    now = at or datetime.now(UTC)
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


def insert_commit(tx: Cursor, key: int, commit: Commit) -> None:
    """Its parent's row gives its depth."""
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


def insert_blobs(tx: Cursor, key: int, entries: Sequence[FileEntry]) -> None:
    """Note that the repo's history holds these blobs."""
    unique = {entry.sha256: entry.size for entry in entries}
    if unique:
        tx.execute(
            "INSERT OR IGNORE INTO repo_blobs (sha256, repo, size) SELECT unnest(?), ?, unnest(?)",
            [list(unique), key, list(unique.values())],
        )


def insert_ref(tx: Cursor, repo: RepoId, key: int, ref: Ref) -> None:
    """Add a ref, or do nothing if it is there already. Raises RefExistsError.

    A tag may not take the name of a branch: short names mean tags first, so it would hide the branch.
    """
    rows = tx.execute("SELECT name, kind, commit FROM refs WHERE repo = ? AND name = ?", [key, ref.name]).fetchall()
    found = [Ref(*row) for row in rows]
    if ref in found:
        return
    for other in found:
        if other.kind == ref.kind or ref.kind == "tag":
            raise RefExistsError(repo, ref.name, other.commit)
    tx.execute("INSERT INTO refs (repo, name, kind, commit) VALUES (?, ?, ?, ?)", [key, ref.name, ref.kind, ref.commit])


def set_ref(tx: Cursor, key: int, ref: Ref) -> None:
    """Move a ref, or make it."""
    tx.execute(
        "INSERT INTO refs (repo, name, kind, commit) VALUES (?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET commit = excluded.commit",
        [key, ref.name, ref.kind, ref.commit],
    )


def find_ref(catalog: Catalog, key: int, name: str) -> Ref | None:
    """The ref that a short or a long name means: of the same short name, the tag is meant, as in git."""
    kind, stored = split_ref(name)
    rows = catalog.query(
        "SELECT name, kind, commit FROM refs WHERE repo = ? AND name = ? ORDER BY kind DESC", [key, stored]
    )
    return next((Ref(*row) for row in rows if kind is None or row[1] == kind), None)


def head_kind(branch: str) -> tuple[RefKind, str]:
    """What moves when somebody commits to this name: a branch, unless it is a pull request's ref."""
    kind, name = split_ref(branch)
    return ("pull" if kind == "pull" else "branch"), (name if kind != "tag" else branch)


def check_text(what: str, value: str, limit: int) -> None:
    """Raises InvalidValueError."""
    if len(value) > limit or "\0" in value:
        raise InvalidValueError(what, value, f"must have at most {limit} characters and no NUL")
