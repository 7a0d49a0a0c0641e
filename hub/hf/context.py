"""What the protocol's routes are made of: who asks, which repo the address names, where the hub is."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode

import anyio.to_thread
import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.params import FromPath

from hub.accounts.access import Need
from hub.accounts.tokens import Identity
from hub.errors import UNREADABLE, UnauthorizedError
from hub.hf.paths import moved_to
from hub.hf.problems import BAD_TOKEN, BadTokenError, MovedError, NotOfferedError, UnprocessableError, not_offered
from hub.protocol.service import HubProtocol
from registry.errors import InvalidNameError, RepoNotFoundError
from registry.types import RepoId, RepoInfo, RepoType

Hf: TypeAlias = NamedDependency[HubProtocol]
Repo: TypeAlias = NamedDependency[RepoId]
Text: TypeAlias = FromPath[str]
HubRequest: TypeAlias = Request[Identity | None, None, State]
T = TypeVar("T")

KINDS: dict[str, RepoType] = {"models": "model", "datasets": "dataset"}
"""What addresses call a type of repo."""
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")


class TokenMiddleware(AbstractAuthenticationMiddleware):
    """Sets `request.user` to the identity of the bearer token, or of git's basic password; None without one."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Whose token it is, counted by the rate limit. Raises BadTokenError, TooManyRequestsError."""
        scheme, _, value = connection.headers.get("authorization", "").partition(" ")
        token = value.strip()
        if scheme.lower() == "basic":
            try:
                token = base64.b64decode(token, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                raise BadTokenError(BAD_TOKEN) from None
        elif scheme.lower() != "bearer":
            token = ""
        services = connection.app.state.services
        if not token:
            services.hf.rate.count(f"address:{connection.client.host if connection.client else ''}")
            return AuthenticationResult(user=None, auth=None)
        try:
            identity = await anyio.to_thread.run_sync(services.tokens.identify, token)
        except UnauthorizedError as error:
            raise BadTokenError(BAD_TOKEN) from error
        services.hf.rate.count(f"user:{identity.user}" if identity.user else f"token:{identity.name}")
        return AuthenticationResult(user=identity, auth=None)


def protocol_of(state: State) -> HubProtocol:
    """Provides `hf`."""
    hf: HubProtocol = state.services.hf
    return hf


def repo_id(kind: str, namespace: str, name: str) -> RepoId:
    """The repo an address names. Raises RepoNotFoundError for names that no repo can have, NotOfferedError."""
    if kind not in (*KINDS, "spaces", "kernels"):
        raise NotOfferedError(not_offered(f"/api/{kind}/{namespace}/{name}"))
    try:
        return RepoId(KINDS[kind], namespace, name)
    except (KeyError, InvalidNameError):
        raise RepoNotFoundError(f"{namespace}/{name}") from None


def repo_of_path(kind: Text, namespace: Text, name: Text) -> RepoId:
    """Provides `repo` where the address says the kind. Raises RepoNotFoundError."""
    return repo_id(kind, namespace, name)


def model_of_path(namespace: Text, name: Text) -> RepoId:
    """Provides `repo` where the address is a model's. Raises RepoNotFoundError."""
    return repo_id("models", namespace, name)


def dataset_of_path(namespace: Text, name: Text) -> RepoId:
    """Provides `repo` where the address is a dataset's. Raises RepoNotFoundError."""
    return repo_id("datasets", namespace, name)


def git_model_of_path(namespace: Text, name: Text) -> RepoId:
    """Provides `repo` where git asks, who calls a model `name.git`. Raises RepoNotFoundError."""
    return repo_id("models", namespace, _without_git(namespace, name))


def git_dataset_of_path(namespace: Text, name: Text) -> RepoId:
    """Provides `repo` where git asks, who calls a dataset `name.git`. Raises RepoNotFoundError."""
    return repo_id("datasets", namespace, _without_git(namespace, name))


def _without_git(namespace: str, name: str) -> str:
    if not name.endswith(".git"):
        raise RepoNotFoundError(f"{namespace}/{name}")
    return name.removesuffix(".git")


def open_repo(hf: HubProtocol, request: HubRequest, repo: RepoId, need: Need) -> RepoInfo:
    """The repo, if the caller may; readers of an old name are sent to the new one, writers are served.

    Raises RepoNotFoundError, GatedError, UnauthorizedError, ForbiddenError, MovedError.
    """
    found = hf.access.find(repo, request.user, need)
    if found.moved and request.method in ("GET", "HEAD"):
        raise MovedError(moved_to(request.scope, str(repo), str(found.info.id)))
    return found.info


def endpoint_of(hf: HubProtocol, request: HubRequest) -> str:
    """Where clients reach this hub: as configured, or as this one did. Raises UnprocessableError for a Host header that
    is no address."""
    if hf.public_url:
        return hf.public_url
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise UnprocessableError("the Host header is not an address")
    return f"{request.scope['scheme']}://{host}"


def repo_url(hf: HubProtocol, request: HubRequest, repo: RepoId) -> str:
    """The repo's own address, as clients parse it."""
    return f"{endpoint_of(hf, request)}/{'datasets/' if repo.type == 'dataset' else ''}{repo}"


def next_link(hf: HubProtocol, request: HubRequest, **changed: str | int) -> dict[str, str]:
    """The header that leads to the next page: this address with other parameters."""
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in changed]
    raw = (request.scope.get("raw_path") or request.url.path.encode()).partition(b"?")[0].decode("ascii", "replace")
    query = urlencode([*kept, *changed.items()])
    return {"Link": f'<{endpoint_of(hf, request)}{raw}?{query}>; rel="next"'}


def flag(request: HubRequest, name: str) -> bool:
    """A true-or-false parameter; clients write it in many ways."""
    return str(request.query_params.get(name, "")).lower() in ("true", "1", "yes", "on")


def many(request: HubRequest, *names: str) -> list[str]:
    """All values of a repeatable parameter."""
    return [str(value) for name in names for value in request.query_params.getall(name, [])]


def number(request: HubRequest, name: str, default: int, most: int) -> int:
    """A whole number between 1 and `most`. Raises UnprocessableError."""
    raw = str(request.query_params.get(name, default))
    if not raw.isdecimal() or len(raw) > 9:
        raise UnprocessableError(f"{name!r} must be a whole number")
    return min(max(int(raw), 1), most)


def decode(body: bytes, type_: type[T]) -> T:
    """A JSON body. Raises UnprocessableError."""
    try:
        return msgspec.json.decode(body or b"{}", type=type_)
    except UNREADABLE as error:
        raise UnprocessableError(str(error)) from error
