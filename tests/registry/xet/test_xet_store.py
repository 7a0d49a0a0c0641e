"""The Xet store: what is proven is kept, what is kept can be read, and what nobody needs goes."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry import AddFile, Registry, RepoId
from registry.errors import (
    BlobNotFoundError,
    InvalidRangeError,
    InvalidValueError,
    RegistryError,
    TooLargeError,
    UnknownXorbError,
    XetFileNotFoundError,
    XetFormatError,
    XetProofError,
)
from registry.xet import XetFile, XetStore, hashes
from registry.xet.shards import parse_shard
from registry.xet.xorbs import read_chunks
from tests.registry.xet.test_xet_formats import FILES, SHARD, XORB
from tests.registry.xet_material import (
    Made,
    content,
    file_rows,
    make_shard,
    make_xorb,
    noise,
    put,
    register,
    xorb_rows,
)
from tests.scale import scaled

NOW = timedelta(0)
REPO = RepoId.parse("acme/dock")


@pytest.fixture
def registry(any_place: Registry) -> Registry:
    return any_place


def fetched(store: XetStore, file: XetFile, start: int, stop: int) -> bytes:
    """The range as a client gets it: by the plan, out of xorbs."""
    plan = store.plan(file.hash, start, stop)
    chunks: dict[tuple[str, int], bytes] = {}
    for xorb, fetches in plan.fetches.items():
        for fetch in fetches:
            stored = list(read_chunks(store.read_xorb(xorb, fetch.first, fetch.stop)))
            assert len(stored) == fetch.end - fetch.start
            chunks.update({(xorb, fetch.start + at): chunk for at, chunk in enumerate(stored)})
    parts = [b"".join(chunks[term.xorb, at] for at in range(term.start, term.end)) for term in plan.terms]
    assert [len(part) for part in parts] == [term.length for term in plan.terms]
    return b"".join(parts)[plan.skip : plan.skip + stop - start]


class TestXorbs:
    def test_a_second_one_is_not_inserted(self, store):
        xorb = make_xorb(noise(1))
        assert store.put_xorb(xorb.name, [xorb.body]) is True
        assert store.put_xorb(xorb.name, [xorb.body]) is False
        assert store.touch_xorb(xorb.name)
        assert not store.touch_xorb("0" * 64)

    def test_one_packed_otherwise_is_the_same_one(self, store):
        chunks = [b"ab" * 500, b"xyz" * 300]
        xorb = put(store, chunks, (0,))
        assert store.put_xorb(xorb.name, [make_xorb(chunks, (1,)).body]) is False

    def test_a_wrong_one_leaves_nothing(self, registry, store):
        xorb = make_xorb(noise(2))
        with pytest.raises(XetFormatError, match="hashes to"):
            store.put_xorb("0" * 64, [xorb.body])
        with pytest.raises(InvalidValueError):
            store.put_xorb("../../etc/passwd", [xorb.body])
        assert not store.touch_xorb(xorb.name)
        assert registry.catalog.query("SELECT count(*) FROM xet_xorbs") == [(0,)]

    def test_reading_is_bounded(self, store):
        xorb = put(store, noise(3), (0,))
        assert b"".join(store.read_xorb(xorb.name, 0, len(xorb.body))) == xorb.body
        for first, stop in [(0, len(xorb.body) + 1), (-1, 3), (9, 3)]:  # beyond the chunks lies our own table
            with pytest.raises(InvalidRangeError):
                store.read_xorb(xorb.name, first, stop)
        with pytest.raises(BlobNotFoundError):
            store.read_xorb("0" * 64, 0, 1)

    def test_many_at_once(self, store):
        xorb = make_xorb(noise(4))
        answers: list[bool] = []
        threads = [
            threading.Thread(target=lambda: answers.append(store.put_xorb(xorb.name, [xorb.body]))) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answers) == [False] * 5 + [True]
        assert register(store, [(xorb, 0, 12)]).size == sum(map(len, xorb.chunks))


class TestFiles:
    def test_the_stock_clients_own_shard(self, store):
        order = sorted(FILES.items(), key=lambda item: (item[0][:2] != "15", item[0][:2] != "5c"))
        whole = b"".join(data for _, data in order)
        lengths = parse_shard(SHARD).xorbs[0].lengths.tolist()
        chunks, at = [], 0
        for length in lengths:
            chunks.append(whole[at : at + length])
            at += length
        assert put(store, chunks).name == XORB
        files = {file.hash: file for file in store.register(SHARD)}
        for name, data in FILES.items():
            assert files[name].sha256 == hashlib.sha256(data).hexdigest()
            assert b"".join(store.read(files[name].sha256, 0, len(data))) == data

    @settings(max_examples=scaled(12, 200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_any_range_of_any_file(self, registry, store, data):
        xorbs = [put(store, noise(seed)) for seed in (5, 6)]
        runs = []
        for _ in range(data.draw(st.integers(1, 5))):
            start = data.draw(st.integers(0, 11))
            runs.append((data.draw(st.sampled_from(xorbs)), start, data.draw(st.integers(start + 1, 12))))
        file, whole = register(store, runs), content(runs)
        assert registry.blobs.read(file.sha256) == whole
        start = data.draw(st.integers(0, len(whole) - 1))
        stop = data.draw(st.integers(start + 1, len(whole)))
        assert fetched(store, file, start, stop) == whole[start:stop]
        pieces = list(registry.blobs.iter_range(file.sha256, start, stop, chunk=1000))
        assert b"".join(pieces) == whole[start:stop]
        assert all(len(piece) == 1000 for piece in pieces[:-1])

    def test_a_plan_fetches_no_chunk_more_than_needed(self, store):
        xorb = put(store, [bytes([n]) * 100 for n in range(1, 11)], (0,))
        file = register(store, [(xorb, 0, 10)])
        plan = store.plan(file.hash, 250, 450)
        (term,) = plan.terms
        assert (plan.skip, term.start, term.end, term.length) == (50, 2, 5, 300)
        (fetch,) = plan.fetches[xorb.name]
        assert (fetch.start, fetch.end, fetch.first, fetch.stop) == (2, 5, 216, 540)

    def test_ranges_outside(self, registry, store):
        file = register(store, [(put(store, noise(7)), 0, 12)])
        assert store.plan(file.hash, file.size - 1, file.size + 10**9).terms[-1].end == 12
        for start in (file.size, file.size + 5, -1):
            with pytest.raises(InvalidRangeError):
                store.plan(file.hash, start)
        with pytest.raises(InvalidRangeError):
            registry.blobs.iter_range(file.sha256, 0, file.size + 1)
        assert list(registry.blobs.iter_range(file.sha256, 3, 3)) == []

    def test_unknown_files(self, registry, store):
        for call in (store.file, store.plan):
            with pytest.raises(XetFileNotFoundError):
                call("0" * 64)
        with pytest.raises(XetFileNotFoundError):
            store.read("0" * 64, 0, 1)
        with pytest.raises(BlobNotFoundError):
            registry.blobs.iter_range("0" * 64)
        assert store.hash_of("0" * 64) is None
        assert store.sizes(["0" * 64]) == [None]

    @pytest.mark.slow
    def test_many_hashes_at_once(self, store):
        xorb = put(store, noise(8, count=200, size=50))
        shard = make_shard([file_rows([(xorb, at, at + 1)]) for at in range(200)])
        files = store.register(shard)
        assert store.hashes_of([file.sha256 for file in files]) == {file.sha256: file.hash for file in files}
        assert store.sizes([file.sha256 for file in files]) == [file.size for file in files]

    def test_an_empty_file(self, registry, store):
        (file,) = store.register(make_shard([file_rows([])]))
        assert (file.hash, file.size) == ("0" * 64, 0)
        assert registry.blobs.read(file.sha256) == b""

    def test_registering_twice_changes_nothing(self, store):
        xorb, again = put(store, noise(9)), put(store, [*noise(9), b"more"])
        first = register(store, [(xorb, 2, 9)])
        assert register(store, [(again, 2, 9)]) == first
        assert store.plan(first.hash).terms[0].xorb == xorb.name

    def test_a_blob_that_is_there_as_well_is_read_as_one(self, registry, store):
        file = register(store, [(xorb := put(store, noise(10)), 0, 12)])
        registry.blobs.put_bytes(content([(xorb, 0, 12)]))
        assert registry.blobs.sizes([file.sha256, "0" * 64]) == {file.sha256: file.size, "0" * 64: None}
        assert len(registry.blobs.read(file.sha256)) == file.size

    def test_commits_and_exports_know_no_difference(self, registry, store, tmp_path):
        file = register(store, [(xorb := put(store, noise(11)), 1, 12)])
        registry.repos.create(REPO)
        commit = registry.repos.commit(REPO, [AddFile("a.bin", file.sha256, file.size)], message="a", author="t")
        entry = registry.repos.entry(REPO, commit.id, "a.bin")
        registry.blobs.export_to(entry.sha256, tmp_path / "out" / "a.bin")
        assert (tmp_path / "out" / "a.bin").read_bytes() == content([(xorb, 1, 12)])


class TestProofs:
    """A shard that says more than its sender knows changes nothing."""

    def refused(self, store: XetStore, kind: type[RegistryError], reason: str, *files: bytes, xorbs=()) -> None:
        with pytest.raises(kind, match=reason):
            store.register(make_shard(files, xorbs))
        assert store._catalog.query("SELECT count(*) FROM xet_files") == [(0,)]

    def test_knowing_hashes_of_xorb_and_file_is_not_enough(self, store):
        xorb = put(store, noise(20))
        rows = bytearray(file_rows([(xorb, 0, 5)]))
        rows[2 * 48 : 2 * 48 + 32] = bytes(32)
        self.refused(store, XetProofError, "range hash", bytes(rows))
        self.refused(store, XetProofError, "no range hashes", file_rows([(xorb, 0, 5)], proofs=False))
        # One good file does not carry a bad one in.
        self.refused(store, XetProofError, "range hash", file_rows([(xorb, 5, 9)]), bytes(rows))

    def test_other_hashes(self, store):
        xorb = put(store, noise(21))
        self.refused(store, XetFormatError, "what its terms hash to", file_rows([(xorb, 0, 5)], name=b"n" * 32))
        self.refused(store, XetFormatError, "has the sha256", file_rows([(xorb, 0, 5)], sha256=b"s" * 32))

    def test_other_lengths(self, store):
        xorb = put(store, noise(22))
        rows = bytearray(file_rows([(xorb, 0, 5)]))
        rows[48 + 36] ^= 1
        self.refused(store, XetFormatError, "has not the", bytes(rows))

    def test_chunks_beyond_the_xorb(self, store):
        chunks = noise(23)
        put(store, chunks)
        longer = Made((*chunks, b"one more"), b"")
        rows = file_rows([(longer, 5, 13)]).replace(longer.raw_name, make_xorb(chunks).raw_name)
        self.refused(store, XetFormatError, "of a xorb of 12", rows)

    def test_unknown_xorbs(self, store):
        stored, missing = put(store, noise(24)), make_xorb(noise(25))
        self.refused(store, UnknownXorbError, missing.name[:16], file_rows([(stored, 0, 2), (missing, 0, 2)]))
        self.refused(store, UnknownXorbError, missing.name[:16], file_rows([(stored, 0, 2)]), xorbs=[missing])

    def test_a_xorb_described_wrongly(self, store):
        xorb = put(store, noise(26))
        other = Made((b"x" * len(xorb.chunks[0]), *xorb.chunks[1:]), xorb.body)
        rows = xorb_rows(other).replace(other.raw_name, xorb.raw_name)
        shard = make_shard([]).replace(b"\xff" * 32 + bytes(16), b"\xff" * 32 + bytes(16) + rows, 1)
        with pytest.raises(XetFormatError, match="other chunks"):
            store.register(shard)

    @pytest.mark.slow
    @settings(max_examples=scaled(40, 1000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_a_flipped_bit_is_refused(self, store, data):
        xorb = put(store, noise(27, count=4))
        shard = bytearray(make_shard([file_rows([(xorb, 0, 2), (xorb, 1, 4)])], [xorb]))
        rows = len(shard) // 48
        first_chunk = rows - 5
        bit = data.draw(st.integers(0, 8 * len(shard) - 1))
        row, byte = divmod(bit // 8, 48)
        # Two fields are hints: the packed size of a xorb, and whether a chunk is easy to find.
        packed_size = row == first_chunk - 1 and byte >= 44
        easy_to_find = first_chunk <= row < rows - 1 and byte == 43 and bit % 8 == 7
        if packed_size or easy_to_find:
            return
        shard[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RegistryError):
            store.register(bytes(shard))


class TestLandmarks:
    """What clients without memory are told."""

    def test_files_are_found_by_their_first_chunk_and_by_landmarks(self, store):
        chunks = noise(62, count=3000, size=40)
        xorb = put(store, chunks, (0,))
        file = register(store, [(xorb, 5, 3000)])
        marks = [at for at, raw in enumerate(xorb.hashes) if int.from_bytes(raw[24:], "little") % 1024 == 0]
        assert marks == [314, 1915, 2116]
        for at in (5, *(mark for mark in marks if mark >= 5)):
            assert store.files_with(hashes.to_text(xorb.hashes[at])) == (file,)
        for at in (0, 6, 7):
            assert store.files_with(hashes.to_text(xorb.hashes[at])) == ()

    def test_they_go_with_their_file(self, registry, store):
        xorb = put(store, noise(61))
        register(store, [(xorb, 0, 12)])
        assert len(store.files_with(hashes.to_text(xorb.hashes[0]))) == 1
        store.collect(NOW)
        assert store.files_with(hashes.to_text(xorb.hashes[0])) == ()
        assert registry.catalog.query("SELECT count(*) FROM xet_landmarks") == [(0,)]

    def test_a_keyed_shard_shows_the_files_chunks_alone(self, store):
        first, second = put(store, noise(62)), put(store, noise(63))
        file = register(store, [(first, 2, 5), (second, 0, 12), (first, 8, 9)])
        key = bytes(range(32))
        data = store.keyed_shard(file.hash, hashes.to_text(second.hashes[3]), key=key, seconds=60)
        shard = parse_shard(data)
        assert shard.files == ()
        assert [xorb.hash for xorb in shard.xorbs] == [second.name, first.name]  # from the wanted chunk on
        shown = {xorb.hash: xorb for xorb in shard.xorbs}
        for xorb, visible in ((first, {2, 3, 4, 8}), (second, set(range(12)))):
            keyed = [blake3(raw, key=key).digest() for raw in xorb.hashes]
            told = shown[xorb.name].chunks
            assert {at for at in range(12) if told[at].tobytes() == keyed[at]} == visible
            assert shown[xorb.name].lengths.tolist() == [len(chunk) for chunk in xorb.chunks]
        made, until = (int.from_bytes(data[at : at + 8], "little") for at in (len(data) - 96, len(data) - 88))
        assert until - made == 60


def test_names_are_remembered_and_forgotten(registry, store):
    xorb = put(store, noise(70))
    sha256 = hashlib.sha256(content([(xorb, 0, 12)])).hexdigest()
    assert store.hash_of(sha256) is None
    file = register(store, [(xorb, 0, 12)])
    assert store.hash_of(sha256) == store.hash_of(sha256) == file.hash
    store.collect(NOW)
    assert store.hash_of(sha256) is None


def test_large_files_are_refused_before_they_are_read(store):
    xorb = put(store, noise(71))
    shard = make_shard([file_rows([(xorb, 0, 12)])])
    with pytest.raises(TooLargeError):
        store.register(shard, max_bytes=1000)
    assert store.register(shard, max_bytes=10**6)
