"""Whether the rows of the catalog agree with one another: each check is one statement that gives what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from registry.catalog import indexes as catalog_indexes
from registry.catalog.cursor import Cursor
from registry.errors import CatalogError
from registry.maintenance.fsck_report import Progress, Report

_REPO: Final = "coalesce(r.type || ' ' || r.namespace || '/' || r.name, 'repo ' || x.repo)"


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A statement that gives (name, detail) of every row of `table` that is wrong."""

    kind: str
    table: str
    sql: str


CHECKS: Final = (
    RowCheck(
        "ref-repo",
        "refs",
        "SELECT x.kind || ' ' || x.name, 'belongs to repo ' || x.repo || ', which is not there' FROM refs x "
        "LEFT JOIN repos r ON r.key = x.repo WHERE r.key IS NULL",
    ),
    RowCheck(
        "ref-commit",
        "refs",
        f"SELECT {_REPO} || ' ' || x.kind || ' ' || x.name, 'names commit ' || x.commit || ', which is not there' "  # noqa: S608
        "FROM refs x LEFT JOIN repos r ON r.key = x.repo LEFT JOIN commits c ON c.id = x.commit AND c.repo = x.repo "
        "WHERE c.id IS NULL",
    ),
    RowCheck(
        "commit-repo",
        "commits",
        "SELECT x.id, 'belongs to repo ' || x.repo || ', which is not there' FROM commits x "
        "LEFT JOIN repos r ON r.key = x.repo WHERE r.key IS NULL",
    ),
    RowCheck(
        "commit-parent",
        "commits",
        f"SELECT x.id, 'of ' || {_REPO} || ': its parent ' || x.parent || ' is not there' FROM commits x "  # noqa: S608
        "LEFT JOIN repos r ON r.key = x.repo LEFT JOIN commits p ON p.id = x.parent AND p.repo = x.repo "
        "WHERE x.parent IS NOT NULL AND p.id IS NULL",
    ),
    RowCheck(
        "commit-depth",
        "commits",
        f"SELECT x.id, 'of ' || {_REPO} || ': has depth ' || x.depth || ', not one more than its parent' "  # noqa: S608
        "FROM commits x LEFT JOIN repos r ON r.key = x.repo LEFT JOIN commits p ON p.id = x.parent "
        "WHERE x.depth <> coalesce(p.depth, 0) + 1",
    ),
    RowCheck(
        "commit-tree",
        "commits",
        f"SELECT x.id, 'of ' || {_REPO} || ': its tree ' || x.tree || ' is not there' FROM commits x "  # noqa: S608
        "LEFT JOIN repos r ON r.key = x.repo LEFT JOIN trees t ON t.digest = x.tree WHERE t.digest IS NULL",
    ),
    RowCheck(
        "tree-page",
        "trees",
        "SELECT x.digest, 'its page ' || x.page || ' is not there' "
        "FROM (SELECT digest, unnest(pages) AS page FROM trees) x "
        "LEFT JOIN tree_pages p ON p.digest = x.page WHERE p.digest IS NULL",
    ),
    RowCheck(
        "repo-handle",
        "repos",
        "SELECT r.type || ' ' || r.namespace || '/' || r.name, 'cannot be found by its name' FROM repos r "
        "LEFT JOIN repo_handles h ON h.handle = lower(r.type || '/' || r.namespace || '/' || r.name) "
        "AND h.repo = r.key WHERE h.repo IS NULL",
    ),
    RowCheck(
        "repo-handle",
        "repo_handles",
        "SELECT x.handle, 'leads to repo ' || x.repo || ', which is not there' FROM repo_handles x "
        "LEFT JOIN repos r ON r.key = x.repo WHERE r.key IS NULL",
    ),
    RowCheck(
        "repo-blobs",
        "repo_blobs",
        f"SELECT {_REPO}, count(*) || ' blobs of its history are not noted, such as ' || min(x.sha256) FROM ("  # noqa: S608
        "SELECT DISTINCT c.repo, unnest(p.sha256s) AS sha256 FROM (SELECT repo, unnest(t.pages) AS page FROM "
        "(SELECT DISTINCT repo, tree FROM commits) c JOIN trees t ON t.digest = c.tree) c "
        "JOIN tree_pages p ON p.digest = c.page) x LEFT JOIN repos r ON r.key = x.repo "
        "ANTI JOIN repo_blobs b ON b.repo = x.repo AND b.sha256 = x.sha256 GROUP BY 1",
    ),
    RowCheck(
        "repo-head",
        "repo_heads",
        f"SELECT {_REPO}, 'is listed with commit ' || x.commit || ', not ' || coalesce(f.commit, 'none') "  # noqa: S608
        "FROM repo_heads x LEFT JOIN repos r ON r.key = x.repo "
        "LEFT JOIN refs f ON f.repo = x.repo AND f.name = 'main' AND f.kind = 'branch' "
        "WHERE f.commit IS DISTINCT FROM x.commit",
    ),
    RowCheck(
        "repo-head",
        "refs",
        f"SELECT {_REPO}, 'has a main branch that no listing shows' FROM refs x LEFT JOIN repos r ON r.key = x.repo "  # noqa: S608
        "ANTI JOIN repo_heads h ON h.repo = x.repo WHERE x.name = 'main' AND x.kind = 'branch'",
    ),
    RowCheck(
        "lineage-artifact",
        "lineage",
        "SELECT x.relation || ' ' || x.child || ' -> ' || x.parent, 'an end of this edge is not there' FROM lineage x "
        "WHERE x.child NOT IN (SELECT key FROM artifacts) OR x.parent NOT IN (SELECT key FROM artifacts)",
    ),
    RowCheck(
        "decision-record",
        "decisions",
        "SELECT x.id, 'of cell ' || x.cell || ': its record has another digest' FROM decisions x "
        "WHERE sha256(x.record) <> x.id",
    ),
    RowCheck(
        "stage-decision",
        "stage_variants",
        "SELECT x.cell || ' ' || x.variant, 'rests on decision ' || x.decision || ', which is not there' "
        "FROM stage_variants x LEFT JOIN decisions d ON d.id = x.decision WHERE d.id IS NULL",
    ),
    RowCheck(
        "stage-commit",
        "stage_variants",
        "SELECT x.cell || ' ' || x.variant, 'is commit ' || x.commit || ', which is not there' "
        "FROM stage_variants x LEFT JOIN commits c ON c.id = x.commit WHERE c.id IS NULL",
    ),
    RowCheck(
        "stage-decision",
        "stage_holds",
        "SELECT x.cell || ' ' || x.stage, 'hold ' || x.number || ' rests on decision ' || x.decision || "
        "', which is not there' FROM stage_holds x LEFT JOIN decisions d ON d.id = x.decision WHERE d.id IS NULL",
    ),
    RowCheck(
        "xet-run",
        "xet_files",
        "SELECT DISTINCT x.hash, 'its bytes are in xorb ' || x.xorb || ', which is not stored' FROM "
        "(SELECT hash, unnest(xorbs) AS xorb FROM xet_files) x "
        "LEFT JOIN xet_xorbs o ON o.key = x.xorb AND o.state = 'stored' WHERE o.key IS NULL",
    ),
    RowCheck(
        "xet-run",
        "xet_files",
        "SELECT DISTINCT x.hash, 'a term names chunk ' || x.stop || ' of ' || o.chunks || ' of xorb ' || o.hash FROM "
        "(SELECT hash, unnest(xorbs) AS xorb, unnest(starts) AS start, unnest(ends) AS stop FROM xet_files) x "
        "JOIN xet_xorbs o ON o.key = x.xorb WHERE x.stop > o.chunks OR x.start >= x.stop OR x.start < 0",
    ),
    RowCheck(
        "xet-size",
        "xet_files",
        "SELECT hash, 'its terms have ' || coalesce(list_sum(lengths), 0) || ' bytes, not ' || size FROM xet_files "
        "WHERE coalesce(list_sum(lengths), 0) <> size OR len(starts) <> len(xorbs) OR len(ends) <> len(xorbs)",
    ),
    RowCheck(
        "xet-registration",
        "xet_files",
        "SELECT x.hash, 'nobody knows when it was registered' FROM xet_files x "
        "LEFT JOIN xet_registrations g ON g.file = x.hash WHERE g.file IS NULL",
    ),
    RowCheck(
        "xet-registration",
        "xet_registrations",
        "SELECT x.file, 'is registered, and not there' FROM xet_registrations x "
        "LEFT JOIN xet_files f ON f.hash = x.file WHERE f.hash IS NULL",
    ),
)


