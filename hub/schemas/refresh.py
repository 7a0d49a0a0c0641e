"""Structs of the API about refreshes: a cell's policy, what is decided by it, and the steps of its timeline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from hub.schemas.core import ServedStage

RunState = Literal["building", "training", "offered", "failed", "vetoed", "undone"]
PromoteMode = Literal["off", "ask", "evidence"]
DatasetName = Annotated[str, Meta(pattern=r"^[^/@\s]+/[^/@\s]+$", max_length=200)]
Clock = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")]


class RefreshPolicyIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a cell's variant is trained again. A field that is not named has its default.

    Attributes:
        enabled: whether the rule may start a refresh.
        paused: the rule waits until somebody resumes it.
        labels: the datasets that new labels come into; none: `<team>/<cell>-labels`.
        min_labels: so many new labelled images are enough.
        min_gain: so much expected gain (0 to 1, the share of picks that may be won) is enough as well; null: never.
        min_hours_between: at most one refresh in so many hours.
        begin, end: the hours in which the rule may start one, in `time_zone`; `end` before `begin` is over midnight.
        time_zone: a name of the IANA data base.
        max_minutes: the budget of the training.
        tolerance: what a slice of the cell's history may lose, in AP50.
        promote: what becomes of a variant that is offered. `evidence`: the rule takes it from stage to stage as far as
            the gate and the trials let it; `ask`: it says on the timeline that a person may; `off`: nothing.
        promote_until: the last stage that the rule goes to or asks about.
    """

    enabled: bool = True
    paused: bool = False
    labels: Annotated[list[DatasetName], Meta(max_length=20)] = []
    min_labels: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    min_gain: Annotated[float, Meta(gt=0, le=1)] | None = 0.05
    min_hours_between: Annotated[float, Meta(ge=0, le=24 * 366)] = 24.0
    begin: Clock = "00:00"
    end: Clock = "24:00"
    time_zone: Annotated[str, Meta(min_length=1, max_length=100)] = "UTC"
    max_minutes: Annotated[float, Meta(gt=0, le=24 * 60)] = 6.0
    tolerance: Annotated[float, Meta(ge=0, le=1)] = 0.02
    promote: PromoteMode = "ask"
    promote_until: ServedStage = "fleet"


class RefreshPolicy(Struct, frozen=True, kw_only=True):
    """A policy, and who set it when; version 0 is the default that nobody set."""

    cell: str
    version: int
    policy: RefreshPolicyIn
    set_by: str = ""
    set_at: str | None = None
    note: str = ""


class RefreshNote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why somebody does what they do."""

    note: Annotated[str, Meta(max_length=500)] = ""


class RefreshPolicySet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new policy; `expected` is the version that it takes the place of, and another one by then is a conflict."""

    policy: RefreshPolicyIn
    note: Annotated[str, Meta(max_length=500)] = ""
    expected: Annotated[int, Meta(ge=0)] | None = None


class RefreshRun(Struct, frozen=True, kw_only=True):
    """One refresh."""

    id: str
    cell: str
    state: RunState
    by_rule: bool
    reason: str
    """Why it was started, or how it ended."""
    asked_by: str
    asked_at: str
    new_images: int
    start: str
    """The variant that it went on from; "" for the base."""
    job: str | None
    dataset: str
    dataset_commit: str | None
    version: str | None
    """The variant that it offers: `<cell>@v3`."""
    ended_at: str | None
    ended_by: str | None
    note: str


class RefreshStatus(Struct, frozen=True, kw_only=True):
    """What the rule says now: `code` is `start` or why not, `reason` says it in words."""

    code: str
    reason: str
    new_images: int
    """Labelled images that no deck of the cell had."""
    unused: int
    """Those of them that no refresh took up."""


class PromotionStatus(Struct, frozen=True, kw_only=True):
    """What the rule of promotions says now: `code` is `try`, or why not (`ask`, `wait`, `off` …), `reason` in words;
    `stage` is the next one."""

    code: str
    reason: str
    stage: ServedStage


class Refresh(Struct, frozen=True, kw_only=True):
    """A cell's policy, what it says now, and the newest refreshes."""

    cell: str
    policy: RefreshPolicy
    labels: list[str]
    """The datasets that are looked at."""
    status: RefreshStatus
    active: RefreshRun | None
    runs: list[RefreshRun]
    promotion: PromotionStatus | None = None
    """What the policy says of the newest variant that is offered."""


class Step(Struct, frozen=True, kw_only=True):
    """One step of a cell's timeline."""

    id: str
    """Names the step, and the next page behind it."""
    at: str
    kind: str
    title: str
    reason: str = ""
    who: str = ""
    link: str = ""
    """A page of the hub about it."""
    tone: Literal["", "good", "bad", "warn"] = ""
    run: str = ""
    """The refresh that it is a step of."""
    actions: list[str] = []
    """What may be done about it now: `veto`, `undo`."""
    data: dict[str, Any] = {}
