"""Repos as git sees them: true git commits, trees and blobs over our own commits, the same ones every time.

A file that `.gitattributes` gives to LFS, or that came as a large file, is its pointer. Large files that no pattern of
the repo's own names get lines at the end of the root's `.gitattributes`, else a clone would hold bare pointers.
Nothing but the names of commits and trees is kept; objects are made when somebody fetches them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from dulwich.objects import Commit as GitCommit
from dulwich.objects import ObjectID, Tree

from hub.protocol.attributes import MAX_FILE, large_files
from hub.protocol.views import is_large
from registry.registry import Registry
from registry.repos.git_ids import git_sha1, pointer
from registry.types import Commit, Digest, FileEntry, RefKind, RepoInfo

HEAD_BRANCH: Final = "main"
_ATTRIBUTES: Final = ".gitattributes"
_FILE_MODE: Final = 0o100644
_DIR_MODE: Final = 0o040000
_MANY: Final = 20
_HISTORY: Final = 1_000_000
_BATCH: Final = 500
_PLACES: Final[dict[RefKind, str]] = {"branch": "refs/heads/", "tag": "refs/tags/", "pull": ""}
_LFS = "filter=lfs diff=lfs merge=lfs -text"


@dataclass(frozen=True, slots=True)
class GitBlob:
    """A blob: its bytes if they are made here (a pointer, `.gitattributes`), else where they lie."""

    sha1: str
    size: int
    sha256: Digest = ""
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One commit with its trees (by their sha1) and the blobs that they name (by theirs)."""

    commit: GitCommit
    trees: dict[str, Tree] = field(default_factory=dict)
    blobs: dict[str, GitBlob] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """A commit of ours and what git calls it and its tree."""

    commit: Commit
    sha1: str
    tree: str


class GitView:
    """The git side of a registry. Use from any number of threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        registry.repos.aliases.append(self.commit_of)

    def refs(self, info: RepoInfo) -> dict[str, str]:
        """Each ref that clients see, by its long name, and the sha1 of its commit."""
        found = [
            (_PLACES[ref.kind] + ref.name, ref.commit)
            for ref in self._registry.repos.refs(info.id)
            if ref.kind in _PLACES and not any(part.endswith(".lock") for part in ref.name.split("/"))
        ]
        names = self._names(info, {commit for _, commit in found})
        return {name: names[commit] for name, commit in sorted(found)}

    def history(self, info: RepoInfo, sha1: str) -> list[Known] | None:
        """A commit and all its ancestors, newest first; None if the repo has no such commit."""
        rows = self._registry.catalog.query(
            "SELECT g.commit FROM git_commits g JOIN commits c ON c.id = g.commit WHERE g.git_sha1 = ? AND c.repo = ?",
            [sha1, info.key],
        )
        if not rows:
            return None
        commits = self._registry.repos.history(info.id, rows[0][0], _HISTORY)
        known = self._stored([commit.id for commit in commits])
        return [Known(commit, *known[commit.id]) for commit in commits]

    def commit_of(self, key: int, sha1: str) -> Digest | None:
        """Our id of what a repo's clone calls `sha1` (40 hex characters), if it was ever cloned."""
        rows = self._registry.catalog.query(
            "SELECT g.commit FROM git_commits g JOIN commits c ON c.id = g.commit WHERE g.git_sha1 = ? AND c.repo = ?",
            [sha1, key],
        )
        return rows[0][0] if rows else None

    def snapshots(self, known: Sequence[Known]) -> Iterator[Snapshot]:
        """The objects of these commits (each behind its parent's, or alone), one commit's in memory at a time."""
        for at in range(0, len(known), 8):
            some = known[at : at + 8]
            files = self._registry.repos.trees_of([one.commit.id for one in some])
            parents = self._stored([one.commit.parent for one in some if one.commit.parent])
            for one in some:
                parent = parents[one.commit.parent][0] if one.commit.parent else None
                yield self._snapshot(one.commit, files[one.commit.id], parent)

    def read(self, blob: GitBlob) -> bytes:
        """A blob's bytes. Raises BlobNotFoundError, BlobStoreError."""
        return self._registry.blobs.read(blob.sha256) if blob.data is None else blob.data

    def _names(self, info: RepoInfo, heads: Iterable[Digest]) -> dict[Digest, str]:
        """Git's names of these commits; those of commits that nobody asked for yet are worked out, oldest first."""
        heads = list(heads)
        done = {commit: names[0] for commit, names in self._stored(heads).items()}
        for head in heads:
            if head in done:
                continue
            commits = self._registry.repos.history(info.id, head, _HISTORY)
            known = self._stored([commit.id for commit in commits])
            new = [commit for commit in reversed(commits) if commit.id not in known]
            for at in range(0, len(new), _BATCH):
                self._work_out(info, new[at : at + _BATCH], known)
            done[head] = known[head][0]
        return done

    def _work_out(self, info: RepoInfo, commits: Sequence[Commit], known: dict[Digest, tuple[str, str]]) -> None:
        rows = []
        trees: dict[Digest, str] = {}
        for commit in commits:
            if (tree := trees.get(commit.tree)) is None:
                files = self._registry.repos.trees_of([commit.id])[commit.id]
                tree = trees[commit.tree] = self._trees(files)[2]
            parent = known[commit.parent][0] if commit.parent else None
            sha1 = _commit_object(commit, tree, parent).id.decode()
            known[commit.id] = (sha1, tree)
            rows.append([commit.id, info.key, sha1, tree])
        with self._registry.catalog.write() as tx:
            for row in rows:
                tx.execute("INSERT OR IGNORE INTO git_commits VALUES (?, ?, ?, ?)", row)

    def _stored(self, commits: Sequence[Digest]) -> dict[Digest, tuple[str, str]]:
        found: dict[Digest, tuple[str, str]] = {}
        for at in range(0, len(commits), _BATCH):
            rows = self._registry.catalog.query(
                "SELECT commit, git_sha1, git_tree FROM git_commits WHERE commit IN (SELECT unnest(?::VARCHAR[]))",
                [list(commits[at : at + _BATCH])],
            )
            found |= {commit: (sha1, tree) for commit, sha1, tree in rows}
        return found

    def _snapshot(self, commit: Commit, files: Sequence[FileEntry], parent: str | None) -> Snapshot:
        trees, blobs, root = self._trees(files)
        return Snapshot(_commit_object(commit, root, parent), trees, blobs)

    def _trees(self, files: Sequence[FileEntry]) -> tuple[dict[str, Tree], dict[str, GitBlob], str]:
        """All trees of a state, all its blobs, and the root's sha1."""
        blobs = self._blobs(files)
        folders: dict[str, Tree] = {"": Tree()}
        for path, blob in blobs.items():
            folder, _, name = path.rpartition("/")
            _folder(folders, folder).add(name.encode(), _FILE_MODE, ObjectID(blob.sha1.encode()))
        made: dict[str, Tree] = {}
        # Deepest first: a folder's name depends on all that lies in it.
        for path in sorted(folders, key=lambda path: path.count("/") + bool(path), reverse=True):
            tree = folders[path]
            sha1 = tree.id
            made[sha1.decode()] = tree
            if path:
                above, _, name = path.rpartition("/")
                folders[above].add(name.encode(), _DIR_MODE, sha1)
        root = folders[""].id.decode()
        return made, {blob.sha1: blob for blob in blobs.values()}, root

    def _blobs(self, files: Sequence[FileEntry]) -> dict[str, GitBlob]:
        own = next((file for file in files if file.path == _ATTRIBUTES and file.size <= MAX_FILE), None)
        content = self._registry.blobs.read(own.sha256) if own else b""
        added = attributes_to_add(content, files)
        rules = large_files(content + added)
        pointers = {file.path for file in files if file.size and rules.match_file(file.path)}
        # A pattern file and a file that no line can name (they are too long) stay as they are, if they are not too big.
        pointers |= {file.path for file in files if is_large(file)}
        pointers -= {_ATTRIBUTES}
        plain = self._registry.git_ids.of(file for file in files if file.path not in pointers)
        blobs: dict[str, GitBlob] = {}
        for file in files:
            if file.path in pointers:
                data = pointer(file.sha256, file.size)
                blobs[file.path] = GitBlob(git_sha1(data), len(data), data=data)
            else:
                blobs[file.path] = GitBlob(plain[file.sha256], file.size, file.sha256)
        if added:
            data = content + added
            blobs[_ATTRIBUTES] = GitBlob(git_sha1(data), len(data), data=data)
        return blobs


