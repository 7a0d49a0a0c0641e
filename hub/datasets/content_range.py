"""The `Content-Range` header of uploads in parts."""

from __future__ import annotations

from hub.errors import InputError


def parse_range(header: str) -> tuple[int, int, int]:
    """(first, end, total) of a `Content-Range`, `end` exclusive. Raises InputError."""
    try:
        unit, _, rest = header.strip().partition(" ")
        span, _, total = rest.partition("/")
        first, _, last = span.partition("-")
        found = int(first), int(last) + 1, int(total)
    except ValueError:
        raise InputError(f"Content-Range {header[:100]!r} does not read `bytes 0-99/200`") from None
    if unit != "bytes" or not 0 <= found[0] < found[1] <= found[2]:
        raise InputError(f"Content-Range {header[:100]!r} does not read `bytes 0-99/200`")
    return found
