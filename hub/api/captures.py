"""Captures: frames kept from production, with their predictions and outcomes."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Annotated, Any

from litestar import Controller, Response, delete, get
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT

from hub.accounts.tokens import Identity, Scope
from hub.client.captures import CaptureCalls
from hub.errors import InputError
from hub.http.access_policy import PRODUCTION, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.migrations.tables import timestamp
from hub.schemas import serving as v
from hub.services import Services
from serving.errors import CaptureNotFound

MAX_LOOKED_AT = 20_000


class CaptureController(Controller):
    """What the robots' server kept."""

    path = "/captures"
    tags = ("captures",)

    @get(sync_to_thread=True)
    def list_captures(
        self,
        services: Hub,
        request: HubRequest,
        limit: Annotated[int, QueryParameter(ge=1, le=500)] = 50,
        before: Annotated[str | None, QueryParameter(max_length=40, description="Older than this capture.")] = None,
        cell: Annotated[str | None, QueryParameter(max_length=200)] = None,
        reason: Annotated[str | None, QueryParameter(max_length=20, description="low_score, sample, …")] = None,
        outcome: Annotated[
            str | None, QueryParameter(max_length=20, description="What the pick did; `none` without one.")
        ] = None,
        since: Annotated[str | None, QueryParameter(max_length=40, description="Day or time, UTC.")] = None,
        until: Annotated[str | None, QueryParameter(max_length=40, description="Day or time, UTC; not later.")] = None,
    ) -> list[v.Capture]:
        """Captures, newest first; with `before` set to the last one's id, the next page."""
        wanted = Wanted(cell, reason, outcome, moment(since, "since"), moment(until, "until", end=True))
        places = services.privacy.workplaces(identity_of(request))
        return find_captures(services, places, wanted, limit=limit, before=before)

    @get("/{capture_id:str}", sync_to_thread=True)
    def get_capture(self, services: Hub, request: HubRequest, capture_id: Text) -> v.Capture:
        """One capture: what was answered, by whom, why it was kept, and what the pick did."""
        return _with_outcomes(services, [_own(services, request, capture_id)])[0]

    @get("/{capture_id:str}/image", sync_to_thread=True)
    def get_capture_image(self, services: Hub, request: HubRequest, capture_id: Text) -> Response[bytes]:
        """The frame, JPEG or PNG."""
        _own(services, request, capture_id)
        data, kind = services.production.captures.image(capture_id)
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=86400, immutable"}
        return Response(data, media_type=kind, headers=headers)

    @delete("/{capture_id:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT, guards=[requires(Scope.PROMOTE)])
    def delete_capture(self, services: Hub, request: HubRequest, capture_id: Text) -> None:
        """Forget a frame that should not have been kept; one that is gone already is fine."""
        try:
            _own(services, request, capture_id)
        except CaptureNotFound:
            places = services.privacy.workplaces(identity_of(request))
            services.production.events.forget_capture(capture_id, places)  # what was found in it may be there still
            if not identity_of(request).sees_all:
                return  # gone, or another team's: which of the two is not told
        services.production.captures.remove(capture_id)
        services.production.events.forget_capture(capture_id)
        services.labelling.forget_capture(capture_id)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which captures; None: any. `outcome` is one of a pick's, or `none` for those without; times are epoch seconds."""

    cell: str | None = None
    reason: str | None = None
    outcome: str | None = None
    since: float | None = None
    until: float | None = None

    def fits(self, one: dict[str, Any], places: Collection[str] | None) -> bool:
        """All but the outcome."""
        return (
            (places is None or one["cell"] in places)
            and (self.cell is None or one["cell"] == self.cell)
            and (self.reason is None or one["reason"] == self.reason)
        )


def find_captures(
    services: Services, places: Collection[str] | None, wanted: Wanted, *, limit: int, before: str | None
) -> list[v.Capture]:
    """Captures of these cells (None: all), newest first, at most MAX_LOOKED_AT looked at; for the API and the pages."""
    if wanted.until is not None:
        end = f"{max(int(wanted.until * 1000), 0):013d}"
        before = end if before is None else min(before, end)
    names = services.production.captures.names(before=before)
    if wanted.since is not None:
        start = f"{max(int(wanted.since * 1000), 0):013d}"
        names = takewhile(lambda name: name >= start, names)
    names = islice(names, MAX_LOOKED_AT)
    found: list[v.Capture] = []
    while part := list(islice(names, 200)):
        ones = []
        for name in part:
            with suppress(CaptureNotFound):  # it made room for a newer one in this moment
                if wanted.fits(one := services.production.captures.read(name), places):
                    ones.append(one)
            if wanted.outcome is None and len(found) + len(ones) == limit:
                break
        for told in _with_outcomes(services, ones):
            if wanted.outcome in (None, told.outcome or "none"):
                found.append(told)
                if len(found) == limit:
                    return found
    return found


def moment(text: str | None, name: str, *, end: bool = False) -> float | None:
    """Epoch seconds of a day or a time as ISO 8601 writes it, UTC where it does not say; of a day, its `end`.

    None for no text. Raises InputError.
    """
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        if end and len(text) <= 10:
            at += timedelta(days=1)
        return at.timestamp()
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{name} must be a day or a time as 2026-11-30 or 2026-11-30T10:00, got {text[:40]!r}"
        ) from error


def own_capture(services: Services, who: Identity, capture_id: str) -> v.Capture:
    """One capture with its outcome. Raises CaptureNotFound, also for another team's."""
    found = services.production.captures.read(capture_id)
    if not services.privacy.works_in(who, found["cell"]):
        raise CaptureNotFound(capture_id)
    return _with_outcomes(services, [found])[0]


def _own(services: Services, request: HubRequest, capture_id: str) -> dict[str, Any]:
    """The capture, if its cell is one that the caller works in. Raises CaptureNotFound."""
    found = services.production.captures.read(capture_id)
    if not services.privacy.works_in(identity_of(request), found["cell"]):
        raise CaptureNotFound(capture_id)
    return found


def _with_outcomes(services: Services, captures: list[dict[str, Any]]) -> list[v.Capture]:
    outcomes = services.production.telemetry.outcome_of([one["request_id"] for one in captures]) if captures else {}
    names = ("id", "request_id", "reason", "cell", "line", "robot", "served_by", "height", "width", "instances")
    return [
        v.Capture(
            **{name: one[name] for name in names},
            at=timestamp(one["at"]),
            outcome=outcomes.get(one["request_id"]),
            camera=one.get("camera"),
        )
        for one in captures
    ]


RESOURCE = register(
    Resource(
        "captures",
        [CaptureController],
        rules=grouped(
            ("/captures", PRODUCTION, "GET"),
            ("/captures/{capture_id}", PRODUCTION, "GET, GET /image, DELETE"),
        ),
        calls=CaptureCalls,
    )
)
