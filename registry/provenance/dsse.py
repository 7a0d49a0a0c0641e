"""DSSE envelopes (Dead Simple Signing Envelope, version 1): a payload, its type, and signatures over both."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from registry.canonical import JSON, canonical_json
from registry.provenance.keys import KeyRing
from registry.types import Digest

MAX_ENVELOPE = 4 * 1024**2
"""Bytes; a version of ten thousand files is named in less."""
MAX_SIGNATURES = 16


class EnvelopeError(ValueError):
    """Raised when an envelope is none, or no trusted key signed it; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope held, and which trusted key signed it."""

    payload: bytes
    keyid: Digest


def encoded(payload_type: str, payload: bytes) -> bytes:
    """What is signed (the "pre-authentication encoding"): no other type and payload read the same."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(ring: KeyRing, payload_type: str, payload: bytes) -> tuple[bytes, Digest]:
    """The envelope, canonical JSON, and the id of the key that signed it. Raises KeyRingError."""
    keyid, signature = ring.sign(encoded(payload_type, payload))
    envelope: JSON = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}],
    }
    return canonical_json(envelope), keyid


def unseal(ring: KeyRing, payload_type: str, envelope: bytes) -> Opened:
    """What the envelope holds, if a trusted key vouches for it. Raises EnvelopeError, KeyRingError."""
    if len(envelope) > MAX_ENVELOPE:
        raise EnvelopeError(f"the envelope has more than {MAX_ENVELOPE} bytes")
    try:
        fields: dict[str, Any] = json.loads(envelope)
        payload = base64.b64decode(fields["payload"], validate=True)
        kind = fields["payloadType"]
        signatures = [(one["keyid"], base64.b64decode(one["sig"], validate=True)) for one in fields["signatures"]]
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise EnvelopeError("it is no DSSE envelope") from error
    if kind != payload_type:
        raise EnvelopeError(f"it holds {str(kind)[:80]!r}, not {payload_type!r}")
    if not signatures or len(signatures) > MAX_SIGNATURES:
        raise EnvelopeError("it has no signature, or too many")
    message = encoded(payload_type, payload)
    known = [(keyid, signature) for keyid, signature in signatures if isinstance(keyid, str) and ring.trusts(keyid)]
    if not known:
        raise EnvelopeError(f"it is signed by a key that this hub does not trust ({str(signatures[0][0])[:12]})")
    for keyid, signature in known:
        if ring.believes(keyid, message, signature):
            return Opened(payload, keyid)
    raise EnvelopeError("its signature is not that of its content: it was changed or forged")
