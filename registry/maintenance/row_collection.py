"""Removes commits and trees that nothing reaches any more: what a squash or a deleted branch or repo left behind.

A commit is needed if a ref leads to it, if any other table, or a record that a table names, mentions its id (lineage,
decisions, statements, discussions), or if a commit that is needed has it among its ancestors. A tree is needed while a
commit names it. What is not needed is marked when a collection first sees it (`unreached`), and goes when it has been
so for the grace period: whoever was just looking at an old revision, or puts a branch back to it, finds it there.

Every removal is one transaction for one repo, which looks at the refs once more; a process that dies in between leaves
rows that the next collection finds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from registry.blobs.blobs import BlobStore
from registry.catalog.catalog import Catalog, to_db
from registry.catalog.cursor import Cursor
from registry.maintenance.fsck_report import Progress, silent
from registry.maintenance.references import mentions
from registry.types import Digest

_SHORT: Final = 40  # clients, and what they leave in discussions, know commits by so many characters
_BATCH: Final = 5000
# A set of commits that is not reached has a newest one, which no ref names and no commit has as its parent.
_LOOSE: Final = (
    "SELECT DISTINCT c.repo FROM commits c ANTI JOIN refs f ON f.commit = c.id AND f.repo = c.repo "
    "ANTI JOIN commits p ON p.parent = c.id ORDER BY c.repo"
)
_ORPHANS: Final = "SELECT t.digest FROM trees t ANTI JOIN commits c ON c.tree = t.digest"


@dataclass(frozen=True, slots=True)
class RowsCollected:
    """What a collection of rows removed, or would."""

    commits: int
    trees: int


def collect_rows(
    catalog: Catalog, blobs: BlobStore, grace: timedelta, *, dry_run: bool = False, progress: Progress = silent
) -> RowsCollected:
    """Mark what nothing reaches, and remove what has been marked for longer than `grace`.

    Raises BlobStoreError, CatalogError; what is left over then, the next collection removes.
    """
    now = datetime.now(UTC)
    before = to_db(now - grace)
    repos = [row[0] for row in catalog.query(_LOOSE)]
    named = _named(catalog, blobs) if repos else frozenset()
    loose: dict[int, set[Digest]] = {}
    for key in repos:
        with catalog.read() as tx:
            if found := _unreached(tx, key, named):
                loose[key] = found
    if not dry_run:
        _mark(catalog, "commit", [commit for each in loose.values() for commit in each], now)
    commits = 0
    for at, (key, found) in enumerate(loose.items()):
        progress("histories", at, len(loose))
        if dry_run:
            with catalog.read() as tx:
                commits += len(found - _still_needed(tx, key, _young(tx, before)))
        else:
            commits += _remove_commits(catalog, key, named, before)
    return RowsCollected(commits, _collect_trees(catalog, before, now, dry_run=dry_run, progress=progress))


def _named(catalog: Catalog, blobs: BlobStore) -> frozenset[str]:
    """The first characters of every id that evidence may mean."""
    with catalog.read() as tx:
        return frozenset(word[:_SHORT] for word in mentions(tx, blobs, least=_SHORT))


def _unreached(tx: Cursor, key: int, named: Collection[str]) -> set[Digest]:
    """The commits of a repo that neither refs nor evidence lead to."""
    parents = _parents(tx, key)
    roots = {row[0] for row in tx.execute("SELECT commit FROM refs WHERE repo = ?", [key]).fetchall()}
    roots |= {commit for commit in parents if commit[:_SHORT] in named}
    return parents.keys() - _ancestry(parents, roots)


def _parents(tx: Cursor, key: int) -> dict[Digest, Digest | None]:
    return dict(tx.execute("SELECT id, parent FROM commits WHERE repo = ?", [key]).fetchall())


def _ancestry(parents: Mapping[Digest, Digest | None], roots: Iterable[Digest]) -> set[Digest]:
    """These commits and all that lie below them."""
    seen: set[Digest] = set()
    for root in roots:
        at: Digest | None = root
        while at is not None and at not in seen and at in parents:
            seen.add(at)
            at = parents[at]
    return seen


def _young(tx: Cursor, before: datetime) -> set[Digest]:
    """Commits that were reached not long ago."""
    rows = tx.execute("SELECT id FROM unreached WHERE kind = 'commit' AND since > ?", [before]).fetchall()
    return {row[0] for row in rows}


def _still_needed(tx: Cursor, key: int, young: Collection[Digest]) -> set[Digest]:
    """The young of a repo, those that have no mark yet, and what lies below them."""
    parents = _parents(tx, key)
    rows = tx.execute("SELECT id FROM unreached WHERE kind = 'commit'").fetchall()
    marked = {row[0] for row in rows}
    return _ancestry(parents, [commit for commit in parents if commit in young or commit not in marked])


def _remove_commits(catalog: Catalog, key: int, named: Collection[str], before: datetime) -> int:
    with catalog.write() as tx:
        gone = _unreached(tx, key, named)
        gone -= _still_needed(tx, key, _young(tx, before))
        listed = [[*gone]]
        for table, column in (("artifacts", "revision"), ("stage_variants", "commit"), ("statements", "commit")):
            # Evidence that was written since we looked.
            rows = tx.execute(
                f"SELECT {column} FROM {table} WHERE {column} IN (SELECT unnest(?::VARCHAR[]))",  # noqa: S608
                listed,
            ).fetchall()
            gone -= _ancestry(_parents(tx, key), [row[0] for row in rows])
        if not gone:
            return 0
        listed = [[*gone]]
        # Their trees were marked with them, in effect: nothing else named them meanwhile, or they stay.
        tx.execute(
            "INSERT OR IGNORE INTO unreached SELECT DISTINCT 'tree', tree, TIMESTAMP '1970-01-01' FROM commits "
            "WHERE id IN (SELECT unnest(?::VARCHAR[]))",
            listed,
        )
        tx.execute("DELETE FROM commits WHERE id IN (SELECT unnest(?::VARCHAR[]))", listed)
        tx.execute("DELETE FROM unreached WHERE kind = 'commit' AND id IN (SELECT unnest(?::VARCHAR[]))", listed)
        # What the repo's history holds no more, nobody possesses by reading it.
        tx.execute(
            "DELETE FROM repo_blobs WHERE repo = ? AND sha256 NOT IN (SELECT unnest(p.sha256s) FROM tree_pages p "
            "WHERE p.digest IN (SELECT unnest(t.pages) FROM trees t WHERE t.digest IN "
            "(SELECT tree FROM commits WHERE repo = ?)))",
            [key, key],
        )
    return len(gone)


def _collect_trees(catalog: Catalog, before: datetime, now: datetime, *, dry_run: bool, progress: Progress) -> int:
    orphans = [row[0] for row in catalog.query(_ORPHANS)]
    if not dry_run:
        _mark(catalog, "tree", orphans, now)
    ripe = [
        row[0]
        for row in catalog.query(
            f"SELECT o.digest FROM ({_ORPHANS}) o SEMI JOIN unreached u "  # noqa: S608  # constants
            "ON u.id = o.digest AND u.kind = 'tree' AND u.since <= ?",
            [before],
        )
    ]
    if dry_run:
        return len(ripe)
    count = 0
    for at in range(0, len(ripe), _BATCH):
        progress("trees", at, len(ripe))
        with catalog.write() as tx:
            tx.execute(
                "CREATE OR REPLACE TEMP TABLE gc_trees AS SELECT t.digest, t.pages FROM trees t "
                "SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS digest) r ON r.digest = t.digest "
                "ANTI JOIN commits c ON c.tree = t.digest",
                [ripe[at : at + _BATCH]],
            )
            tx.execute("DELETE FROM trees WHERE digest IN (SELECT digest FROM gc_trees)")
            tx.execute("DELETE FROM unreached WHERE kind = 'tree' AND id IN (SELECT digest FROM gc_trees)")
            # Pages are shared by the trees of all repos.
            tx.execute(
                "DELETE FROM tree_pages WHERE digest IN (SELECT unnest(pages) FROM gc_trees "
                "EXCEPT SELECT unnest(pages) FROM trees)"
            )
            row = tx.execute("SELECT count(*) FROM gc_trees").fetchone()
            tx.execute("DROP TABLE gc_trees")
        count += int(row[0]) if row else 0
    return count


def _mark(catalog: Catalog, kind: str, ids: list[str], now: datetime) -> None:
    """These, and no others of their kind, are not reached: since now, if they have no mark yet."""
    if not ids and not catalog.query("SELECT 1 FROM unreached WHERE kind = ? LIMIT 1", [kind]):
        return
    with catalog.write() as tx:
        tx.execute(
            "DELETE FROM unreached WHERE kind = ? AND id NOT IN (SELECT unnest(?::VARCHAR[]))",
            [kind, ids],
        )
        tx.execute(
            "INSERT OR IGNORE INTO unreached SELECT ?, unnest(?::VARCHAR[]), ?",
            [kind, ids, to_db(now)],
        )
