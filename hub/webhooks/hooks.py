"""Webhooks: who is told what, and the outbox that keeps it until it is told.

An event becomes deliveries inside the transaction that makes it happen: what is committed is told, what is rolled back
is not, and a hub that is killed in between finds them at its next start. A webhook has the eyes of its team: an event
about what the team may not see makes no delivery.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hub.accounts.access import Access
from hub.accounts.links import Signer
from hub.accounts.privacy import CELLS, CellPrivacy
from hub.accounts.tokens import Identity, Kind
from hub.errors import InputError, UnknownDeliveryError, UnknownWebhookError
from hub.migrations.tables import timestamp
from hub.outbound import Guard, check_reachable
from hub.schemas import webhooks as w
from registry.catalog.catalog import Catalog
from registry.catalog.cursor import Cursor
from registry.repos.repo_rows import INFO, info_of_row
from registry.types import RepoInfo

MAX_OF_TEAM: Final = 20
MAX_BODY: Final = 64 * 1024
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # what secrets begin with
_HOOK: Final = "id, team, url, events, watch, note, active, generation, created_by, created_at"
_DELIVERY: Final = "id, webhook, event, state, attempts, created_at, next_at, tried_at, status, error, seconds"


class Subject(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event is about, as rights see it; it is looked at when the event happens and before it is sent.

    `repo` is a repo's key; `cell` is a cell's variants, `place` a cell's production, `team` what only a team sees.
    """

    repo: int | None = None
    cell: str | None = None
    place: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """An event: its name, what it is about, and what is told of it. `name` is what `watch` is compared with."""

    event: str
    subject: Subject
    name: str
    owner: str
    """The team whose own it is, in lower case; "" for the hub's."""
    about: Mapping[str, Any]
    data: Mapping[str, Any]
    info: RepoInfo | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """A row of the table."""

    id: str
    team: str
    url: str
    events: tuple[str, ...]
    watch: tuple[str, ...]
    note: str
    active: bool
    generation: int
    created_by: str
    created_at: float

    @property
    def eyes(self) -> Identity:
        """Who looks."""
        if not self.team:
            return Identity.known_as("webhook", None, Kind.OPERATOR)
        return Identity.known_as(f"team:{self.team}", None, Kind.TEAM)

    def wants(self, event: str) -> bool:
        """Whether the event or a family that it belongs to was asked for."""
        return any(one == "*" or event == one or event.startswith(f"{one}.") for one in self.events)

    def watches(self, what: Happening) -> bool:
        """Whether it happened to what is watched: without a list, what its team owns, and all for the operator."""
        if not self.watch:
            return not self.team or what.owner == self.team
        name = what.name.lower()
        return any(one == "*" or name == one.lower() or name.startswith(f"{one.lower()}/") for one in self.watch)


