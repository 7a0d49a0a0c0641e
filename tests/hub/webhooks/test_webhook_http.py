"""Which addresses a webhook may reach, and that a receiver can neither hold a try for long nor lead it elsewhere."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hub.errors import InputError, ReceiverError, SettingsError
from hub.outbound import Guard, RefusedAddressError, _Line, check_reachable, check_url, post, resolve
from tests.hub.receivers import receiving

LOCAL = Guard.of("127.0.0.1/32")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("168.63.129.16", "::", "::1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fc00::1", "ff02::1"),
        *("192.88.99.1", "::127.0.0.1", "fec0::1", "192.0.2.1", "2001:db8::1"),
        "0.0.0.0",  # noqa: S104  # nothing binds to it
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::", "nonsense"),
    ],
)
def test_addresses_that_are_never_asked(address: str) -> None:
    assert not Guard().permits(address)


def test_public_addresses_and_allowed_networks() -> None:
    assert all(Guard().permits(one) for one in ("93.184.216.34", "2606:2800:220:1::1"))
    guard = Guard.of("10.20.0.0/16, fd12::/16,127.0.0.1")
    assert all(guard.permits(one) for one in ("10.20.9.9", "fd12::7", "127.0.0.1", "::ffff:10.20.1.1"))
    assert not any(guard.permits(one) for one in ("10.21.0.1", "127.0.0.2", "fd13::1"))
    with pytest.raises(SettingsError):
        Guard.of("10.20.0.0/40")


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.com/", "file:///etc/passwd", "//example.com", "https://", "https://u:p@example.com/"),
        *("https://u@example.com", "https://example.com/#x", "https://example.com:0/", "https://example.com:99999/"),
        *("https://exa mple.com/", "https://example.com/\r\nX: y", "https://example.com/é", "https://[::1", "x" * 2001),
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InputError):
        check_url(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.1", "[::1]", "localhost"])
def test_every_way_to_write_this_machine_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="private or reserved"):
        check_reachable(f"http://{host}:8400/", Guard())


def test_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, 1, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with pytest.raises(RefusedAddressError) as told:
        resolve("both.example", 80, Guard())
    assert "10.0.0.1" not in str(told.value), "strangers learn nothing of the network"


def test_the_connected_address_is_looked_at_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, _Line(5.0) as line, pytest.raises(RefusedAddressError):
        line.connect([(int(socket.AF_INET), server.getsockname())], Guard())


def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it is told the second time (DNS rebinding) does not matter."""
    with receiving() as receiver:
        port = int(receiver.url.rsplit(":", 1)[1].partition("/")[0])
        told = iter([[(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]])
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: next(told))
        assert post(f"http://twice.example:{port}/x?y=1", b"{}", {}, LOCAL, seconds=30) == 204
        (letter,) = receiver.letters
        assert (letter.path, letter.headers["host"]) == ("/x?y=1", f"twice.example:{port}")


def test_redirects_are_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # and no proxy is asked
    with receiving() as receiver, receiving() as other:
        receiver.answer = lambda _: (307, {"Location": other.url})
        assert post(receiver.url, b"{}", {}, LOCAL, seconds=30) == 307
        assert other.letters == []


@pytest.fixture(params=["silence", "drops", "headers", "continue"])
def tar_pit(request: pytest.FixtureRequest) -> Iterator[str]:
    """Listens, and never comes to an end, each in its way."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def hold() -> None:
        try:
            talk, _ = server.accept()
        except OSError:
            return
        with talk:
            talk.recv(1000)
            drop = {"drops": b"H", "headers": b"X: y\r\n", "continue": b"HTTP/1.1 100 Continue\r\n\r\n"}.get(
                request.param
            )
            if request.param == "headers":
                talk.sendall(b"HTTP/1.1 200 OK\r\n")
            while not over.wait(0.05):
                try:
                    talk.sendall(drop or b"")
                except OSError:
                    return

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}/"
    over.set()
    server.close()
    thread.join()


def test_a_receiver_that_never_ends_is_left(tar_pit: str) -> None:
    with pytest.raises(ReceiverError, match=r"no answer within|no HTTP"):
        post(tar_pit, b"{}", {}, LOCAL, seconds=0.5)


def test_what_is_said_of_a_receiver_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ReceiverError, match="nobody listens"):
        post(f"http://127.0.0.1:{port}/", b"{}", {}, LOCAL, seconds=5)
    with receiving() as receiver, pytest.raises(ReceiverError, match="TLS failed"):
        post(receiver.url.replace("http:", "https:"), b"{}", {}, LOCAL, seconds=5)
