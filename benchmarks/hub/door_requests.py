"""Requests that are wrong in every way we can think of, made from a seed for every route of a hub."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from benchmarks.hub.uploads import packed
from hub.http.access_policy import RULES

_LEFT_OUT: Final = (
    *("POST /api/v1/maintenance/", "GET /api/v1/audit/check"),
    # These end the sender: what comes after them meets the first guard alone.
    *("POST /ui/sign-out", "POST /ui/settings/tokens/", "DELETE /api/v1/tokens/", "DELETE /api/repos/delete"),
)
ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 10**30, -(10**400), 1e308, -0.5, float("nan"), float("inf")),
    *(
        "",
        " ",
        "0",
        "nan",
        "../../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "\ud800",
        "é" * 300,
        "x" * 5000,
        "x" * 200_000,
    ),
    *(
        "e\u0301",
        "\u202egpj.exe",
        "\ufb01",
        "\U0001d54f" * 40,
        "<script>alert(1)</script>",
        "'; DROP TABLE repos; --",
        "%00",
        "%2e%2e",
        "a\r\nb",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        {"": None},
        [[[[1]]]],
        ["a"] * 1000,
        {"a" * 1000: {"b": {}}},
        "main",
        "acme/d",
        "1970-01-01",
    ),
)
WORDS: Final = (
    *("", "x", "..", ".", "%00", "a/b", "a b", "é" * 60, "x" * 300, "-1", "0", "9" * 30, "nan", "null", "HEAD", "main"),
    *("refs/pr/1", "refs/pr/99999999999999999999", "\ud800", "a\nb", "__proto__", "~", "*", "v1", "@", "a@v1", "a:b"),
    *("0" * 40, "f" * 64, "A" * 64, "eyJ.x.y", "\u202e", "CON", "a" * 2000, ".git", ".gitattributes", "%FF", "?", "#"),
)
QUERY: Final = (
    *("limit", "cursor", "after", "before", "since", "days", "by", "cell", "q", "search", "sort", "direction", "type"),
    *(
        "filter",
        "author",
        "full",
        "expand",
        "recursive",
        "revision",
        "path",
        "name",
        "service",
        "stage",
        "state",
        "a",
        "b",
    ),
    *(
        "threshold",
        "split",
        "page",
        "offset",
        "status",
        "kind",
        "lines",
        "notice",
        "image",
        "download",
        "label",
        "robot",
    ),
)


EXAMPLES: Final = ("dock-a", "acme/d", "d", "main", "v1", "ann", "acme", "box", "success", "read", "fleet", "note")
"""Texts that are sent where a schema asks for a text and says no more of it."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: bearer token, token of the Xet store, cookie and form proof of a session, and the names in addresses
    that lead somewhere, by the word of the route's placeholder."""

    origin: str
    token: str
    xet: str
    cookie: str
    csrf: str
    names: Mapping[str, tuple[str, ...]]


