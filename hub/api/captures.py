"""Captures: frames kept from production, with their predictions and outcomes."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from litestar import Controller, Response, delete, get
from litestar.params import QueryParameter
from litestar.status_codes import HTTP_204_NO_CONTENT

from hub.accounts.tokens import Scope
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
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
        reason: Annotated[str | None, QueryParameter(max_length=20, description="low_score or sample.")] = None,
    ) -> list[v.Capture]:
        """Captures, newest first; with `before` set to the last one's id, the next page."""
        places = services.privacy.workplaces(identity_of(request))
        found: list[dict[str, Any]] = []
        for name in islice(services.production.captures.names(before=before), MAX_LOOKED_AT):
            try:
                one = services.production.captures.read(name)
            except CaptureNotFound:  # it made room for a newer one in this moment
                continue
            if places is not None and one["cell"] not in places:
                continue
            if (cell is None or one["cell"] == cell) and (reason is None or one["reason"] == reason):
                found.append(one)
                if len(found) == limit:
                    break
        return _with_outcomes(services, found)

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
            if not identity_of(request).sees_all:
                return  # gone, or another team's: which of the two is not told
        services.production.captures.remove(capture_id)
        services.labelling.forget_capture(capture_id)


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
            **{name: one[name] for name in names}, at=timestamp(one["at"]), outcome=outcomes.get(one["request_id"])
        )
        for one in captures
    ]
