"""Structs of the API about what production says by itself: alerts."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from serving.observed.camera_kinds import Kind

AlertState = Literal["open", "acknowledged", "closed"]


class AlertNote(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person says who acknowledges or closes an alert."""

    note: Annotated[str, Meta(max_length=500)] = ""


class Alert(Struct, frozen=True, kw_only=True):
    """What is wrong with a cell's camera."""

    id: str
    cell: str
    line: str | None
    camera: str | None
    kind: Kind
    what: str
    """In plain words."""
    remedy: str
    """What to do about it."""
    reason: str
    """What was measured; "" where there is no number to tell."""
    since: str
    opened_at: str
    state: AlertState
    acknowledged_at: str | None
    acknowledged_by: str | None
    closed_at: str | None
    closed_by: str | None
    note: str
    pictures: list[str]
    """Those that there are of `before` and `after`."""
