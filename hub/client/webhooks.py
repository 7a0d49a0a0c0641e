"""The client's side of webhooks and their deliveries."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import webhooks as w


class WebhookCalls(Calls):
    """These calls, as part of `HubClient`."""

    def webhooks(self) -> list[w.Webhook]:
        """The webhooks of the caller's teams."""
        return [one for page in self._pages("/webhooks", list[w.Webhook]) for one in page]

    def create_webhook(self, asked: w.WebhookIn) -> w.NewSecret:
        """The secret is in this answer and in no other."""
        return self._call("POST", "/webhooks", w.NewSecret, asked)

    def webhook(self, webhook_id: str) -> w.Webhook:
        """One webhook."""
        return self._call("GET", _path(webhook_id), w.Webhook)

    def change_webhook(self, webhook_id: str, change: w.WebhookChange) -> w.Webhook:
        """Change address, events or state."""
        return self._call("PATCH", _path(webhook_id), w.Webhook, change)

    def delete_webhook(self, webhook_id: str) -> None:
        """Remove a webhook with what waits for it."""
        self._send("DELETE", _path(webhook_id))

    def renew_webhook_secret(self, webhook_id: str) -> w.NewSecret:
        """Make another secret; the one before signs nothing any more."""
        return self._call("POST", _path(webhook_id) + "/secret", w.NewSecret)

    def test_webhook(self, webhook_id: str) -> w.Delivery:
        """Puts a `ping` into the outbox."""
        return self._call("POST", _path(webhook_id) + "/test", w.Delivery)

    def deliveries(self, webhook_id: str, *, state: str = "", limit: int | None = None) -> list[w.Delivery]:
        """Newest first."""
        wanted = {"state": state} if state else {}
        pages = self._pages(_path(webhook_id) + "/deliveries", list[w.Delivery], wanted, limit=limit)
        return [one for page in pages for one in page]

    def delivery(self, webhook_id: str, delivery_id: str) -> w.Delivery:
        """One delivery."""
        return self._call("GET", f"{_path(webhook_id)}/deliveries/{quote(delivery_id, safe='')}", w.Delivery)

    def retry_delivery(self, webhook_id: str, delivery_id: str) -> w.Delivery:
        """Send a delivery again now."""
        return self._call("POST", f"{_path(webhook_id)}/deliveries/{quote(delivery_id, safe='')}/retry", w.Delivery)


def _path(webhook_id: str) -> str:
    return f"/webhooks/{quote(webhook_id, safe='')}"
