"""Webhooks: a team's own addresses that are told what happens, and what became of each delivery."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED, HTTP_204_NO_CONTENT

from hub.accounts.tokens import Scope
from hub.client.webhooks import WebhookCalls
from hub.errors import ForbiddenError, UnknownWebhookError
from hub.http.access_policy import ACCOUNT, CHANGE, grouped
from hub.http.audit import note
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas import webhooks as w
from hub.schemas.paging import DEFAULT_LIMIT, After, Limit, paged
from hub.services import Services
from hub.webhooks.hooks import Hook

_MAY_CHANGE = requires(Scope.CONTRIBUTE)
State = Annotated[w.DeliveryState | None, QueryParameter(name="state", description="Only those in this state.")]


class WebhookController(Controller):
    """Who has a team sees its webhooks; the secrets nobody sees again."""

    path = "/webhooks"
    tags = ("webhooks",)

    @get(sync_to_thread=True)
    def list_webhooks(
        self, services: Hub, request: HubRequest, limit: Limit = DEFAULT_LIMIT, after: After = ""
    ) -> Response[list[w.Webhook]]:
        """The webhooks of the caller's teams; all of them for the operator."""
        who = identity_of(request)
        teams = None if who.sees_all else sorted(who.namespaces)
        return paged(request, services.webhooks.page(limit=limit + 1, after=after, teams=teams), limit, lambda w: w.id)

    @post(sync_to_thread=True, guards=[_MAY_CHANGE])
    def create_webhook(self, services: Hub, request: HubRequest, data: JSONBody[w.WebhookIn]) -> w.NewSecret:
        """Make one for a team of the caller's. Its secret is in this answer and in no other."""
        who = identity_of(request)
        team = data.team if data.team is not None else ("" if who.sees_all else who.home)
        if not who.sees_all and not who.owns(team):
            raise ForbiddenError(f"{who.owner!r} is not in the team {team!r}")
        made, secret = services.webhooks.create(data, team, who.owner)
        note(request, webhook=made.id, team=made.team)
        return w.NewSecret(webhook=made, secret=secret)

    @get("/{webhook_id:str}", sync_to_thread=True)
    def get_webhook(self, services: Hub, request: HubRequest, webhook_id: Text) -> w.Webhook:
        """One webhook."""
        return services.webhooks.get(_own(services, request, webhook_id).id)

    @patch("/{webhook_id:str}", sync_to_thread=True, guards=[_MAY_CHANGE])
    def change_webhook(
        self, services: Hub, request: HubRequest, webhook_id: Text, data: JSONBody[w.WebhookChange]
    ) -> w.Webhook:
        """Another address, other events, or off (`active` false: what happens meanwhile is not told later)."""
        return services.webhooks.change(_own(services, request, webhook_id).id, data)

    @delete("/{webhook_id:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT, guards=[_MAY_CHANGE])
    def delete_webhook(self, services: Hub, request: HubRequest, webhook_id: Text) -> None:
        """Take it away, with what waits for it."""
        services.webhooks.delete(_own(services, request, webhook_id).id)

    @post("/{webhook_id:str}/secret", sync_to_thread=True, status_code=HTTP_200_OK, guards=[_MAY_CHANGE])
    def renew_webhook_secret(self, services: Hub, request: HubRequest, webhook_id: Text) -> w.NewSecret:
        """Another secret; the one before signs nothing any more."""
        found, secret = services.webhooks.renew_secret(_own(services, request, webhook_id).id)
        return w.NewSecret(webhook=found, secret=secret)

    @post("/{webhook_id:str}/test", sync_to_thread=True, status_code=HTTP_202_ACCEPTED, guards=[_MAY_CHANGE])
    def test_webhook(self, services: Hub, request: HubRequest, webhook_id: Text) -> w.Delivery:
        """Send it a `ping`, as any other event is sent; the delivery says what became of it."""
        return services.webhooks.test(_own(services, request, webhook_id).id)

    @get("/{webhook_id:str}/deliveries", sync_to_thread=True)
    def list_deliveries(
        self,
        services: Hub,
        request: HubRequest,
        webhook_id: Text,
        limit: Limit = DEFAULT_LIMIT,
        after: After = "",
        wanted: State = None,
    ) -> Response[list[w.Delivery]]:
        """What was sent or waits, newest first."""
        found = _own(services, request, webhook_id)
        items = services.webhooks.deliveries(found.id, limit=limit + 1, after=after, state=wanted or "")
        return paged(request, items, limit, lambda delivery: delivery.id)

    @get("/{webhook_id:str}/deliveries/{delivery_id:str}", sync_to_thread=True)
    def get_delivery(self, services: Hub, request: HubRequest, webhook_id: Text, delivery_id: Text) -> w.Delivery:
        """One delivery."""
        return services.webhooks.delivery(_own(services, request, webhook_id).id, delivery_id)

    @post(
        "/{webhook_id:str}/deliveries/{delivery_id:str}/retry",
        sync_to_thread=True,
        status_code=HTTP_202_ACCEPTED,
        guards=[_MAY_CHANGE],
    )
    def retry_delivery(self, services: Hub, request: HubRequest, webhook_id: Text, delivery_id: Text) -> w.Delivery:
        """Try one again now that waits or was given up."""
        return services.webhooks.retry(_own(services, request, webhook_id).id, delivery_id)


def _own(services: Services, request: HubRequest, webhook_id: str) -> Hook:
    """The webhook, if it is of a team of the caller's; others' do not exist for them."""
    hook, who = services.webhooks.hook(webhook_id), identity_of(request)
    if not who.sees_all and (not hook.team or not who.owns(hook.team)):
        raise UnknownWebhookError(f"there is no webhook {webhook_id!r}")
    return hook


RESOURCE = register(
    Resource(
        "webhooks",
        [WebhookController],
        rules=grouped(
            ("/webhooks", ACCOUNT, "GET, GET /{webhook_id}, GET /{webhook_id}/deliveries"),
            ("/webhooks", ACCOUNT, "GET /{webhook_id}/deliveries/{delivery_id}"),
            ("/webhooks", CHANGE, "POST, PATCH /{webhook_id}, DELETE /{webhook_id}"),
            ("/webhooks/{webhook_id}", CHANGE, "POST /secret, POST /test, POST /deliveries/{delivery_id}/retry"),
        ),
        calls=WebhookCalls,
    )
)
