"""One POST to an address that somebody else chose: public addresses alone, no redirect, limits of time and size.

The name is resolved here, every address it has must be allowed, and the socket is connected to one of those very
addresses: a name that is told another address a moment later (DNS rebinding) changes nothing. Proxies of the
environment are not used. Of the answer only the status is read.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from hub.errors import InputError, ReceiverError, SettingsError

MAX_URL: Final = 2000
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_URL: Final = re.compile(r"[!-~]+")
# Public by the registry, and yet a machine's own: clouds answer with credentials there, or the network translates.
_NEVER: Final = (
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("192.88.99.0/24"),
    ipaddress.ip_network("::/96"),
    ipaddress.ip_network("fec0::/10"),
    ipaddress.ip_network("5f00::/16"),
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("2001::/32"),
)


@dataclass(frozen=True, slots=True)
class Guard:
    """Which addresses may be asked: public ones, and the networks that the operator allowed."""

    allowed: tuple[Network, ...] = ()

    @classmethod
    def of(cls, setting: str) -> Guard:
        """From `10.20.0.0/16, 192.168.7.9`. Raises SettingsError."""
        try:
            return cls(tuple(ipaddress.ip_network(one.strip()) for one in setting.split(",") if one.strip()))
        except ValueError as error:
            raise SettingsError(
                f"webhook_allow: {error}; write networks as 10.20.0.0/16, with commas between"
            ) from None

    def permits(self, text: str) -> bool:
        """Whether this numeric address may be asked."""
        try:
            address: Address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address.version == one.version and address in one for one in self.allowed):
            return True
        if any(address.version == one.version and address in one for one in _NEVER):
            return False
        return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def check_url(url: str) -> SplitResult:
    """The parts of an address that deliveries may go to. Raises InputError."""
    if len(url) > MAX_URL or not _URL.fullmatch(url):
        raise InputError(f"a webhook's address has at most {MAX_URL} printable ASCII characters, and no blanks")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"the webhook's address is not valid: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("a webhook's address begins with https:// or http:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise InputError("a webhook's address holds no user name and no password")
    if parts.fragment or port == 0:
        raise InputError("a webhook's address has no #fragment, and a port from 1 on")
    return parts


def check_reachable(url: str, guard: Guard) -> None:
    """Raises InputError for an address that is not valid, or whose host is known and is not allowed."""
    parts = check_url(url)
    try:
        resolve(str(parts.hostname), _port(parts), guard)
    except RefusedAddressError as error:
        raise InputError(str(error)) from None
    except ReceiverError:
        return  # no such name at the moment: the deliveries will tell


class RefusedAddressError(ReceiverError):
    """Raised for a host with an address that may not be asked."""


def resolve(host: str, port: int, guard: Guard) -> list[tuple[int, tuple[object, ...]]]:
    """Family and socket address of a host, all of them allowed. Raises ReceiverError, RefusedAddressError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ReceiverError("the host has no address that this hub can find") from None
    if not all(guard.permits(str(one[4][0])) for one in found) or not found:
        # Which address it is would tell strangers about the network behind the hub.
        raise RefusedAddressError(
            "the host is on a private or reserved network; the operator may allow it (PARCELHUB_WEBHOOK_ALLOW)"
        )
    return [(int(one[0]), tuple(one[4])) for one in found]


def post(url: str, body: bytes, headers: Mapping[str, str], guard: Guard, *, seconds: float) -> int:
    """Send `body` and give the status of the answer, whatever it is. All of it takes at most `seconds`, looking up the
    name aside. Raises ReceiverError."""
    parts = check_url(url)
    host, port = str(parts.hostname), _port(parts)
    addresses = resolve(host, port, guard)
    with _Line(seconds) as line:
        try:
            line.connect(addresses, guard)
            if parts.scheme == "https":
                line.secure(host)
            status = line.ask(parts, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if line.late or isinstance(error, TimeoutError):
                raise ReceiverError(f"no answer within {seconds:g} s") from None
            raise ReceiverError(_told(error)) from None
        if line.late:  # headers that did not end look whole once the line is cut
            raise ReceiverError(f"no answer within {seconds:g} s")
        return status


class _Line:
    """A connection that ends after so many seconds, wherever it hangs."""

    def __init__(self, seconds: float) -> None:
        self.late = False
        self._ends = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._watch = threading.Timer(seconds, self._cut)
        self._watch.daemon = True

    def __enter__(self) -> _Line:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.cancel()
        if self._socket is not None:
            self._socket.close()

    def _cut(self) -> None:
        # Not `close`: the other thread would go on waiting on a number that is not its socket's any more.
        self.late = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _left(self) -> float:
        return max(0.001, self._ends - time.monotonic())

    def connect(self, addresses: Sequence[tuple[int, tuple[object, ...]]], guard: Guard) -> None:
        problem: OSError = OSError("no address")
        for family, address in addresses:
            one = socket.socket(socket.AddressFamily(family), socket.SOCK_STREAM)
            self._socket = one
            one.settimeout(self._left())
            try:
                one.connect(address)
                if not guard.permits(str(one.getpeername()[0])):
                    raise RefusedAddressError("the host answered from an address that may not be asked")
            except OSError as error:
                one.close()
                problem = error
                if self.late:
                    break
            else:
                return
        raise problem

    def secure(self, host: str) -> None:
        assert self._socket is not None  # noqa: S101  # connected before
        context = ssl.create_default_context()
        self._socket = secured = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
        secured.settimeout(self._left())
        secured.do_handshake()

    def ask(self, parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> int:
        assert self._socket is not None  # noqa: S101  # connected before
        self._socket.settimeout(self._left())
        connection = http.client.HTTPConnection(str(parts.hostname), _port(parts))
        connection.auto_open = 0  # never by another way than the checked one
        connection.sock = self._socket
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"Host": parts.netloc, "Connection": "close", **headers})
        return connection.getresponse().status


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _told(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'unknown reason'}"
        case ConnectionRefusedError():
            return "nobody listens at its port"
        case http.client.HTTPException() | ValueError():
            return "its answer is no HTTP"
        case _:
            return f"the connection failed: {error.strerror if isinstance(error, OSError) else ''}".rstrip(": ")
