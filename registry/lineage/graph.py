"""Walks through the lineage from several artifacts at once, with the edges between what they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from registry.catalog.catalog import Catalog
from registry.lineage.lineage import Edge, Relative
from registry.types import Artifact

Direction = Literal["up", "down"]
"""From what was made to what it was made from, or the other way."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What a walk met, where it began among it (distance 0), nearest first; `edges` lie among these `nodes`.

    `truncated` says that there is more than was asked for.
    """

    nodes: tuple[Relative, ...]
    edges: tuple[Edge, ...]
    truncated: bool


def find(
    catalog: Catalog, name: str, *, kind: str | None = None, revision: str = "", limit: int = 1000
) -> tuple[Artifact, ...]:
    """The recorded artifacts of a name whose revision begins with `revision`; empty if there are none."""
    rows = catalog.query(
        "SELECT kind, name, revision FROM artifacts WHERE name = ? AND (?::VARCHAR IS NULL OR kind = ?) "
        "AND starts_with(revision, ?) ORDER BY key LIMIT ?",
        [name, kind, kind, revision, limit],
    )
    return tuple(Artifact(*row) for row in rows)


def walk(catalog: Catalog, roots: Sequence[Artifact], way: Direction, *, limit: int = 5000) -> Graph:
    """All that the roots were made from (`up`), or all that was made from them (`down`), at most `limit` of it.

    A root that was never recorded is met all the same, alone.
    """
    here, there = ("child", "parent") if way == "up" else ("parent", "child")
    columns = [[one.kind for one in roots], [one.name for one in roots], [one.revision for one in roots]]
    with catalog.read() as tx:
        # UNION, not UNION ALL: a diamond's tip is walked on once per distance, not once per path.
        rows = tx.execute(
            "WITH RECURSIVE roots AS (SELECT unnest(?::VARCHAR[]) AS kind, unnest(?::VARCHAR[]) AS name, "  # noqa: S608
            "unnest(?::VARCHAR[]) AS revision), walk(key, distance) AS ("
            "SELECT a.key, 0 FROM artifacts a JOIN roots r "
            "ON a.kind = r.kind AND a.name = r.name AND a.revision = r.revision "
            f"UNION SELECT l.{there}, walk.distance + 1 FROM walk JOIN lineage l ON l.{here} = walk.key) "
            "SELECT a.key, a.kind, a.name, a.revision, min(walk.distance) AS distance "
            "FROM walk JOIN artifacts a ON a.key = walk.key "
            "GROUP BY a.key, a.kind, a.name, a.revision ORDER BY distance, a.kind, a.name, a.revision LIMIT ?",
            [*columns, limit + 1],
        ).fetchall()
        shown = {row[0]: Artifact(*row[1:4]) for row in rows[:limit]}
        links = tx.execute(
            f"SELECT child, parent, relation FROM lineage WHERE {here} IN (SELECT unnest(?::BIGINT[])) "  # noqa: S608
            "ORDER BY ALL",
            [list(shown)],
        ).fetchall()
    nodes = [Relative(shown[row[0]], row[4]) for row in rows[:limit]]
    nodes += [Relative(root, 0) for root in roots if root not in shown.values()]
    edges = tuple(Edge(shown[a], shown[b], how) for a, b, how in links if a in shown and b in shown)
    return Graph(tuple(nodes), edges, truncated=len(rows) > limit)
