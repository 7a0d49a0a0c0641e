"""How commits come into being: the tree, the commit, the branch and the tags in one step, at the head as it is then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.errors import BlobNotFoundError, RefConflictError, RefExistsError, RevisionNotFoundError
from registry.repos import listing_cache, trees
from registry.repos import repo_rows as rows_
from registry.repos.caches import BoundedCache
from registry.repos.changes import RepoChange
from registry.repos.operations import CommitDraft, apply
from registry.types import UNSET, Commit, Digest, FileEntry, Ref, RefKind, RepoId, Unset, check_ref_name, split_ref

MAIN: Final = "main"
_CACHED_FILES = 50_000  # some 400 bytes each
_HEADS = "SELECT kind, commit FROM refs WHERE repo = ? AND name = ?"

Beside: TypeAlias = Callable[[Cursor], None]
"""Writes rows that belong to a commit in the commit's own transaction; may be called again (`Catalog.run`)."""
ContentGuard: TypeAlias = Callable[[RepoId, Sequence[FileEntry]], None]
"""Called with the files that a commit adds, before it begins; raises to refuse them."""


class TreeCache:
    """The files of trees, those of the last ones kept: what a digest names never changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._trees: BoundedCache[Digest, tuple[FileEntry, ...]] = BoundedCache(_CACHED_FILES)

    def files(self, tree: Digest) -> tuple[FileEntry, ...]:
        """All files of a tree, sorted by path. Raises CatalogError."""
        if (found := self._trees.get(tree)) is None:
            found = trees.load(self._catalog, tree)
            self.remember(tree, found)
        return found

    def known(self, tree: Digest) -> tuple[FileEntry, ...] | None:
        """The files if they are in memory."""
        return self._trees.get(tree)

    def clear(self) -> None:
        """Forget them all."""
        self._trees.clear()

    def remember(self, tree: Digest, files: tuple[FileEntry, ...]) -> None:
        """Keep the files of a tree that was just made."""
        self._trees.put(tree, files, len(files) + 1)


class Commits:
    """Makes the commits of `Repos`. Use from any number of threads."""

    def __init__(
        self, catalog: Catalog, blobs: BlobStore, files_of: TreeCache, tell: Callable[[Cursor, RepoChange], None]
    ) -> None:
        """`tell` is called inside the transaction of each change."""
        self._catalog = catalog
        self._blobs = blobs
        self._trees = files_of
        self._tell = tell

    def make(
        self,
        repo: RepoId,
        drafts: Sequence[CommitDraft],
        guards: Sequence[ContentGuard],
        *,
        branch: str = MAIN,
        expected_parent: Digest | Unset | None = UNSET,
        start: str | None = None,
        beside: Beside = lambda _: None,
    ) -> tuple[Commit, ...]:
        """As `Repos.commit_all`; `guards` look at the files that are added."""
        kind, name = rows_.head_kind(branch)
        for draft in drafts:
            rows_.check_text("message", draft.message, rows_.MAX_MESSAGE)
            rows_.check_text("author", draft.author, rows_.MAX_AUTHOR)
            for short in (*([name] if kind == "branch" else []), *draft.tags):
                check_ref_name(short)
        added = [file for draft in drafts for file in draft.added]
        # From the check until they are written down as needed, no collection may take them.
        with self._blobs.holding(file.sha256 for file in added):
            self._check_blobs(added)
            for judge in guards:
                judge(repo, added)
            while True:
                made = self._try_commits(repo, kind, name, drafts, added, expected_parent, start, beside)
                if made is not None:  # else somebody else's commit came first: look again
                    return made

    def squash(
        self, repo: RepoId, branch: str, message: str, author: str, tree_of: Callable[[Digest], Digest]
    ) -> Commit:
        """As `Repos.squash`; `tree_of` gives the tree of a commit. Raises RevisionNotFoundError."""
        rows_.check_text("message", message, rows_.MAX_MESSAGE)
        rows_.check_text("author", author, rows_.MAX_AUTHOR)
        kind, name = rows_.head_kind(branch)
        with self._catalog.write() as tx:
            key = rows_.key_of(tx, repo)
            head = self._head(repo, key, kind, name)
            if head is None:
                raise RevisionNotFoundError(repo, branch)
            commit = rows_.new_commit(repo, None, tree_of(head), message, author)
            rows_.insert_commits(tx, key, [commit], depth=0)
            rows_.set_ref(tx, key, Ref(name, kind, commit.id))
            if kind == "branch" and name == MAIN:
                listing_cache.move(tx, key, commit.id, commit.created_at)
            self._tell(tx, RepoChange("squashed", repo, Ref(name, kind, commit.id), [commit]))
        return commit

    def branch_head(self, repo: RepoId, key: int, name: str) -> Digest:
        """As `Repos.branch_head`, of the repo with this key. Raises RevisionNotFoundError."""
        kind, short = split_ref(name)
        rows = [] if kind not in (None, "branch") else self._catalog.query(_HEADS, [key, short])
        found = dict(rows).get("branch")
        if found is None:
            raise RevisionNotFoundError(repo, name, "no such branch")
        return str(found)

    def _try_commits(
        self,
        repo: RepoId,
        kind: RefKind,
        name: str,
        drafts: Sequence[CommitDraft],
        added: Sequence[FileEntry],
        expected_parent: Digest | Unset | None,
        start: str | None,
        beside: Beside,
    ) -> tuple[Commit, ...] | None:
        key = rows_.read_info(self._catalog, repo).key
        head = self._head(repo, key, kind, name) if start is None else self.branch_head(repo, key, start)
        if not isinstance(expected_parent, Unset) and expected_parent != head:
            raise RefConflictError(repo, name, expected_parent, head)
        # Large trees are built outside the lock, so that other writers do not wait for them.
        depth, before = rows_.place_of(self._catalog, head)
        files: Sequence[FileEntry] = self._trees.files(before) if before else ()
        grown, made, parent = [], [], head
        for draft in drafts:
            files = apply(repo, name, files, draft.operations)
            tree = trees.build(files)
            made.append(rows_.new_commit(repo, parent, tree.digest, draft.message, draft.author))
            grown.append(tree)
            parent = made[-1].id
        shown = self._shown(kind, name, before, files, made)

        def write(tx: Cursor) -> bool:
            # A repo that has a head is still there; one without may be gone by now.
            rows = tx.execute(_HEADS, [key, name]).fetchall()
            if start is not None:
                if rows:
                    raise RefExistsError(repo, name, rows[0][1])
                rows_.key_of(tx, repo)
            elif self._head_of(repo, kind, name, rows) != head or (head is None and rows_.key_of(tx, repo) != key):
                return False
            trees.store(tx, grown)
            rows_.insert_commits(tx, key, made, depth=depth)
            rows_.insert_blobs(tx, key, added)
            if made:
                rows_.set_ref(tx, key, Ref(name, kind, made[-1].id))
            tags = [
                Ref(tag, "tag", commit.id) for draft, commit in zip(drafts, made, strict=True) for tag in draft.tags
            ]
            rows_.insert_refs(tx, repo, key, tags)
            shown(tx, key)
            beside(tx)
            if made:
                self._tell(tx, RepoChange("commit", repo, Ref(name, kind, made[-1].id), made))
            return True

        if not self._catalog.run(write):
            return None
        if grown:
            self._trees.remember(grown[-1].digest, grown[-1].entries)
        return tuple(made)

    def _shown(
        self, kind: RefKind, name: str, before: Digest | None, files: Sequence[FileEntry], made: Sequence[Commit]
    ) -> Callable[[Cursor, int], None]:
        """What a commit changes of the listing; cards are read here, before anybody waits for us."""
        if not made or kind != "branch" or name != MAIN:
            return lambda _tx, _key: None
        commit, source = made[-1], listing_cache.source_of(files)
        if before is not None and listing_cache.source_of(self._trees.files(before)) == source:
            return lambda tx, key: listing_cache.move(tx, key, commit.id, commit.created_at)
        head = listing_cache.Head(commit.id, commit.created_at, source, listing_cache.read_card(self._blobs, files))
        return lambda tx, key: listing_cache.put(tx, key, head)

    def _head(self, repo: RepoId, key: int, kind: RefKind, name: str) -> Digest | None:
        return self._head_of(repo, kind, name, self._catalog.query(_HEADS, [key, name]))

    @staticmethod
    def _head_of(repo: RepoId, kind: RefKind, name: str, rows: Sequence[tuple[Any, ...]]) -> Digest | None:
        there = dict(rows)
        if kind in there:
            return str(there[kind])
        if "tag" in there:
            raise RefExistsError(repo, name, there["tag"])
        if name != MAIN:
            raise RevisionNotFoundError(repo, name, "no such branch; start it first")
        return None

    def _check_blobs(self, entries: Sequence[FileEntry]) -> None:
        sizes = self._blobs.sizes([entry.sha256 for entry in entries])
        for entry in entries:
            if sizes[entry.sha256] != entry.size:
                raise BlobNotFoundError(entry.sha256, claimed=entry.size, actual=sizes[entry.sha256])