def attributes_to_add(content: bytes, files: Sequence[FileEntry]) -> bytes:
    """The lines by which `.gitattributes` names every large file: by their endings where there are many."""
    rules = large_files(content)
    missing = [
        file.path for file in files if is_large(file) and file.path != _ATTRIBUTES and not rules.match_file(file.path)
    ]
    endings: dict[str, list[str]] = {}
    for path in missing:
        name = path.rpartition("/")[2]
        endings.setdefault(name.rpartition(".")[2] if "." in name[1:] else "", []).append(path)
    lines = []
    for ending, paths in sorted(endings.items()):
        if len(paths) > _MANY and re.fullmatch(r"[A-Za-z0-9_-]+", ending):
            lines.append(f"*.{ending} {_LFS}\n")
        else:
            lines += [f"/{_literal(path)} {_LFS}\n" for path in paths]
    if not lines:
        return b""
    return (b"\n" if content and not content.endswith(b"\n") else b"") + "".join(lines).encode()


def _literal(path: str) -> str:
    """A path as a pattern that fits nothing else."""
    return re.sub(r"\s", "[[:space:]]", re.sub(r"([*?\[\\])", r"\\\1", path))


def _folder(folders: dict[str, Tree], path: str) -> Tree:
    at = path
    while at not in folders:
        folders[at] = Tree()
        at = at.rpartition("/")[0]
    return folders[path]


def _commit_object(commit: Commit, tree: str, parent: str | None) -> GitCommit:
    made = GitCommit()
    made.tree = ObjectID(tree.encode())
    made.parents = [ObjectID(parent.encode())] if parent else []
    # Git's own rules: no angle brackets, no line breaks, no dots or blanks at the ends.
    name = re.sub(r"[<>\x00-\x1f]", "", commit.author).strip(" .,:;\"'") or "unknown"
    mail = re.sub(r"[^A-Za-z0-9._+-]", "-", name)
    made.author = made.committer = f"{name} <{mail}@parcelhub.invalid>".encode()
    made.author_time = made.commit_time = int(commit.created_at.timestamp())
    made.author_timezone = made.commit_timezone = 0
    made.encoding = None
    made.message = f"{commit.message.rstrip() or 'no message'}\n\nHub-Commit: {commit.id[:40]}\n".encode()
    return made
