"""What runs statements inside one transaction of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import duckdb

from registry.blobs.disk import is_full
from registry.errors import CatalogBrokenError, CatalogError, DiskFullError

_ROWS = 8


class Cursor:
    """Runs statements inside one transaction. Not to be kept after its `with` block, nor shared by threads."""

    __slots__ = ("_raw",)

    def __init__(self, raw: duckdb.DuckDBPyConnection) -> None:
        self._raw = raw

    def execute(self, sql: str, params: Sequence[object] = ()) -> Self:
        """Run one statement, or a script without parameters. Raises CatalogError, DiskFullError. CatalogBrokenError is
        for a file that is damaged."""
        try:
            self._raw.execute(sql, list(params))
        except duckdb.FatalException as error:
            raise CatalogBrokenError(str(error)) from error
        except duckdb.Error as error:
            if is_full(error):
                raise DiskFullError from error
            raise CatalogError(str(error)) from error
        return self

    def insert(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        """Insert whole rows, which are known not to be there; `table` may name its columns. Raises CatalogError.

        DuckDB plans VALUES faster than `unnest` as long as rows are few, and `OR IGNORE` makes both several times as
        slow: it is cheaper to ask first what is there.
        """
        if not rows:
            return
        if len(rows) <= _ROWS:
            marks = ", ".join(f"({', '.join('?' * len(rows[0]))})" for _ in rows)
            self.execute(f"INSERT INTO {table} VALUES {marks}", [value for row in rows for value in row])  # noqa: S608
        else:
            marks = ", ".join("unnest(?)" for _ in rows[0])
            self.execute(f"INSERT INTO {table} SELECT {marks}", [list(column) for column in zip(*rows, strict=True)])

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row of the last statement, or None."""
        row: tuple[Any, ...] | None = self._raw.fetchone()
        return row

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The remaining rows of the last statement."""
        rows: list[tuple[Any, ...]] = self._raw.fetchall()
        return rows
