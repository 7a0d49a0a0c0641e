"""The hashes of the Xet format, all BLAKE3 under fixed keys.

A hash is 32 bytes in files and on the wire of shards; in addresses and JSON it is text: the bytes as four
little-endian 64-bit words, each in 16 hex digits, so every group of eight bytes reads backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from registry.errors import XetFormatError
from registry.types import check_digest

XetHash: TypeAlias = str
"""A Xet hash as text, 64 lower-case hex characters."""

Hashes: TypeAlias = NDArray[np.uint8]
"""Raw hashes, uint8 [n, 32]."""

HASH_BYTES: Final = 32
ZERO: Final = bytes(HASH_BYTES)
"""The hash of no chunks at all."""

# The keys are part of the published format: huggingface/xet-core, `merklehash` and `metadata_shard`.
_CHUNK_KEY: Final = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY: Final = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY: Final = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_FILE_KEY: Final = ZERO  # files are not salted

_BRANCHING: Final = 4
_WIDEST: Final = 2 * _BRANCHING + 1


def to_text(raw: bytes) -> XetHash:
    """32 raw bytes as text."""
    return raw[7::-1].hex() + raw[15:7:-1].hex() + raw[23:15:-1].hex() + raw[31:23:-1].hex()


def from_text(text: XetHash) -> bytes:
    """The raw bytes of a hash in text. Raises InvalidValueError."""
    word_order = bytes.fromhex(check_digest(text))
    return bytes.fromhex(to_text(word_order))


def chunk_hash(data: bytes | memoryview) -> bytes:
    """The raw hash of a chunk's bytes."""
    return blake3(data, key=_CHUNK_KEY).digest()


def range_hash(chunks: bytes) -> bytes:
    """The proof that somebody knows a run of chunks: over their raw hashes, one after the other."""
    return blake3(chunks, key=_RANGE_KEY).digest()


def xorb_hash(hashes: Hashes, lengths: NDArray[np.uint32]) -> bytes:
    """The raw hash of a xorb: the root of the tree over its chunks' hashes and lengths (bytes, unpacked)."""
    return _root(hashes, lengths)


def file_hash(hashes: Hashes, lengths: NDArray[np.uint32]) -> bytes:
    """The raw hash of a file, out of the chunks that make it up, in order; zeros for an empty file."""
    if len(hashes) == 0:
        return ZERO
    return blake3(_root(hashes, lengths), key=_FILE_KEY).digest()


def as_hashes(raw: bytes) -> Hashes:
    """Raw hashes, one after the other, as uint8 [n, 32]. Raises XetFormatError."""
    if len(raw) % HASH_BYTES:
        raise XetFormatError("hashes", "are not a multiple of 32 bytes long")
    return np.frombuffer(raw, np.uint8).reshape(-1, HASH_BYTES)


def _root(hashes: Hashes, lengths: NDArray[np.uint32]) -> bytes:
    """Neighbours are merged until one node is left.

    Where a group ends depends on the hashes alone (every fourth or so ends one), so that a change in the middle of a
    file leaves most groups as they were.
    """
    if len(hashes) == 0:
        return ZERO
    level = np.ascontiguousarray(hashes)
    sizes = [int(length) for length in lengths]
    while len(level) > 1:
        texts = _texts(level)
        ends = _groups(level)
        merged: list[bytes] = []
        totals: list[int] = []
        start = 0
        for end in ends:
            text = "".join(f"{texts[at]} : {sizes[at]}\n" for at in range(start, end))
            merged.append(blake3(text.encode(), key=_NODE_KEY).digest())
            totals.append(sum(sizes[start:end]))
            start = end
        level, sizes = as_hashes(b"".join(merged)), totals
    return level.tobytes()


def _texts(level: Hashes) -> list[str]:
    """All hashes as text, with one conversion instead of one for each."""
    backwards = level.reshape(-1, 4, 8)[:, :, ::-1].tobytes().hex()
    return [backwards[at : at + 64] for at in range(0, len(backwards), 64)]


def _groups(level: Hashes) -> Sequence[int]:
    """Where the groups end: each holds 3 to 9 nodes, and ends early at a node whose last word divides by four.

    Only the last group may hold two nodes, or one.
    """
    words = cast("NDArray[np.uint64]", level[:, 24:].copy().view("<u8")[:, 0])
    cuts = (words % _BRANCHING == 0).tolist()
    ends: list[int] = []
    start, count = 0, len(cuts)
    while start < count:
        end = min(start + _WIDEST, count)
        end = next((at + 1 for at in range(start + 2, end) if cuts[at]), end)
        ends.append(end)
        start = end
    return ends
