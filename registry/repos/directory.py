"""The directory of repos: finding one by whatever it is or was called, its settings, and searching among all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from registry.catalog.catalog import Catalog, from_db
from registry.catalog.cursor import Cursor
from registry.errors import InvalidValueError, RepoExistsError, RepoInUseError, RepoNotFoundError
from registry.repos import listing_cache
from registry.repos import repo_rows as rows_
from registry.repos.cards import Card
from registry.repos.changes import RepoChange
from registry.repos.repos import Repos
from registry.types import Digest, Gating, RepoId, RepoInfo, RepoType

_STANDING = "SELECT 1 FROM stage_variants WHERE starts_with(variant, ?)"
Order = Literal["name", "created", "modified"]
_ORDER: dict[Order, str] = {
    "name": "lower(p.namespace || '/' || p.name), p.key",
    "created": "p.created_at DESC, p.key DESC",
    "modified": "p.modified DESC, p.key DESC",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A repo that was looked for; `moved` says that it was asked for by a name that it no longer has."""

    info: RepoInfo
    moved: bool


@dataclass(frozen=True, slots=True)
class Readers:
    """Whose eyes a search has: private repos show only in these namespaces (lower case), or everywhere."""

    namespaces: frozenset[str] = frozenset()
    everything: bool = False
    also: frozenset[str] = frozenset()
    """Further private repos that show, as `type/namespace/name` in lower case."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A repo in a listing: `head` is the commit of `main`, `modified` its time, or the repo's own without one.

    `card` is what that commit says of itself.
    """

    info: RepoInfo
    head: Digest | None
    modified: datetime
    card: Card = Card()  # noqa: RUF009  # frozen


