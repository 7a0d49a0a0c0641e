"""What an encoded image says of itself before anything is decoded. No torch: the hub reads headers, too."""

from __future__ import annotations

import struct

from serving.errors import ImageError

MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 50_000_000

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers: C0-CF without C4 (Huffman tables), C8 (reserved) and CC (arithmetic conditioning).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def image_size(data: bytes) -> tuple[str, int, int]:
    """(format, height, width) read from the header alone; format is "jpeg" or "png". Raises ImageError."""
    if data[:8] == _PNG_SIGNATURE:
        if len(data) < 33 or data[12:16] != b"IHDR":
            raise ImageError("the PNG has no header chunk; it is cut short or damaged")
        width, height = struct.unpack_from(">II", data, 16)
        return "png", height, width
    if data[:3] == b"\xff\xd8\xff":
        height, width = _jpeg_size(data)
        return "jpeg", height, width
    raise ImageError("not a JPEG or PNG file")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ImageError("the JPEG's segments are damaged")
        marker = data[at + 1]
        if marker == 0xFF or marker in _JPEG_STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        if marker in (0xD9, 0xDA):
            break
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise ImageError("the JPEG has no frame header; it is cut short or damaged")
