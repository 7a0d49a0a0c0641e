"""What the wire says of repos, trees and histories, made from what the registry knows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.migrations.tables import timestamp
from registry.repos.cards import Card
from registry.repos.git_ids import GitIds, git_sha1, pointer
from registry.types import Commit, Digest, FileEntry, Ref, RepoInfo

REGULAR_LIMIT = 10 * 1024**2
"""Files of more bytes than this are large files, however they came."""
SHORT = 40
"""Characters of our commit ids that the wire shows: git's length, which clients insist on."""

XetHashesOf = Callable[[Sequence[Digest]], Mapping[Digest, str]]
"""The Xet hashes of those of these files that came in chunks."""
Json = dict[str, Any]


def oid_of(commit: Digest) -> str:
    """A commit's id as clients see it."""
    return commit[:SHORT]


def time_of(moment: datetime) -> str:
    """`2026-11-20T19:10:53.123Z`."""
    return timestamp(moment.timestamp())


def is_large(entry: FileEntry) -> bool:
    """Whether clients treat the file as an LFS file."""
    return entry.lfs or entry.size > REGULAR_LIMIT


@dataclass(frozen=True, slots=True)
class Node:
    """A file of a tree, or a folder of one (`entry` None), which has an id that its files decide."""

    path: str
    entry: FileEntry | None
    folder_oid: str = ""


def nodes_of(files: Sequence[FileEntry], folder: str, *, recursive: bool) -> list[Node]:
    """What lies in a folder ("" is the root), folders among it, by path; all below it if `recursive`."""
    prefix = f"{folder}/" if folder else ""
    nodes: list[Node] = []
    folders: dict[str, Any] = {}
    for entry in files:
        if not entry.path.startswith(prefix):
            continue
        rest = entry.path[len(prefix) :]
        parts = rest.split("/")
        for depth in range(1, len(parts)):
            if depth > 1 and not recursive:
                break
            path = prefix + "/".join(parts[:depth])
            hasher = folders.setdefault(path, hashlib.sha1(usedforsecurity=False))
            hasher.update(f"{entry.sha256} {entry.size} {entry.path[len(path) :]}\n".encode())
        if recursive or len(parts) == 1:
            nodes.append(Node(entry.path, entry))
    nodes += [Node(path, None, hasher.hexdigest()) for path, hasher in folders.items()]
    return sorted(nodes, key=lambda node: node.path.encode())


class Views:
    """Makes the wire's objects."""

    def __init__(self, git_ids: GitIds, xet_hashes_of: XetHashesOf) -> None:
        self._git_ids = git_ids
        self.xet_hashes_of = xet_hashes_of

    def git_oids(self, files: Iterable[FileEntry]) -> dict[Digest, str]:
        """Git's ids of the regular files among these."""
        return self._git_ids.of(file for file in files if not is_large(file))

    def oid_of_file(self, entry: FileEntry, oids: Mapping[Digest, str]) -> str:
        """What git's tree would name: the file, or its pointer."""
        if is_large(entry):
            return git_sha1(pointer(entry.sha256, entry.size))
        return oids[entry.sha256]

    def etag_of(self, entry: FileEntry) -> str:
        """The name under which clients keep the file, without quotes."""
        return entry.sha256 if is_large(entry) else self.git_oids([entry])[entry.sha256]

    def tree(self, nodes: Sequence[Node], last: Mapping[str, Commit] | None = None) -> list[Json]:
        """Entries of a listing; `last` gives each path's last commit if it was asked for."""
        oids = self.git_oids(node.entry for node in nodes if node.entry)
        xet = self.xet_hashes_of([node.entry.sha256 for node in nodes if node.entry and is_large(node.entry)])
        return [self._node(node, oids, xet, last) for node in nodes]

    def _node(
        self, node: Node, oids: Mapping[Digest, str], xet: Mapping[Digest, str], last: Mapping[str, Commit] | None
    ) -> Json:
        entry = node.entry
        if entry is None:
            view: Json = {"type": "directory", "oid": node.folder_oid, "size": 0, "path": node.path}
        else:
            oid = self.oid_of_file(entry, oids)
            view = {"type": "file", "oid": oid, "size": entry.size, "path": node.path}
            if is_large(entry):
                view["lfs"] = self.lfs(entry)
                if entry.sha256 in xet:
                    view["xetHash"] = xet[entry.sha256]
        if last is not None and (commit := last.get(node.path)):
            view["lastCommit"] = {
                "id": oid_of(commit.id),
                "title": title_of(commit),
                "date": time_of(commit.created_at),
            }
        return view

    def lfs(self, entry: FileEntry) -> Json:
        """What the wire says of a large file."""
        return {
            "oid": entry.sha256,
            "sha256": entry.sha256,
            "size": entry.size,
            "pointerSize": len(pointer(entry.sha256, entry.size)),
        }

    def siblings(self, files: Sequence[FileEntry], *, blobs: bool) -> list[Json]:
        """The files of a revision, with their ids and sizes if `blobs`."""
        if not blobs:
            return [{"rfilename": file.path} for file in files]
        oids = self.git_oids(files)
        found = []
        for file in files:
            view: Json = {"rfilename": file.path, "blobId": self.oid_of_file(file, oids), "size": file.size}
            if is_large(file):
                view["lfs"] = self.lfs(file)
            found.append(view)
        return found


def info_view(info: RepoInfo, commit: Digest | None, modified: datetime, card: Card) -> Json:
    """A repo, without what only its files tell."""
    view: Json = {
        "_id": f"{info.key:024x}",
        "id": str(info.id),
        "author": info.id.namespace,
        "lastModified": time_of(modified),
        "createdAt": time_of(info.created_at),
        "private": info.private,
        "gated": False if info.gated == "no" else info.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": list(card.tags),
    }
    if commit is not None:
        view["sha"] = oid_of(commit)
    if card.data:
        view["cardData"] = card.data
    if info.id.type == "model":
        view["modelId"] = str(info.id)
        if card.pipeline_tag:
            view["pipeline_tag"] = card.pipeline_tag
        if card.library_name:
            view["library_name"] = card.library_name
        if index := card.data.get("model-index"):
            view["model-index"] = index
    elif isinstance(description := card.data.get("description"), str):
        view["description"] = description
    return view


def title_of(commit: Commit) -> str:
    """The first line of the message."""
    return commit.message.partition("\n")[0]


def commit_view(commit: Commit, *, formatted: bool) -> Json:
    """A commit in a history."""
    title, _, rest = commit.message.partition("\n")
    view: Json = {
        "id": oid_of(commit.id),
        "title": title,
        "message": rest.strip("\n"),
        "authors": [{"user": commit.author}],
        "date": time_of(commit.created_at),
    }
    if formatted:
        view["formatted"] = {"title": title, "message": rest.strip("\n")}
    return view


def refs_view(refs: Sequence[Ref], *, pulls: bool) -> Json:
    """All refs of a repo."""
    forms = {"branch": "refs/heads/", "tag": "refs/tags/", "pull": ""}

    def named(kind: str) -> list[Json]:
        found = [ref for ref in refs if ref.kind == kind]
        found.sort(key=lambda ref: (ref.name != "main", ref.name))
        return [
            {
                "name": ref.name.removeprefix("refs/pr/"),
                "ref": forms[kind] + ref.name,
                "targetCommit": oid_of(ref.commit),
            }
            for ref in found
        ]

    view: Json = {"branches": named("branch"), "tags": named("tag"), "converts": []}
    if pulls:
        view["pullRequests"] = named("pull")
    return view
