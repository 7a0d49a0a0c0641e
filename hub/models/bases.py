"""The bases: publishing the one that the distribution ships, and finding those that are published."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from hub.datasets.store import Store
from hub.errors import SettingsError, UnknownBaseError
from hub.migrations.tables import timestamp
from hub.models.class_maps import labels_of
from hub.schemas import core as s
from hub.settings import SHIPPED as SHIPPED
from registry.errors import EntryNotFoundError, NotFoundError
from registry.types import FileEntry, Ref, RepoId

log = logging.getLogger("parcelhub.bases")

NAMESPACE = "base"
UNIVERSAL = RepoId("model", NAMESPACE, "universal")
WEIGHTS = "model.safetensors"
FILES = ("config.json", WEIGHTS, "preprocessor_config.json", "README.md")
REQUIRED = FILES[:3]
_MAX_CONFIG = 4 * 1024**2
_VERSION = re.compile(r"v([1-9][0-9]*)")


def next_version(refs: Iterable[Ref]) -> str:
    """`v1`, `v2`, ...: one more than the highest tag of that form."""
    return f"v{max((number for number, _ in versions(refs)), default=0) + 1}"


def versions(refs: Iterable[Ref]) -> list[tuple[int, Ref]]:
    """The tags `v<n>`, lowest first."""
    tags = [(match, ref) for ref in refs if ref.kind == "tag" and (match := _VERSION.fullmatch(ref.name))]
    return sorted(((int(match[1]), ref) for match, ref in tags), key=lambda tag: tag[0])


class Bases:
    """Published bases: tags of the repositories `base/<name>`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # Commits never change, so what one holds is read once; every page of models shows all bases.
        self._facts = lru_cache(maxsize=1024)(self._read_facts)
        self._labels = lru_cache(maxsize=64)(self._read_labels)

    def publish(self, source: Path) -> s.Base | None:
        """Publish the base in a folder as the next version of `base/universal`, unless its weights are out.

        Without a base in the folder, none is published: what is there already goes on being served. Raises
        SettingsError for one that cannot be read.
        """
        missing = [name for name in REQUIRED if not (source / name).is_file()]
        if missing:
            log.warning("no base to publish: %s has no %s", source, ", ".join(missing))
            return None
        try:
            digest = _digest(source / WEIGHTS)
        except OSError as error:
            raise SettingsError(f"the base in {source} cannot be read: {error.strerror}") from error
        self._store.ensure(UNIVERSAL)
        if any(base.weights == digest for base in self._of(UNIVERSAL)):
            return None
        version = next_version(self._store.repos.refs(UNIVERSAL))
        entries = [self._upload(source / name, name) for name in FILES if (source / name).is_file()]
        message = f"Publish {version} of the shipped base"
        self._store.repos.commit(UNIVERSAL, entries, message=message, author="parcelhub", tags=[version])
        log.info("published %s@%s (%s)", UNIVERSAL, version, digest[:12])
        return self.newest()

    def shipped(self, source: Path) -> s.Base | None:
        """The version that holds exactly the files of a folder: the one that `publish` made of it."""
        try:
            wanted = {name: _digest(source / name) for name in FILES if (source / name).is_file()}
            found = self._of(UNIVERSAL)
        except (OSError, NotFoundError):
            return None
        for base in reversed(found):
            files = {entry.path: entry.sha256 for entry in self._store.repos.tree(UNIVERSAL, base.commit)}
            if wanted and all(files.get(name) == digest for name, digest in wanted.items()):
                return base
        return None

    def all(self) -> list[s.Base]:
        """Every version of every base, by name, oldest first."""
        repos = self._store.repos.list("model", prefix=f"{NAMESPACE}/", limit=1000)
        return [base for info in repos for base in self._of(info.id)]

    def get(self, name: str) -> s.Base:
        """The base `base/<name>@<tag>`. Raises UnknownBaseError."""
        repo, _, version = name.partition("@")
        try:
            found = self._of(RepoId.parse(repo))
        except NotFoundError:
            found = []
        for base in found:
            if base.name == f"{repo}@{version}":
                return base
        raise UnknownBaseError(f"there is no base {name!r}; `parcelhub model list` shows those there are")

    def newest(self) -> s.Base:
        """The highest version of the universal base. Raises UnknownBaseError before there is one."""
        name = self.newest_name()
        if name is None:
            raise UnknownBaseError("no base is published yet; set PARCELHUB_BASE_SOURCE and restart the hub")
        return self.get(name)

    def newest_name(self) -> str | None:
        """`base/universal@v2`, or None before the first one."""
        try:
            tags = versions(self._store.repos.refs(UNIVERSAL))
        except NotFoundError:
            return None
        return f"{UNIVERSAL}@{tags[-1][1].name}" if tags else None

    def labels(self, name: str) -> list[str]:
        """The labels of a base, spare ones included; none where its configuration cannot be read.

        Raises UnknownBaseError.
        """
        return list(self._labels(RepoId.parse(name.partition("@")[0]), self.get(name).commit))

    def newest_labels(self) -> list[str]:
        """The labels of the highest version of the universal base; none before the first one."""
        try:
            tags = versions(self._store.repos.refs(UNIVERSAL))
        except NotFoundError:
            return []
        return list(self._labels(UNIVERSAL, tags[-1][1].commit)) if tags else []

    def names(self) -> list[str]:
        """The versions of the universal base, newest first: `base/universal@v2`, ..."""
        try:
            return [f"{UNIVERSAL}@{ref.name}" for _, ref in reversed(versions(self._store.repos.refs(UNIVERSAL)))]
        except NotFoundError:
            return []

    def _of(self, repo: RepoId) -> list[s.Base]:
        found = []
        for _, ref in versions(self._store.repos.refs(repo)):
            facts = self._facts(repo, ref.commit)
            if facts is not None:
                found.append(
                    s.Base(name=f"{repo}@{ref.name}", commit=ref.commit, weights=facts[0], created_at=facts[1])
                )
        return found

    def _read_labels(self, repo: RepoId, commit: str) -> tuple[str, ...]:
        try:
            entry = self._store.repos.entry(repo, commit, "config.json")
        except EntryNotFoundError:
            return ()
        return tuple(labels_of(self._store.blobs.read(entry.sha256))) if entry.size <= _MAX_CONFIG else ()

    def _read_facts(self, repo: RepoId, commit: str) -> tuple[str, str] | None:
        """The digest of a commit's weights and its time; None for a tag somebody else made, on what is no base."""
        try:
            weights = self._store.repos.entry(repo, commit, WEIGHTS)
        except EntryNotFoundError:
            return None
        return weights.sha256, timestamp(self._store.repos.resolve(repo, commit).created_at.timestamp())

    def _upload(self, path: Path, name: str) -> FileEntry:
        with path.open("rb") as file:
            info = self._store.blobs.put_stream(iter(lambda: file.read(1 << 20), b""))
        return FileEntry(name, info.sha256, info.size)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
