from __future__ import annotations

import subprocess
import sys
import threading

import duckdb
import pytest

from registry import Catalog, MigrationSet
from registry.catalog.migrations import REGISTRY
from registry.errors import CatalogError, CatalogLockedError, CatalogTooNewError

ONE = MigrationSet("hub", ("CREATE TABLE jobs (id VARCHAR PRIMARY KEY)",))
TWO = MigrationSet("hub", (*ONE.steps, "ALTER TABLE jobs ADD COLUMN state VARCHAR DEFAULT 'queued'"))
BROKEN = MigrationSet("hub", (*ONE.steps, "CREATE TABLE extra (x INTEGER); SELECT * FROM nowhere"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.duckdb"


def test_an_old_file_opens_in_newer_code_with_its_rows(path):
    with Catalog.open(path, [REGISTRY, ONE]) as old, old.write() as tx:
        tx.execute("INSERT INTO jobs VALUES ('a')")
    with Catalog.open(path, [REGISTRY, TWO]) as new:
        assert new.query("SELECT * FROM jobs") == [("a", "queued")]
        assert new.versions() == {"registry": len(REGISTRY.steps), "hub": 2, "indexes": 1}
    with Catalog.open(path, [REGISTRY, TWO]) as again:
        assert again.versions()["hub"] == 2


def test_a_newer_file_is_refused_and_left_alone(path):
    Catalog.open(path, [TWO]).close()
    other = MigrationSet("other", ("CREATE TABLE other (x INTEGER)",))
    with pytest.raises(CatalogTooNewError, match="at 'hub' version 2 and this code knows only 1") as caught:
        Catalog.open(path, [other, ONE])
    assert (caught.value.found, caught.value.known) == (2, 1)
    with Catalog.open(path, [TWO]) as catalog:
        assert catalog.versions() == {"hub": 2, "indexes": 1}


def test_a_broken_step_is_undone_whole(path):
    with pytest.raises(CatalogError, match="nowhere"):
        Catalog.open(path, [BROKEN])
    with Catalog.open(path, [TWO]) as catalog:
        assert catalog.versions() == {"hub": 2, "indexes": 1}
        with pytest.raises(CatalogError):
            catalog.query("SELECT * FROM extra")


def test_sets_that_are_not_named_stay(path):
    Catalog.open(path, [REGISTRY, TWO]).close()
    with Catalog.open(path) as catalog:
        assert catalog.versions()["hub"] == 2


def test_one_process_owns_the_file(path):
    script = "import sys; from pathlib import Path; from registry import Catalog\n"
    script += "try: Catalog.open(Path(sys.argv[1]))\nexcept Exception as e: print(type(e).__name__, e)"
    with Catalog.open(path):
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("CatalogLockedError")
        assert str(path) in done.stdout
        assert "PID" in done.stdout
        assert "stop that process" in done.stdout
        with pytest.raises(CatalogLockedError, match="by this process"):
            Catalog.open(path)
    Catalog.open(path).close()


def test_a_file_that_is_no_catalog(path):
    path.write_bytes(b"this is not a database, whatever it is called" * 500)
    with pytest.raises(CatalogError, match=r"catalog\.duckdb"):
        Catalog.open(path)


def test_a_failed_block_writes_nothing(path):
    with Catalog.open(path, [ONE]) as catalog:
        with pytest.raises(KeyError), catalog.write() as tx:
            tx.execute("INSERT INTO jobs VALUES ('a')")
            raise KeyError
        with pytest.raises(CatalogError, match="duplicate key"), catalog.write() as tx:
            tx.execute("INSERT INTO jobs VALUES ('b')")
            tx.execute("INSERT INTO jobs VALUES ('b')")
        with pytest.raises(CatalogError, match="already open"), catalog.write(), catalog.write():
            pass
        assert catalog.query("SELECT * FROM jobs") == []


def test_readers_see_committed_states_only(path):
    with Catalog.open(path, [ONE]) as catalog:
        with catalog.write() as tx:
            tx.execute("INSERT INTO jobs VALUES ('a')")
            assert catalog.query("SELECT count(*) FROM jobs") == [(0,)]
            assert tx.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        with catalog.read() as before:
            assert before.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
            with catalog.write() as tx:
                tx.execute("INSERT INTO jobs VALUES ('b')")
            assert before.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        assert catalog.query("SELECT count(*) FROM jobs") == [(2,)]


def test_many_threads(path):
    failures = []
    with Catalog.open(path, [ONE]) as catalog:

        def work(name):
            try:
                for n in range(15):
                    with catalog.write() as tx:
                        count = tx.execute("SELECT count(*) FROM jobs").fetchone()[0]
                        tx.execute("INSERT INTO jobs VALUES (?)", [f"{name}-{n}-{count}"])
                    catalog.query("SELECT * FROM jobs WHERE id = ?", [f"{name}-{n}-{count}"])
            except CatalogError as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        counts = sorted(int(row[0].rsplit("-", 1)[1]) for row in catalog.query("SELECT id FROM jobs"))
        assert counts == list(range(90))


def test_a_closed_catalog_says_so(path):
    catalog = Catalog.open(path)
    catalog.close()
    catalog.close()
    with pytest.raises(CatalogError):
        catalog.query("SELECT 1")
    duckdb.connect(str(path)).close()
