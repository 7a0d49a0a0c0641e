"""What one request has read of the catalog already, so that it asks nothing twice.

It lives as long as the request, and answers only while nothing has been committed since, by this request or any other:
what is read after a commit is read anew. Nothing outlives the request, and nothing is shared between requests.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

MAX_ENTRIES = 200
MAX_ROWS = 1000
"""Longer answers are read again: lists are asked for once, and memory is dear."""

Row = tuple[Any, ...]


class Answer:
    """Rows that were read, to be taken as a `Cursor` gives them."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def fetchall(self) -> list[Row]:
        """All of them."""
        return self._rows

    def fetchone(self) -> Row | None:
        """The first one, or None."""
        return self._rows[0] if self._rows else None


class Reads(Protocol):
    """What answers a reading statement: a transaction's cursor, or the catalog itself."""

    def execute(self, sql: str, params: Sequence[object] = ()) -> Any:  # noqa: ANN401  # rows, taken as above
        """Run one statement; its answer has `fetchone` and `fetchall`. Raises what DuckDB raises."""


class Remembered:
    """Answers of one request: (catalog, statement, values) to rows, all of one number of commits."""

    def __init__(self) -> None:
        self._commits: dict[int, int] = {}
        self._rows: dict[Hashable, list[Row]] = {}

    def find(self, catalog: int, commits: int, key: Hashable) -> list[Row] | None:
        """The rows, if they were read since the last commit; a list of the caller's own."""
        if self._commits.get(catalog) != commits:
            return None
        rows = self._rows.get((catalog, key))
        return None if rows is None else list(rows)

    def keep(self, catalog: int, commits: int, key: Hashable, rows: list[Row]) -> None:
        """Remember what was read; `commits` was counted before it was."""
        if self._commits.get(catalog) != commits:
            self._rows.clear()
            self._commits[catalog] = commits
        if len(rows) <= MAX_ROWS and len(self._rows) < MAX_ENTRIES:
            self._rows[catalog, key] = list(rows)


_here: ContextVar[Remembered | None] = ContextVar("remembered", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Inside, and in the threads that are started from inside with its context, no reading statement is run twice
    unless something was committed in between."""
    token = _here.set(Remembered())
    try:
        yield
    finally:
        _here.reset(token)


def current() -> Remembered | None:
    """What this request remembers; None outside of one."""
    return _here.get()


def key_of(sql: str, params: Sequence[object]) -> Hashable | None:
    """What an answer is remembered by; None for values that cannot be compared."""
    key = (sql, tuple((type(value), tuple(value) if isinstance(value, list) else value) for value in params))
    try:
        hash(key)
    except TypeError:
        return None
    return key
