"""Canonical JSON: the one byte form of a value, so that its sha256 can be its name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from registry.errors import InvalidValueError

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None


def canonical_json(value: JSON) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; floats in Python's shortest round-trip form.

    Raises InvalidValueError for what JSON cannot say (NaN, infinity, lone surrogates, other types).
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError("JSON value", value, str(error)) from error


def sha256_of(data: bytes) -> str:
    """The sha256 of `data`, 64 lower-case hex characters."""
    return hashlib.sha256(data).hexdigest()
