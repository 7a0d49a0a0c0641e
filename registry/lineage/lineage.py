"""Lineage: which artifact was made from which. Edges point from child to parent and are never removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
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
        wanted = list(dict.fromkeys(edges))
        with self._catalog.write() as tx:
            keys = _keys(tx, list(dict.fromkeys(end for edge in wanted for end in (edge.child, edge.parent))))
            rows = [(keys[edge.child], keys[edge.parent], edge.relation) for edge in wanted]
            for edge in wanted:
                if edge.child == edge.parent:
                    raise LineageCycleError(edge.child, edge.parent)
            tx.execute(
                "INSERT INTO lineage SELECT n.child, n.parent, n.relation FROM (SELECT unnest(?::BIGINT[]) AS child, "
                "unnest(?::BIGINT[]) AS parent, unnest(?::VARCHAR[]) AS relation) n ANTI JOIN lineage l "
                "ON l.child = n.child AND l.parent = n.parent AND l.relation = n.relation",
                [list(column) for column in zip(*rows, strict=True)] or [[], [], []],
            )
            round_trip = tx.execute(_CYCLES, [list({row[0] for row in rows})]).fetchone()
            if round_trip is not None:
                edge = next(one for one in wanted if keys[one.child] == round_trip[0])
                raise LineageCycleError(edge.child, edge.parent)

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


_NODES = "(SELECT unnest(?::VARCHAR[]) AS kind, unnest(?::VARCHAR[]) AS name, unnest(?::VARCHAR[]) AS revision) n"
_SAME = "a.kind = n.kind AND a.name = n.name AND a.revision = n.revision"
_ADD = (
    "INSERT INTO artifacts (kind, name, revision) "  # noqa: S608  # constants
    f"SELECT n.kind, n.name, n.revision FROM {_NODES} ANTI JOIN artifacts a ON {_SAME}"
)
_FIND_ALL = f"SELECT a.key, a.kind, a.name, a.revision FROM {_NODES} JOIN artifacts a ON {_SAME}"  # noqa: S608

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

# From these children upwards, and back to where it began?
_CYCLES = """
    WITH RECURSIVE walk(start, key) AS (
        SELECT child, parent FROM lineage WHERE child IN (SELECT unnest(?::BIGINT[]))
        UNION SELECT walk.start, l.parent FROM walk JOIN lineage l ON l.child = walk.key
    )
    SELECT start FROM walk WHERE start = key LIMIT 1
"""


def _fields(artifact: Artifact) -> tuple[str, str, str]:
    return artifact.kind, artifact.name, artifact.revision


def _relative(row: tuple[str, str, str, int]) -> Relative:
    return Relative(Artifact(*row[:3]), row[3])


def _keys(tx: Cursor, artifacts: Sequence[Artifact]) -> dict[Artifact, int]:
    """The keys of these nodes; those that are not there yet are added."""
    columns = [[one.kind for one in artifacts], [one.name for one in artifacts], [one.revision for one in artifacts]]
    for sql in (_ADD, _FIND_ALL):
        rows = tx.execute(sql, columns).fetchall()
    return {Artifact(*row[1:]): int(row[0]) for row in rows}
