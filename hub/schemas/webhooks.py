"""Structs of the API about webhooks and their deliveries."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from hub.schemas.core import _In, _Out

EventName = Annotated[
    str, Meta(pattern=r"^(\*|(repo|discussion|job|promotion|alert)(\.[a-z0-9][a-z0-9_-]{0,62}){0,3})$")
]
"""An event, or a family of events: `repo` is every event that begins with `repo.`; `*` is all of them."""
Watched = Annotated[str, Meta(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?)$")]
"""`team`, `team/name`, `cells/dock-7`, or `*` for all that the team may see."""
Events = Annotated[list[EventName], Meta(min_length=1, max_length=50)]
Watches = Annotated[list[Watched], Meta(max_length=200)]
Url = Annotated[str, Meta(min_length=1, max_length=2000)]
Note = Annotated[str, Meta(max_length=500)]
DeliveryState = Literal["pending", "delivered", "failed", "withheld"]


class WebhookIn(_In, frozen=True):
    """A webhook to make: where to send what."""

    url: Url
    events: Events = field(default_factory=lambda: ["*"])
    watch: Watches = field(default_factory=list)
    """Empty: what is the team's own."""
    team: Annotated[str, Meta(max_length=96)] | None = None
    """Whose eyes it has; null: the caller's own. The operator's have no team, and see all."""
    note: Note = ""


class WebhookChange(_In, frozen=True):
    """What to change; null leaves it as it is."""

    url: Url | None = None
    events: Events | None = None
    watch: Watches | None = None
    note: Note | None = None
    active: bool | None = None


class Webhook(_Out, frozen=True):
    """A webhook, without its secret."""

    id: str
    team: str
    """Empty: the operator's."""
    url: str
    events: list[str]
    watch: list[str]
    note: str
    active: bool
    created_by: str
    created_at: str
    pending: int
    """Deliveries that wait."""
    failed: int
    """Deliveries that were given up."""


class NewSecret(_Out, frozen=True):
    """The webhook and the secret that its deliveries are signed with, shown this once."""

    webhook: Webhook
    secret: str


class Delivery(_Out, frozen=True):
    """One event on its way to one webhook. `status`: of the newest try's answer, null if there was none."""

    id: str
    webhook: str
    event: str
    state: DeliveryState
    attempts: int
    created_at: str
    tried_at: str | None
    next_try_at: str | None
    status: int | None
    error: str
    seconds: float | None
    """How long the newest try took."""
