"""Empties the outbox: sends what is due, signs it, and tries again later what did not arrive.

At least once: a delivery is done when its answer is, so one that was on its way when the hub died goes out again, with
the same id. Several webhooks are served at the same time, each one delivery after the other: a receiver that hangs
keeps its own deliveries waiting, not those of others.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import msgspec

from hub.errors import ReceiverError, UnknownWebhookError
from hub.outbound import post
from hub.webhooks.hooks import Subject, Webhooks
from registry.catalog.catalog import Catalog
from registry.errors import RegistryError

log = logging.getLogger("parcelhub.webhooks")

AT_ONCE: Final = 4
MAX_ATTEMPTS: Final = 16
LONGEST_PAUSE_S: Final = 6 * 3600.0
KEEP_S: Final = 30 * 86_400.0
MAX_WAITING: Final = 10_000
"""Deliveries of one webhook; what waits longest is given up for what is newer."""
_POLL_S: Final = 1.0
_IDLE_S: Final = 60.0
_SWEEP_S: Final = 600.0
_SOON: Final = (0.02, 0.05, 0.1, 0.25, 0.5)
"""Pauses after the outbox was filled: the transaction that did it may not be committed yet."""


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come."""

    id: str
    webhook: str
    event: str
    subject: str
    body: str
    attempts: int


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`sha256=<hex>` of HMAC-SHA256 over `<timestamp>.<body>`, with the whole secret as the key."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Postman:
    """Sends from the outbox until it is told to stop."""

    def __init__(
        self,
        catalog: Catalog,
        webhooks: Webhooks,
        *,
        seconds: float,
        first_pause: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`seconds`: what one try may take; `first_pause`: before the second try, doubled before each further one."""
        self._catalog = catalog
        self._webhooks = webhooks
        self._seconds = seconds
        self._first_pause = first_pause
        self._now = now
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Until `stop`; waits for what is on its way then."""
        swept = -math.inf
        soon: list[float] = []
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
            while not self._stopped.is_set():
                if self._webhooks.filled.is_set():
                    self._webhooks.filled.clear()
                    soon = list(_SOON)
                try:
                    if time.monotonic() - swept > _SWEEP_S:
                        self.sweep()
                        swept = time.monotonic()
                    for due in self.due():
                        with self._lock:
                            self._busy.add(due.webhook)
                        pool.submit(self._deliver_and_free, due)
                except RegistryError:
                    log.exception("the outbox cannot be read now")
                pause = soon.pop(0) if soon else (_POLL_S if self._webhooks.live else _IDLE_S)
                self._webhooks.filled.wait(pause)

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped.set()
        self._webhooks.filled.set()

    def due(self) -> list[Due]:
        """The next delivery of each webhook that has one and is not being served.

        A clock that was put back delays none: nothing waits for longer than the longest pause.
        """
        live = [hook.id for hook in self._webhooks.live]
        with self._lock:
            free = AT_ONCE - len(self._busy)
            wanted = [one for one in live if one not in self._busy]
        if not wanted or free <= 0:
            return []
        now = self._now()
        rows = self._catalog.query(
            "SELECT id, webhook, event, subject, body, attempts FROM hub_webhook_deliveries"
            " WHERE state = 'pending' AND (next_at <= ? OR next_at > ?) AND list_contains(?::VARCHAR[], webhook)"
            " QUALIFY row_number() OVER (PARTITION BY webhook ORDER BY next_at, created_at, id) = 1"
            " ORDER BY next_at, id LIMIT ?",
            [now, now + 2 * LONGEST_PAUSE_S, wanted, free],
        )
        return [Due(*row) for row in rows]

    def _deliver_and_free(self, due: Due) -> None:
        try:
            self.deliver(due)
        except Exception:
            log.exception("delivery %s stays in the outbox", due.id)
            self._stopped.wait(_POLL_S)
        finally:
            with self._lock:
                self._busy.discard(due.webhook)
            self._webhooks.filled.set()

    def deliver(self, due: Due) -> None:
        """One try, and what came of it."""
        try:
            hook = self._webhooks.hook(due.webhook)
        except UnknownWebhookError:
            self._webhooks.forget_deliveries(due.webhook)
            return
        if not self._webhooks.still_sees(hook, msgspec.json.decode(due.subject, type=Subject)):
            self._note(due, "withheld", None, "what it tells of is not the team's to see any more", None)
            return
        at = str(int(self._now()))
        body = due.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "parcelhub-webhook",
            "X-Parcelhub-Event": due.event,
            "X-Parcelhub-Delivery": due.id,
            "X-Parcelhub-Attempt": str(due.attempts + 1),
            "X-Parcelhub-Timestamp": at,
            "X-Parcelhub-Signature": signature(self._webhooks.secret(hook), at, body),
        }
        began = time.monotonic()
        status, error = None, ""
        try:
            status = post(hook.url, body, headers, self._webhooks.guard, seconds=self._seconds)
        except ReceiverError as failed:
            error = str(failed)
        if status is not None and 300 <= status < 400:
            error = "the receiver redirects, which is not followed"
        elif status is not None and not 200 <= status < 300:
            error = f"the receiver answered {status}"
        took = time.monotonic() - began
        if not error:
            self._note(due, "delivered", status, "", took)
        elif due.attempts + 1 >= MAX_ATTEMPTS or status == 410:
            self._note(due, "failed", status, error, took)
        else:
            self._note(due, "pending", status, error, took)

    def _note(self, due: Due, state: str, status: int | None, error: str, took: float | None) -> None:
        tried = took is not None
        pause = min(self._first_pause * 2.0 ** min(due.attempts, 30), LONGEST_PAUSE_S)
        pause *= random.uniform(0.8, 1.2)  # so that those who failed together do not come back together
        now = self._now()
        with self._catalog.write() as tx:
            tx.execute(
                "UPDATE hub_webhook_deliveries SET state = ?, status = ?, error = ?, seconds = ?, attempts = ?,"
                " tried_at = ?, next_at = ? WHERE id = ?",
                [state, status, error, took, due.attempts + tried, now if tried else None, now + pause, due.id],
            )
        if error:
            log.info("delivery %s of webhook %s is %s: %s", due.id, due.webhook, state, error)

    def sweep(self) -> None:
        """Forget old deliveries, and give up what waits longest where too much waits."""
        self._webhooks.reload()
        with self._catalog.write() as tx:
            tx.execute("DELETE FROM hub_webhook_deliveries WHERE webhook NOT IN (SELECT id FROM hub_webhooks)")
            tx.execute(
                "DELETE FROM hub_webhook_deliveries WHERE state <> 'pending' AND created_at < ?", [self._now() - KEEP_S]
            )
            tx.execute(
                "UPDATE hub_webhook_deliveries SET state = 'failed', error = 'too many deliveries wait' WHERE id IN"
                " (SELECT id FROM hub_webhook_deliveries WHERE state = 'pending'"
                " QUALIFY row_number() OVER (PARTITION BY webhook ORDER BY created_at DESC, id DESC) > ?)",
                [MAX_WAITING],
            )


@contextlib.contextmanager
def delivering(postman: Postman) -> Iterator[None]:
    """Deliver in a thread while the block runs; leaving it waits for what is on its way."""
    thread = threading.Thread(target=postman.run, name="webhooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        postman.stop()
        thread.join()
