"""One tool's HTTP: to its own address alone, no redirect, a token that is in no log and no error."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from hub.client.tools.guarded import guarded_transport
from hub.errors import InputError, ReceiverError, ToolError
from hub.outbound import Guard, check_url, resolve

_NETS: Final = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "100.64.0.0/10")
_LAN: Final = Guard(tuple(ipaddress.ip_network(one) for one in _NETS))
"""A tool is often on the team's own network. What clouds keep credentials at (169.254.0.0/16) stays out of reach."""
_SECONDS: Final = 120.0
MAX_ANSWER: Final = 256 << 20
Auth = Callable[["Session"], str]
"""Gives the `Authorization` header; called again when it was refused."""


def read_token(variable: str, file: Path | None) -> str:
    """A tool's token: of a file that nobody else can read, or else of the environment. Raises InputError."""
    if file is None:
        token = os.environ.get(variable, "").strip()
        if not token:
            raise InputError(f"there is no token: set {variable}, or name a file with --token-file")
    else:
        try:
            mode = file.stat().st_mode
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the token's file cannot be read: {type(error).__name__}") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(f"others can read {file}, which holds a token: `chmod 600 {file}` first")
    if not token or len(token) > 4_000 or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("the token is empty, or holds what no token holds")
    return token


class Session:
    """Calls to one tool. Raises ToolError for whatever is not the answer that was asked for."""

    def __init__(
        self, url: str, name: str, auth: Auth, *, headers: Mapping[str, str] | None = None, guard: Guard | None = None
    ) -> None:
        """`guard`: which addresses may be asked; by default a tool on the caller's own network as well, which is right
        for a command that a person runs, and wrong for a hub that others may tell where to go.

        Raises InputError for an address that is none, or that a token must not be sent to in the clear.
        """
        parts = check_url(url)
        try:
            found = resolve(str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80), guard or _LAN)
        except ReceiverError as error:
            said = str(error) if guard is not None else str(error).replace(" (PARCELHUB_WEBHOOK_ALLOW)", "")
            raise ToolError(f"{name} at {parts.netloc}: {said}") from None
        public = any(not _private(str(address[0])) for _, address in found)
        if parts.scheme == "http" and public:
            raise InputError(f"{url}: a token goes over a public network by https:// alone")
        if parts.query:
            raise InputError(f"{name}'s address ends before any `?`")
        self.url = url.rstrip("/")
        self.name = name
        self._auth = auth
        self._header: str | None = None
        self._http = httpx.Client(
            timeout=_SECONDS, follow_redirects=False, headers=dict(headers or {}),
            transport=None if guard is None else guarded_transport(guard), trust_env=guard is None,
        )  # fmt: skip

    def close(self) -> None:
        """End the connection; no call may follow."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        accept: tuple[int, ...] = (),
        signed: bool = True,
        headers: Mapping[str, str] | None = None,
        **more: Any,  # noqa: ANN401  # what httpx takes: params, json, files, data
    ) -> httpx.Response:
        """One request to a path of the tool; `accept` are statuses besides 2xx that the caller understands. Raises
        ToolError for any other, and where the tool does not answer."""
        for last in (False, True):
            shown = {**(headers or {}), **({"Authorization": self._signed(again=last)} if signed else {})}
            try:
                response = self._http.request(method, self.url + path, headers=shown, **more)
            except httpx.HTTPError as error:
                # Not the error's own words: they may quote a header.
                raise ToolError(f"{self.name} at {self.url} does not answer ({type(error).__name__})") from None
            if response.status_code != httpx.codes.UNAUTHORIZED or not signed or last:
                break
        if response.is_success or response.status_code in accept:
            return response
        raise ToolError(_refusal(self, method, path, response))

    def json(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401  # JSON
        """The answer as JSON. Raises ToolError for one that is none, or too long."""
        response = self.call(method, path, **more)
        if len(response.content) > MAX_ANSWER:
            raise ToolError(f"{self.name} answers {method} {path} with {len(response.content):,} bytes")
        try:
            return response.json()
        except ValueError:
            raise ToolError(f"{self.name} answers {method} {path} with no JSON; is {self.url} its address?") from None

    def _signed(self, *, again: bool) -> str:
        if self._header is None or again:
            self._header = self._auth(self)
        return self._header


def _private(address: str) -> bool:
    one = ipaddress.ip_address(address.partition("%")[0])
    return any(one.version == net.version and one in net for net in _LAN.allowed)


def _refusal(session: Session, method: str, path: str, response: httpx.Response) -> str:
    status = response.status_code
    where = f"{session.name} at {session.url}"
    if response.is_redirect:
        host = urlsplit(response.headers.get("location", "")).netloc
        return f"{where} sends us elsewhere ({host or 'another path'}): name the address that it has itself"
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return f"{where} does not let this token do {method} {path}"
    said = response.text[:300].replace("\n", " ") if "json" in response.headers.get("content-type", "") else ""
    return f"{where} answers {method} {path} with {status} {said}".rstrip()