class Directory:
    """All repos of a registry. Use from any number of threads."""

    def __init__(self, catalog: Catalog, repos: Repos) -> None:
        self._catalog = catalog
        self._repos = repos
        self.configured_hooks: list[Callable[[Cursor, RepoInfo], None]] = []
        """Called after settings changed, within the transaction."""

    def find(self, repo: RepoId) -> Found:
        """The repo of this name in any case, also one that had the name before it was moved.

        Raises RepoNotFoundError.
        """
        rows = self._catalog.query(
            f"SELECT {rows_.INFO} FROM repos WHERE key = (SELECT repo FROM repo_handles WHERE handle = ?)",  # noqa: S608
            [rows_.handle_of(repo)],
        )
        if not rows:
            raise RepoNotFoundError(repo)
        info = rows_.info_of_row(rows[0])
        return Found(info, moved=rows_.handle_of(info.id) != rows_.handle_of(repo))

    def of_key(self, key: int) -> RepoInfo | None:
        """The repo with this key, whatever its name is now; None if it was deleted."""
        rows = self._catalog.query(f"SELECT {rows_.INFO} FROM repos WHERE key = ?", [key])  # noqa: S608  # constants
        return rows_.info_of_row(rows[0]) if rows else None

    def move(self, repo: RepoId, target: RepoId) -> RepoInfo:
        """Rename; the old name goes on leading to the repo until another one is created under it.

        Raises RepoNotFoundError, RepoExistsError, InvalidValueError for another type, and what a delete guard
        raises; RepoInUseError while robots are served from it, or a variant of it has a stage.
        """
        if repo.type != target.type:
            raise InvalidValueError("repo", str(target), f"a {repo.type} cannot become a {target.type}")
        with self._catalog.write() as tx:
            key = rows_.key_of(tx, repo)
            for guard in self._repos.delete_guards:
                guard(tx, repo)
            if repo.type == "model" and tx.execute(_STANDING, [f"{repo}@"]).fetchone():
                raise RepoInUseError(repo, "decisions name its variants by this name", verb="moved")
            row = tx.execute(
                f"SELECT {rows_.INFO} FROM repos WHERE key = (SELECT repo FROM repo_handles WHERE handle = ?)",  # noqa: S608
                [rows_.handle_of(target)],
            ).fetchone()
            if row is not None:
                other = rows_.info_of_row(row)
                if other.key != key and rows_.handle_of(other.id) == rows_.handle_of(target):
                    raise RepoExistsError(target)
                tx.execute("DELETE FROM repo_handles WHERE handle = ?", [rows_.handle_of(target)])
            tx.execute("INSERT INTO repo_handles VALUES (?, ?)", [rows_.handle_of(target), key])
            tx.execute("UPDATE repos SET namespace = ?, name = ? WHERE key = ?", [target.namespace, target.name, key])
            self._repos.tell(tx, RepoChange("renamed", target, before=repo))
        return self._repos.get(target)

    def configure(self, repo: RepoId, *, private: bool | None = None, gated: Gating | None = None) -> RepoInfo:
        """Change settings; None leaves one as it is. Raises RepoNotFoundError, InvalidValueError."""
        if gated is not None and gated not in get_args(Gating):
            raise InvalidValueError("gated", gated, f"must be one of {', '.join(get_args(Gating))}")
        with self._catalog.write() as tx:
            key = rows_.key_of(tx, repo)
            tx.execute(
                "UPDATE repos SET private = coalesce(?, private), gated = coalesce(?, gated) WHERE key = ?",
                [private, gated, key],
            )
            row = tx.execute(rows_.REPO, rows_.names_of(repo)).fetchone()
            assert row is not None  # noqa: S101  # its key was found above
            for hook in self.configured_hooks:
                hook(tx, rows_.info_of_row(row))
            self._repos.tell(tx, RepoChange("settings", repo))
        return self._repos.get(repo)

    def search(
        self,
        type: RepoType,
        *,
        readers: Readers,
        terms: Sequence[str] = (),
        namespace: str | None = None,
        gated: bool | None = None,
        tags: Sequence[str] = (),
        pipeline_tag: str | None = None,
        order: Order = "name",
        limit: int = 100,
        offset: int = 0,
    ) -> list[Listed]:
        """Repos that `readers` may see whose `namespace/name` holds all `terms`, in any case: one statement.

        Their cards have all the `tags`, in any case, and this `pipeline_tag`. Times sort newest first. Raises
        InvalidValueError for another order.
        """
        if order not in _ORDER:
            raise InvalidValueError("order", order, f"must be one of {', '.join(_ORDER)}")
        conditions = ["r.type = ?"]
        params: list[object] = [type]
        if not readers.everything:
            conditions.append(
                "(NOT r.private OR lower(r.namespace) IN (SELECT unnest(?::VARCHAR[]))"
                " OR lower(r.type || '/' || r.namespace || '/' || r.name) IN (SELECT unnest(?::VARCHAR[])))"
            )
            params += [sorted(readers.namespaces), sorted(readers.also)]
        for term in terms:
            conditions.append("contains(lower(r.namespace || '/' || r.name), ?)")
            params.append(term.lower())
        if namespace is not None:
            conditions.append("lower(r.namespace) = ?")
            params.append(namespace.lower())
        if gated is not None:
            conditions.append(f"r.gated {'<>' if gated else '='} 'no'")
        for tag in dict.fromkeys(each.lower() for each in tags):
            conditions.append("r.key IN (SELECT repo FROM repo_tags WHERE tag = ?)")
            params.append(tag)
        if pipeline_tag is not None:
            conditions.append("h.pipeline_tag = ?")
            params.append(pipeline_tag)
        columns = ", ".join(f"r.{column}" for column in rows_.INFO.split(", "))
        # The page is cut before cards are read: they are most of the bytes.
        rows = self._catalog.query(
            f"WITH found AS (SELECT {columns}, h.commit, coalesce(h.modified, r.created_at) AS modified "  # noqa: S608
            "FROM repos r LEFT JOIN repo_heads h ON h.repo = r.key "
            f"WHERE {' AND '.join(conditions)}), "
            f"page AS MATERIALIZED (SELECT * FROM found p ORDER BY {_ORDER[order]} LIMIT ? OFFSET ?) "
            "SELECT p.*, h.tags, h.pipeline_tag, h.library_name, h.card FROM page p "
            f"LEFT JOIN repo_heads h ON h.repo = p.key ORDER BY {_ORDER[order]}",
            [*params, limit, offset],
        )
        return [
            Listed(
                rows_.info_of_row(row[:7]),
                row[7],
                from_db(row[8]),
                Card() if row[7] is None else listing_cache.card_of_row(*row[9:]),
            )
            for row in rows
        ]

    def head(self, key: int) -> tuple[Digest, Card] | None:
        """The newest commit of a repo's main branch and its card; None if nothing was committed to it."""
        rows = self._catalog.query(
            "SELECT commit, tags, pipeline_tag, library_name, card FROM repo_heads WHERE repo = ?", [key]
        )
        return (rows[0][0], listing_cache.card_of_row(*rows[0][1:])) if rows else None

    def holders(self, sha256: Digest) -> tuple[tuple[RepoInfo, int], ...]:
        """The repos whose history holds a blob, each with the blob's size in bytes."""
        found = self._catalog.query("SELECT repo, size FROM repo_blobs WHERE sha256 = ?", [sha256])
        sizes = dict(found)
        if not sizes:
            return ()
        rows = self._catalog.query(
            f"SELECT {rows_.INFO} FROM repos WHERE key IN (SELECT unnest(?::BIGINT[]))",  # noqa: S608
            [list(sizes)],
        )
        return tuple((info, sizes[info.key]) for info in map(rows_.info_of_row, rows))
