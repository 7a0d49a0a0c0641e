"""How much work a shard may ask for: what 48 bytes can name again and again must not cost terabytes of hashing."""

from __future__ import annotations

import numpy as np
import pytest

from registry.errors import ShardWorkError, UnknownXorbError, XetFormatError
from registry.registry import Registry
from registry.xet import rows, shards
from registry.xet.store import MAX_HASHED
from registry.xet.xorbs import MAX_CHUNKS, MAX_XORB
from tests.registry.xet_material import END, TAG, file_rows, make_shard, noise, put, u32

FLAGS = 1 << 31 | 1 << 30


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "r") as opened:
        yield opened


@pytest.fixture
def store(registry):
    return registry.xet


def raw_file(number: int, terms: int, *, chunks: int = 1, size: int = 1) -> bytes:
    """A file's rows that say so many terms of one xorb, with hashes that are nobody's."""
    head = number.to_bytes(32, "little") + u32(FLAGS, terms, 0, 0)
    term = b"x" * 32 + u32(0, size, 0, chunks)
    return head + term * terms + (b"p" * 32 + bytes(16)) * terms + b"s" * 32 + bytes(16)


def refuse(store, shard: bytes, words: str) -> None:
    """Nothing is read, nothing reserved, and nobody is asked which xorbs there are."""

    def admit(*_: object) -> None:
        pytest.fail("it was let in")

    with pytest.raises(ShardWorkError, match=words):
        store.register(shard, admit=admit)


def test_bytes_to_hash_are_bounded(store):
    """One file that repeats a xorb, and many small ones: 100 KB of shard that ask for 64 GiB."""
    terms = MAX_HASHED // MAX_XORB + 1
    refuse(store, make_shard([raw_file(1, terms, size=MAX_XORB)]), "bytes to hash")
    many = [raw_file(1 + number, 1, size=MAX_XORB) for number in range(terms)]
    refuse(store, make_shard(many), "bytes to hash")
    with pytest.raises(UnknownXorbError):  # as much as may be
        store.register(make_shard([raw_file(1, terms - 1, size=MAX_XORB)]))


def test_terms_chunks_and_files_are_bounded(store):
    terms = shards.MAX_NAMED // MAX_CHUNKS + 1
    refuse(store, make_shard([raw_file(1, terms, chunks=MAX_CHUNKS, size=MAX_CHUNKS)]), "chunks")
    refuse(store, make_shard([raw_file(1, shards.MAX_TERMS + 1)]), "terms")
    empty = np.zeros((shards.MAX_FILES + 1, 48), np.uint8)
    empty[:, :4] = np.arange(len(empty), dtype="<u4").view(np.uint8).reshape(-1, 4)
    empty[:, 4] = 7
    head = TAG + (2).to_bytes(8, "little") + bytes(8)
    refuse(store, head + empty.tobytes() + END + END, "files")


def test_a_file_is_read_once(store, monkeypatch):
    """However often it is named: in one shard, or in one after the other."""
    xorb = put(store, noise(3))
    read = []
    real = rows.sha256_of_pieces
    monkeypatch.setattr(rows, "sha256_of_pieces", lambda pieces: read.append(1) or real(pieces))
    one = file_rows([(xorb, 0, 12)])
    with pytest.raises(XetFormatError, match="twice"):
        store.register(make_shard([one] * 2, [xorb]))
    assert read == []
    admitted = []
    for _ in range(2):
        (file,) = store.register(make_shard([one], [xorb]), admit=lambda new, _: admitted.append(dict(new)))
    assert len(read) == 1
    assert admitted == [{file.hash: file.size}, {}]
