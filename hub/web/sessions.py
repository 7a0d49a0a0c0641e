"""Sessions in the browser. A session is a random value in a cookie; the catalog keeps its SHA-256 and that of the token
it stands for, so that neither can be read there, and a token that is revoked ends its sessions."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hub.accounts.tokens import Identity, Kind, Tokens
from hub.errors import UnauthorizedError
from registry.catalog.catalog import Catalog

COOKIE = "parcelhub_session"
FORM_COOKIE = "parcelhub_form"
"""Ties the sign-in form to the browser that asked for it; there is no session yet."""
SECONDS = 12 * 3600.0
MAX_PER_TOKEN = 20
_OF_PEOPLE = frozenset({Kind.PERSON, Kind.TEAM, Kind.OPERATOR})


@dataclass(frozen=True, slots=True)
class Session:
    """An open session: its secret (the cookie's value) and who it is."""

    secret: str
    identity: Identity

    @property
    def csrf(self) -> str:
        """What every form of the session carries."""
        return form_token(self.secret)


def form_token(secret: str) -> str:
    """The proof, 64 hexadecimal characters, that a form was made for the holder of a cookie's value."""
    return hmac.new(secret.encode(), b"parcelhub form", hashlib.sha256).hexdigest()


class Sessions:
    """The session table. Use from any number of threads."""

    def __init__(
        self, catalog: Catalog, tokens: Tokens, *, seconds: float = SECONDS, now: Callable[[], float] = time.time
    ) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._seconds = seconds
        self._now = now

    @property
    def seconds(self) -> float:
        """How long a session lasts."""
        return self._seconds

    def open(self, token: str) -> Session:
        """A session for a bearer token. Raises UnauthorizedError for an unknown or expired one, or a job's."""
        identity = self._tokens.identify(token)
        if identity.kind not in _OF_PEOPLE:
            raise UnauthorizedError(f"a {identity.kind}'s token opens no session")
        secret, now = secrets.token_urlsafe(32), self._now()
        left = self._tokens.seconds_left(identity)
        seconds = self._seconds if left is None else min(self._seconds, left)
        digest = _sha256(token)
        with self._catalog.write() as db:
            db.execute("DELETE FROM hub_sessions WHERE expires_at < ?", [now])
            old = db.execute(
                "SELECT sha256 FROM hub_sessions WHERE token = ? ORDER BY expires_at DESC OFFSET ?",
                [digest, MAX_PER_TOKEN - 1],
            ).fetchall()
            for row in old:
                db.execute("DELETE FROM hub_sessions WHERE sha256 = ?", [row[0]])
            db.execute("INSERT INTO hub_sessions VALUES (?, ?, ?, ?)", [_sha256(secret), digest, now, now + seconds])
        return Session(secret, identity)

    def find(self, secret: str) -> Session | None:
        """The session of a cookie's value; None once it has expired, was closed, or its token is good no more."""
        rows = self._catalog.query("SELECT token, expires_at FROM hub_sessions WHERE sha256 = ?", [_sha256(secret)])
        if not rows or rows[0][1] < self._now():
            return None
        try:
            identity = self._tokens.of_digest(rows[0][0])
        except UnauthorizedError:
            return None
        return Session(secret, identity) if identity.kind in _OF_PEOPLE else None

    def close(self, secret: str) -> None:
        """End a session; one that is unknown has ended already."""
        with self._catalog.write() as db:
            db.execute("DELETE FROM hub_sessions WHERE sha256 = ?", [_sha256(secret)])

    def close_all_like(self, secret: str) -> int:
        """End every session of the same token, this one included; returns how many."""
        with self._catalog.write() as db:
            gone = db.execute(
                "DELETE FROM hub_sessions WHERE token = (SELECT token FROM hub_sessions WHERE sha256 = ?) RETURNING 1",
                [_sha256(secret)],
            ).fetchall()
        return len(gone)

    def count_like(self, secret: str) -> int:
        """How many sessions of the same token are open."""
        rows = self._catalog.query(
            "SELECT count(*) FROM hub_sessions WHERE expires_at >= ? "
            "AND token = (SELECT token FROM hub_sessions WHERE sha256 = ?)",
            [self._now(), _sha256(secret)],
        )
        return int(rows[0][0])


class OnceShown:
    """Values that the next page of a session shows, and no page after it. Use from any number of threads.

    They are in memory alone, for `seconds` at most, by the SHA-256 of the session's secret.
    """

    def __init__(self, *, seconds: float = 300.0, most: int = 1000, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = most
        self._now = now
        self._kept: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def put(self, secret: str, value: str) -> None:
        """Keep `value` for the next page."""
        with self._lock:
            old = [key for key, (until, _) in self._kept.items() if until <= self._now()]
            for key in old + list(self._kept)[: max(0, len(self._kept) - len(old) - self._most + 1)]:
                self._kept.pop(key, None)
            self._kept[_sha256(secret)] = (self._now() + self._seconds, value)

    def take(self, secret: str) -> str:
        """The value, once; "" where there is none."""
        with self._lock:
            until, value = self._kept.pop(_sha256(secret), (0.0, ""))
            return value if until > self._now() else ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
