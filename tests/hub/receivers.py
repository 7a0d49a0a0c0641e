"""A real HTTP receiver of webhooks, which answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hub.webhooks.delivery import signature
from tests.hub.material import wait_for


@dataclass(frozen=True)
class Letter:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told

    def is_signed_with(self, secret: str) -> bool:
        mine = signature(secret, self.headers["x-parcelhub-timestamp"], self.body)
        return self.headers["x-parcelhub-signature"] == mine


@dataclass
class Receiver:
    """What came, and what is answered: `answer` gives a status and headers, in the receiver's thread."""

    url: str = ""
    answer: Callable[[Letter], tuple[int, dict[str, str]]] = lambda _: (204, {})
    letters: list[Letter] = field(default_factory=list)

    def events(self) -> list[str]:
        return [letter.told["event"] for letter in list(self.letters)]

    def wait(self, number: int, seconds: float = 120.0) -> list[Letter]:
        """The first `number` letters."""
        wait_for(lambda: len(self.letters) >= number, seconds)
        return self.letters[:number]


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver on 127.0.0.1."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            letter = Letter(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            receiver.letters.append(letter)
            status, headers = receiver.answer(letter)
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
