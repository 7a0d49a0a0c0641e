"""Inside of one request a statement is run once, until something is committed by whomever."""

from __future__ import annotations

import contextvars
import threading
from collections import Counter
from pathlib import Path

import pytest

from registry.catalog.catalog import Catalog
from registry.catalog.remembered import MAX_ROWS, remembering

ASKED = "SELECT number FROM counted WHERE number < ? ORDER BY number"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    opened = Catalog.open(tmp_path / "catalog.duckdb")
    with opened.write() as db:
        db.execute("CREATE TABLE counted (number INTEGER)")
        db.execute("INSERT INTO counted VALUES (1), (2)")
    return opened


def test_a_statement_is_run_once_with_the_same_values(catalog: Catalog, statements: Counter[str]) -> None:
    with remembering():
        first = catalog.query(ASKED, [9])
        first.append((7,))  # the caller's own list
        assert catalog.query(ASKED, [9]) == [(1,), (2,)] == catalog.execute(ASKED, [9]).fetchall()
        assert catalog.query(ASKED, [2]) == [(1,)]
        assert catalog.query(ASKED, [True]) == [], "1 and True are values of two types"
        assert catalog.query(ASKED, [1]) == []
    assert statements[ASKED] == 4
    catalog.query(ASKED, [9])
    catalog.query(ASKED, [9])
    assert statements[ASKED] == 6, "outside of a request nothing is remembered"


@pytest.mark.parametrize("how", ["write", "run"])
@pytest.mark.parametrize("thread", [False, True])
def test_what_is_committed_is_seen_at_once(catalog: Catalog, how: str, thread: bool) -> None:
    """By this request itself, and by another one meanwhile."""

    def add(number: int) -> None:
        statement = "INSERT INTO counted VALUES (?)"
        if how == "run":
            catalog.run(lambda db: db.execute(statement, [number]))
        else:
            with catalog.write() as db:
                db.execute(statement, [number])

    with remembering():
        for number in (3, 4):
            before = catalog.query(ASKED, [9])
            if thread:
                other = threading.Thread(target=add, args=(number,))
                other.start()
                other.join()
            else:
                add(number)
            assert catalog.query(ASKED, [9]) == [*before, (number,)]


def test_what_was_rolled_back_changes_nothing(catalog: Catalog) -> None:
    with remembering():
        assert catalog.query(ASKED, [9]) == [(1,), (2,)]
        with pytest.raises(ZeroDivisionError), catalog.write() as db:
            db.execute("INSERT INTO counted VALUES (5)")
            raise ZeroDivisionError
        assert catalog.query(ASKED, [9]) == [(1,), (2,)]


def test_requests_share_nothing_and_their_threads_do(catalog: Catalog, statements: Counter[str]) -> None:
    for _ in range(2):
        with remembering():
            inside = contextvars.copy_context()
            worker = threading.Thread(target=lambda run=inside.run: run(catalog.query, ASKED, [9]))
            worker.start()
            worker.join()
            catalog.query(ASKED, [9])
    assert statements[ASKED] == 2


def test_long_answers_are_not_kept(catalog: Catalog, statements: Counter[str]) -> None:
    long = "SELECT * FROM range(?)"
    with remembering():
        assert len(catalog.query(long, [MAX_ROWS + 1])) == len(catalog.query(long, [MAX_ROWS + 1])) == MAX_ROWS + 1
    assert statements[long] == 2
