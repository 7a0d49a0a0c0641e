"""What answers at one moment: a routing table and a model, swapped as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from serving.errors import NotFinite
from serving.folder.routing import Resolved, RoutingTable
from serving.inference.preprocess import Image
from serving.inference.segmenter import Segmenter, SegmentOptions
from serving.instances import Instances
from serving.triton.queries import Query
from serving.triton.refusals import Refusals


@dataclass(frozen=True, slots=True)
class State:
    """Table and models belong together: an adapter fits one base only.

    Attributes:
        table: the one in force: where a variant does not answer, it has what answered before.
        source: the table as it was read.
        segmenter: of the base that cells without a variant get.
        beside: those of the other bases that variants of the table are on, by name.
        before: the table that was in force before this source, told beside the same base.
        broken: the variants of the source that do not answer.
    """

    table: RoutingTable
    source: RoutingTable
    segmenter: Segmenter
    before: RoutingTable | None = None
    broken: frozenset[str] = frozenset()
    beside: Mapping[str, Segmenter] = field(default_factory=dict)

    @property
    def segmenters(self) -> tuple[Segmenter, ...]:
        """All that answer, the one of cells without a variant first."""
        return (self.segmenter, *self.beside.values())

    def of(self, variant: str | None) -> Segmenter:
        """The segmenter that answers for a variant; None is the base."""
        if variant is None or not self.beside:
            return self.segmenter
        base = self.table.bases.get(variant) or self.source.bases.get(variant, "")
        return self.beside.get(base, self.segmenter)

    def answer(self, images: Sequence[Image], orders: Sequence[SegmentOptions]) -> list[Instances | NotFinite]:
        """As `Segmenter.answer`; a batch of several bases is one forward pass of each."""
        groups: dict[int, list[int]] = {}
        for k, order in enumerate(orders):
            groups.setdefault(id(self.of(order.variant)), []).append(k)
        found: list[Instances | NotFinite | None] = [None] * len(orders)
        for rows in groups.values():
            said = self.of(orders[rows[0]].variant).answer([images[k] for k in rows], [orders[k] for k in rows])
            for k, one in zip(rows, said, strict=True):
                found[k] = one
        return [one for one in found if one is not None]

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
        there = variant is not None and (self.of(variant).has_variant(variant) or variant in self.source.variants())
        variant, cell = variant if there else None, cell if cell in self.source.cells else None
        line, robot = (query.line, query.robot) if heard and (cell or variant) else (None, None)
        return replace(query, cell=cell, variant=variant, line=line, robot=robot)

    def served_by(self, variant: str | None) -> str:
        """What an answer is told to be from: `dock-7@v3 on base/universal@v1`, or the base alone."""
        base = f"base/{self.of(variant).base_name}"
        return base if variant is None else f"{variant} on {base}"

    def digests_of(self, variant: str) -> dict[str, str]:
        """File name -> SHA-256 of a variant's files."""
        return self.table.digests_of(f"variants/{variant}")
