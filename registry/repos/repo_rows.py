"""Rows of the tables `repos`, `commits` and `refs`: how they are read, and the checks that all writers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from registry.canonical import canonical_json, sha256_of
from registry.catalog.catalog import Catalog, from_db, to_db
from registry.catalog.cursor import Cursor
from registry.errors import CatalogError, InvalidNameError, InvalidValueError, RefExistsError, RepoNotFoundError
from registry.types import Commit, Digest, FileEntry, Ref, RefKind, RepoId, RepoInfo, split_ref

MAX_MESSAGE = 10_000
MAX_AUTHOR = 200
# A list of this many is answered from the index, a longer one by one look at the whole table.
_FEW = 64

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


def place_of(catalog: Catalog, commit: Digest | None) -> tuple[int, Digest | None]:
    """A commit's depth and its tree; 0 and no tree for None. Raises CatalogError if it is not there."""
    if commit is None:
        return 0, None
    rows = catalog.query("SELECT depth, tree FROM commits WHERE id = ?", [commit])
    if not rows:
        raise CatalogError(f"there is no commit {commit[:12]}")
    return int(rows[0][0]), str(rows[0][1])


def trees_of(catalog: Catalog, commits: Sequence[Digest]) -> dict[Digest, Digest]:
    """The trees of those commits that are there: one statement for every 64."""
    return {commit: tree for commit, tree, _ in _commits(catalog, commits)}


def times_of(catalog: Catalog, commits: Sequence[Digest]) -> dict[Digest, datetime]:
    """The times of those commits that are there: one statement for every 64."""
    return {commit: from_db(made) for commit, _, made in _commits(catalog, commits)}


def _commits(catalog: Catalog, commits: Sequence[Digest]) -> Iterator[tuple[Any, ...]]:
    for at in range(0, len(commits), _FEW):
        some = commits[at : at + _FEW]
        marks = ", ".join("?" * len(some))
        yield from catalog.query(f"SELECT id, tree, created_at FROM commits WHERE id IN ({marks})", some)  # noqa: S608


def insert_commits(tx: Cursor, key: int, commits: Sequence[Commit], *, depth: int) -> None:
    """Add commits, each one the parent of the next; `depth` is that of the first one's parent, 0 without one."""
    tx.insert(
        "commits",
        [
            (
                commit.id,
                key,
                commit.parent,
                depth + number,
                commit.tree,
                commit.message,
                commit.author,
                to_db(commit.created_at),
            )
            for number, commit in enumerate(commits, 1)
        ],
    )


def insert_blobs(tx: Cursor, key: int, entries: Sequence[FileEntry]) -> None:
    """Note that the repo's history holds these blobs."""
    unique = {entry.sha256: entry.size for entry in entries}
    for at in range(0, len(digests := list(unique)), _FEW):
        some = digests[at : at + _FEW]
        marks = ", ".join("?" * len(some))
        rows = tx.execute(f"SELECT sha256, repo FROM repo_blobs WHERE sha256 IN ({marks})", some).fetchall()  # noqa: S608
        known = {sha256 for sha256, repo in rows if repo == key}
        tx.insert("repo_blobs (sha256, repo, size)", [(one, key, unique[one]) for one in some if one not in known])


def insert_refs(tx: Cursor, repo: RepoId, key: int, refs: Sequence[Ref]) -> None:
    """Add refs; one that is there already is a no-op. Raises RefExistsError.

    A tag may not take the name of a branch: short names mean tags first, so it would hide the branch.
    """
    if not refs:
        return
    if len(refs) == 1:
        rows = tx.execute("SELECT name, kind, commit FROM refs WHERE repo = ? AND name = ?", [key, refs[0].name])
    else:
        rows = tx.execute("SELECT name, kind, commit FROM refs WHERE repo = ?", [key])
    there: dict[str, list[Ref]] = {}
    for row in rows.fetchall():
        there.setdefault(row[0], []).append(Ref(*row))
    new = []
    for ref in refs:
        found = there.setdefault(ref.name, [])
        if ref in found:
            continue
        for other in found:
            if other.kind == ref.kind or ref.kind == "tag":
                raise RefExistsError(repo, ref.name, other.commit)
        found.append(ref)
        new.append((key, ref.name, ref.kind, ref.commit))
    tx.insert("refs (repo, name, kind, commit)", new)


def set_ref(tx: Cursor, key: int, ref: Ref) -> None:
    """Move a ref, or make it."""
    moved = tx.execute(
        "UPDATE refs SET commit = ? WHERE repo = ? AND name = ? AND kind = ?", [ref.commit, key, ref.name, ref.kind]
    ).fetchone()
    if not (moved and moved[0]):  # DuckDB answers an update with the number of rows
        tx.insert("refs (repo, name, kind, commit)", [(key, ref.name, ref.kind, ref.commit)])


def find_ref(catalog: Catalog, key: int, name: str) -> Ref | None:
    """The ref that a short or a long name means: of the same short name, the tag is meant, as in git."""
    kind, stored = split_ref(name)
    rows = catalog.query(
        "SELECT name, kind, commit FROM refs WHERE repo = ? AND name = ? ORDER BY kind DESC", [key, stored]
    )
    return next((Ref(*row) for row in rows if kind is None or row[1] == kind), None)


def head_kind(branch: str) -> tuple[RefKind, str]:
    """What moves when somebody commits to this name: a branch, unless it is a pull request's ref.

    Raises InvalidNameError for a stage's ref.
    """
    kind, name = split_ref(branch)
    if kind == "stage":
        raise InvalidNameError("branch", branch, "only a decision moves a stage; promote a variant")
    return ("pull" if kind == "pull" else "branch"), (name if kind != "tag" else branch)


def check_text(what: str, value: str, limit: int) -> None:
    """Raises InvalidValueError."""
    if len(value) > limit or "\0" in value:
        raise InvalidValueError(what, value, f"must have at most {limit} characters and no NUL")
