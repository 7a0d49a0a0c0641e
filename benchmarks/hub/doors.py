"""Requests that are wrong in every way we can think of, at every route of a real hub, from a member of one team.

What is counted is what leaves its tenant: answers of the kind 5xx (501 says that something is not offered), tracebacks
in the hub's log, requests without an answer, right answers that are empty, and anything that another team finds other
than it left it.
"""

from __future__ import annotations

import contextlib
import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from benchmarks.hub.crash import Victim, victim_settings
from benchmarks.hub.door_requests import DoorFuzzer, Sender
from benchmarks.hub.uploads import Uploader
from hub.client.client import HubClient
from hub.settings import Settings

TIMEOUT_S: Final = 60.0
MOST_BYTES: Final = 2_000_000
"""So much of an answer is read."""
CHECK_EVERY: Final = 250
"""After so many requests of a client the other team looks at what is its own."""


@dataclass(slots=True)
class DoorsResult:
    """What came of the requests. Lists hold words for people, one for each thing that must not be."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    """Answers of the kind 5xx, by method, route and status."""
    examples: dict[str, str] = field(default_factory=dict)
    unanswered: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)
    tracebacks: int = 0
    others_hurt: list[str] = field(default_factory=list)
    others_asked: int = 0
    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sound(self) -> bool:
        """Whether nothing left its tenant."""
        return not (self.failed or self.unanswered or self.empty or self.tracebacks or self.others_hurt)

    def figures(self) -> dict[str, Any]:
        """The same as JSON values; of those who were hurt, the first 50."""
        return {
            "requests": self.requests,
            "routes": len(self.routes),
            "statuses": dict(sorted(self.statuses.items())),
            "failed": dict(self.failed),
            "examples": self.examples,
            "unanswered": dict(self.unanswered),
            "empty": dict(self.empty),
            "tracebacks": self.tracebacks,
            "others_asked": self.others_asked,
            "others_hurt": self.others_hurt[:50],
            "seconds": round(self.seconds, 1),
        }


class World:
    """Two teams' things in a hub: `ann` of acme sends what is wrong, `bob` of other is who must not feel it."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.url
        self.operator = settings.client_token()
        with HubClient.of(settings) as hub:
            hub.put_user("ann", teams=["acme"])
            hub.put_user("bob", teams=["other"])
            everything = ["read", "contribute", "finetune", "promote"]
            self.ann = hub.create_token("ann", everything, user="ann")
            self.bob = hub.create_token("bob", everything, user="bob")
            hub.create_cell("dock-a", team="acme", classes=["box"])
            hub.create_cell("dock-b", team="other", classes=["box"])
        self.contents = {f"{number}.bin": random.Random(number).randbytes(4000) for number in range(4)}
        with contextlib.closing(Uploader(self.url, self.bob)) as bob:
            bob.ensure_repo("other/d")
            kept = [bob.upload("other/d", path, data, "lfs") for path, data in self.contents.items()]
        self.head = kept[-1].commit
        with contextlib.closing(Uploader(self.url, self.ann)) as ann:
            ann.ensure_repo("acme/d")
            mine = [ann.upload("acme/d", f"{way}.bin", b"frames" * 900, way) for way in ("commit", "lfs", "xet")]
            grant = ann.get("/api/datasets/acme/d/xet-write-token/main")
        self.xet = grant["accessToken"]
        self.names: dict[str, tuple[str, ...]] = {
            "namespace": ("acme", "other", "cells"),
            "name": ("d", "dock-a", "ann", "acme"),
            "cell": ("dock-a", "dock-b"),
            "sha256": tuple(one.sha256 for one in mine),
            "revision": ("main", mine[-1].commit),
            "path": ("commit.bin", "lfs.bin", "xet.bin", "a/b/c.txt"),
            "type_": ("dataset", "model"),
            "kind": ("datasets", "models"),
            "types": ("datasets", "models"),
            "team": ("acme", "other"),
            "user": ("ann", "bob"),
            "version": ("v1",),
            "prefix": ("default",),
            "num": ("1", "2"),
            "branch": ("main", "b1"),
            "tag": ("t1",),
            "status": ("pending", "accepted"),
            "action": ("pause", "resume", "veto"),
            "epoch": (urlsplit(grant["casUrl"]).path.rpartition("/")[2] or "x",),
        }

    def sender(self) -> Sender:
        """ann, with a session of its own."""
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_S) as browser:
            proof = re.search(r'name="csrf" value="([0-9a-f]{64})"', browser.get("/ui/sign-in").text)
            form = {"csrf": proof[1] if proof else "", "token": self.ann, "next": ""}
            browser.post("/ui/sign-in", data=form, headers={"Origin": self.url})
            page = browser.get("/ui/settings").text
            found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
            cookie = "; ".join(f"{key}={value}" for key, value in browser.cookies.items())
        return Sender(self.url, self.ann, self.xet, cookie, found[1] if found else "", self.names)

    def hurt(self) -> list[str]:
        """What bob finds other than he left it."""
        wrong = []
        with contextlib.closing(Uploader(self.url, self.bob, timeout=TIMEOUT_S)) as bob:
            try:
                for path, data in self.contents.items():
                    if bob.read("other/d", "main", path) != data:
                        wrong.append(f"{path} has other bytes")
                if next(bob.pages("/api/datasets/other/d/commits/main"))["id"] != self.head:
                    wrong.append("main of other/d moved")
                if "dock-b" not in str(bob.get("/api/v1/cells")):
                    wrong.append("the cell dock-b is gone")
                bob.get("/api/v1/datasets")
            except (httpx.HTTPError, StopIteration, KeyError) as error:
                wrong.append(f"{type(error).__name__}: {error}"[:300])
        return wrong


