"""Links that prove themselves: what they allow and until when, under the hub's own HMAC key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from hub.errors import ForbiddenError
from registry.catalog.catalog import Catalog

T = TypeVar("T", bound=msgspec.Struct)
MAX_TOKEN = 4096
_SECRET = "signing"  # noqa: S105  # the row's name


class _Envelope(msgspec.Struct, array_like=True, frozen=True):
    """`purpose` keeps a token for one thing from being used for another."""

    purpose: str
    expires: float
    content: msgspec.Raw


class Signer:
    """Signs and checks. The key is made at the first start and kept in the catalog, so links outlive a restart."""

    def __init__(self, key: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = key
        self._now = now

    @classmethod
    def of(cls, catalog: Catalog, *, now: Callable[[], float] = time.time) -> Signer:
        """The signer of this catalog's key."""
        with catalog.write() as db:
            db.execute("INSERT OR IGNORE INTO hub_secrets VALUES (?, ?)", [_SECRET, secrets.token_hex(32)])
            row = db.execute("SELECT secret FROM hub_secrets WHERE name = ?", [_SECRET]).fetchone()
        assert row is not None  # noqa: S101  # inserted above
        return cls(bytes.fromhex(row[0]), now=now)

    def sign(self, content: msgspec.Struct, *, seconds: float) -> str:
        """A token of URL-safe characters that `check` accepts for so long."""
        purpose = type(content).__name__
        body = msgspec.json.encode(_Envelope(purpose, self._now() + seconds, msgspec.Raw(msgspec.json.encode(content))))
        return f"{_to_text(body)}.{_to_text(self._mac(body))}"

    def check(self, token: str, type_: type[T]) -> T:
        """What was signed. Raises ForbiddenError for a token that is forged, expired or meant for something else."""
        refused = ForbiddenError("the link is not valid (any more)")
        if len(token) > MAX_TOKEN:
            raise refused
        body_text, _, mac_text = token.partition(".")
        try:
            body, mac = _to_bytes(body_text), _to_bytes(mac_text)
        except ValueError:
            raise refused from None
        if not hmac.compare_digest(mac, self._mac(body)):
            raise refused
        envelope = msgspec.json.decode(body, type=_Envelope)
        if envelope.purpose != type_.__name__ or envelope.expires < self._now():
            raise refused
        return msgspec.json.decode(envelope.content, type=type_)

    def derive(self, purpose: str) -> bytes:
        """A key of 32 bytes for another use, which tells nothing of this one."""
        return self._mac(b"derive\0" + purpose.encode())

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _to_bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
