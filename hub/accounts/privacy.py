"""Privacy follows the data: what was made for a cell is as private as the most private dataset it was made of.

A variant's report holds photographs, its predictions labels, its lineage names. A cell's sources are the datasets that
its jobs read. While one of them is private (or gated), the repository of the cell is private, and its variants,
reports, lineage, evaluations and decisions exist for those alone who may see all of these datasets. The state of the
datasets counts as it is now; of a dataset that was deleted, as it was then.
"""

from __future__ import annotations

from collections.abc import Iterable

from hub.accounts.tokens import Identity, Kind
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.registry import Registry
from registry.repos.repo_rows import handle_of
from registry.types import RepoId, RepoInfo

CELLS = "cells"
"""The namespace of the cells' repositories."""
_NOW = (
    "now AS (SELECT s.cell, coalesce(r.private OR r.gated <> 'no', s.private) AS private,"
    " coalesce(lower(r.namespace), s.namespace) AS namespace"
    " FROM hub_cell_sources s LEFT JOIN repos r ON r.key = s.repo),"
    " needed AS (SELECT cell, list(DISTINCT namespace) AS namespaces FROM now WHERE private GROUP BY cell)"
)
_OURS = "type = 'model' AND lower(namespace) = 'cells'"


class CellPrivacy:
    """Which cells' things exist for whom. Use from any number of threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def watch(self, registry: Registry) -> None:
        """Follow what happens to repositories, each change within its own transaction."""
        registry.repos.created_hooks.append(self._created)
        registry.repos.delete_guards.append(self._deleting)
        registry.directory.configured_hooks.append(self._configured)

    def hidden(self, who: Identity | None) -> frozenset[str]:
        """The cells whose variants, reports, lineage, evaluations and decisions do not exist for `who`."""
        if who is not None and who.sees_all:
            return frozenset()
        mine = sorted(who.namespaces) if who is not None else []
        rows = self._catalog.query(
            f"WITH {_NOW} SELECT cell FROM needed WHERE NOT list_has_all(?::VARCHAR[], namespaces) UNION"  # noqa: S608
            f" SELECT r.name FROM repos r LEFT JOIN hub_cells c ON c.name = r.name WHERE r.{_OURS} AND r.private"
            " AND r.name NOT IN (SELECT cell FROM needed) AND NOT coalesce(list_contains(?::VARCHAR[], c.team), false)",
            [mine, mine],
        )
        return frozenset(row[0] for row in rows)

    def sees(self, who: Identity | None, cell: str) -> bool:
        """Whether the variants of the cell exist for `who`."""
        return cell not in self.hidden(who)

    def listed(self, who: Identity | None) -> frozenset[str]:
        """The private repositories of cells that `who` sees all the same, as `model/cells/<name>`."""
        if who is None or who.kind not in (Kind.PERSON, Kind.TEAM):
            return frozenset()
        rows = self._catalog.query(f"SELECT name FROM repos WHERE {_OURS} AND private")  # noqa: S608  # constants
        return frozenset(f"model/{CELLS}/{name}".lower() for name in {row[0] for row in rows} - self.hidden(who))

    def workplaces(self, who: Identity) -> frozenset[str] | None:
        """The cells whose production `who` may look at: frames, outcomes, roll-outs. None: all of them.

        Those of one's teams, whose robots they are, and of the cells without a team those whose variants one sees.
        """
        if who.sees_all:
            return None
        rows = self._catalog.query(
            "SELECT name, team FROM hub_cells WHERE team IS NULL OR list_contains(?::VARCHAR[], team)",
            [sorted(who.namespaces)],
        )
        if who.kind not in (Kind.PERSON, Kind.TEAM):
            return frozenset()
        hidden = self.hidden(who)
        return frozenset(name for name, team in rows if team is not None or name not in hidden)

    def works_in(self, who: Identity, cell: str | None) -> bool:
        """Whether `who` may look at the production of the cell; of frames without a cell the operator alone."""
        places = self.workplaces(who)
        return places is None or (cell is not None and cell in places)

    def secret_datasets(self, names: Iterable[str], who: Identity) -> frozenset[str]:
        """Those of these datasets (`team/name`) that are or were private, and not `who`'s to see."""
        wanted = sorted({name.lower() for name in names if name})
        if who.sees_all or not wanted:
            return frozenset()
        rows = self._catalog.query(
            "SELECT lower(namespace || '/' || name) FROM repos WHERE type = 'dataset' AND (private OR gated <> 'no')"
            " AND lower(namespace || '/' || name) IN (SELECT unnest(?::VARCHAR[]))"
            " AND NOT list_contains(?::VARCHAR[], lower(namespace))"
            " UNION SELECT s.dataset FROM hub_cell_sources s LEFT JOIN repos r ON r.key = s.repo WHERE r.key IS NULL"
            " AND s.private AND s.dataset IN (SELECT unnest(?::VARCHAR[]))"
            " AND NOT list_contains(?::VARCHAR[], s.namespace)",
            [wanted, sorted(who.namespaces)] * 2,
        )
        return frozenset(row[0] for row in rows)

    # What happens to repositories

    def record(self, tx: Cursor, cell: str, datasets: Iterable[str]) -> None:
        """A job that begins will write to the cell's repository what it read in these datasets."""
        for dataset in sorted({name.lower() for name in datasets}):
            row = tx.execute(
                "SELECT r.key, lower(r.namespace), r.private OR r.gated <> 'no' FROM repos r WHERE r.key ="
                " (SELECT repo FROM repo_handles WHERE handle = ?)",
                [f"dataset/{dataset}"],
            ).fetchone()
            key, namespace, private = row or (None, dataset.partition("/")[0], True)
            tx.execute(
                "INSERT INTO hub_cell_sources SELECT ?, ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM hub_cell_sources"
                " WHERE cell = ? AND dataset = ? AND repo IS NOT DISTINCT FROM ?)",
                [cell, dataset, key, namespace, private, cell, dataset, key],
            )
        self._follow(tx, cell)

    def _created(self, tx: Cursor, info: RepoInfo) -> None:
        if info.id.type == "model" and info.id.namespace.lower() == CELLS:
            self._follow(tx, info.id.name)

    def _configured(self, tx: Cursor, info: RepoInfo) -> None:
        if info.id.type == "model":
            self._created(tx, info)
        else:
            for (cell,) in tx.execute(
                "SELECT DISTINCT cell FROM hub_cell_sources WHERE repo = ?", [info.key]
            ).fetchall():
                self._follow(tx, cell)

    def _deleting(self, tx: Cursor, repo: RepoId) -> None:
        """What a dataset was when it went is what counts of it from then on. Also called before it is renamed."""
        row = tx.execute(
            "SELECT key, lower(namespace), private OR gated <> 'no' FROM repos WHERE key ="
            " (SELECT repo FROM repo_handles WHERE handle = ?)",
            [handle_of(repo)],
        ).fetchone()
        if row is not None:
            tx.execute(
                "UPDATE hub_cell_sources SET namespace = ?, private = ? WHERE repo = ?", [row[1], row[2], row[0]]
            )
            tx.execute("DELETE FROM hub_closed_repos WHERE repo = ? AND ? = 'model'", [row[0], repo.type])

    def _follow(self, tx: Cursor, cell: str) -> None:
        """Make the cell's repository private if a source is, and public again if it was private for that alone."""
        row = tx.execute(f"SELECT key, private FROM repos WHERE {_OURS} AND name = ?", [cell]).fetchone()  # noqa: S608
        if row is None:
            return
        key, private = row
        needed = tx.execute(f"WITH {_NOW} SELECT 1 FROM needed WHERE cell = ?", [cell]).fetchone() is not None  # noqa: S608
        closed = tx.execute("SELECT 1 FROM hub_closed_repos WHERE repo = ?", [key]).fetchone() is not None
        if needed and not private:
            tx.execute("UPDATE repos SET private = true WHERE key = ?", [key])
            tx.execute("INSERT OR IGNORE INTO hub_closed_repos VALUES (?)", [key])
        elif private and closed and not needed:
            tx.execute("UPDATE repos SET private = false WHERE key = ?", [key])
            tx.execute("DELETE FROM hub_closed_repos WHERE repo = ?", [key])
