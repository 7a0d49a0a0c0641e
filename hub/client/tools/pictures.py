"""Pictures as robots see them: without the turn that a browser would give them."""

from __future__ import annotations

import struct

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_SOS, _APP1 = 0xDA, 0xE1


def as_stored(data: bytes) -> bytes:
    """The same JPEG or PNG without its EXIF part, pixel by pixel the same.

    Labelling tools obey its orientation, robots do not: masks would lie beside the packages. What else stands there
    (places, names) is not for another server either.
    """
    if data.startswith(_PNG):
        return _without_exif_chunk(data)
    return _without_exif_segment(data) if data.startswith(_JPEG) else data


def _without_exif_segment(data: bytes) -> bytes:
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SOS:
        kind, size = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        end = at + 2 + size
        if kind != _APP1 or not data[at + 4 : end].startswith(b"Exif\0"):
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


def _without_exif_chunk(data: bytes) -> bytes:
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack(">I", data[at : at + 4])[0]
        if data[at + 4 : at + 8] != b"eXIf":
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])
