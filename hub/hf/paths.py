"""Addresses: `refs%2Fpr%2F1` is one segment, and only the raw address still says so.

Servers decode an address before they route it. We route on one in which encoded slashes are kept apart from real ones,
as a character that no ref and no path may hold; `text` gives a parameter back as it was meant.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from litestar.types import Scope

_KEPT = "\x1f"
_ENCODED_SLASH = re.compile(rb"%2f", re.IGNORECASE)


def keep_encoded_slashes(scope: Scope) -> None:
    """Give the scope a path in which encoded slashes do not separate segments."""
    raw = scope.get("raw_path") or b""
    raw = raw.partition(b"?")[0]
    if _ENCODED_SLASH.search(raw):
        scope["path"] = unquote(_ENCODED_SLASH.sub(b"%1f", raw).decode("ascii", "replace"))


def text(parameter: str) -> str:
    """A parameter of a route as the client meant it; a file's path comes without its leading slash."""
    return parameter.replace(_KEPT, "/").strip("/")


def moved_to(scope: Scope, old: str, new: str) -> str:
    """The request's own address with the repo's new name in place of the old one, relative to the origin."""
    raw = (scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0].decode("ascii", "replace")
    query = scope["query_string"].decode("ascii", "replace")
    return raw.replace(f"/{old}", f"/{new}", 1) + (f"?{query}" if query else "")
