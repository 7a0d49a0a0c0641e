"""What a growth job is made of, from what the hub knows: who judges, what is learnt from, what is put on a new base."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from finetune.growth_plan import CellHistory, GrowthPlan, PastDeck, RefitStart
from finetune.growth_plan import Contribution as Material
from hub.errors import UnknownBaseError
from hub.loop.growth.contributions import Contributions
from hub.loop.refresh_material import Made, Materials
from hub.models.bases import Bases
from hub.models.cells import Cells
from hub.schemas import core as s
from hub.schemas.growth import Contribution, GrowthPolicyIn
from registry.catalog.catalog import Catalog

MAX_DECKS: Final = 6
"""Past decks of a cell that judge, the newest."""
MAX_JUDGES: Final = 50
HELPERS: Final = ("-labels", "-refresh")
"""Ends of the names of datasets that belong to a cell: `<team>/<cell>-labels`."""


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans growth jobs. Thread-safe."""

    catalog: Catalog
    cells: Cells
    bases: Bases
    materials: Materials
    contributions: Contributions

    def judges(self, *, apart_from: Contribution | None = None) -> tuple[CellHistory, ...]:
        """The cells that judge, each by its past decks: all, or those that a contribution is not from.

        It is from the cells of its own team, and from those whose decks have one of its images or its dataset.
        """
        mine: set[str] = set()
        team, name = "", ""
        if apart_from is not None:
            rows = self.catalog.query("SELECT sha256 FROM contribution_images WHERE id = ?", [apart_from.id])
            mine = {row[0] for row in rows}
            team, name = apart_from.dataset.partition("/")[0].lower(), apart_from.dataset.lower()
        found = []
        for cell in self.cells.all():
            made = self.materials.made(cell.name)
            if apart_from is not None and (cell.team == team or self._shares(made, mine, name)):
                continue
            if decks := past_decks(made):
                found.append(CellHistory(cell=cell.name, decks=decks))
        return tuple(found[:MAX_JUDGES])

    def _shares(self, made: Sequence[Made], digests: Collection[str], dataset: str) -> bool:
        return any(one.source.dataset.lower() == dataset or not one.hashes.isdisjoint(digests) for one in made)

    def material(self, one: Contribution) -> Material:
        """The images of a contribution that are there, by the cell that they are from."""
        found = self.contributions.material(one)
        return Material(id=found.id, dataset=found.dataset, commit=found.commit, group=self.cell_of(one.dataset),
                        files=found.files)  # fmt: skip

    def cell_of(self, dataset: str) -> str:
        """The cell that a dataset is of, else the dataset itself: what is balanced."""
        team, _, name = dataset.lower().partition("/")
        known = {cell.name for cell in self.cells.all() if cell.team in (team, "")}
        short = next((name.removesuffix(end) for end in HELPERS if name.endswith(end)), name)
        if short in known:
            return f"cell {short}"
        rows = self.catalog.query("SELECT min(cell) FROM hub_cell_sources WHERE dataset = ?", [dataset.lower()])
        return f"cell {rows[0][0]}" if rows and rows[0][0] else dataset.lower()

    def value(self, one: Contribution, policy: GrowthPolicyIn) -> GrowthPlan:
        """The test of a contribution."""
        return GrowthPlan(
            kind="value", run=one.id, contributions=(self.material(one),), judges=self.judges(apart_from=one),
            steps=policy.value_steps, batch=policy.batch, share=policy.share, per_cell=policy.per_cell,
            tolerance=policy.tolerance,
        )  # fmt: skip

    def base(self, run: str, policy: GrowthPolicyIn) -> GrowthPlan:
        """The training of the next base, of all that is accepted."""
        accepted = [self.material(one) for one in self.contributions.listed(("accepted",))]
        return GrowthPlan(
            kind="base", run=run, contributions=tuple(one for one in accepted if one.files), judges=self.judges(),
            steps=policy.base_steps, batch=policy.batch, share=policy.share, per_cell=policy.per_cell,
            tolerance=policy.tolerance,
        )  # fmt: skip

    def refit(self, run: str, one: s.Version, policy: GrowthPolicyIn) -> GrowthPlan | None:
        """A variant on another base; None where its deck or its base is gone."""
        made = self.materials.made(one.cell)
        own = next((each for each in made if each.variant.name == one.name), None)
        if own is None:
            return None
        try:
            base = self.bases.get(one.base)
        except UnknownBaseError:
            return None
        first = past_decks([own])
        if not first:
            return None
        rest = tuple(each for each in past_decks(made) if each.variant != one.name)
        return GrowthPlan(
            kind="refit", run=run, judges=(CellHistory(cell=one.cell, decks=(*first, *rest)),),
            per_cell=policy.per_cell, tolerance=policy.tolerance,
            start=RefitStart(version=one.name, commit=one.commit, deck=one.deck, base=base.name,
                             base_commit=base.commit),
        )  # fmt: skip

    def to_refit(self, base: str = "") -> list[s.Version]:
        """The variant of each cell that is put on the next base: the one that a refresh would go on from."""
        found = [self.materials.current(cell.name) for cell in self.cells.all()]
        return [one for one in found if one is not None and one.base != base]

    def new_images(self, materials: Sequence[Material], seen: Callable[[str], bool]) -> int:
        """Images of contributions that no base learnt from."""
        return sum(len(one.files) for one in materials if not seen(one.id))


def past_decks(made: Sequence[Made]) -> tuple[PastDeck, ...]:
    """The newest past decks that have a holdout, the newest first."""
    found = [
        PastDeck(variant=one.variant.name, dataset=one.source.dataset, commit=one.source.commit, deck=one.variant.deck)
        for one in reversed(made)
        if one.holdout
    ]
    return tuple(found[:MAX_DECKS])
