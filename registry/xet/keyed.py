"""Answers to the question "where does this chunk lie?": shards of xorbs whose chunk hashes are keyed.

Whoever has chunks can tell from such a shard that they are stored, and where; the chunks they have not, they cannot
even name. Chunks of a xorb that belong to other files are left out: they get noise for hashes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from blake3 import blake3

from registry.xet import hashes
from registry.xet.plan import Run, StoredXorb
from registry.xet.shards import EASY_TO_FIND, END_ROW, FOOTER_BYTES, ROW, ROW_TYPE, TAG, VERSION
from registry.xet.xorbs import ChunkTable

MAX_ROWS: Final = 1 << 16
"""3 MiB, and 4 GiB of a file."""
_FOOTER_VERSION: Final = 1


def is_landmark(raw: hashes.Hashes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which chunks clients ask about: those whose last word divides by 1024, besides the first one of a file."""
    words: np.ndarray[tuple[int], np.dtype[np.uint64]] = raw[:, 24:].copy().view("<u8")[:, 0]
    return words % 1024 == 0


def landmarks(runs: Sequence[Run], table_of: Callable[[StoredXorb], ChunkTable]) -> tuple[str, ...]:
    """The hashes of a file's chunks that clients may ask about."""
    found: dict[str, None] = {}
    for at, run in enumerate(runs):
        part = table_of(run.xorb).hashes[run.start : run.end]
        picked = is_landmark(part)
        picked[0] |= at == 0
        found |= dict.fromkeys(hashes.to_text(raw.tobytes()) for raw in part[picked])
    return tuple(found)


def keyed_shard(
    runs: Sequence[Run], table_of: Callable[[StoredXorb], ChunkTable], *, key: bytes, made: int, until: int
) -> bytes:
    """What a client may know of a file's chunks: as many of its runs, from the first on, as fit.

    `key` are 32 bytes, `made` and `until` epoch seconds.
    """
    shown: dict[StoredXorb, list[Run]] = {}
    rows = 0
    for run in runs:
        if run.xorb not in shown:
            rows += run.xorb.chunks + 1
            if shown and rows > MAX_ROWS:
                break
        shown.setdefault(run.xorb, []).append(run)
    head = TAG + VERSION.to_bytes(8, "little") + FOOTER_BYTES.to_bytes(8, "little")
    xorbs = [_xorb_rows(xorb, table_of(xorb), parts, key) for xorb, parts in shown.items()]
    body = head + END_ROW + b"".join(xorbs) + END_ROW
    raw = sum(int(table_of(xorb).raw) for xorb in shown)
    packed = sum(xorb.packed for xorb in shown)
    return body + _footer(len(body), key, made=made, until=until, raw=raw, packed=packed)


def _xorb_rows(xorb: StoredXorb, table: ChunkTable, shown: Sequence[Run], key: bytes) -> bytes:
    rows = np.zeros(len(table) + 1, ROW_TYPE)
    rows["hash"][0] = np.frombuffer(hashes.from_text(xorb.hash), np.uint8)
    rows["b"][0], rows["c"][0], rows["d"][0] = len(table), table.raw, xorb.packed
    rows["hash"][1:] = hashes.as_hashes(secrets.token_bytes(hashes.HASH_BYTES * len(table)))
    ends = np.cumsum(table.lengths, dtype=np.uint64)
    rows["a"][1:], rows["b"][1:] = ends - table.lengths, table.lengths
    for run in shown:
        for at in range(run.start, run.end):
            keyed = blake3(table.hashes[at].tobytes(), key=key).digest()
            rows["hash"][at + 1] = np.frombuffer(keyed, np.uint8)
        rows["c"][1 + run.start : 1 + run.end] = np.where(
            is_landmark(table.hashes[run.start : run.end]), EASY_TO_FIND, 0
        )
    return rows.tobytes()


def _footer(size: int, key: bytes, *, made: int, until: int, raw: int, packed: int) -> bytes:
    """Where the sections begin, without the look-up tables, which clients make for themselves."""
    no_tables = [size, 0] * 3
    before = [_FOOTER_VERSION, ROW, 2 * ROW, *no_tables]
    after = [made, until, *[0] * 6, packed, raw, raw, size]
    return b"".join(n.to_bytes(8, "little") for n in before) + key + b"".join(n.to_bytes(8, "little") for n in after)
