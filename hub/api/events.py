"""Events: what new or failing packages have in common."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, get, patch, post
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED

from hub.accounts.tokens import Scope
from hub.client.events import EventCalls
from hub.http.access_policy import PRODUCTION, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas.events import Event, EventChange, EventMerge, EventSplit, EventState, Finding
from hub.schemas.paging import DEFAULT_LIMIT, Limit

PICTURE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=86400"}


class EventController(Controller):
    """What there is to learn."""

    path = "/events"
    tags = ("events",)

    @get(sync_to_thread=True)
    def list_events(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        cell: Annotated[str | None, QueryParameter(max_length=200, description="Those that show in one cell.")] = None,
        in_state: Annotated[EventState | None, QueryParameter(name="state", description="In one state alone.")] = None,
    ) -> list[Event]:
        """Events, the one whose learning would gain most first; all counts are of the caller's cells."""
        services.production.events.take_up()
        places = services.privacy.workplaces(identity_of(request))
        return services.production.events.all(places, cell=cell, state=in_state)[:limit]

    @get("/{event_id:str}", sync_to_thread=True)
    def get_event(self, services: Hub, request: HubRequest, event_id: Text) -> Event:
        """One event: where, how often, at what cost, and why it ranks where it does."""
        return services.production.events.get(event_id, services.privacy.workplaces(identity_of(request)))

    @get("/{event_id:str}/findings", sync_to_thread=True)
    def list_event_findings(
        self, services: Hub, request: HubRequest, event_id: Text, limit: Limit = DEFAULT_LIMIT
    ) -> list[Finding]:
        """Its packages, the newest first."""
        places = services.privacy.workplaces(identity_of(request))
        return services.production.events.findings(event_id, places, limit=limit)

    @patch("/{event_id:str}", sync_to_thread=True, guards=[requires(Scope.PROMOTE)])
    def change_event(self, services: Hub, request: HubRequest, event_id: Text, data: JSONBody[EventChange]) -> Event:
        """Name it, move it to another state, note something."""
        who, events = identity_of(request), services.production.events
        places = services.privacy.workplaces(who)
        events.get(event_id, places)
        events.change(event_id, data, who.owner)
        return events.get(event_id, places)

    @post("/{event_id:str}/merge", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)])
    def merge_events(self, services: Hub, request: HubRequest, event_id: Text, data: JSONBody[EventMerge]) -> Event:
        """Put another event into this one: they are the same."""
        who, events = identity_of(request), services.production.events
        places = services.privacy.workplaces(who)
        for one in (event_id, data.other):
            events.get(one, places)
        events.merge(event_id, data.other, who.owner)
        return events.get(event_id, places)

    @post("/{event_id:str}/split", sync_to_thread=True, status_code=HTTP_201_CREATED, guards=[requires(Scope.PROMOTE)])
    def split_event(self, services: Hub, request: HubRequest, event_id: Text, data: JSONBody[EventSplit]) -> Event:
        """Let findings found an event of their own; without any named, the event is grouped anew in two. Returns the
        new one."""
        who, events = identity_of(request), services.production.events
        places = services.privacy.workplaces(who)
        events.get(event_id, places)
        fresh = events.split(event_id, data.findings, who.owner, places, data.name)
        return events.get(fresh, places)


class FindingController(Controller):
    """Small pictures of what was found."""

    path = "/findings"
    tags = ("events",)

    @get("/{finding_id:str}/picture", sync_to_thread=True)
    def get_finding_picture(self, services: Hub, request: HubRequest, finding_id: Text) -> Response[bytes]:
        """The package, cut out of its frame: a JPEG."""
        data = services.production.events.crop(finding_id, services.privacy.workplaces(identity_of(request)))
        return Response(data, media_type="image/jpeg", headers=PICTURE_HEADERS)


RESOURCE = register(
    Resource(
        "events",
        [EventController, FindingController],
        rules=grouped(
            ("", PRODUCTION, "GET /events, GET /findings/{finding_id}/picture"),
            ("/events/{event_id}", PRODUCTION, "GET, PATCH, GET /findings, POST /merge, POST /split"),
        ),
        calls=EventCalls,
    )
)
