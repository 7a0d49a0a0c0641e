"""Forget one picture everywhere: captures, datasets with their history, the bytes; and say which models saw it.

A team forgets what lies in its own datasets and cells, the operator all. What cannot be undone is named: decks and
models that used the picture. Each request leaves a record with the digest, never with the picture. Asking again is
safe: what is gone is gone, and the record of before is told again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from hub.accounts.tokens import Identity
from hub.errors import UNREADABLE, ForbiddenError, InputError
from hub.migrations.tables import timestamp
from hub.schemas.failures import Forgotten
from registry.catalog.cursor import Cursor
from registry.errors import NotFoundError, RepoInUseError
from registry.maintenance.forget import forget_bytes
from registry.registry import Registry
from registry.repos.operations import AddFile, DeleteFile
from registry.repos.purge import purge
from registry.types import Artifact, Digest, FileEntry, RepoId
from serving.errors import CaptureNotFound
from serving.observed.captures import CaptureStore

log = logging.getLogger("parcelhub.forget")

ANNOTATIONS: Final = "annotations.json"
MAX_ANNOTATIONS: Final = 512 * 1024**2
MAX_DECK: Final = 64 * 1024**2
AUTHOR: Final = "parcelhub"
WorksIn = Callable[[Identity, str | None], bool]
Hidden = Callable[[Identity], Collection[str]]
"""The cells whose variants do not exist for somebody."""


class _DeckImages(msgspec.Struct, frozen=True):
    """What a deck's document says of its images. Not read by `finetune.datasets.deck`, which brings torch along."""

    train: list[str]
    holdout: list[str]


