"""What answers at one moment: a routing table and a model, swapped as one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from serving.folder.routing import Resolved, RoutingTable
from serving.inference.segmenter import Segmenter
from serving.triton.queries import Query
from serving.triton.refusals import Refusals


@dataclass(frozen=True, slots=True)
class State:
    """Table and model belong together: an adapter fits one base only.

    Attributes:
        table: the one in force: where a variant does not answer, it has what answered before.
        source: the table as it was read.
        before: the table that was in force before this source, on the same base.
        broken: the variants of the source that do not answer.
    """

    table: RoutingTable
    source: RoutingTable
    segmenter: Segmenter
    before: RoutingTable | None = None
    broken: frozenset[str] = frozenset()

    def settled(self, refused: frozenset[str]) -> State:
        """The same, where these variants do not answer; itself where nothing changes."""
        broken = refused.intersection(self.source.variants()) if refused else refused
        if broken == self.broken:
            return self
        table = self.source.keeping(self.before, refused) if broken else self.source
        return replace(self, table=table, broken=broken)

    def route(self, cell: str, line: str | None, robot: str | None, refusals: Refusals) -> Resolved:
        """Who answers a robot, and instead of whom. Raises UnknownCell."""
        found = self.table.route(cell, line, robot)
        if found.variant is not None and refusals.get(found.variant) is not None:
            # Refused since the table in force was made; that one follows within a moment.
            alone = replace(self.source, cells={cell: self.source.cells[cell]}, digests={})
            found = alone.keeping(self.before, refusals.names()).route(cell, line, robot)
        wanted = self.source.route(cell, line, robot).variant
        return found if wanted == found.variant else replace(found, instead_of=wanted)

    def known(self, query: Query, *, heard: bool) -> Query:
        """The query with those names alone that lead to something here: of a request that was refused, any other text
        would be the client's to fill memory and disk with. `heard`: whether the robot may ask here at all."""
        variant, cell = query.variant, query.cell
        there = variant is not None and (self.segmenter.has_variant(variant) or variant in self.source.variants())
        variant, cell = variant if there else None, cell if cell in self.source.cells else None
        line, robot = (query.line, query.robot) if heard and (cell or variant) else (None, None)
        return replace(query, cell=cell, variant=variant, line=line, robot=robot)

    def served_by(self, variant: str | None) -> str:
        """What an answer is told to be from: `dock-7@v3 on base/universal@v1`, or the base alone."""
        base = f"base/{self.segmenter.base_name}"
        return base if variant is None else f"{variant} on {base}"

    def digests_of(self, variant: str) -> dict[str, str]:
        """File name -> SHA-256 of a variant's files."""
        return self.table.digests_of(f"variants/{variant}")
