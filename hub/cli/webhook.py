"""`parcelhub webhook`: tell other programs what happens in the hub."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import rich_click as click

from hub.cli.common import connect, json_option, out, print_json, settings_options, table, when
from hub.errors import ReceiverError
from hub.schemas.webhooks import Delivery, WebhookChange, WebhookIn

if TYPE_CHECKING:
    from hub.settings import Settings


@click.group()
def webhook() -> None:
    """Webhooks: create, list, test, deliveries, delete."""


@webhook.command("create")
@click.argument("url")
@click.option(
    "--event", "events", multiple=True, help="An event or a family of them, as `job` or `repo.commit`; repeatable [*]."
)
@click.option(
    "--watch",
    "watch",
    multiple=True,
    help="`team`, `team/name`, `cells/dock-7` or `*`; repeatable [what is the team's].",
)
@click.option("--team", help="Whose eyes it has [yours; the operator's see all].")
@click.option("--note", default="", help="What it is for.")
@json_option
@settings_options
def create(
    settings: Settings,
    url: str,
    events: tuple[str, ...],
    watch: tuple[str, ...],
    team: str | None,
    note: str,
    as_json: bool,
) -> None:
    """Make a webhook and show the secret that its deliveries are signed with, this once.

    \b
    Events: repo, discussion, job, promotion, alert, each with a word behind it: docs/webhooks.md lists them.

    \b
    Example:
      parcelhub webhook create https://ci.example.com/hooks/parcels --team acme --event job --event promotion
    """
    asked = WebhookIn(url=url, events=list(events) or ["*"], watch=list(watch), team=team, note=note)
    with connect(settings) as client:
        made = client.create_webhook(asked)
    if as_json:
        print_json(made)
        return
    out.print(f"webhook [bold]{made.webhook.id}[/]; its secret, which is shown this once:")
    click.echo(made.secret)


@webhook.command("list")
@json_option
@settings_options
def list_(settings: Settings, as_json: bool) -> None:
    """List the webhooks of your teams.

    \b
    Example:
      parcelhub webhook list
    """
    with connect(settings) as client:
        found = client.webhooks()
    if as_json:
        print_json(found)
        return
    rows = table("Webhooks", "id", "team", "address", "events", "watches", "waiting", "given up")
    rows.columns[0].no_wrap = True
    for one in found:
        address = one.url if one.active else f"{one.url} (off)"
        watches = " ".join(one.watch) or ("what is the team's" if one.team else "all")
        counts = (str(one.pending), str(one.failed))
        rows.add_row(one.id, one.team or "-", address, " ".join(one.events), watches, *counts)
    out.print(rows)


@webhook.command("deliveries")
@click.argument("webhook_id")
@click.option("--state", type=click.Choice(["pending", "delivered", "failed", "withheld"]), help="Only those.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The newest so many.")
@json_option
@settings_options
def deliveries(settings: Settings, webhook_id: str, state: str | None, limit: int, as_json: bool) -> None:
    """Show what was sent, what came of it, and when the next try is.

    \b
    Example:
      parcelhub webhook deliveries 3f9a2c61d04b77e0 --state failed
    """
    with connect(settings) as client:
        found = client.deliveries(webhook_id, state=state or "", limit=limit)
    if as_json:
        print_json(found)
        return
    rows = table("Deliveries", "id", "event", "state", "tries", "answer", "next try", "error")
    rows.columns[0].no_wrap = rows.columns[2].no_wrap = True  # to be copied
    for one in found:
        answer = "-" if one.status is None else str(one.status)
        following = when(one.next_try_at) if one.next_try_at else "-"
        rows.add_row(one.id, one.event, one.state, str(one.attempts), answer, following, one.error)
    out.print(rows)


@webhook.command("test")
@click.argument("webhook_id")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=15.0, show_default=True, help="How long to wait for it."
)
@json_option
@settings_options
def test(settings: Settings, webhook_id: str, seconds: float, as_json: bool) -> None:
    """Send a `ping`, and say what the receiver answered.

    \b
    Example:
      parcelhub webhook test 3f9a2c61d04b77e0
    """
    with connect(settings) as client:
        sent = client.test_webhook(webhook_id)
        ends = time.monotonic() + seconds
        while sent.attempts == 0 and sent.state == "pending" and time.monotonic() < ends:
            time.sleep(0.2)
            sent = client.delivery(webhook_id, sent.id)
    if as_json:
        print_json(sent)
    _require_delivered(sent)
    if not as_json:
        out.print(f"delivered: the receiver answered {sent.status}")


@webhook.command("retry")
@click.argument("webhook_id")
@click.argument("delivery_id")
@settings_options
def retry(settings: Settings, webhook_id: str, delivery_id: str) -> None:
    """Try a delivery again now that waits or was given up.

    \b
    Example:
      parcelhub webhook retry 3f9a2c61d04b77e0 5d0c1b7e9a2f4c6681b3d7e0
    """
    with connect(settings) as client:
        client.retry_delivery(webhook_id, delivery_id)
    out.print(f"[bold]{delivery_id}[/] is tried again")


@webhook.command("secret")
@click.argument("webhook_id")
@settings_options
def secret(settings: Settings, webhook_id: str) -> None:
    """Give a webhook another secret and show it, this once.

    \b
    Example:
      parcelhub webhook secret 3f9a2c61d04b77e0
    """
    with connect(settings) as client:
        made = client.renew_webhook_secret(webhook_id)
    click.echo(made.secret)


@webhook.command("switch")
@click.argument("webhook_id")
@click.argument("to", type=click.Choice(["on", "off"]))
@settings_options
def switch(settings: Settings, webhook_id: str, to: str) -> None:
    """Switch a webhook off or on. What happens while it is off is not told later.

    \b
    Example:
      parcelhub webhook switch 3f9a2c61d04b77e0 off
    """
    with connect(settings) as client:
        client.change_webhook(webhook_id, WebhookChange(active=to == "on"))
    out.print(f"[bold]{webhook_id}[/] is {to}")


@webhook.command("delete")
@click.argument("webhook_id")
@settings_options
def delete(settings: Settings, webhook_id: str) -> None:
    """Take a webhook away, with what waits for it.

    \b
    Example:
      parcelhub webhook delete 3f9a2c61d04b77e0
    """
    with connect(settings) as client:
        client.delete_webhook(webhook_id)
    out.print(f"deleted [bold]{webhook_id}[/]")


def _require_delivered(sent: Delivery) -> None:
    if sent.state != "delivered":
        waits = f"; the next try is at {when(sent.next_try_at)}" if sent.next_try_at else ""
        raise ReceiverError(f"not delivered: {sent.error or 'no try was made yet'}{waits}")