class Forgetting:
    """Forgets pictures. Use from any number of threads."""

    def __init__(
        self, registry: Registry, captures: CaptureStore, works_in: WorksIn, hidden: Hidden, pictures: Path
    ) -> None:
        """`pictures` is the folder of small pictures that pages made, by digest."""
        self._registry = registry
        self._catalog = registry.catalog
        self._captures = captures
        self._works_in = works_in
        self._hidden = hidden
        self._pictures = pictures
        self.hooks: list[Callable[[Cursor, str], None]] = []
        """Told of each capture that goes, inside a transaction."""

    def capture_digest(self, name: str, who: Identity) -> str:
        """The digest of a capture's frame. Raises CaptureNotFound, also for another team's."""
        if not self._works_in(who, self._captures.read(name)["cell"]):
            raise CaptureNotFound(name)
        return hashlib.sha256(self._captures.image(name)[0]).hexdigest()

    def forget(self, sha256: Digest, who: Identity, reason: str = "") -> Forgotten:
        """Forget the picture of this digest. Raises InUseError while a job needs a dataset that holds it, InputError
        for what is no picture."""
        holders = [info.id for info, _ in self._registry.directory.holders(sha256)]
        mine = [repo for repo in holders if who.owns(repo.namespace)]
        if (mine or who.sees_all) and not self._is_picture(sha256):
            raise InputError(f"{sha256} is no JPEG and no PNG: only pictures are forgotten")
        decks, models = self._users(mine, sha256, who)
        kept: dict[str, str] = {}
        datasets = []
        for repo in mine:
            self._take_out(repo, sha256, kept)
            datasets.append(str(repo))
        captures = self._captures_of(sha256, who)
        others = len(holders) > len(mine)
        if not mine and not captures and not who.sees_all:
            blob = "absent"  # whether others have it is not told, and theirs is not touched
        elif others:
            blob = "removed"  # from what is the caller's: that another team has the same picture is not told
        else:
            blob = self._bytes(sha256, kept)
            for small in (self._pictures / sha256[:2]).glob(f"{sha256}-*"):
                small.unlink(missing_ok=True)
        for model in models:
            kept.setdefault(model, "saw the picture; its weights stay, and its report may show a small copy")
        return self._record(sha256, who, reason, captures, datasets, kept, decks, models, blob)

    # --- what goes ----------------------------------------------------------------------------------------------------

    def _take_out(self, repo: RepoId, sha256: Digest, kept: dict[str, str]) -> None:
        """Out of the history, and out of the annotations of each branch's head."""
        registry = self._registry
        names = {
            ref.name: _paths(registry.repos.tree(repo, ref.commit), sha256)
            for ref in registry.repos.refs(repo)
            if ref.kind == "branch"
        }
        try:
            purge(self._catalog, registry.repos, registry.blobs, repo, [sha256])
        except RepoInUseError:
            kept[str(repo)] = (
                "models were made of earlier revisions, so these keep the picture's name and digest; its bytes are gone"
            )
        for branch, paths in names.items():
            operations = self._without(repo, branch, paths)
            if operations:
                registry.repos.commit(
                    repo, operations, message="Forget a picture on request", author=AUTHOR, branch=branch
                )

    def _without(self, repo: RepoId, branch: str, paths: Collection[str]) -> list[AddFile | DeleteFile]:
        """What to commit so that a branch's head is whole without the files at these paths."""
        files = {entry.path: entry for entry in self._registry.repos.tree(repo, branch)}
        made: list[AddFile | DeleteFile] = [DeleteFile(path) for path in paths if path in files]
        notes = files.get(ANNOTATIONS)
        if paths and notes is not None and notes.size <= MAX_ANNOTATIONS:
            text = without_images(self._registry.blobs.read(notes.sha256), paths)
            if text is not None:
                info = self._registry.blobs.put_bytes(text)
                made.append(AddFile(ANNOTATIONS, info.sha256, info.size))
        return made

    def _is_picture(self, sha256: Digest) -> bool:
        """Also True for what is not stored: then nothing is lost."""
        try:
            head = b"".join(self._registry.blobs.iter_range(sha256, 0, 8))
        except NotFoundError:
            return True
        return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))

    def _captures_of(self, sha256: Digest, who: Identity) -> list[str]:
        gone = []
        for name in list(self._captures.names()):
            try:
                data, _ = self._captures.image(name)
                if hashlib.sha256(data).hexdigest() != sha256 or not self._works_in(
                    who, self._captures.read(name)["cell"]
                ):
                    continue
            except (CaptureNotFound, KeyError):  # it made room for a newer one
                continue
            self._captures.remove(name)
            gone.append(name)

        def tell(tx: Cursor) -> None:
            for name in gone:
                for hook in self.hooks:
                    hook(tx, name)

        if gone:
            self._catalog.run(tell)
        return gone

    def _bytes(self, sha256: Digest, kept: dict[str, str]) -> str:
        there = self._registry.blobs.exists(sha256)
        shared = forget_bytes(self._catalog, self._registry.blobs, self._registry.xet, sha256, time.time())
        if shared:
            kept["chunks"] = "some of its bytes lie in packs with chunks of other files, and no name leads to them"
        return "removed" if there else "absent"

    # --- who used it --------------------------------------------------------------------------------------------------

    def _users(self, repos: Iterable[RepoId], sha256: Digest, who: Identity) -> tuple[list[str], list[str]]:
        """(Decks that used it, variants and bases that saw it.) Another team's private cell may have learnt from a
        public dataset: neither its variants nor their decks are told to those for whom it does not exist."""
        lineage, hidden = self._registry.lineage, self._hidden(who)
        decks: set[str] = set()
        models: set[str] = set()
        for repo in repos:
            for commit, paths in self._commits_with(repo, sha256):
                node = Artifact("dataset", f"{repo.namespace}/{repo.name}", commit)
                for edge in lineage.children(node):
                    child = edge.child
                    if child.kind == "deck" and not self._deck_uses(child.revision, paths):
                        continue
                    found = [child, *(one.artifact for one in lineage.descendants(child))]
                    made = {one.name for one in found if one.kind in ("variant", "base")}
                    told = {name for name in made if _cell_of(name) not in hidden}
                    if told or not made:
                        decks |= {one.revision for one in found if one.kind == "deck"}
                    models |= told
        return sorted(decks), sorted(models)

    def _commits_with(self, repo: RepoId, sha256: Digest) -> list[tuple[Digest, list[str]]]:
        rows = self._catalog.query(
            "SELECT c.id FROM commits c JOIN repos r ON r.key = c.repo"
            " WHERE r.type = ? AND r.namespace = ? AND r.name = ?",
            [repo.type, repo.namespace, repo.name],
        )
        trees = self._registry.repos.trees_of([row[0] for row in rows])
        return [(commit, paths) for commit, files in trees.items() if (paths := _paths(files, sha256))]

    def _deck_uses(self, digest: Digest, paths: Collection[str]) -> bool:
        """Whether a deck names one of these files; one that cannot be read counts as one that does."""
        try:
            if self._registry.blobs.size(digest) > MAX_DECK:
                return True
            deck = msgspec.json.decode(self._registry.blobs.read(digest), type=_DeckImages)
        except (NotFoundError, *UNREADABLE):
            return True
        named = {_plain(name) for name in (*deck.train, *deck.holdout)}
        return bool(named & {_plain(path) for path in paths})

    # --- the record ---------------------------------------------------------------------------------------------------

    def _record(
        self,
        sha256: Digest,
        who: Identity,
        reason: str,
        captures: list[str],
        datasets: list[str],
        kept: dict[str, str],
        decks: list[str],
        models: list[str],
        blob: str,
    ) -> Forgotten:
        now = time.time()
        for earlier in self._earlier(sha256, who):
            decks, models = sorted({*decks, *earlier.decks}), sorted({*models, *earlier.models})
            kept = earlier.kept | kept
        made = Forgotten(
            sha256=sha256,
            captures=captures,
            datasets=datasets,
            kept=kept,
            decks=decks,
            models=models,
            blob=blob,
            at=timestamp(now),
            by=who.owner,
        )
        self._catalog.run(
            lambda tx: tx.execute(
                "INSERT INTO loop_forgotten VALUES (?, ?, ?, ?, ?)",
                [sha256, now, who.owner, reason, msgspec.json.encode(made).decode()],
            )
        )
        log.info("the picture %s was forgotten on request of %s", sha256[:12], who.owner)
        return made

    def _earlier(self, sha256: Digest, who: Identity) -> list[Forgotten]:
        """What was said before of this picture: to the operator all, to others what was said to them."""
        rows = self._catalog.query(
            "SELECT report FROM loop_forgotten WHERE sha256 = ? AND (? OR forgotten_by = ?) ORDER BY forgotten_at",
            [sha256, who.sees_all, who.owner],
        )
        return [msgspec.json.decode(row[0], type=Forgotten) for row in rows]


