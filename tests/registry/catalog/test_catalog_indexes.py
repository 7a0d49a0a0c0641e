"""A killed process costs no index its rows, and an index that lost some is found and made anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from registry import Catalog, MigrationSet
from registry.catalog import indexes
from registry.catalog.indexes import secondary
from registry.errors import CatalogBrokenError
from registry.maintenance.fsck_report import Report, silent
from registry.maintenance.fsck_rows import check_indexes

ROWS, LATER = 300, 20
TABLES = MigrationSet(
    "t",
    (
        """
        CREATE TABLE files (name VARCHAR PRIMARY KEY, sha256 VARCHAR NOT NULL, parts BIGINT[] NOT NULL);
        CREATE INDEX files_by_sha256 ON files (sha256);
        CREATE INDEX files_by_both ON files (name, sha256);
        CREATE TABLE others (name VARCHAR PRIMARY KEY);
        """,
    ),
)
# What each process does before it is killed, with a catalog in its hands or with DuckDB's bare file.
OPEN = """
import os, sys
from pathlib import Path
from registry import Catalog
from tests.registry.catalog.test_catalog_indexes import TABLES
catalog = Catalog.open(Path(sys.argv[1]), (TABLES,))
execute = lambda sql: catalog._connection.execute(sql)
"""
BARE = """
import os, sys, duckdb
execute = duckdb.connect(sys.argv[1]).execute
"""
FILES = "for k in range({}, {}): execute(f\"INSERT INTO files VALUES ('n{{k}}', 's{{k}}', [{{k}}])\")"
OTHERS = """
execute("SET checkpoint_threshold = '1KB'")
for k in range(100): execute(f"INSERT INTO others VALUES ('o{k}')")
"""
KILL = "os.kill(os.getpid(), 9)"


def process(how: str, path: Path, *work: str) -> None:
    """Run the work on the catalog, and be killed."""
    code = "\n".join((how, *work, KILL))
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[3], capture_output=True, check=False
    )
    assert done.returncode == -9, done.stderr.decode()


def through_the_kill(path: Path, how: str) -> None:
    """Rows that are safe in the file, rows that are only in the log, and a checkpoint that looks at another table."""
    process(OPEN, path, FILES.format(0, ROWS), "execute('CHECKPOINT')")
    process(how, path, FILES.format(ROWS, ROWS + LATER))
    process(how, path, OTHERS)


def not_found(path: Path) -> list[int]:
    """The files that a lookup by sha256 does not find; by DuckDB alone, which mends nothing."""
    with duckdb.connect(str(path)) as raw:
        (counted,) = raw.execute("SELECT count(*) FROM files").fetchone() or (0,)
        assert counted == ROWS + LATER, "no row is lost"
        found = (raw.execute("SELECT name FROM files WHERE sha256 = ?", [f"s{k}"]).fetchall() for k in range(counted))
        return [k for k, rows in enumerate(found) if not rows]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A catalog as DuckDB leaves it by itself."""
    path = tmp_path / "catalog.duckdb"
    through_the_kill(path, BARE)
    if not not_found(path):
        pytest.skip("this DuckDB keeps its indexes by itself")
    return path


@pytest.mark.slow
def test_a_kill_costs_no_index_its_rows(tmp_path):
    path = tmp_path / "catalog.duckdb"
    through_the_kill(path, OPEN)
    assert not_found(path) == []


@pytest.mark.slow
@pytest.mark.parametrize("quick", [True, False])
def test_an_index_that_lost_rows_is_named_and_made_anew(damaged, quick, monkeypatch):
    monkeypatch.setattr(Catalog, "_mend_indexes", lambda _: None)
    with Catalog.open(damaged, (TABLES,)) as catalog:
        report = Report(quick)
        with catalog.read() as tx:
            check_indexes(tx, report, silent)
        (finding,) = report.findings
        assert (finding.severity, finding.kind, finding.name) == ("damage", "index-lost", "files_by_sha256")
        assert f"{LATER} rows of files, such as sha256 's3" in finding.detail
        assert catalog.rebuild_indexes() == ["files_by_both", "files_by_sha256"]
        report = Report(quick)
        with catalog.read() as tx:
            check_indexes(tx, report, silent)
        assert (report.findings, report.checked) == ([], {"indexes": 2})
        with catalog.write() as tx:  # with a broken index DuckDB ends the process here
            tx.execute("DELETE FROM files")


@pytest.mark.slow
def test_a_catalog_that_duckdb_gives_up_on_is_whole_when_it_is_opened_again(damaged):
    mark = damaged.with_name("catalog.duckdb.broken")
    with Catalog.open(damaged, (TABLES,)) as catalog:
        told = []
        catalog.on_broken = told.append
        for _ in range(2):
            with pytest.raises(CatalogBrokenError, match="opened again") as caught, catalog.write() as tx:
                tx.execute("DELETE FROM files WHERE sha256 LIKE 's30%'")
        with pytest.raises(CatalogBrokenError):
            catalog.query("SELECT 1")
        assert len(told) == 1, "once"
        assert "Failed to delete all rows from index" in told[0].reason
        assert "s30" not in str(caught.value), "no row's values for whoever asked"
        assert mark.exists()
    with Catalog.open(damaged, (TABLES,)) as catalog:
        assert not mark.exists()
        with catalog.write() as tx:
            tx.execute("DELETE FROM files WHERE name = 'n300'")
        assert catalog.query("SELECT count(*) FROM files") == [(ROWS + LATER - 1,)], "nothing of the failed write"


@pytest.mark.slow
def test_what_earlier_versions_left_behind_is_mended_once(damaged):
    with duckdb.connect(str(damaged)) as raw:
        raw.execute("DELETE FROM migrations WHERE set_name = 'indexes'")
    with Catalog.open(damaged, (TABLES,)) as catalog:
        assert catalog.versions() == {"t": 1, "indexes": 1}
    assert not_found(damaged) == []
    with Catalog.open(damaged, (TABLES,)) as catalog:
        assert catalog.transactions == 2, "a look at the indexes and one at the migrations: not at every start"


def test_indexes_keep_their_names_and_their_kind(tmp_path):
    with Catalog.open(tmp_path / "catalog.duckdb") as catalog:
        with catalog.read() as tx:
            before = secondary(tx)
        catalog.rebuild_indexes()
        with catalog.read() as tx:
            assert secondary(tx) == before
            assert all(index.column for index in before), "every one of ours can be compared"
            assert [indexes.lost(tx, index) for index in before] == [None] * len(before)