def run_doors(
    folder: Path,
    *,
    requests: int,
    clients: int = 3,
    seed: int = 0,
    seconds: float = math.inf,
    report: Callable[[int], None] | None = None,
) -> DoorsResult:
    """Send so many wrong requests to a hub over `folder/data`, or as many as `seconds` allow.

    Raises StackError if it does not start.
    """
    settings = victim_settings(folder)
    victim = Victim(settings)
    result, began = DoorsResult(), time.perf_counter()
    try:
        world = World(settings)
        schema = httpx.get(f"{settings.url}/schema/openapi.json", timeout=TIMEOUT_S).json()
        share = -(-requests // clients)
        threads = [
            threading.Thread(
                target=_client, args=(world, schema, seed * 1000 + number, share, began + seconds, result, report)
            )
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        victim.stop()
    result.seconds = time.perf_counter() - began
    log = (folder / "hub.log").read_text(errors="replace")
    result.tracebacks = log.count("Traceback (most recent call last)")
    return result


def _client(
    world: World,
    schema: Mapping[str, Any],
    seed: int,
    count: int,
    until: float,
    result: DoorsResult,
    report: Callable[[int], None] | None,
) -> None:
    fuzzer = DoorFuzzer(world.sender(), schema, seed)
    place = urlsplit(world.url)
    connection = HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_S)
    for number in range(1, count + 1):
        if time.perf_counter() > until:
            break
        route, method, target, body, headers = fuzzer.make()
        status, data, error = _send(connection, method, target, body, headers)
        with result.lock:
            result.requests += 1
            result.routes[route] += 1
            result.statuses[status] += 1
            if error:
                result.unanswered[f"{route}: {error}"] += 1
                result.examples.setdefault(route, f"{target[:200]} {body[:200]!r}")
            elif status >= 500 and status != 501:
                result.failed[f"{status} {route}"] += 1
                result.examples.setdefault(f"{status} {route}", f"{target[:300]} {body[:400]!r} -> {data[:300]!r}")
            elif status == 200 and not data and method == "GET" and route.startswith(("GET /api/", "GET /ui/")):
                result.empty[route] += 1
                result.examples.setdefault(route, f"{target[:300]}")
            done = result.requests
        if number % CHECK_EVERY == 0:
            wrong = world.hurt()
            with result.lock:
                result.others_asked += 1
                result.others_hurt += wrong
            if report is not None:
                report(done)
    connection.close()


def _send(
    connection: HTTPConnection, method: str, target: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, bytes, str]:
    """(status, the beginning of the answer, why there is none). A refused body may end the connection: once more."""
    for again in (False, True):
        try:
            connection.request(method, target, body=body or None, headers=dict(headers))
            answer = connection.getresponse()
            data = answer.read(MOST_BYTES)
            if not answer.isclosed():
                connection.close()
        except (HTTPException, OSError) as error:
            connection.close()
            if again:
                return 0, b"", type(error).__name__
        else:
            return answer.status, data, ""
    raise AssertionError
