"""Writers who come together share a transaction, and nobody sees that of another's failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry import Catalog, Cursor, Registry, RepoId
from registry.errors import CatalogError, RefConflictError

CLIENTS = 12


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.open(tmp_path / "catalog.duckdb") as opened:
        with opened.write() as tx:
            tx.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
        yield opened


def insert(number: int) -> Callable[[Cursor], int]:
    def work(tx: Cursor) -> int:
        tx.execute("INSERT INTO t VALUES (?)", [number])
        return number

    return work


class Crowd:
    """Jobs that all wait while a first transaction is open."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._pool = ThreadPoolExecutor(CLIENTS + 1)

    def run(self, jobs: list[Callable[[Cursor], int]]) -> list[int | BaseException]:
        entered, go = threading.Event(), threading.Event()

        def first(tx: Cursor) -> int:
            entered.set()
            go.wait(60)
            return 0

        held = self._pool.submit(self._catalog.run, first)
        entered.wait(60)
        futures = [self._pool.submit(self._catalog.run, job) for job in jobs]
        while len(self._catalog._queue) < len(jobs):
            pass
        go.set()
        held.result(60)
        return [future.exception(60) or future.result() for future in futures]


def rows(catalog: Catalog) -> list[int]:
    return [row[0] for row in catalog.query("SELECT n FROM t ORDER BY n")]


def test_those_who_come_together_share_a_transaction(catalog):
    before = catalog.transactions
    assert Crowd(catalog).run([insert(number) for number in range(CLIENTS)]) == [*range(CLIENTS)]
    assert catalog.transactions - before == 2  # the one that held the others up, and theirs
    assert rows(catalog) == [*range(CLIENTS)]


def test_one_alone_has_its_own_at_once(catalog):
    before = catalog.transactions
    assert [catalog.run(insert(number)) for number in range(3)] == [0, 1, 2]
    assert catalog.transactions - before == 3


def test_a_failure_is_its_owners_alone(catalog):
    def fails(tx: Cursor) -> int:
        tx.execute("INSERT INTO t VALUES (100)")
        raise ZeroDivisionError

    jobs = [insert(0), fails, insert(1), insert(0), insert(2)]
    done = Crowd(catalog).run(jobs)
    assert [done[at] for at in (0, 2, 4)] == [0, 1, 2]
    assert isinstance(done[1], ZeroDivisionError)
    assert isinstance(done[3], CatalogError)
    assert rows(catalog) == [0, 1, 2]
    assert catalog.run(insert(3)) == 3  # and all goes on


def test_a_larger_crowd_than_a_group(catalog, monkeypatch):
    monkeypatch.setattr("registry.catalog.catalog._GROUP", 5)
    before = catalog.transactions
    assert Crowd(catalog).run([insert(number) for number in range(CLIENTS)]) == [*range(CLIENTS)]
    assert catalog.transactions - before == 4


def test_not_inside_another_write(catalog):
    with catalog.write(), pytest.raises(CatalogError, match="already open"):
        catalog.run(insert(1))
    with pytest.raises(CatalogError, match="already open"):
        catalog.run(lambda _: catalog.run(insert(1)))
    with pytest.raises(CatalogError, match="already open"):
        catalog.run(lambda _: next(iter(catalog.write().__enter__() for _ in (0,))))
    assert catalog.run(insert(2)) == 2
    assert rows(catalog) == [2]


@pytest.mark.slow
def test_commits_of_many_clients(registry: Registry, add):
    """One file each, in a repo of their own and on one branch of a shared one: all there, in few transactions."""
    own = [RepoId.parse(f"team/repo-{number}") for number in range(CLIENTS)]
    shared = RepoId.parse("team/shared")
    for repo in (*own, shared):
        registry.repos.create(repo)
    barrier = threading.Barrier(CLIENTS)

    def work(number: int, repo: RepoId) -> list[str]:
        made = []
        for turn in range(4):
            file = add(f"{number}-{turn}.bin", b"%d %d" % (number, turn))
            barrier.wait(60)
            made.append(registry.repos.commit(repo, [file], message="m", author="a").id)
        return made

    with ThreadPoolExecutor(CLIENTS) as pool:
        before = registry.catalog.transactions
        list(pool.map(work, range(CLIENTS), own))
        assert registry.catalog.transactions - before < 4 * CLIENTS
        # On one branch each builds on the one before it: those who were overtaken look again.
        made = [*pool.map(work, range(CLIENTS), [shared] * CLIENTS)]
    history = {commit.id for commit in registry.repos.history(shared, "main", 1000)}
    assert {commit for each in made for commit in each} == history
    assert len(registry.repos.tree(shared, "main")) == 4 * CLIENTS
    assert all(len(registry.repos.history(repo, "main")) == 4 for repo in own)
    assert not registry.examine().damaged


def test_of_two_who_expect_the_same_parent_one_is_refused(registry: Registry, add):
    repo = RepoId.parse("team/repo")
    registry.repos.create(repo)
    parent = registry.repos.commit(repo, [add("a", b"0")], message="m", author="a").id
    files = [add("a", b"%d" % number) for number in range(CLIENTS)]
    gate = threading.Barrier(CLIENTS)

    def work(number: int) -> bool:
        gate.wait(60)
        try:
            registry.repos.commit(repo, [files[number]], message="m", author="a", expected_parent=parent)
        except RefConflictError:
            return False
        return True

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(work, range(CLIENTS))) == 1
