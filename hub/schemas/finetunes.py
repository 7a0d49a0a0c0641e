"""What fine-tunes and refreshes are asked to do, as the queue keeps it."""

from __future__ import annotations

from msgspec import Struct

from finetune.growth_plan import GrowthPlan
from hub.schemas.jobs import JobSpec, register_spec


class _Out(Struct, frozen=True, kw_only=True):
    """Of the hub's own making: read without forbidding fields that a newer hub may add."""


class EarlierVariant(_Out, frozen=True):
    """The cell's newest variant when a fine-tune was asked for: what the report compares the new one with."""

    version: str
    """`<cell>@v3`"""
    commit: str
    deck: str
    dataset: str
    dataset_commit: str


class RefreshSpec(_Out, frozen=True):
    """What makes a fine-tune a refresh: its run, the variant that it goes on from (null: the base), and the datasets
    that its images came from."""

    run: str
    start: EarlierVariant | None
    sources: list[str]


@register_spec
class FinetuneSpec(_Out, JobSpec, frozen=True, tag_field="kind", tag="finetune"):
    """A request with every revision pinned to a commit: running it again is the same work."""

    cell: str
    dataset: str
    dataset_commit: str
    base: str
    """`base/universal@v1`"""
    base_commit: str
    images: int | None
    max_seconds: float
    seed: int
    class_map: dict[str, str] = {}
    image_size: int | None = None
    earlier: EarlierVariant | None = None
    refresh: RefreshSpec | None = None
    growth: GrowthPlan | None = None
    """Of a refit: the variant that it takes the place of, and the past decks that judge it."""

    def datasets(self) -> list[str]:
        """Those whose images a refresh's dataset is made of among them."""
        read = [self.dataset, *([self.earlier.dataset] if self.earlier else [])]
        return read + (self.refresh.sources if self.refresh else [])

    def reads(self) -> list[str]:
        """The dataset, the base, and what the cell's newest variant was made of."""
        found = [f"dataset/{self.dataset}", f"model/{self.base.partition('@')[0]}"]
        found += [f"dataset/{self.earlier.dataset}"] if self.earlier else []
        return found + (read_by(self.growth) if self.growth else [])

    def blobs(self) -> list[str]:
        """The deck of the cell's newest variant, and those that judge a refit."""
        found = [self.earlier.deck] if self.earlier else []
        return found + (list(self.growth.decks()) if self.growth else [])

    def keeps(self) -> list[str]:
        """Without the earlier variant's dataset: that comparison is left out where it is gone."""
        return [f"dataset/{self.dataset}", f"model/{self.base.partition('@')[0]}", f"model/cells/{self.cell}"]


@register_spec
class RefreshTrainingSpec(FinetuneSpec, frozen=True, tag="refresh"):
    """A fine-tune that a cell's refresh asked for; `refresh` is always there."""


@register_spec
class RefitSpec(FinetuneSpec, frozen=True, tag="refit"):
    """A fine-tune that puts a cell's variant on another base; `growth` is always there."""


@register_spec
class GrowthSpec(_Out, JobSpec, frozen=True, tag_field="kind", tag="growth"):
    """A value test of a contribution, or the training of the next base: it has no cell, and belongs to the operator."""

    base: str
    """`base/universal@v1`"""
    base_commit: str
    max_seconds: float
    seed: int
    growth: GrowthPlan

    def reads(self) -> list[str]:
        """The base, what is learnt from, and what judges."""
        return [f"model/{self.base.partition('@')[0]}", *read_by(self.growth)]

    def blobs(self) -> list[str]:
        """The decks that judge."""
        return list(self.growth.decks())

    def keeps(self) -> list[str]:
        """The base alone: an offer may be taken back and a judge may go while it runs."""
        return [f"model/{self.base.partition('@')[0]}"]


def read_by(plan: GrowthPlan) -> list[str]:
    """Repositories that a growth job reads beside its base."""
    found = [f"dataset/{name}" for name, _ in plan.datasets()]
    return found + ([f"model/{plan.start.base.partition('@')[0]}"] if plan.start else [])


def plan_of(spec: JobSpec) -> GrowthPlan | None:
    """The plan of a job that belongs to the growth of the base."""
    return spec.growth if isinstance(spec, FinetuneSpec | GrowthSpec) else None
