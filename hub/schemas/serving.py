"""Structs of the API about production: outcomes, rates, captures, roll-outs, trials, robots."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.schemas.core import ServedStage, Slug
from serving.robot.outcomes import MAX_INSTANCE, MAX_PIXEL, OutcomeName

Text = Annotated[str, Meta(max_length=200)]
Pixel = Annotated[float, Meta(ge=0, le=MAX_PIXEL)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
TrialState = Literal["running", "passed", "failed", "stopped"]


class _In(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends."""


class _Out(Struct, frozen=True, kw_only=True):
    """What the hub answers."""


class OutcomeIn(_In, frozen=True):
    """What became of a pick. The first outcome of a request counts; to send one again is safe."""

    request_id: Annotated[str, Meta(pattern=r"^[!-~]{1,200}$")]
    outcome: OutcomeName
    picked_at: Annotated[float, Meta(gt=0, lt=1e11)]
    """Epoch seconds."""
    label: Text | None = None
    """Class of the picked item; the prediction's most certain one if left out."""
    cell: Text | None = None
    line: Text | None = None
    robot: Text | None = None
    served_by: Text | None = None
    """As the answer said; counts only where the server's record of the prediction is missing."""
    instance: Annotated[int, Meta(ge=0, lt=MAX_INSTANCE)] | None = None
    """Which instance of the answer was picked, counted from 0."""
    point: tuple[Pixel, Pixel] | None = None
    """Where the gripper went: x, y in pixels of the frame."""
    gripper: Text | None = None
    """What it was picked with."""


class OutcomesIn(_In, frozen=True):
    """Outcomes, at most 1,000 at once."""

    outcomes: Annotated[list[OutcomeIn], Meta(min_length=1, max_length=1000)]


class OutcomesTaken(_Out, frozen=True):
    """How many outcomes were new."""

    taken: int
    repeated: int
    """Request ids that had an outcome already: the first one stays."""


class Rate(_Out, frozen=True):
    """Success rate of one group of picks with its Wilson interval at 95 %."""

    group: dict[str, str | None]
    picks: int
    successes: int
    rate: float | None
    low: float
    high: float
    outcomes: dict[str, int]


class Rates(_Out, frozen=True):
    """Success rates by the dimensions in `by`."""

    by: list[str]
    rates: list[Rate]
    unmatched: int
    """Outcomes whose prediction the server has no record of (these count by what the robot said)."""


class Capture(_Out, frozen=True):
    """A frame that was kept from production, with what was answered; `height` and `width` are pixels."""

    id: str
    request_id: str
    at: str
    reason: str
    cell: str | None
    line: str | None
    robot: str | None
    served_by: str
    height: int
    width: int
    instances: list[dict[str, Any]]
    outcome: str | None = None
    camera: str | None = None


class LinesIn(_In, frozen=True):
    """Which lines run another stage than the fleet's."""

    lines: Annotated[dict[Name, Literal["station", "beta"]], Meta(max_length=10_000)]
    """Production lines that are not on the fleet's variant yet; replaces the list before."""


class ShareIn(_In, frozen=True):
    """How many of the cell's robots are to try the beta variant."""

    share: Annotated[float, Meta(ge=0, le=1)]
    """Of the other lines and robots, the share that gets the beta variant as well."""


class TrialIn(_In, frozen=True):
    """How to judge a stage's variant by outcomes. Rates left out are taken from the variant before it."""

    stage: ServedStage
    good: Annotated[float, Meta(gt=0, lt=1)] | None = None
    bad: Annotated[float, Meta(gt=0, lt=1)] | None = None
    alpha: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01
    beta: Annotated[float, Meta(gt=0, lt=0.5)] = 0.05
    picks: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Decide after at most so many picks; 0: only at the test's own boundaries."""
    rollback: bool = True
    """Roll back by itself when the variant is judged bad."""


class Trial(_Out, frozen=True):
    """A sequential test of a stage's variant by its outcomes; rates are shares, from 0 to 1."""

    id: str
    cell: str
    variant: str
    stage: ServedStage
    state: TrialState
    good: float
    bad: float
    alpha: float
    beta: float
    picks_at_most: int
    repeat: bool
    rollback: bool
    started_at: str
    decided_at: str | None
    picks: int
    successes: int
    rate: float | None
    low: float
    high: float
    ratio: float
    """Log-likelihood ratio of bad against good; `boundaries` are where it decides (good, bad)."""
    boundaries: list[float]
    evidence: str | None
    """sha256 of the evidence document, once decided."""
    decision: str | None
    """The decision record of the rollback it caused."""


class Place(_Out, frozen=True):
    """What became of a stage's variant at the robots' server."""

    variant: str
    state: Literal["in place", "promoted, not in place", "on its way", "unknown"]
    reason: str = ""
    code: str = ""


class Rollout(_Out, frozen=True):
    """Who serves a cell."""

    cell: str
    station: str | None
    beta: str | None
    fleet: str | None
    lines: dict[str, str]
    beta_share: float
    routing_version: int
    trials: list[Trial]
    placement: dict[str, Place] = {}
    """By stage: whether the variant that holds it answers, and why it does not."""


class RobotIn(_In, frozen=True):
    """A robot to make a token for."""

    name: Slug
    cells: Annotated[
        list[Annotated[str, Meta(pattern=r"^(\*|[a-z0-9][a-z0-9._-]{0,63})$")]], Meta(min_length=1, max_length=1000)
    ]
    """The cells it may ask for and report on; `*` is every cell."""


class Robot(_Out, frozen=True):
    """A robot that has a token."""

    id: str
    name: str
    cells: list[str]
    created_at: str


class NewRobot(_Out, frozen=True):
    """The new robot's token."""

    token: str
    """Shown this once."""
