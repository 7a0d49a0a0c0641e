"""Shards: what a client says about files and xorbs, 48 bytes a row.

A shard is a header row, the files (each a row, its terms, its proofs, its sha256), a row that ends them, the xorbs
(each a row and its chunks) and a row that ends those. Clients may add look-up tables and a footer after that; what is
uploaded has none, and if it had, they would only repeat the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from registry.errors import ShardWorkError, XetFormatError
from registry.types import Digest
from registry.xet import hashes
from registry.xet.hashes import Hashes, XetHash
from registry.xet.xorbs import MAX_CHUNK, MAX_CHUNKS, MAX_XORB

MAX_SHARD: Final = 128 * 1024**2
"""Bytes of a shard; clients start a new one at 64 MiB."""
ROW: Final = 48
MAX_FILES: Final = 100_000
MAX_TERMS: Final = 500_000
MAX_NAMED: Final = 16_000_000
"""Chunks that the terms of a shard may name together: a tebibyte of common ones."""

TAG: Final = b"HFRepoMetaData\x00" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
VERSION: Final = 2
FOOTER_BYTES: Final = 200
_END: Final = b"\xff" * hashes.HASH_BYTES
END_ROW: Final = _END + bytes(16)
_WITH_PROOFS, _WITH_SHA256 = 1 << 31, 1 << 30
EASY_TO_FIND: Final = 1 << 31  # a hint for global deduplication on a chunk, the only flag a chunk may carry

# What a, b, c and d mean depends on the kind of the row.
ROW_TYPE: Final = np.dtype([("hash", "u1", (32,)), ("a", "<u4"), ("b", "<u4"), ("c", "<u4"), ("d", "<u4")])
Rows = NDArray[Any]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file as its terms: runs of chunks, one after the other.

    `xorbs` uint8 [n, 32] raw hashes; `starts`, `ends` uint32 [n], half-open runs of chunk numbers in them; `lengths`
    uint32 [n], unpacked bytes; `proofs` uint8 [n, 32], the range hash of each run, None if the shard has none.
    """

    hash: XetHash
    xorbs: Hashes
    starts: NDArray[np.uint32]
    ends: NDArray[np.uint32]
    lengths: NDArray[np.uint32]
    proofs: Hashes | None
    sha256: Digest | None

    @property
    def size(self) -> int:
        """In bytes."""
        return int(self.lengths.sum(dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class ShardXorb:
    """A xorb as the client sees it: `chunks` uint8 [n, 32] raw hashes, `lengths` uint32 [n] unpacked bytes."""

    hash: XetHash
    chunks: Hashes
    lengths: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Shard:
    """All that a shard says."""

    files: tuple[ShardFile, ...]
    xorbs: tuple[ShardXorb, ...]


def parse_shard(data: bytes) -> Shard:
    """Read a shard; its numbers are checked against each other, its hashes are not. Raises XetFormatError."""
    if len(data) > MAX_SHARD:
        raise XetFormatError("shard", f"has more than {MAX_SHARD} bytes")
    if len(data) < 3 * ROW or not data.startswith(TAG):
        raise XetFormatError("shard", "does not begin as one")
    version, footer = (int.from_bytes(data[at : at + 8], "little") for at in (32, 40))
    if version != VERSION or footer not in (0, FOOTER_BYTES):
        raise XetFormatError("shard", f"has version {version} and a footer of {footer} bytes")
    if not footer and len(data) % ROW:
        raise XetFormatError("shard", f"of {len(data)} bytes is not made of rows of {ROW}")
    cursor = _Cursor(np.frombuffer(data, ROW_TYPE, count=len(data) // ROW), 1)
    files = tuple(_files(cursor))
    xorbs = tuple(_xorbs(cursor))
    if not footer and cursor.left:
        raise XetFormatError("shard", f"goes on for {cursor.left} rows after its end")
    for what, names in (("file", [file.hash for file in files]), ("xorb", [xorb.hash for xorb in xorbs])):
        if len(set(names)) != len(names):
            raise XetFormatError("shard", f"names a {what} twice")
    return Shard(files, xorbs)


def check_work(shard: Shard) -> None:
    """Raises ShardWorkError for a shard that names more than one request may make us look at.

    A term costs the hash of its chunks' hashes, however often it is repeated: 48 bytes could ask for 8192 of them.
    """
    if len(shard.files) > MAX_FILES:
        raise ShardWorkError(f"it names {len(shard.files):,} files", f"{MAX_FILES:,}")
    terms = sum(len(file.starts) for file in shard.files)
    if terms > MAX_TERMS:
        raise ShardWorkError(f"its files have {terms:,} terms", f"{MAX_TERMS:,}")
    chunks = sum(int((file.ends.astype(np.int64) - file.starts).sum()) for file in shard.files)
    if chunks > MAX_NAMED:
        raise ShardWorkError(f"its terms name {chunks:,} chunks", f"{MAX_NAMED:,}")


class _Cursor:
    """Walks over the rows."""

    def __init__(self, rows: Rows, at: int) -> None:
        self._rows = rows
        self._at = at

    @property
    def left(self) -> int:
        return len(self._rows) - self._at

    def take(self, count: int) -> Rows:
        if count > self.left:
            raise XetFormatError("shard", f"ends {count - self.left} rows too early")
        self._at += count
        return self._rows[self._at - count : self._at]

    def head(self) -> tuple[bytes, int, int, int, int] | None:
        """The next row; None for the one that ends a section."""
        row = self.take(1)[0]
        raw, numbers = row["hash"].tobytes(), tuple(int(row[name]) for name in "abcd")
        if raw == _END:
            _must(not any(numbers), "the end of a section", "has numbers")
            return None
        return raw, *numbers


def _files(cursor: _Cursor) -> list[ShardFile]:
    files = []
    while head := cursor.head():
        raw, flags, count, *unused = head
        _must(not any(unused), "file", "uses reserved fields")
        _must(not flags & ~(_WITH_PROOFS | _WITH_SHA256), "file", f"has unknown flags {flags:#x}")
        terms = cursor.take(count)
        proofs = cursor.take(count) if flags & _WITH_PROOFS else None
        sha256 = cursor.take(1) if flags & _WITH_SHA256 else None
        starts, ends, lengths = (_column(terms, name) for name in "cdb")
        _must(not terms["a"].any(), "term", "has unknown flags")
        _must(bool(((starts < ends) & (ends <= MAX_CHUNKS)).all()), "term", "is no run of chunks of a xorb")
        _must(bool(((lengths >= ends - starts) & (lengths <= MAX_XORB)).all()), "term", "has an impossible length")
        for extra in (proofs, sha256):
            _must(extra is None or not any(extra[name].any() for name in "abcd"), "proof", "uses reserved fields")
        files.append(
            ShardFile(
                hash=hashes.to_text(raw),
                xorbs=_column(terms, "hash"),
                starts=starts,
                ends=ends,
                lengths=lengths,
                proofs=None if proofs is None else _column(proofs, "hash"),
                sha256=None if sha256 is None else hashes.to_text(sha256["hash"].tobytes()),
            )
        )
    return files


def _xorbs(cursor: _Cursor) -> list[ShardXorb]:
    xorbs = []
    while head := cursor.head():
        raw, flags, count, size, packed = head
        _must(flags == 0, "xorb", f"has unknown flags {flags:#x}")
        _must(1 <= count <= MAX_CHUNKS and size <= MAX_XORB, "xorb", f"has {count} chunks and {size} bytes")
        _must(packed <= 2 * MAX_XORB, "xorb", f"has {packed} packed bytes")
        chunks = cursor.take(count)
        lengths = _column(chunks, "b")
        _must(not ((chunks["c"] | EASY_TO_FIND) != EASY_TO_FIND).any(), "chunk", "has unknown flags")
        _must(not chunks["d"].any(), "chunk", "uses reserved fields")
        _must(
            bool(((lengths >= 1) & (lengths <= MAX_CHUNK)).all()), "chunk", f"has more than {MAX_CHUNK} bytes, or none"
        )
        ends = np.cumsum(lengths, dtype=np.uint64)
        _must(bool((chunks["a"] == ends - lengths).all()) and int(ends[-1]) == size, "xorb", "has gaps or overlaps")
        xorbs.append(ShardXorb(hashes.to_text(raw), _column(chunks, "hash"), lengths))
    return xorbs


def _column(rows: Rows, name: str) -> NDArray[Any]:
    """A column of its own, aligned, so that the shard's bytes can be let go."""
    return np.ascontiguousarray(rows[name])


def _must(holds: bool, what: str, otherwise: str) -> None:
    if not holds:
        raise XetFormatError(what, f"in a shard {otherwise}")
