"""Rows of runs: one under way for each key, one for each cause, and states that follow each other."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from hub.loop.run_table import RunTable
from registry.catalog.cursor import Cursor

TABLE = RunTable("runs", "active", ("building", "training"))


@pytest.fixture
def db() -> Iterator[Cursor]:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE runs (id VARCHAR PRIMARY KEY, cause VARCHAR UNIQUE, state VARCHAR, ended_at DOUBLE)"
    )
    connection.execute("ALTER TABLE runs ADD COLUMN job VARCHAR")
    connection.execute("CREATE TABLE active (cell VARCHAR PRIMARY KEY, run VARCHAR)")
    yield Cursor(connection)
    connection.close()


def begin(db: Cursor, run: str, cell: str, cause: str) -> bool:
    return TABLE.begin(db, run, cell, {"cause": cause, "state": "building"})


def test_one_is_under_way_for_a_key(db: Cursor) -> None:
    assert begin(db, "a", "dock-7", "x")
    assert not begin(db, "b", "dock-7", "y")
    assert begin(db, "c", "dock-8", "z")
    assert TABLE.move(db, "a", "failed", ("building",), 5.0)
    assert begin(db, "d", "dock-7", "y")


def test_a_cause_has_one_run_and_frees_its_key(db: Cursor) -> None:
    assert begin(db, "a", "dock-7", "x")
    assert TABLE.move(db, "a", "offered", ("building",), 5.0)
    assert not begin(db, "b", "dock-7", "x")
    assert db.execute("SELECT count(*) FROM active").fetchall() == [(0,)]


def test_a_state_follows_only_those_it_may(db: Cursor) -> None:
    begin(db, "a", "dock-7", "x")
    assert not TABLE.move(db, "a", "offered", ("training",), 5.0)
    assert TABLE.move(db, "a", "training", ("building",), 5.0, job="j")
    assert db.execute("SELECT state, job, ended_at FROM runs").fetchall() == [("training", "j", None)]
    assert TABLE.move(db, "a", "offered", ("building", "training"), 6.0)
    assert db.execute("SELECT state, job, ended_at FROM runs").fetchall() == [("offered", "j", 6.0)]
    assert not TABLE.move(db, "nobody", "offered", ("building",), 6.0)