class DoorFuzzer:
    """Makes requests from a seed."""

    def __init__(self, sender: Sender, schema: Mapping[str, Any], seed: int) -> None:
        """`schema`: the hub's OpenAPI document."""
        self._sender = sender
        self._dice = random.Random(seed)
        self._schemas: Mapping[str, Any] = schema.get("components", {}).get("schemas", {})
        self._paths: Mapping[str, Any] = schema.get("paths", {})
        self._routes = sorted(route for route in RULES if not route.startswith(_LEFT_OUT) and "/events" not in route)

    def make(self) -> tuple[str, str, str, bytes, dict[str, str]]:
        """(route, method, target, body, headers) of a request."""
        dice = self._dice
        route = dice.choice(self._routes)
        method, _, path = route.partition(" ")
        target = re.sub(r"\{(\w+)\}", lambda one: self._word(one[1]), path) + self._query()
        headers = self._headers(path)
        body = b""
        if method in ("POST", "PUT", "PATCH") or dice.random() < 0.05:
            body, kind = self._body(method, path)
            headers["Content-Type"] = (
                kind
                if dice.random() < 0.9
                else dice.choice(
                    (
                        "application/json",
                        "text/plain",
                        "application/x-ndjson",
                        "multipart/form-data",
                        "x",
                        "a/b; charset=zz",
                    )
                )
            )
        return route, method, target, body, headers

    def _word(self, name: str) -> str:
        known = self._sender.names.get(name)
        if known and self._dice.random() < 0.8:
            return quote(self._dice.choice(known), safe="/")
        word = self._dice.choice(WORDS)
        return quote(word, safe="/" if self._dice.random() < 0.5 else "", errors="surrogatepass") or "x"

    def _query(self) -> str:
        dice = self._dice
        if dice.random() < 0.5:
            return ""
        pairs = [(dice.choice(QUERY), self._text(dice.choice((*WORDS, *ODD)))) for _ in range(dice.randint(1, 3))]
        return "?" + urlencode(pairs, errors="surrogatepass")

    def _headers(self, path: str) -> dict[str, str]:
        dice, sender = self._dice, self._sender
        headers: dict[str, str] = {}
        if path.startswith("/ui"):
            if dice.random() < 0.95:
                headers |= {"Cookie": sender.cookie, "Origin": sender.origin}
        elif path.startswith("/xet") or "/v1/shards" in path or "xorbs" in path or "reconstructions" in path:
            headers["Authorization"] = (
                f"Bearer {sender.xet if dice.random() < 0.9 else dice.choice(('x', sender.token))}"
            )
        elif dice.random() < 0.95:
            headers["Authorization"] = f"Bearer {sender.token}"
        if dice.random() < 0.15:
            headers[
                dice.choice(("Range", "Accept", "If-None-Match", "If-Match", "Content-Encoding", "X-Xet-Session-Id"))
            ] = dice.choice(
                ("bytes=0-", "bytes=9-1", "bytes=-0", "bytes=1-2,5-6", "text/html", "*/*;q=x", '"a"', "gzip", "x" * 500)
            )
        return headers

    def _body(self, method: str, path: str) -> tuple[bytes, str]:
        dice = self._dice
        roll = dice.random()
        if roll < 0.06:
            return dice.randbytes(dice.randint(0, 3000)), "application/octet-stream"
        if roll < 0.10:
            depth = dice.choice((50, 5000, 100_000))
            return dice.choice((b"[", b'{"a":')) * depth, "application/json"
        if path.startswith("/ui"):
            return self._form(), "application/x-www-form-urlencoded"
        if path.endswith("/commit/{revision}"):
            return self._commit(), "application/x-ndjson"
        if "shards" in path or "xorbs" in path:
            return self._xet(path), "application/octet-stream"
        document = self._document(method, path)
        text = json.dumps(document, ensure_ascii=dice.random() < 0.5)
        if dice.random() < 0.05:
            text = text[: dice.randint(0, len(text))]
        return text.encode("utf-8", "surrogatepass"), "application/json"

    def _form(self) -> bytes:
        dice = self._dice
        keys = (
            "cell",
            "name",
            "dataset",
            "note",
            "stage",
            "token",
            "scopes",
            "classes",
            "next",
            "split",
            "state",
            "enabled",
            "min_labels",
            "begin",
            "end",
            "time_zone",
            "team",
            "person",
            "action",
            "version",
            "into",
            "ids",
            "why",
        )
        pairs = [("csrf", self._sender.csrf if dice.random() < 0.95 else "x")]
        pairs += [
            (dice.choice(keys), self._text(dice.choice((*ODD, *WORDS, "dock-a", "d"))))
            for _ in range(dice.randint(0, 8))
        ]
        return urlencode(pairs, errors="surrogatepass").encode()

    def _commit(self) -> bytes:
        dice = self._dice
        data = dice.randbytes(dice.randint(0, 400))
        digest = hashlib.sha256(b"frames" * 900).hexdigest()
        lines: list[Any] = [
            {"key": "header", "value": {"summary": "s", "description": ""}},
            {
                "key": "file",
                "value": {"path": "a.txt", "content": base64.b64encode(data).decode(), "encoding": "base64"},
            },
            {"key": "lfsFile", "value": {"path": "b.bin", "algo": "sha256", "oid": digest, "size": 5400}},
            {"key": "deletedFile", "value": {"path": "a.txt"}},
            {"key": "deletedFolder", "value": {"path": "x/"}},
            {"key": "copyFile", "value": {"path": "c.txt", "srcPath": "a.txt", "srcRevision": "main"}},
        ]
        chosen = [lines[0], *dice.choices(lines[1:], k=dice.randint(0, 5))]
        chosen = json.loads(json.dumps(chosen))
        for _ in range(dice.randint(0, 2)):
            self._damage(chosen)
        return "\n".join(json.dumps(one) for one in chosen).encode("utf-8", "surrogatepass")

    def _xet(self, path: str) -> bytes:
        dice = self._dice
        data = dice.randbytes(dice.randint(1, 70_000))
        _, xorb, shard = packed(data, hashlib.sha256(data).hexdigest())
        made = bytearray(shard if "shards" in path else xorb)
        match dice.randrange(5):
            case 0:
                for _ in range(dice.randint(1, 20)):
                    made[dice.randrange(len(made))] = dice.randrange(256)
            case 1:
                del made[dice.randrange(len(made)) :]
            case 2:
                at = dice.randrange(len(made))
                made[at:at] = dice.randbytes(dice.randint(1, 100))
            case 3:
                at = 4 * dice.randrange(max(1, len(made) // 4))
                made[at : at + 4] = dice.choice((b"\xff" * 4, bytes(4), b"\x00\x00\x00\x80"))
            case _:
                pass
        return bytes(made)

    def _document(self, method: str, path: str) -> object:
        body = self._paths.get(path, {}).get(method.lower(), {}).get("requestBody", {}).get("content", {})
        first: Mapping[str, Any] = next(iter(body.values()), {})
        wanted = first.get("schema", {"type": "object"})
        made: Any = [self.of_schema(wanted)]
        for _ in range(self._dice.choice((0, 1, 1, 1, 2, 4))):
            self._damage(made)
        return made[0]

    def of_schema(self, schema: Mapping[str, Any], depth: int = 0) -> object:
        """A value as the API's description asks for it."""
        dice = self._dice
        if "$ref" in schema:
            schema = self._schemas.get(schema["$ref"].rpartition("/")[2], {})
        for key in ("oneOf", "anyOf"):
            if schema.get(key):
                return self.of_schema(dice.choice(schema[key]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return dice.choice(schema["enum"])
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = dice.choice(kind)
        if kind == "object" and depth < 6:
            needed = set(schema.get("required", ()))
            return {
                name: self.of_schema(one, depth + 1)
                for name, one in schema.get("properties", {}).items()
                if name in needed or dice.random() < 0.6
            }
        if kind == "array":
            return [self.of_schema(schema.get("items", {}), depth + 1) for _ in range(dice.randint(0, 3))]
        if kind == "integer":
            return dice.choice((0, 1, 7, 100))
        if kind == "number":
            return dice.choice((0.0, 0.5, 1.0, 30.0))
        if kind == "boolean":
            return dice.random() < 0.5
        if kind == "null":
            return None
        return dice.choice(EXAMPLES)

    def _damage(self, document: object) -> None:
        places: list[tuple[Any, Any]] = []
        stack: list[Any] = [document]
        while stack:
            node = stack.pop()
            entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            for key, value in entries:
                places.append((node, key))
                stack.append(value)
        if not places:
            return
        node, key = self._dice.choice(places)
        if isinstance(node, dict) and self._dice.random() < 0.2:
            node.pop(key, None)
        elif isinstance(node, dict) and self._dice.random() < 0.1:
            node[self._text(self._dice.choice(ODD))[:2000]] = node.get(key)
        else:
            node[key] = json.loads(json.dumps(self._dice.choice(ODD)))

    @staticmethod
    def _text(value: object) -> str:
        return value if isinstance(value, str) else json.dumps(value)
