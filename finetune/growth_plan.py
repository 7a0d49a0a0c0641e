"""What a growth job is made of: contributions that a base learns from, and the cells' past decks that judge it.

The hub writes it into a job; the training reads it there. Nothing here brings torch along.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

GrowthKind = Literal["value", "base", "refit"]
ValueVerdict = Literal["helps", "unsure", "hurts"]
VALUE_RESAMPLES: Final = 400


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """Images of a dataset revision that were offered.

    Attributes:
        id: the contribution's.
        dataset, commit: `team/name`, and the revision that is read.
        group: what is balanced: contributions of one group share one turn.
        files: paths of the images that were offered and are still there.
    """

    id: str
    dataset: str
    commit: str
    group: str
    files: tuple[str, ...]


class PastDeck(msgspec.Struct, frozen=True, kw_only=True):
    """A deck that a variant of a cell was made of: its holdout is a slice of the cell's history."""

    variant: str
    dataset: str
    commit: str
    deck: str


class CellHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A cell that judges: its past decks, the newest first."""

    cell: str
    decks: tuple[PastDeck, ...]


class RefitStart(msgspec.Struct, frozen=True, kw_only=True):
    """The variant that a refit takes the place of: on its own base, of its own deck."""

    version: str
    commit: str
    deck: str
    base: str
    base_commit: str


class GrowthPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A growth job.

    Attributes:
        kind: `value` tests one contribution, `base` trains the next base, `refit` trains a variant on it.
        run: the contribution that is tested, or the run of the growth.
        contributions: what is learnt from.
        judges: the cells that judge; of a refit its own.
        steps, batch, share: of a training: steps of `batch` pictures, of which `share` are of contributions.
        per_cell: so many pictures of each judge at most.
        start: of a refit.
        tolerance: what a slice of a cell's history may lose, in AP50.
    """

    kind: GrowthKind
    run: str
    contributions: tuple[Contribution, ...] = ()
    judges: tuple[CellHistory, ...] = ()
    steps: int = 200
    batch: int = 8
    share: float = 0.3
    per_cell: int = 24
    seed: int = 1
    start: RefitStart | None = None
    tolerance: float = 0.02

    def datasets(self) -> tuple[tuple[str, str], ...]:
        """(name, commit) of every dataset that is read, each once."""
        wanted = [(one.dataset, one.commit) for one in self.contributions]
        wanted += [(one.dataset, one.commit) for each in self.judges for one in each.decks]
        return tuple(dict.fromkeys(wanted))

    def decks(self) -> tuple[str, ...]:
        """The digests of the decks that are read, each once."""
        wanted = [one.deck for each in self.judges for one in each.decks]
        return tuple(dict.fromkeys([*wanted, *([self.start.deck] if self.start else [])]))


def value_verdict(low: float, high: float) -> ValueVerdict:
    """What the 95 % interval of a difference in AP50 says of a contribution."""
    return "helps" if low > 0 else "hurts" if high < 0 else "unsure"
