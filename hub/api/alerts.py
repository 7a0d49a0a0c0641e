"""Alerts: what is wrong with cells' cameras."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK

from hub.accounts.tokens import Scope
from hub.client.alerts import AlertCalls
from hub.http.access_policy import PRODUCTION, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas.loop import Alert, AlertNote, AlertState
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged


class AlertController(Controller):
    """What production says is wrong."""

    path = "/alerts"
    tags = ("alerts",)

    @get(sync_to_thread=True)
    def list_alerts(
        self,
        services: Hub,
        request: HubRequest,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        cell: Annotated[str | None, QueryParameter(max_length=200, description="Of one cell alone.")] = None,
        in_state: Annotated[AlertState | None, QueryParameter(name="state", description="In one state alone.")] = None,
    ) -> Response[list[Alert]]:
        """Alerts, newest first."""
        places = services.privacy.workplaces(identity_of(request))
        found = services.production.alerts.page(places=places, limit=limit + 1, after=after, cell=cell, state=in_state)
        return paged(request, found, limit, lambda one: one.id)

    @get("/{alert_id:str}", sync_to_thread=True)
    def get_alert(self, services: Hub, request: HubRequest, alert_id: Text) -> Alert:
        """One alert: which camera, what is wrong since when, and what to do about it."""
        return services.production.alerts.get(alert_id, services.privacy.workplaces(identity_of(request)))

    @get("/{alert_id:str}/pictures/{which:str}", sync_to_thread=True)
    def get_alert_picture(self, services: Hub, request: HubRequest, alert_id: Text, which: Text) -> Response[bytes]:
        """What the camera saw `before` the fault and `after` it: a JPEG."""
        services.production.alerts.get(alert_id, services.privacy.workplaces(identity_of(request)))
        data = services.production.alerts.picture(alert_id, which)
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=86400"}
        return Response(data, media_type="image/jpeg", headers=headers)

    @post(
        "/{alert_id:str}/acknowledge",
        sync_to_thread=True,
        status_code=HTTP_200_OK,
        guards=[requires(Scope.PROMOTE)],
    )
    def acknowledge_alert(self, services: Hub, request: HubRequest, alert_id: Text, data: JSONBody[AlertNote]) -> Alert:
        """Say that somebody looks after it."""
        who = identity_of(request)
        services.production.alerts.get(alert_id, services.privacy.workplaces(who))
        return services.production.alerts.acknowledge(alert_id, who.owner, data.note)

    @post("/{alert_id:str}/close", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)])
    def close_alert(self, services: Hub, request: HubRequest, alert_id: Text, data: JSONBody[AlertNote]) -> Alert:
        """Say that it was dealt with. It closes by itself when the fault is gone."""
        who = identity_of(request)
        services.production.alerts.get(alert_id, services.privacy.workplaces(who))
        return services.production.alerts.close(alert_id, who.owner, data.note)


RESOURCE = register(
    Resource(
        "alerts",
        [AlertController],
        rules=grouped(
            ("/alerts", PRODUCTION, "GET"),
            ("/alerts/{alert_id}", PRODUCTION, "GET, GET /pictures/{which}, POST /acknowledge, POST /close"),
        ),
        calls=AlertCalls,
    )
)
