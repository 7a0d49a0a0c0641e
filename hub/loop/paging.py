"""Pages of rows that have a time and an id, the newest first: behind the last one of a page comes the next."""

from __future__ import annotations

from collections.abc import Sequence

from registry.catalog.catalog import Catalog


def page_where(
    catalog: Catalog, table: str, at: str, conditions: Sequence[tuple[str, object | None]], after: str
) -> tuple[str, list[object]] | None:
    """The condition of a page of `table`, ordered by its column `at` and by `id`, and its values.

    `conditions` are SQL with one `?` each, and its value; None leaves one out. `after` is the id of the row before the
    page; None is the answer where there is no such row. Names are constants of ours, never a request's.
    """
    where, values = ["true"], []  # type: list[str], list[object]
    for condition, value in conditions:
        if value is not None:
            where.append(condition)
            values.append(value)
    if after:
        # A row of a cell that the caller may not look at is no place to go on from: that would tell that it is there.
        seen = [(sql, value) for sql, value in conditions if value is not None and "cell" in sql]
        asked = " AND ".join(["id = ?", *(sql for sql, _ in seen)])
        last = catalog.query(f"SELECT {at} FROM {table} WHERE {asked}", [after, *(value for _, value in seen)])  # noqa: S608
        if not last:
            return None
        where.append(f"({at} < ? OR ({at} = ? AND id < ?))")
        values += [last[0][0], last[0][0], after]
    return " AND ".join(where), values