class Webhooks:
    """The webhooks of all teams, and their outbox. Use from any number of threads."""

    def __init__(
        self,
        catalog: Catalog,
        signer: Signer,
        access: Access,
        cells: CellPrivacy,
        guard: Guard,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._catalog = catalog
        self._signer = signer
        self._access = access
        self._cells = cells
        self.guard = guard
        self._now = now
        self._live: tuple[Hook, ...] = ()
        self._changing = threading.Lock()
        self.filled = threading.Event()
        """Set when there may be something to send."""
        self.reload()

    # Making and changing

    def create(self, asked: w.WebhookIn, team: str, created_by: str) -> tuple[w.Webhook, str]:
        """The webhook and its secret, which is shown this once. Raises InputError."""
        check_reachable(asked.url, self.guard)
        team = team.lower()
        hook_id = secrets.token_hex(8)
        with self._changing:
            with self._catalog.write() as tx:
                row = tx.execute("SELECT count(*) FROM hub_webhooks WHERE team = ?", [team]).fetchone()
                if row is not None and row[0] >= MAX_OF_TEAM:
                    raise InputError(f"a team has at most {MAX_OF_TEAM} webhooks; delete one first")
                tx.execute(
                    "INSERT INTO hub_webhooks VALUES (?, ?, ?, ?, ?, ?, true, 1, ?, ?)",
                    [
                        *(hook_id, team, asked.url, _unique(asked.events), _unique(asked.watch), asked.note),
                        *(created_by, self._now()),
                    ],
                )
            self.reload()
        return self.get(hook_id), self.secret(self.hook(hook_id))

    def change(self, hook_id: str, asked: w.WebhookChange) -> w.Webhook:
        """Raises UnknownWebhookError, InputError."""
        before = self.hook(hook_id)
        if asked.url is not None:
            check_reachable(asked.url, self.guard)
        with self._changing:
            with self._catalog.write() as tx:
                tx.execute(
                    "UPDATE hub_webhooks SET url = ?, events = ?, watch = ?, note = ?, active = ? WHERE id = ?",
                    [
                        before.url if asked.url is None else asked.url,
                        list(before.events) if asked.events is None else _unique(asked.events),
                        list(before.watch) if asked.watch is None else _unique(asked.watch),
                        before.note if asked.note is None else asked.note,
                        before.active if asked.active is None else asked.active,
                        hook_id,
                    ],
                )
            self.reload()
        self.filled.set()
        return self.get(hook_id)

    def renew_secret(self, hook_id: str) -> tuple[w.Webhook, str]:
        """Another secret, from the next try on. Raises UnknownWebhookError."""
        self.hook(hook_id)
        with self._changing:
            with self._catalog.write() as tx:
                tx.execute("UPDATE hub_webhooks SET generation = generation + 1 WHERE id = ?", [hook_id])
            self.reload()
        return self.get(hook_id), self.secret(self.hook(hook_id))

    def delete(self, hook_id: str) -> None:
        """With its deliveries. Raises UnknownWebhookError."""
        self.hook(hook_id)
        with self._changing:
            with self._catalog.write() as tx:
                _delete(tx, "id = ?", hook_id)
            self.reload()

    def forget(self, tx: Cursor, team: str) -> None:
        """A user or a team goes, as part of that transaction: another one of the name has nothing to do with it."""
        _delete(tx, "team = ?", team)
        self._live = tuple(hook for hook in self._live if hook.team != team)

    def forget_deliveries(self, hook_id: str) -> None:
        """Of a webhook that was deleted while an event was on its way to it."""
        with self._catalog.write() as tx:
            tx.execute("DELETE FROM hub_webhook_deliveries WHERE webhook = ?", [hook_id])

    # Looking

    def hook(self, hook_id: str) -> Hook:
        """Raises UnknownWebhookError."""
        rows = self._catalog.query(f"SELECT {_HOOK} FROM hub_webhooks WHERE id = ?", [hook_id])  # noqa: S608
        if not rows:
            raise UnknownWebhookError(f"there is no webhook {hook_id!r}")
        return _hook(rows[0])

    def get(self, hook_id: str) -> w.Webhook:
        """Raises UnknownWebhookError."""
        return self._shown([self.hook(hook_id)])[0]

    def page(self, *, limit: int, after: str = "", teams: Sequence[str] | None = None) -> list[w.Webhook]:
        """At most `limit` webhooks by id, those behind `after`; `teams` None: of all."""
        rows = self._catalog.query(
            f"SELECT {_HOOK} FROM hub_webhooks WHERE id > ?"  # noqa: S608  # constants
            " AND (?::VARCHAR[] IS NULL OR list_contains(?::VARCHAR[], team)) ORDER BY id LIMIT ?",
            [after, *[None if teams is None else sorted(teams)] * 2, limit],
        )
        return self._shown([_hook(row) for row in rows])

    def deliveries(self, hook_id: str, *, limit: int, after: str = "", state: str = "") -> list[w.Delivery]:
        """Newest first, those made before the delivery `after`."""
        rows = self._catalog.query(
            f"SELECT {_DELIVERY} FROM hub_webhook_deliveries WHERE webhook = ?"  # noqa: S608  # constants
            " AND (? = '' OR state = ?) AND (? = '' OR (created_at, id) <"
            " (SELECT (created_at, id) FROM hub_webhook_deliveries WHERE id = ? AND webhook = ?))"
            " ORDER BY created_at DESC, id DESC LIMIT ?",
            [hook_id, state, state, after, after, hook_id, limit],
        )
        return [_delivery(row) for row in rows]

    def delivery(self, hook_id: str, delivery_id: str) -> w.Delivery:
        """Raises UnknownDeliveryError."""
        rows = self._catalog.query(
            f"SELECT {_DELIVERY} FROM hub_webhook_deliveries WHERE id = ? AND webhook = ?",  # noqa: S608  # constants
            [delivery_id, hook_id],
        )
        if not rows:
            raise UnknownDeliveryError(f"there is no delivery {delivery_id!r}")
        return _delivery(rows[0])

    def secret(self, hook: Hook) -> str:
        """What signs a webhook's deliveries: derived from the hub's own key, so that no table holds it."""
        return SECRET_PREFIX + self._signer.derive(f"webhook\0{hook.id}\0{hook.generation}").hex()

    # The outbox

    def listens(self, event: str) -> bool:
        """Whether any webhook could want an event: cheap, asked before anything is looked up."""
        return any(hook.wants(event) for hook in self._live)

    def tell(self, tx: Cursor, what: Happening) -> None:
        """Make the deliveries of an event, as part of the transaction in which it happens."""
        for hook in self._live:
            if hook.wants(what.event) and hook.watches(what) and self._sees(hook, what.subject, what.info):
                self._put(tx, hook, what.event, what.subject, what.about, what.data)

    def test(self, hook_id: str) -> w.Delivery:
        """Put a `ping` into the outbox. Raises UnknownWebhookError, InputError for one that is switched off."""
        hook = self.hook(hook_id)
        if not hook.active:
            raise InputError("the webhook is switched off; switch it on first")
        with self._catalog.write() as tx:
            made = self._put(tx, hook, "ping", Subject(), {}, {"note": hook.note})
        return self.delivery(hook_id, made)

    def retry(self, hook_id: str, delivery_id: str) -> w.Delivery:
        """Try a delivery that was given up (or waits) again, now. Raises UnknownDeliveryError, InputError."""
        found = self.delivery(hook_id, delivery_id)
        if found.state not in ("failed", "pending"):
            raise InputError(f"the delivery is {found.state}; only one that waits or was given up is tried again")
        with self._catalog.write() as tx:
            tx.execute(
                "UPDATE hub_webhook_deliveries SET state = 'pending', next_at = ?, attempts ="
                " CASE WHEN state = 'failed' THEN 0 ELSE attempts END WHERE id = ?",
                [self._now(), delivery_id],
            )
        self.filled.set()
        return self.delivery(hook_id, delivery_id)

    def still_sees(self, hook: Hook, subject: Subject) -> bool:
        """Whether the team may know of this now; of what is gone, what was right when it happened stays so."""
        info = None
        if subject.repo is not None:
            rows = self._catalog.query(f"SELECT {INFO} FROM repos WHERE key = ?", [subject.repo])  # noqa: S608
            if not rows:
                return True
            info = info_of_row(rows[0])
        return self._sees(hook, subject, info)

    @property
    def live(self) -> tuple[Hook, ...]:
        """Those that are switched on."""
        return self._live

    def _sees(self, hook: Hook, subject: Subject, info: RepoInfo | None) -> bool:
        eyes = hook.eyes
        if info is not None and not self._access.may_read(eyes, info):
            return False
        if subject.cell is not None and not self._cells.sees(eyes, subject.cell):
            return False
        if subject.place is not None and not self._cells.works_in(eyes, subject.place):
            return False
        return subject.team is None or eyes.owns(subject.team)

    def _put(
        self, tx: Cursor, hook: Hook, event: str, subject: Subject, about: Mapping[str, Any], data: Mapping[str, Any]
    ) -> str:
        delivery, now = secrets.token_hex(12), self._now()
        body: dict[str, Any] = {
            "delivery": delivery,
            "webhook": hook.id,
            "event": event,
            "happened_at": timestamp(now),
            "about": dict(about),
            "data": dict(data),
        }
        encoded = msgspec.json.encode(body)
        if len(encoded) > MAX_BODY:
            encoded = msgspec.json.encode(body | {"data": {}, "left_out": "the data is larger than 64 KiB"})
        tx.execute(
            "INSERT INTO hub_webhook_deliveries VALUES (?, ?, ?, ?, ?, 'pending', 0, ?, ?, NULL, NULL, '', NULL)",
            [delivery, hook.id, event, msgspec.json.encode(subject).decode(), encoded.decode(), now, now],
        )
        self.filled.set()
        return delivery

    def _shown(self, hooks: Sequence[Hook]) -> list[w.Webhook]:
        counts = {
            (hook, state): number
            for hook, state, number in self._catalog.query(
                "SELECT webhook, state, count(*) FROM hub_webhook_deliveries"
                " WHERE list_contains(?::VARCHAR[], webhook) GROUP BY webhook, state",
                [[hook.id for hook in hooks]],
            )
        }
        return [
            w.Webhook(
                id=hook.id,
                team=hook.team,
                url=hook.url,
                events=list(hook.events),
                watch=list(hook.watch),
                note=hook.note,
                active=hook.active,
                created_by=hook.created_by,
                created_at=timestamp(hook.created_at),
                pending=counts.get((hook.id, "pending"), 0),
                failed=counts.get((hook.id, "failed"), 0),
            )
            for hook in hooks
        ]

    def reload(self) -> None:
        """Look again who listens."""
        rows = self._catalog.query(f"SELECT {_HOOK} FROM hub_webhooks WHERE active ORDER BY id")  # noqa: S608
        self._live = tuple(_hook(row) for row in rows)


def cell_name(cell: str) -> str:
    """What `watch` calls a cell: as its repository is called."""
    return f"{CELLS}/{cell}"


def _delete(tx: Cursor, where: str, value: str) -> None:
    tx.execute(
        f"DELETE FROM hub_webhook_deliveries WHERE webhook IN (SELECT id FROM hub_webhooks WHERE {where})",  # noqa: S608
        [value],
    )
    tx.execute(f"DELETE FROM hub_webhooks WHERE {where}", [value])  # noqa: S608  # one of two


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _hook(row: Sequence[Any]) -> Hook:
    id_, team, url, events, watch, *rest = row
    return Hook(id_, team, url, tuple(events), tuple(watch), *rest)


def _delivery(row: Sequence[Any]) -> w.Delivery:
    id_, webhook, event, state, attempts, created_at, next_at, tried_at, status, error, seconds = row
    return w.Delivery(
        id=id_,
        webhook=webhook,
        event=event,
        state=state,
        attempts=attempts,
        created_at=timestamp(created_at),
        tried_at=None if tried_at is None else timestamp(tried_at),
        next_try_at=timestamp(next_at) if state == "pending" else None,
        status=status,
        error=error,
        seconds=seconds,
    )
