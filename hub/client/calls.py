"""How the client talks to the hub: one connection pool, problem documents become errors, lists come in pages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import msgspec

from hub.errors import AnotherServiceError, HubAnswerError, HubUnavailableError, InputError
from hub.schemas.jobs import decoding
from hub.settings import Settings

T = TypeVar("T")
CHUNK = 1 << 20
JSON_HEADERS = {"Content-Type": "application/json"}
PAGE = 1000
"""Items asked for at a time: the most that the hub gives."""


class Calls:
    """One connection pool to one hub. Raises `HubAnswerError` (it said no) and `HubUnavailableError`."""

    def __init__(
        self, url: str, token: str, *, timeout: float = 60.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A client of the hub that the settings name, with their token."""
        return cls(settings.url, settings.client_token())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of_resource(self, name: str) -> Any:  # noqa: ANN401  # the class that the resource registered
        """The calls of a resource that registered some, over this client's connections. Raises InputError."""
        kind = _resources.get(name)
        if kind is None:
            raise InputError(f"no resource {name!r} has registered calls; is its module imported?")
        bound = kind.__new__(kind)
        bound._http = self._http
        return bound

    # How

    def _call(
        self,
        method: str,
        route: str,
        type_: type[T],
        body: object = None,
        *,
        params: dict[str, str] | None = None,
    ) -> T:
        content = None if body is None else msgspec.json.encode(body)
        headers = None if content is None else JSON_HEADERS
        response = self._send(method, route, content=content, headers=headers, params=params)
        return decoded(response, type_)

    def _send(
        self,
        method: str,
        route: str,
        *,
        content: bytes | Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> httpx.Response:
        try:
            response = self._http.request(method, "/api/v1" + route, content=content, headers=headers, params=params)
        except httpx.HTTPError as error:
            raise away(str(self._http.base_url), error) from error
        if response.status_code not in accept:
            check_answer(response)
        return response

    def _pages(
        self, route: str, type_: type[T], params: dict[str, str] | None = None, *, limit: int | None = None
    ) -> Iterator[T]:
        """The pages of a list, as the hub links them; at most `limit` items in all are asked for."""
        query = {**(params or {}), "limit": str(min(limit or PAGE, PAGE))}
        response = self._send("GET", route, params=query)
        while True:
            yield decoded(response, type_)
            following = response.links.get("next", {}).get("url", "")
            if not following or limit is not None:
                return
            response = self._send("GET", following.removeprefix("/api/v1"))


_resources: dict[str, type[Calls]] = {}


def register_calls(name: str, calls: type[Calls]) -> None:
    """Make the client's side of a resource known. Raises ValueError if another has its name."""
    if _resources.setdefault(name, calls) is not calls:
        raise ValueError(f"there are two resources named {name!r}")


def away(url: str, error: httpx.HTTPError) -> HubUnavailableError:
    """The error to raise for one of the transport: nobody answers there, or one who speaks no HTTP."""
    said = str(error)
    broken = any(words in said for words in ("without sending", "peer closed"))
    if (isinstance(error, httpx.RemoteProtocolError) and not broken) or "WRONG_VERSION_NUMBER" in said:
        return AnotherServiceError(url, said)
    return HubUnavailableError(url, error)


def check_answer(response: httpx.Response) -> None:
    """Raise HubAnswerError if the hub said no, AnotherServiceError if it was no hub that answered.

    The body has been read. A hub's refusal is a problem document, and a hub never redirects.
    """
    if response.is_success:
        return
    if response.is_redirect or (response.content and not _is_problem(response.content)):
        raise AnotherServiceError(_origin(response), _described(response))
    raise HubAnswerError.of(response.status_code, response.content)


def decoded(response: httpx.Response, type_: type[T]) -> T:
    """The body of a success. Raises AnotherServiceError if it is not what a hub sends."""
    try:
        return msgspec.json.decode(response.content, type=type_, dec_hook=decoding)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AnotherServiceError(_origin(response), f"{_described(response)}: {error}") from error


def _is_problem(content: bytes) -> bool:
    try:
        problem = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(problem, dict) and ("type" in problem or "detail" in problem)


def _origin(response: httpx.Response) -> str:
    return str(response.url.copy_with(path="/", query=None)).rstrip("/")


def _described(response: httpx.Response) -> str:
    kind = response.headers.get("content-type", "").partition(";")[0] or "no content type"
    return f"HTTP {response.status_code}, {kind}"


def split_name(name: str) -> tuple[str, str]:
    """`team/name` -> ("team", "name"). Raises InputError."""
    namespace, slash, short = name.partition("/")
    if not (namespace and slash and short) or "/" in short:
        raise InputError(f"{name!r} is not a repository name (team/name)")
    return namespace, short


def sha256_of(path: Path) -> str:
    """A file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def chunks_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file, CHUNK at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
