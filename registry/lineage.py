"""Lineage: which artifact was made from which. Edges point from child to parent and are never removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from registry.catalog import Catalog, Cursor
from registry.errors import LineageCycleError
from registry.types import Artifact, check_name


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """`child` was made from `parent`; `relation` says how: "base", "deck", "dataset", ..."""

    child: Artifact
    parent: Artifact
    relation: str

    def __post_init__(self) -> None:
        check_name(self.relation, "relation")


@dataclass(frozen=True, slots=True)
class Relative:
    """An artifact met on a walk; `distance` counts the edges of the shortest way to it."""

    artifact: Artifact
    distance: int


class Lineage:
    """The graph of artifacts; it has no cycles. Use from any number of threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def record(self, edges: Iterable[Edge]) -> None:
        """Add edges, all or none; one that is known already is a no-op. Raises LineageCycleError."""
        with self._catalog.write() as tx:
            for edge in edges:
                child, parent = _key(tx, edge.child), _key(tx, edge.parent)
                if child == parent or tx.execute(_REACHES, [parent, child]).fetchone():
                    raise LineageCycleError(edge.child, edge.parent)
                tx.execute("INSERT OR IGNORE INTO lineage VALUES (?, ?, ?)", [child, parent, edge.relation])

    def parents(self, artifact: Artifact) -> tuple[Edge, ...]:
        """The edges up from an artifact; empty for one never recorded."""
        rows = self._catalog.query(_PARENTS, _fields(artifact))
        return tuple(Edge(artifact, Artifact(*row[:3]), row[3]) for row in rows)

    def children(self, artifact: Artifact) -> tuple[Edge, ...]:
        """The edges down from an artifact; empty for one never recorded."""
        rows = self._catalog.query(_CHILDREN, _fields(artifact))
        return tuple(Edge(Artifact(*row[:3]), artifact, row[3]) for row in rows)

    def ancestors(self, artifact: Artifact) -> tuple[Relative, ...]:
        """All that the artifact was made from, each once, nearest first; empty for one never recorded."""
        return tuple(_relative(row) for row in self._catalog.query(_ANCESTORS, _fields(artifact)))

    def descendants(self, artifact: Artifact) -> tuple[Relative, ...]:
        """All that was made from the artifact, each once, nearest first; empty for one never recorded."""
        return tuple(_relative(row) for row in self._catalog.query(_DESCENDANTS, _fields(artifact)))


_FIND = "SELECT key FROM artifacts WHERE kind = ? AND name = ? AND revision = ?"

_PARENTS = """
    SELECT a.kind, a.name, a.revision, l.relation FROM lineage l JOIN artifacts a ON a.key = l.parent
    WHERE l.child = (SELECT key FROM artifacts WHERE kind = ? AND name = ? AND revision = ?) ORDER BY ALL
"""

_CHILDREN = """
    SELECT a.kind, a.name, a.revision, l.relation FROM lineage l JOIN artifacts a ON a.key = l.child
    WHERE l.parent = (SELECT key FROM artifacts WHERE kind = ? AND name = ? AND revision = ?) ORDER BY ALL
"""

# UNION, not UNION ALL: a diamond's tip is walked on once per distance, not once per path.
_ANCESTORS = """
    WITH RECURSIVE walk(key, distance) AS (
        SELECT key, 0 FROM artifacts WHERE kind = ? AND name = ? AND revision = ?
        UNION
        SELECT l.parent, walk.distance + 1 FROM walk JOIN lineage l ON l.child = walk.key
    )
    SELECT a.kind, a.name, a.revision, min(walk.distance) AS distance
    FROM walk JOIN artifacts a ON a.key = walk.key WHERE walk.distance > 0
    GROUP BY a.kind, a.name, a.revision ORDER BY distance, a.kind, a.name, a.revision
"""

_DESCENDANTS = """
    WITH RECURSIVE walk(key, distance) AS (
        SELECT key, 0 FROM artifacts WHERE kind = ? AND name = ? AND revision = ?
        UNION
        SELECT l.child, walk.distance + 1 FROM walk JOIN lineage l ON l.parent = walk.key
    )
    SELECT a.kind, a.name, a.revision, min(walk.distance) AS distance
    FROM walk JOIN artifacts a ON a.key = walk.key WHERE walk.distance > 0
    GROUP BY a.kind, a.name, a.revision ORDER BY distance, a.kind, a.name, a.revision
"""

_REACHES = """
    WITH RECURSIVE walk(key) AS (
        SELECT ?::BIGINT UNION SELECT l.parent FROM walk JOIN lineage l ON l.child = walk.key
    )
    SELECT 1 FROM walk WHERE key = ?
"""


def _fields(artifact: Artifact) -> tuple[str, str, str]:
    return artifact.kind, artifact.name, artifact.revision


def _relative(row: tuple[str, str, str, int]) -> Relative:
    return Relative(Artifact(*row[:3]), row[3])


def _key(tx: Cursor, artifact: Artifact) -> int:
    row = tx.execute(_FIND, _fields(artifact)).fetchone()
    if row is None:
        row = tx.execute(
            "INSERT INTO artifacts (kind, name, revision) VALUES (?, ?, ?) RETURNING key", _fields(artifact)
        ).fetchone()
    assert row is not None  # noqa: S101  # RETURNING gives the row it inserted
    return int(row[0])
