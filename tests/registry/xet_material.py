"""Writes xorbs and shards as a client would, so that tests can write wrong ones too."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import lz4.frame
import numpy as np

from registry.xet import XetFile, XetStore, hashes
from registry.xet.hashes import XetHash

TAG = b"HFRepoMetaData\x00" + bytes([85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169])
END = b"\xff" * 32 + bytes(16)


def u32(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "little") for number in numbers)


def group(data: bytes) -> bytes:
    """All first bytes of every four, then all second ones, and so on."""
    return b"".join(data[lane::4] for lane in range(4))


def pack(data: bytes, scheme: int) -> bytes:
    """A chunk; one that would not shrink is stored as it is."""
    packed = data if scheme == 0 else lz4.frame.compress(data if scheme == 1 else group(data))
    if len(packed) >= len(data):
        scheme, packed = 0, data
    return bytes([0]) + len(packed).to_bytes(3, "little") + bytes([scheme]) + len(data).to_bytes(3, "little") + packed


@dataclass(frozen=True)
class Made:
    """A xorb: its chunks, and the bytes to send."""

    chunks: tuple[bytes, ...]
    body: bytes

    @property
    def hashes(self) -> list[bytes]:
        return [hashes.chunk_hash(chunk) for chunk in self.chunks]

    @property
    def raw_name(self) -> bytes:
        return hashes.xorb_hash(hashes.as_hashes(b"".join(self.hashes)), lengths(self.chunks))

    @property
    def name(self) -> XetHash:
        return hashes.to_text(self.raw_name)


Runs = Sequence[tuple[Made, int, int]]


def lengths(chunks: Sequence[bytes]) -> np.ndarray:
    return np.array([len(chunk) for chunk in chunks], np.uint32)


def make_xorb(chunks: Sequence[bytes], schemes: Sequence[int] = (0,)) -> Made:
    body = b"".join(pack(chunk, schemes[at % len(schemes)]) for at, chunk in enumerate(chunks))
    return Made(tuple(chunks), body)


def content(runs: Runs) -> bytes:
    return b"".join(b"".join(xorb.chunks[start:end]) for xorb, start, end in runs)


def file_name(runs: Runs) -> bytes:
    chunks = [chunk for xorb, start, end in runs for chunk in xorb.chunks[start:end]]
    raw = b"".join(hashes.chunk_hash(chunk) for chunk in chunks)
    return hashes.file_hash(hashes.as_hashes(raw), lengths(chunks))


def file_rows(runs: Runs, *, proofs: bool = True, sha256: bytes | None = None, name: bytes | None = None) -> bytes:
    """A file's rows; `sha256` as its 32 bytes, else the true one."""
    flags = (1 << 31 if proofs else 0) | 1 << 30
    rows = [(name or file_name(runs)) + u32(flags, len(runs), 0, 0)]
    for xorb, start, end in runs:
        rows.append(xorb.raw_name + u32(0, sum(map(len, xorb.chunks[start:end])), start, end))
    if proofs:
        for xorb, start, end in runs:
            rows.append(hashes.range_hash(b"".join(xorb.hashes[start:end])) + bytes(16))
    digest = sha256 or hashlib.sha256(content(runs)).digest()
    rows.append(hashes.from_text(digest.hex()) + bytes(16))
    return b"".join(rows)


def xorb_rows(xorb: Made) -> bytes:
    rows = [xorb.raw_name + u32(0, len(xorb.chunks), sum(map(len, xorb.chunks)), len(xorb.body))]
    at = 0
    for raw, chunk in zip(xorb.hashes, xorb.chunks, strict=True):
        rows.append(raw + u32(at, len(chunk), 0, 0))
        at += len(chunk)
    return b"".join(rows)


def make_shard(files: Sequence[bytes], xorbs: Sequence[Made] = ()) -> bytes:
    head = TAG + (2).to_bytes(8, "little") + (0).to_bytes(8, "little")
    return head + b"".join(files) + END + b"".join(map(xorb_rows, xorbs)) + END


def noise(seed: int, count: int = 12, size: int = 4000) -> list[bytes]:
    dice = random.Random(seed)
    return [dice.randbytes(dice.randint(1, size)) for _ in range(count)]


def put(store: XetStore, chunks: list[bytes], schemes: tuple[int, ...] = (0, 1, 2)) -> Made:
    xorb = make_xorb(chunks, schemes)
    store.put_xorb(xorb.name, [xorb.body])
    return xorb


def register(store: XetStore, runs: Runs, *xorbs: Made) -> XetFile:
    (file,) = store.register(make_shard([file_rows(runs)], xorbs))
    assert file.sha256 == hashlib.sha256(content(runs)).hexdigest()
    return file
