"""Repos: named histories of trees, with branches that move and tags that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog, to_db
from registry.catalog.cursor import Cursor
from registry.content.guard import ContentDoor
from registry.content.names import names_door
from registry.errors import (
    CatalogError,
    EntryNotFoundError,
    RefProtectedError,
    RepoExistsError,
    RevisionNotFoundError,
)
from registry.repos import listing_cache, trees
from registry.repos import repo_rows as rows_
from registry.repos.changes import Observer, RepoChange
from registry.repos.commits import MAIN as MAIN
from registry.repos.commits import Beside as Beside
from registry.repos.commits import Commits, ContentGuard, TreeCache
from registry.repos.operations import AddFile as AddFile
from registry.repos.operations import CommitDraft
from registry.repos.operations import DeleteFile as DeleteFile
from registry.repos.operations import DeleteFolder as DeleteFolder
from registry.repos.operations import Operation as Operation
from registry.types import (
    UNSET,
    Commit,
    Digest,
    FileEntry,
    Ref,
    RefKind,
    RepoId,
    RepoInfo,
    RepoType,
    Unset,
    check_ref_name,
    pull_ref,
)

MIN_SHORT_ID = 7
"""A commit id may be shortened to this many characters (or to git's 40) if it stays unambiguous in its repo."""

_HEX = frozenset("0123456789abcdef")

DeleteGuard: TypeAlias = Callable[[Cursor, RepoId], None]
"""Called inside the transaction that deletes or renames a repo; raises to keep the repo."""
TagGuard: TypeAlias = Callable[[Cursor, RepoId, str], None]
"""Called inside the transaction that deletes a tag; raises to keep the tag."""
CreatedHook: TypeAlias = Callable[[Cursor, RepoInfo], None]
"""Called inside the transaction that made a repo."""


class Repos:
    """The repos of a registry. Use from any number of threads."""

    def __init__(self, catalog: Catalog, blobs: BlobStore) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._trees = TreeCache(catalog)
        self._commits = Commits(catalog, blobs, self._trees, self.tell)
        self.delete_guards: list[DeleteGuard] = []
        self.created_hooks: list[CreatedHook] = []
        self.on_delete: list[Callable[[Cursor, RepoId, int], None]] = []
        """Called inside the transaction that deletes a repo, with its key: what else hangs on it goes with it."""
        self.tag_guards: list[TagGuard] = []
        self.observers: list[Observer] = []
        self.aliases: list[Callable[[int, str], Digest | None]] = []
        self.content_guards: list[ContentGuard] = [names_door, ContentDoor(blobs)]

    def create(self, repo: RepoId, *, private: bool = False, exist_ok: bool = False) -> RepoInfo:
        """Create an empty repo; with `exist_ok` an existing one is given back as it is.

        A name that a moved repo left behind is free again. Raises RepoExistsError, also for a name that differs
        from another repo's only in case.
        """
        with self._catalog.write() as tx:
            row = tx.execute(rows_.REPO, rows_.names_of(repo)).fetchone()
            if row is not None:
                if exist_ok:
                    return rows_.info_of_row(row)
                raise RepoExistsError(repo)
            self._free_handle(tx, repo)
            row = tx.execute(
                "INSERT INTO repos (type, namespace, name, private, created_at) "  # noqa: S608  # constants
                f"VALUES (?, ?, ?, ?, ?) RETURNING {rows_.INFO}",
                [*rows_.names_of(repo), private, to_db(datetime.now(UTC))],
            ).fetchone()
            assert row is not None  # noqa: S101  # RETURNING gives the row it inserted
            info = rows_.info_of_row(row)
            tx.execute("INSERT INTO repo_handles VALUES (?, ?)", [rows_.handle_of(repo), info.key])
            for hook in self.created_hooks:
                hook(tx, info)
            self.tell(tx, RepoChange("created", repo))
        return self.get(repo) if self.created_hooks else info

    def tell(self, tx: Cursor, change: RepoChange) -> None:
        """Tell the observers, inside the transaction of the change."""
        for observer in self.observers:
            observer(tx, change)

    def get(self, repo: RepoId) -> RepoInfo:
        """Raises RepoNotFoundError."""
        return rows_.read_info(self._catalog, repo)

    def delete(self, repo: RepoId) -> None:
        """Delete the repo with its commits and refs. Blobs and trees stay for a collection: others may share them.

        Raises RepoNotFoundError, and what a guard raises (RepoInUseError while robots are served from it).
        """
        with self._catalog.write() as tx:
            key = rows_.key_of(tx, repo)
            for guard in self.delete_guards:
                guard(tx, repo)
            self.tell(tx, RepoChange("deleted", repo))
            for forget in self.on_delete:
                forget(tx, repo, key)
            for table in ("refs", "commits", "repo_blobs", "repo_handles", "repo_heads", "repo_tags"):
                tx.execute(f"DELETE FROM {table} WHERE repo = ?", [key])  # noqa: S608  # one of six names
            tx.execute("DELETE FROM repos WHERE key = ?", [key])

    def list(
        self,
        type: RepoType | None = None,
        *,
        prefix: str = "",
        after: str = "",
        namespaces: Iterable[str] | None = None,
        also: Iterable[str] = (),
        limit: int = 100,
        offset: int = 0,
    ) -> list[RepoInfo]:
        """Repos by `type namespace/name`, those behind `after` in that order.

        `prefix` is compared with `namespace/name`. Private repos show only in these `namespaces` (lower case), and
        those in `also` (`type/namespace/name` in lower case); None shows all.
        """
        rows = self._catalog.query(
            f"SELECT {rows_.INFO} FROM repos "  # noqa: S608  # constants
            "WHERE (?::VARCHAR IS NULL OR type = ?) AND starts_with(namespace || '/' || name, ?) "
            "AND type || ' ' || namespace || '/' || name > ? "
            "AND (?::VARCHAR[] IS NULL OR NOT private OR list_contains(?::VARCHAR[], lower(namespace)) "
            "OR lower(type || '/' || namespace || '/' || name) IN (SELECT unnest(?::VARCHAR[]))) "
            "ORDER BY type || ' ' || namespace || '/' || name LIMIT ? OFFSET ?",
            [
                *(type, type, prefix, after),
                *[None if namespaces is None else sorted(namespaces)] * 2,
                *(sorted(also), limit, offset),
            ],
        )
        return [rows_.info_of_row(row) for row in rows]

    def commit(
        self,
        repo: RepoId,
        operations: Sequence[Operation],
        *,
        message: str,
        author: str,
        branch: str = MAIN,
        expected_parent: Digest | Unset | None = UNSET,
        tags: Sequence[str] = (),
        start: str | None = None,
        beside: Beside = lambda _: None,
    ) -> Commit:
        """Apply the operations, in order, to the head of `branch`: tree, commit, branch and tags in one step.

        `main` comes into being with its first commit; other branches are made by `branch`, and refs of pull
        requests (`refs/pr/7`) by `pull`. A commit that changes no file is a commit all the same.
        `expected_parent` is the head the caller saw (None: no commit yet); without it the operations apply to
        whatever the head is. `beside` writes other rows in the same transaction. Durable when it returns; commits that
        come together share one trip to the disk (`Catalog.run`). With `start` (the name of a branch) the commit makes
        its ref, which must be new, on top of that branch's head.

        Raises BlobNotFoundError (blobs come first, with the size they are said to have), EntryNotFoundError
        (deleting what is not there), RefConflictError (the branch has moved), RefExistsError (a tag is taken),
        InvalidNameError, InvalidPathError, InvalidValueError, RepoNotFoundError, RevisionNotFoundError,
        UnsafeFileError (what the content guards refuse).
        """
        draft = CommitDraft(operations, message, author, tags)
        return self.commit_all(
            repo, [draft], branch=branch, expected_parent=expected_parent, start=start, beside=beside
        )[0]

    def commit_all(
        self,
        repo: RepoId,
        drafts: Sequence[CommitDraft],
        *,
        branch: str = MAIN,
        expected_parent: Digest | Unset | None = UNSET,
        start: str | None = None,
        beside: Beside = lambda _: None,
    ) -> tuple[Commit, ...]:
        """Make several commits, one on top of the other, all or none, at the price of about one.

        For a history that comes from elsewhere. Gives them oldest first. Raises as `commit`.
        """
        return self._commits.make(
            repo,
            drafts,
            self.content_guards,
            branch=branch,
            expected_parent=expected_parent,
            start=start,
            beside=beside,
        )

    def resolve(self, repo: RepoId, revision: str) -> Commit:
        """The commit that a tag, a branch or a commit id (from 7 characters on) names, in this order.

        Refs may be given in their long form, too (`refs/heads/main`, `refs/tags/v1`, `refs/pr/7`). Raises
        RepoNotFoundError, RevisionNotFoundError.
        """
        key = self.get(repo).key
        rows = []
        if ref := rows_.find_ref(self._catalog, key, revision):
            rows = self._catalog.query(f"SELECT {rows_.COMMIT} FROM commits WHERE id = ?", [ref.commit])  # noqa: S608
        elif MIN_SHORT_ID <= len(revision) <= 64 and _HEX.issuperset(revision):
            rows = self._catalog.query(
                f"{rows_.REPO_COMMITS} SELECT {rows_.COMMIT} FROM mine WHERE starts_with(id, ?) LIMIT 2",  # noqa: S608
                [key, revision],
            )
            if len(rows) > 1:
                raise RevisionNotFoundError(repo, revision, "more than one commit id begins so")
            # Others may know commits by other names: git, whose clones have ids of their own.
            for known in self.aliases if not rows else ():
                if named := known(key, revision):
                    rows = self._catalog.query(f"SELECT {rows_.COMMIT} FROM commits WHERE id = ?", [named])  # noqa: S608
        elif revision == "HEAD":
            return self.resolve(repo, f"refs/heads/{MAIN}")
        if not rows:
            raise RevisionNotFoundError(repo, revision)
        return rows_.commit_of_row(repo, rows[0])

    def tree(self, repo: RepoId, revision: str) -> tuple[FileEntry, ...]:
        """All files of a revision, sorted by path. Raises as `resolve`."""
        return self._trees.files(self.resolve(repo, revision).tree)

    def trees_of(self, commits: Sequence[Digest]) -> dict[Digest, tuple[FileEntry, ...]]:
        """All files of many commits, whatever repos they are of, in few statements. Raises CatalogError."""
        named = rows_.trees_of(self._catalog, commits)
        found = {tree: files for tree in set(named.values()) if (files := self._trees.known(tree)) is not None}
        found |= trees.load_all(self._catalog, [tree for tree in named.values() if tree not in found])
        if missing := [commit for commit in commits if named.get(commit) not in found]:
            raise CatalogError(f"commit {missing[0][:12]} lacks its tree")
        return {commit: found[named[commit]] for commit in commits}

    def times_of(self, commits: Sequence[Digest]) -> dict[Digest, datetime]:
        """When these commits were made, as far as they are there."""
        return rows_.times_of(self._catalog, commits)

    def entry(self, repo: RepoId, revision: str, path: str) -> FileEntry:
        """The file at `path`. Raises EntryNotFoundError, and as `resolve`."""
        found = trees.find(self._catalog, self.resolve(repo, revision).tree, path)
        if found is None:
            raise EntryNotFoundError(repo, revision, path)
        return found

    def refs(self, repo: RepoId) -> tuple[Ref, ...]:
        """All branches, then pull requests' refs, then tags, each by name. Raises RepoNotFoundError."""
        rows = self._catalog.query(
            "SELECT name, kind, commit FROM refs WHERE repo = ? ORDER BY kind, name", [self.get(repo).key]
        )
        return tuple(Ref(*row) for row in rows)

    def ref(self, repo: RepoId, name: str) -> Ref:
        """The tag, or else the branch, of this name. Raises RepoNotFoundError, RevisionNotFoundError."""
        found = rows_.find_ref(self._catalog, self.get(repo).key, name)
        if found is None:
            raise RevisionNotFoundError(repo, name, "no such branch or tag")
        return found

    def branch_head(self, repo: RepoId, name: str) -> Digest:
        """Where a branch is, by its short or long name. Raises RepoNotFoundError, and RevisionNotFoundError for
        what is no branch: a tag, a commit, a pull request."""
        return self._commits.branch_head(repo, self.get(repo).key, name)

    def add_pull(self, tx: Cursor, repo: RepoId, number: int, head: Digest) -> None:
        """Make the ref of a pull request, as part of a transaction. Raises RefExistsError, RepoNotFoundError."""
        rows_.insert_refs(tx, repo, rows_.key_of(tx, repo), [Ref(pull_ref(number), "pull", head)])

    def tag(self, repo: RepoId, name: str, revision: str) -> Ref:
        """Tag a revision for good; tagging the same commit again is a no-op.

        Raises RefExistsError if the name is taken, InvalidNameError, and as `resolve`.
        """
        return self._new_ref(repo, name, "tag", revision)

    def branch(self, repo: RepoId, name: str, revision: str) -> Ref:
        """Start a branch at a revision; a no-op if it is there already. It may be named like a tag.

        Raises RefExistsError if another branch has the name, InvalidNameError, and as `resolve`.
        """
        return self._new_ref(repo, name, "branch", revision)

    def pull(self, repo: RepoId, number: int, revision: str) -> Ref:
        """Start the ref of pull request `number` at a revision. Raises RefExistsError, and as `resolve`."""
        return self._new_ref(repo, pull_ref(number), "pull", revision)

    def delete_ref(self, repo: RepoId, name: str, kind: RefKind) -> None:
        """Take a branch or a tag away; its commits stay reachable by their ids until a collection takes them.

        Raises RefProtectedError for `main` and for what a guard keeps, RepoNotFoundError, RevisionNotFoundError.
        """
        with self._catalog.write() as tx:
            key = rows_.key_of(tx, repo)
            if kind == "branch" and name == MAIN:
                raise RefProtectedError(repo, name, "it is the main branch")
            if kind == "stage":
                raise RefProtectedError(repo, name, "only a decision moves a stage")
            if kind == "tag":
                for guard in self.tag_guards:
                    guard(tx, repo, name)
            gone = tx.execute(
                "DELETE FROM refs WHERE repo = ? AND name = ? AND kind = ? RETURNING commit", [key, name, kind]
            ).fetchone()
            if gone is None:
                raise RevisionNotFoundError(repo, name, f"no such {kind}")
            self.tell(tx, RepoChange("ref-deleted", repo, Ref(name, kind, gone[0])))

    def squash(self, repo: RepoId, branch: str, *, message: str, author: str) -> Commit:
        """Replace a branch's history by one commit without a parent that holds the same files.

        Tags and other branches keep theirs. Raises InvalidValueError, RepoNotFoundError, RevisionNotFoundError.
        """
        return self._commits.squash(repo, branch, message, author, lambda head: self.resolve(repo, head).tree)

    def history(self, repo: RepoId, revision: str, limit: int = 100) -> tuple[Commit, ...]:
        """The commit of a revision and its ancestors, newest first, at most `limit`. Raises as `resolve`.

        Go on with the last one's `parent` as the revision.
        """
        head = self.resolve(repo, revision)
        key = self.get(repo).key
        # One statement, not one per step: `depth` bounds it to the wanted stretch of each branch.
        rows = self._catalog.query(
            f"{rows_.REPO_COMMITS} SELECT {rows_.COMMIT} FROM mine WHERE depth > "  # noqa: S608
            "(SELECT depth FROM commits WHERE id = ?) - ?",
            [key, head.id, limit],
        )
        by_id = {row[0]: row for row in rows}
        found: list[Commit] = []
        at: Digest | None = head.id
        while at in by_id and len(found) < limit:
            found.append(rows_.commit_of_row(repo, by_id[at]))
            at = found[-1].parent
        return tuple(found)

    def _new_ref(self, repo: RepoId, name: str, kind: RefKind, revision: str) -> Ref:
        if kind != "pull":
            check_ref_name(name, kind)
        with self._catalog.write() as tx:
            commit = self.resolve(repo, revision)
            ref, key = Ref(name, kind, commit.id), rows_.key_of(tx, repo)
            rows_.insert_refs(tx, repo, key, [ref])
            if kind == "branch" and name == MAIN:  # of a repo that had proposals only
                files = self._trees.files(commit.tree)
                card = listing_cache.read_card(self._blobs, files)
                listing_cache.put(
                    tx, key, listing_cache.Head(commit.id, commit.created_at, listing_cache.source_of(files), card)
                )
            self.tell(tx, RepoChange("ref-created", repo, ref))
        return ref

    def _free_handle(self, tx: Cursor, repo: RepoId) -> None:
        """Take the handle from a moved repo that left it behind. Raises RepoExistsError if it is in use."""
        row = tx.execute(
            f"SELECT {rows_.INFO} FROM repos WHERE key = (SELECT repo FROM repo_handles WHERE handle = ?)",  # noqa: S608
            [rows_.handle_of(repo)],
        ).fetchone()
        if row is not None:
            other = rows_.info_of_row(row).id
            if rows_.handle_of(other) == rows_.handle_of(repo):
                raise RepoExistsError(other)
            tx.execute("DELETE FROM repo_handles WHERE handle = ?", [rows_.handle_of(repo)])