def check_indexes(tx: Cursor, report: Report, progress: Progress) -> None:
    """Whether every index finds every row; a quick report looks for those that were written last."""
    indexes = catalog_indexes.secondary(tx)
    for at, index in enumerate(indexes):
        progress("indexes", at, len(indexes))
        found = catalog_indexes.lost(tx, index, quick=report.quick)
        if found is not None:
            said = f"does not find {found.rows} rows of {index.table}, such as {index.column} {found.value!r}"
            report.add("index-lost", index.name, f"{said}; `parcelhub registry reindex` makes it anew from the rows")
    report.saw("indexes", len(indexes))
    progress("indexes", len(indexes), len(indexes))


def check_rows(tx: Cursor, report: Report, progress: Progress) -> None:
    """Run all checks, in one transaction; a check that cannot be run is a finding."""
    tables = sorted({check.table for check in CHECKS} | {"tree_pages", "artifacts", "xet_xorbs"})
    for at, table in enumerate(tables):
        progress("rows", at, len(tables))
        try:
            row = tx.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608  # one of our own names
            report.saw(table, int(row[0]) if row else 0)
            for check in CHECKS:
                if check.table == table:
                    for name, detail in tx.execute(check.sql).fetchall():
                        report.add(check.kind, str(name), str(detail))
        except CatalogError as error:
            report.add("catalog-unreadable", table, str(error).partition("\n")[0])
    progress("rows", len(tables), len(tables))