def _cell_of(model: str) -> str:
    """The cell of `cells/<cell>@v3`; "" for a base."""
    return model.partition("@")[0].removeprefix("cells/") if model.startswith("cells/") else ""


def without_images(text: bytes, paths: Collection[str]) -> bytes | None:
    """COCO annotations without the images at these paths; None where they name none of them, or cannot be read."""
    try:
        document: dict[str, Any] = msgspec.json.decode(text)
        gone = {one["id"] for one in document["images"] if _plain(one["file_name"]) in {_plain(p) for p in paths}}
        if not gone:
            return None
        document["images"] = [one for one in document["images"] if one["id"] not in gone]
        document["annotations"] = [one for one in document.get("annotations", []) if one["image_id"] not in gone]
    except (*UNREADABLE, KeyError, TypeError):
        return None
    return msgspec.json.encode(document)


def _paths(files: Iterable[FileEntry], sha256: Digest) -> list[str]:
    return [entry.path for entry in files if entry.sha256 == sha256]


def _plain(path: str) -> str:
    return path.removeprefix("images/")


def require_forget(who: Identity) -> None:
    """People, teams' programs and the operator. Raises ForbiddenError."""
    if not who.sees_all and not who.namespaces:
        raise ForbiddenError(f"the token {who.name!r} belongs to no team")
