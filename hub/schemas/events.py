"""Structs of the API about events: what new or failing packages have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

EventState = Literal["new", "watched", "labelling", "learnt", "ignored", "fault"]


class EventCell(Struct, frozen=True, kw_only=True):
    """How an event shows in one cell."""

    cell: str
    findings: int
    first_seen: str
    last_seen: str


class Finding(Struct, frozen=True, kw_only=True):
    """One package of one capture."""

    id: str
    capture: str
    cell: str
    line: str | None
    seen_at: str
    label: str
    score: float
    novelty: float
    """1 less the probability that a known package is as strange."""
    answered: bool
    """False for what lay there and was not answered."""
    outcome: str | None


class Event(Struct, frozen=True, kw_only=True):
    """What packages of one kind have in common. All counts are of cells that the caller works in."""

    id: str
    name: str
    """What a person called it, or a name made of its number and likeliest class."""
    state: EventState
    note: str
    findings: int
    cells: list[EventCell]
    first_seen: str
    last_seen: str
    trend: Literal["rising", "steady", "falling"]
    picks: int
    """Picks of its packages whose outcome is known."""
    failed: int
    failure_rate: float | None
    failure_interval: tuple[float, float]
    """95 % (Wilson)."""
    novelty: float
    """Mean of its findings'."""
    gain: float
    """Expected gain of learning it: findings a day x failure rate (its interval's middle) x novelty."""
    why: str
    """The rank's reason in words."""
    typical: list[Finding]
    """Up to six, the most typical first."""
    changed_by: str | None


class EventChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new name, state or note of an event; what is not given stays."""

    name: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    state: EventState | None = None
    note: Annotated[str, Meta(max_length=500)] | None = None


class EventMerge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which other event goes into this one."""

    other: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class EventSplit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which findings leave an event and found one of their own; without any, they are grouped anew in two."""

    findings: Annotated[list[Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]], Meta(max_length=1000)] = []
    name: Annotated[str, Meta(max_length=100)] = ""
