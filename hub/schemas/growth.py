"""Structs of the API about the base's growth: contributions, the policy, plans and runs."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

ContributionState = Literal["offered", "checked", "tested", "accepted", "refused", "withdrawn"]
GrowthState = Literal["training", "refitting", "finished", "failed", "stopped"]
ALLOWED: Final = (
    *("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc0-1.0"),
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "mit", "odc-by", "pddl", "unlicense"),
)
"""Licences whose works may be learnt from, and what is learnt be given to everybody."""
CellState = Literal["refitting", "moved", "candidate", "stays", "failed"]


class Moment(Struct, frozen=True, kw_only=True):
    """A change of a contribution's state: when, by whom, and why."""

    at: str
    state: ContributionState
    who: str
    reason: str


class CellGain(Struct, frozen=True, kw_only=True):
    """What a base did for a cell. `cell` is "" where the cell is not the caller's to see."""

    cell: str
    difference: float | None
    """In AP50, of the cell's variant on its own history."""
    state: CellState
    reason: str


class Credit(Struct, frozen=True, kw_only=True):
    """A base that learnt from a contribution, and what that base did for whom."""

    run: str
    base: str
    images: int
    """Of this contribution."""
    contributions: int
    """All that it learnt from."""
    cells: list[CellGain]


class Contribution(Struct, frozen=True, kw_only=True):
    """An offer of a dataset's revision to the base."""

    id: str
    dataset: str
    commit: str
    state: ContributionState
    reason: str
    images: int
    offered_by: str
    offered_at: str
    changed_by: str
    changed_at: str
    note: str
    checks: list[str] = []
    """What the checks found, as sentences."""
    verdict: str = ""
    """Of the value test: `helps`, `unsure`, `hurts`; "" before it."""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    progress: str = ""
    """Of the value test, while it runs."""
    moments: list[Moment] = []
    credits: list[Credit] = []


class ContributionDecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A word about a contribution. `expected` is the state that whoever says it saw: another one by then is a
    conflict."""

    decision: Literal["accept", "refuse"]
    note: Annotated[str, Meta(max_length=500)] = ""
    expected: ContributionState | None = None


class GrowthPolicyIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the base grows by itself, and what a contribution must pass. A field that is not named has its default.

    Attributes:
        enabled: whether the rule may train a base.
        min_images: so many accepted images that no base learnt from are enough.
        min_contributions: of so many contributions.
        min_hours_between: at most one base in so many hours.
        licences: licences of dataset cards that may go into a base that everybody gets.
        accept_unsure: accept a contribution also where the value test does not tell.
        value_steps, base_steps, batch: of trainings.
        share: of a training's pictures that are of contributions.
        refit_minutes: budget of each variant's training.
        tolerance: what a slice of a cell's history may lose, in AP50.
        per_cell: pictures of each cell that judge, at most.
    """

    enabled: bool = False
    min_images: Annotated[int, Meta(ge=1, le=10_000_000)] = 200
    min_contributions: Annotated[int, Meta(ge=1, le=10_000)] = 2
    min_hours_between: Annotated[float, Meta(ge=0, le=24 * 366)] = 168.0
    licences: Annotated[list[Annotated[str, Meta(max_length=60)]], Meta(max_length=100)] = field(
        default_factory=lambda: list(ALLOWED)
    )
    accept_unsure: bool = False
    value_steps: Annotated[int, Meta(ge=1, le=100_000)] = 200
    base_steps: Annotated[int, Meta(ge=1, le=10_000_000)] = 2000
    batch: Annotated[int, Meta(ge=1, le=256)] = 8
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.3
    refit_minutes: Annotated[float, Meta(gt=0, le=24 * 60)] = 6.0
    tolerance: Annotated[float, Meta(ge=0, le=1)] = 0.02
    per_cell: Annotated[int, Meta(ge=1, le=1000)] = 24


class GrowthPolicy(Struct, frozen=True, kw_only=True):
    """A policy, and who set it when; version 0 is the default that nobody set."""

    version: int
    policy: GrowthPolicyIn
    set_by: str = ""
    set_at: str | None = None
    note: str = ""


class GrowthPolicySet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new policy; `expected` is the version that it takes the place of, and another one by then is a conflict."""

    policy: GrowthPolicyIn
    note: Annotated[str, Meta(max_length=500)] = ""
    expected: Annotated[int, Meta(ge=0)] | None = None


class GrowthCell(Struct, frozen=True, kw_only=True):
    """A cell of a run: the variant that is put on the new base, and what became of it."""

    cell: str
    state: CellState
    start: str
    version: str | None
    stages: list[str]
    """Those that the present variant holds."""
    reason: str
    difference: float | None
    job: str | None = None


class GrowthRun(Struct, frozen=True, kw_only=True):
    """One growth of the base."""

    id: str
    state: GrowthState
    by_rule: bool
    reason: str
    asked_by: str
    asked_at: str
    start: str
    """The base that it goes on from."""
    base: str | None
    """The base that came of it."""
    job: str | None
    contributions: list[str]
    cells: list[GrowthCell]
    result: dict[str, Any]
    ended_at: str | None
    ended_by: str | None


class GrowthOutlook(Struct, frozen=True, kw_only=True):
    """What `base grow` would do now."""

    start: str
    contributions: list[str]
    """Accepted ones, as `team/name@commit: images`."""
    images: int
    new_images: int
    """Those that no base learnt from."""
    cells: list[str]
    """Cells with a variant, as `cell@v3 on base/universal@v1 (fleet)`."""
    judges: int
    minutes: float
    """Of the refits' budgets together; the base's own training goes by steps."""
    rule: str
    """What the rule says now, in words."""
    active: GrowthRun | None = None


class GrowIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let the base grow now."""

    note: Annotated[str, Meta(max_length=500)] = ""


class GrowthNote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why somebody does what they do."""

    note: Annotated[str, Meta(max_length=500)] = ""
