"""Who is asking: the bearer token becomes an `Identity`, and guards say which scope a route needs.

That the kind of identity may use the route at all, `hub.http.access_policy` has said before.
"""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import Guard

from hub.accounts.tokens import Identity, Scope
from hub.errors import ForbiddenError, UnauthorizedError
from hub.services import Services

Connection = ASGIConnection[Any, Any, Any, Any]


class BearerMiddleware(AbstractAuthenticationMiddleware):
    """Sets `request.user` to the identity of the token; None without one. Refusing is the guards' part."""

    async def authenticate_request(self, connection: Connection) -> AuthenticationResult:
        """Whose token it is. Raises UnauthorizedError for one that is not good; None is for no token at all."""
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return AuthenticationResult(user=None, auth=None)
        services: Services = connection.app.state.services
        identity = await anyio.to_thread.run_sync(services.tokens.identify, token.strip())
        return AuthenticationResult(user=identity, auth=None)


def identity_of(connection: Connection) -> Identity:
    """The identity behind a request. Raises UnauthorizedError for a request without a token."""
    if not isinstance(connection.user, Identity):
        raise UnauthorizedError("this route needs `Authorization: Bearer <token>`")
    return connection.user


def requires(scope: Scope) -> Guard:
    """A guard: the token must carry the scope."""

    def guard(connection: Connection, _: BaseRouteHandler) -> None:
        identity_of(connection).require(scope)

    return guard


def may_write(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard for routes that change the repository in their path."""
    path = connection.path_params
    identity_of(connection).require_write(path["type_"], f"{path['namespace']}/{path['name']}")


def may_upload(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard for uploading blobs."""
    identity_of(connection).require_upload()


def is_job(connection: Connection, _: BaseRouteHandler) -> None:
    """A guard for what only the process of the job in the path may say. Raises ForbiddenError."""
    if identity_of(connection).job != connection.path_params["job_id"]:
        raise ForbiddenError("only the job's own process may report this")
