"""Datasets as a resource: whose they are, who sees them, what is in them, and whether the base may learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub.accounts.access import Access
from hub.accounts.tokens import Identity
from hub.datasets.image_index import ImageIndex
from hub.migrations.tables import timestamp
from hub.schemas.resources import Dataset, DatasetImage, DatasetSummary
from registry.catalog.catalog import Catalog, from_db
from registry.errors import EntryNotFoundError
from registry.registry import Registry
from registry.repos.repos import MAIN
from registry.types import FileEntry, RepoId, RepoInfo

_SELECT = (
    "SELECT r.namespace, r.name, r.private, d.offered_by, r.created_at, coalesce(c.created_at, r.created_at), f.commit"
    " FROM repos r LEFT JOIN hub_datasets d ON d.repo = r.key"
    " LEFT JOIN refs f ON f.repo = r.key AND f.name = ? AND f.kind = 'branch' LEFT JOIN commits c ON c.id = f.commit"
)


class Datasets:
    """The datasets of one hub. A dataset that somebody may not see does not exist for them."""

    def __init__(
        self,
        registry: Registry,
        access: Access,
        images: ImageIndex,
    ) -> None:
        self._registry = registry
        self._catalog: Catalog = registry.catalog
        self._access = access
        self.images = images

    def page(
        self,
        who: Identity,
        *,
        limit: int,
        after: str = "",
        team: str | None = None,
        contains: str = "",
        offered: bool | None = None,
    ) -> list[Dataset]:
        """At most `limit` datasets that `who` sees, by name, those behind the name `after`."""
        where = ["r.type = 'dataset'"]
        params: list[object] = [MAIN]
        if who.seen is not None:
            where.append("(NOT r.private OR list_contains(?::VARCHAR[], lower(r.namespace)))")
            params.append(sorted(who.seen))
        if after:
            where.append("r.namespace || '/' || r.name > ?")
            params.append(after)
        if team is not None:
            where.append("lower(r.namespace) = ?")
            params.append(team.lower())
        if contains:
            where.append("contains(lower(r.namespace || '/' || r.name), ?)")
            params.append(contains.lower())
        if offered is not None:
            where.append(f"d.offered_by IS {'NOT ' if offered else ''}NULL")
        rows = self._catalog.query(
            f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY r.namespace || '/' || r.name LIMIT ?",
            [*params, limit],
        )
        return [_dataset(row) for row in rows]

    def get(self, repo: RepoId, who: Identity) -> Dataset:
        """Raises RepoNotFoundError."""
        info = self._access.find(repo, who, "read").info
        return self._of(info)

    def create(self, repo: RepoId, who: Identity, *, private: bool) -> Dataset:
        """Make an empty dataset, unless it is there: then nothing of it changes. Raises ForbiddenError."""
        who.require_write("dataset", str(repo))
        return self._of(self._registry.repos.create(repo, private=private, exist_ok=True))

    def change(self, repo: RepoId, who: Identity, *, private: bool | None) -> Dataset:
        """Raises RepoNotFoundError, ForbiddenError."""
        info = self._access.find(repo, who, "manage").info
        return self._of(self._registry.directory.configure(info.id, private=private))

    def delete(self, repo: RepoId, who: Identity) -> None:
        """Take a dataset away, with its history. Raises InUseError while jobs need it."""
        info = self._access.find(repo, who, "manage").info
        self._registry.repos.delete(info.id)  # its guards look for jobs, its hooks take away the rest
        self.images.forget(info.key)

    def summary(self, repo: RepoId, revision: str, who: Identity) -> DatasetSummary:
        """What a revision holds. Raises RepoNotFoundError, RevisionNotFoundError, GatedError."""
        info = self._access.find(repo, who, "download").info
        commit = self._registry.repos.resolve(info.id, revision)
        found = self.images.of(info.id, commit.id)
        rows = self._catalog.query("SELECT files, bytes FROM trees WHERE digest = ?", [commit.tree])
        return DatasetSummary(
            dataset=self._of(info), commit=commit.id, files=rows[0][0], bytes=rows[0][1], images=found.images,
            instances=found.instances, classes=found.classes, note=found.note,
        )  # fmt: skip

    def images_page(
        self, repo: RepoId, revision: str, who: Identity, *, after: int, limit: int, split: str | None
    ) -> list[DatasetImage]:
        """A page of a revision's images. Raises as `summary`."""
        info = self._access.find(repo, who, "download").info
        return self.images.page(self.images.of(info.id, revision).number, after=after, limit=limit, split=split)

    def image(self, repo: RepoId, revision: str, pos: int, who: Identity) -> tuple[DatasetImage, FileEntry]:
        """One image of a revision by its place. Raises EntryNotFoundError, and as `summary`."""
        found = self.images_page(repo, revision, who, after=pos - 1, limit=1, split=None)
        if not found or found[0].pos != pos:
            raise EntryNotFoundError(repo, revision, f"image {pos}")
        return found[0], FileEntry(found[0].file, found[0].sha256, found[0].bytes)

    def readable_names(self, names: Sequence[str], who: Identity) -> set[str]:
        """Those of these datasets (`team/name`) that `who` may see."""
        if who.sees_all:
            return set(names)
        rows = self._catalog.query(
            "SELECT namespace || '/' || name FROM repos WHERE type = 'dataset' AND"
            " namespace || '/' || name IN (SELECT unnest(?::VARCHAR[]))"
            " AND (NOT private OR list_contains(?::VARCHAR[], lower(namespace)))",
            [sorted(set(names)), sorted(who.namespaces)],
        )
        return {row[0] for row in rows}

    def _of(self, info: RepoInfo) -> Dataset:
        rows = self._catalog.query(f"{_SELECT} WHERE r.key = ?", [MAIN, info.key])
        return _dataset(rows[0])


def _dataset(row: tuple[Any, ...]) -> Dataset:
    namespace, name, private, offered_by, created, modified, commit = row
    return Dataset(
        name=f"{namespace}/{name}", team=namespace, private=private, offered=offered_by is not None,
        offered_by=offered_by, created_at=timestamp(from_db(created).timestamp()),
        modified_at=timestamp(from_db(modified).timestamp()), commit=commit,
    )  # fmt: skip
