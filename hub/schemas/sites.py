"""Structs of the API about serving sites: their tokens, what they send, what the hub wishes, what they observe."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from hub.schemas.core import Slug
from serving.observed.captures import Reason

Text = Annotated[str, Meta(min_length=1, max_length=200)]
CellName = Annotated[str, Meta(pattern=r"^(\*|[a-z0-9][a-z0-9._-]{0,63})$")]
MAX_PICTURE: Final = 24 * 1024**2


class SiteIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A serving site to make a token for."""

    name: Slug
    cells: Annotated[list[CellName], Meta(min_length=1, max_length=1000)]
    """The cells that it serves; `*` is every cell."""


class Site(Struct, frozen=True, kw_only=True):
    """A serving site that has a token."""

    id: str
    name: str
    cells: list[str]
    created_at: str
    heard_at: str | None
    """When it was here last."""
    waiting: int
    """What the hub wishes of it and it has not fetched."""


class NewSite(Struct, frozen=True, kw_only=True):
    """The new site's token."""

    token: str
    """Shown this once."""


class SiteWish(Struct, frozen=True, kw_only=True):
    """Something that the hub wants of a site's frames."""

    id: str
    wish: dict[str, Any]
    """`cell`, `reason`, `since`, `until` (null: now), `requests`: as `serving.observed.wishes` has them."""


class SiteWishes(Struct, frozen=True, kw_only=True):
    """What the hub wants of the site that asks, oldest first: each until the site says that it has it."""

    hub: str
    """The hub's mark: a site that finds it in its own telemetry folder shares the hub's disk."""
    wishes: list[SiteWish]


class MessageIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of a site; `at` is epoch seconds."""

    at: Annotated[float, Meta(ge=0, lt=1e10)]
    message: dict[str, Any]
    """An alert that opens or closes, with its `id`."""


class CapturedInstance(Struct, frozen=True, kw_only=True):
    """One instance of the answer; `box` is x0, y0, x1, y1 in pixels."""

    label: Annotated[str, Meta(max_length=200)]
    score: Annotated[float, Meta(ge=0, le=1)]
    box: tuple[float, float, float, float]
    mask: Annotated[str, Meta(max_length=1_000_000)]
    """COCO compressed RLE."""


class CaptureDocument(Struct, frozen=True, kw_only=True):
    """A capture as a site keeps it."""

    request_id: Text
    at: Annotated[float, Meta(ge=0, lt=1e10)]
    reason: Annotated[Reason, Meta(pattern="^[a-z0-9_]{1,40}$")]
    served_by: Annotated[str, Meta(max_length=300)]
    cell: Text | None
    line: Text | None
    robot: Text | None
    height: Annotated[int, Meta(ge=1, le=20_000)]
    width: Annotated[int, Meta(ge=1, le=20_000)]
    instances: Annotated[list[CapturedInstance], Meta(max_length=10_000)]
    camera: Text | None = None
    kept_at: float = 0.0
    observed: dict[str, Any] | None = None


class CaptureIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A capture on its way to the hub."""

    document: CaptureDocument
    picture: Annotated[str, Meta(max_length=MAX_PICTURE * 4 // 3)]
    """The frame, base64."""
    kind: Literal["image/jpeg", "image/png"]


class StatisticsIn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest word about a camera."""

    what: Literal["camera", "novelty"]
    cell: Text
    line: Text | None
    camera: Text | None
    at: Annotated[float, Meta(ge=0, lt=1e10)]
    values: Annotated[dict[str, Any], Meta(max_length=50)]


class Taken(Struct, frozen=True, kw_only=True):
    """What the hub did with what was sent."""

    taken: bool
    """False: the hub had it already, or has no use for it."""


class CameraStatistics(Struct, frozen=True, kw_only=True):
    """What a site said last of a camera."""

    site: str
    what: str
    cell: str
    line: str | None
    camera: str | None
    at: str
    received_at: str
    values: dict[str, Any]
