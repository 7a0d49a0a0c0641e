"""Connections of the hub to a tool: to allowed addresses alone, whatever the name is told to mean a moment later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from hub.outbound import Guard


class _Guarded(httpcore.NetworkBackend):
    """Opens connections, and closes those that got to an address that may not be asked before a byte is sent."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        address = stream.get_extra_info("server_addr")
        if not address or not self._guard.permits(str(address[0])):
            stream.close()
            raise httpcore.ConnectError("the host answered from an address that may not be asked")
        return stream

    def connect_unix_socket(
        self,
        path: str,  # noqa: ARG002  # none is opened
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("a tool answers at no socket of this machine")

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def guarded_transport(guard: Guard) -> httpx.HTTPTransport:
    """A transport whose every connection the guard has looked at, and that asks no proxy."""
    made = httpx.HTTPTransport(trust_env=False)
    # httpx hands no backend through; the pool is what its transport drives.
    made._pool = httpcore.ConnectionPool(ssl_context=httpx.create_ssl_context(), network_backend=_Guarded(guard))
    return made
