"""What protects the pages: who is asking, whether a form is the page's own, how often one may try, and the headers."""

from __future__ import annotations

import hmac
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import anyio.to_thread
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders, State
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import Message, Scope

from hub.accounts.tokens import Identity
from hub.errors import ForbiddenError, UnauthorizedError
from hub.web.sessions import COOKIE, Session, form_token

Connection = ASGIConnection[Any, Any, Any, Any]
WebRequest: TypeAlias = Request[Identity | None, Session | None, State]

CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
"""For files that jobs made: whatever is in them, nothing runs and nothing is fetched."""
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class SessionMiddleware(AbstractAuthenticationMiddleware):
    """Sets `request.user` to the session's identity and `request.auth` to the session; None without one."""

    async def authenticate_request(self, connection: Connection) -> AuthenticationResult:
        """Whose session it is; a cookie that is unknown or over counts as none. Nothing is raised."""
        secret = connection.cookies.get(COOKIE, "")
        if not secret:
            return AuthenticationResult(user=None, auth=None)
        session = await anyio.to_thread.run_sync(connection.app.state.web.sessions.find, secret)
        return AuthenticationResult(user=session and session.identity, auth=session)


def session_of(request: Connection) -> Session:
    """The session behind a request. Raises UnauthorizedError without one."""
    if not isinstance(request.auth, Session):
        raise UnauthorizedError("sign in to see this page")
    return request.auth


def identity_of(request: Connection) -> Identity:
    """Who is asking. Raises UnauthorizedError without a session."""
    return session_of(request).identity


def same_origin(connection: Connection, _: BaseRouteHandler) -> None:
    """The guard of all forms: browsers say where a request comes from, and it must be from here. Raises
    ForbiddenError."""
    if connection.scope["method"] in ("GET", "HEAD"):  # type: ignore[typeddict-item]
        return
    site = connection.headers.get("sec-fetch-site")
    origin = connection.headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        raise ForbiddenError("this form was sent from another site")
    if origin is not None and urlsplit(origin).netloc != connection.headers.get("host", ""):
        raise ForbiddenError("this form was sent from another site")


def check_form(secret: str, token: str) -> None:
    """Raises ForbiddenError unless the form was made for the holder of this cookie's value."""
    if not secret or not hmac.compare_digest(form_token(secret).encode(), token.encode()):
        raise ForbiddenError("this form is out of date; go back, reload the page and send it again")


async def form_of(request: WebRequest) -> dict[str, str]:
    """The fields of a form of this session, texts only. Raises ForbiddenError, UnauthorizedError."""
    session = session_of(request)
    fields = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    check_form(session.secret, fields.pop(CSRF_FIELD, "") or request.headers.get(CSRF_HEADER, ""))
    return fields


async def secure(message: Message, scope: Scope) -> None:
    """Give every answer of `/ui`, and the API's description, its headers; a route's own stay."""
    if message["type"] == "http.response.start" and scope["path"].startswith(("/ui", "/schema")):
        headers = MutableScopeHeaders.from_message(message)
        for name, value in _HEADERS.items():
            headers.setdefault(name, value)


class Attempts:
    """Failed attempts by address: after `most` within `seconds` an address has to wait."""

    def __init__(self, most: int = 10, seconds: float = 300.0, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._now = now
        self._failed: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def must_wait(self, address: str) -> float:
        """Seconds until this address may try again; 0.0 if it may now."""
        with self._lock:
            failed = self._recent(address)
            return max(0.0, failed[0] + self._seconds - self._now()) if len(failed) >= self._most else 0.0

    def note(self, address: str) -> None:
        """An attempt failed."""
        with self._lock:
            self._failed.setdefault(address, deque(maxlen=self._most)).append(self._now())
            if len(self._failed) > 10_000:  # addresses that come once must not fill the memory
                for other in list(self._failed):
                    self._recent(other)

    def _recent(self, address: str) -> deque[float]:
        failed = self._failed.get(address, deque())
        while failed and failed[0] + self._seconds <= self._now():
            failed.popleft()
        if not failed:
            self._failed.pop(address, None)
        return failed
