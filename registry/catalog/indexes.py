"""Keeps DuckDB's secondary indexes whole: after a crash, and in catalogs that earlier versions wrote.

DuckDB (2.0.0; upstream's reports begin with 1.4) reads the log of a process that died into indexes that it has not
looked at yet, and a checkpoint before the first look writes those indexes without what the log said. From then on a
lookup by such an index does not find the rows, and deleting one of them ends the process ("Failed to delete all rows
from index"), while a scan shows every row. Primary keys and unique constraints are not affected. See
duckdb/duckdb#23788 and #25771.
"""

from __future__ import annotations

from dataclasses import dataclass

from registry.catalog.cursor import Cursor

_QUICK_ROWS = 500


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index: `column` is what it is over, empty if that is more than one; `sql` makes it."""

    name: str
    table: str
    column: str
    sql: str


def secondary(cursor: Cursor) -> list[Index]:
    """All of them, by name."""
    rows = cursor.execute(
        "SELECT index_name, table_name, expressions, sql FROM duckdb_indexes() WHERE NOT is_primary ORDER BY 1"
    ).fetchall()
    found = []
    for name, table, expressions, sql in rows:
        column = expressions.strip("[]").strip("\"'")
        found.append(Index(name, table, column if column.isidentifier() else "", sql))
    return found


def bind(cursor: Cursor) -> None:
    """Look at every index, before anything can write a checkpoint. Changes nothing."""
    tables = cursor.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY 1").fetchall()
    for (table,) in tables:
        # To plan a DELETE DuckDB loads all indexes of the table; to plan a SELECT it may do without.
        cursor.execute(f'DELETE FROM "{table}" WHERE false')  # noqa: S608  # a table of ours


def rebuild(cursor: Cursor) -> list[str]:
    """Make every secondary index anew from the rows; gives their names. In one transaction."""
    indexes = secondary(cursor)
    for index in indexes:
        cursor.execute(f'DROP INDEX "{index.name}"')
        cursor.execute(index.sql)
    return [index.name for index in indexes]


@dataclass(frozen=True, slots=True)
class LostRows:
    """Rows that a scan shows and an index does not find: how many, and the value of one."""

    rows: int
    value: object


def lost(cursor: Cursor, index: Index, *, quick: bool = False) -> LostRows | None:
    """Compare an index with its table, value by value; `quick`: only what was written last.

    An index of several columns is never asked for lookups, and not compared. Raises CatalogError.
    """
    if not index.column:
        return None
    column, table = f'"{index.column}"', f'"{index.table}"'
    last = f"ORDER BY rowid DESC LIMIT {_QUICK_ROWS}" if quick else ""
    values = cursor.execute(
        f"SELECT {column}, count(*) FROM {table} WHERE {column} IN "  # noqa: S608  # names of ours
        f"(SELECT {column} FROM {table} {last}) GROUP BY 1"
    ).fetchall()
    rows, example = 0, None
    for value, count in values:
        found = cursor.execute(f"SELECT 1 FROM {table} WHERE {column} = ?", [value]).fetchall()  # noqa: S608
        if len(found) != count:
            rows, example = rows + count - len(found), value
    return LostRows(rows, example) if rows else None
