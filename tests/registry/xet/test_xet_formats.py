"""Hashes, xorbs and shards: as the stock client writes them, and no other way."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from registry.errors import InvalidValueError, XetFormatError
from registry.xet import hashes
from registry.xet.shards import parse_shard
from registry.xet.xorbs import MAX_CHUNK, MAX_CHUNKS, ChunkTable, XorbCheck, read_chunks, ungroup
from tests.registry.xet_material import (
    END,
    TAG,
    file_rows,
    group,
    lengths,
    make_shard,
    make_xorb,
    pack,
    u32,
    xorb_rows,
)
from tests.scale import scaled

DATA = Path(__file__).parents[1] / "data"
# What the stock client (hf-xet 1.8.0) made of the three files below: its shard, and the first two chunks of its xorb.
SHARD = (DATA / "stock-client.shard").read_bytes()
CHUNKS = (DATA / "stock-client.chunks").read_bytes()
NOISE = random.Random(20).randbytes(1_500_000)
COUNT = b"".join(number.to_bytes(4, "little") for number in range(100_000))
XORB = "c38c3b09af1d35e5a418d6e4a11df74dbc1b529cc41d66e484b337c7d71ec4a0"
FILES = {
    "5c59f6accb538e2e039f40d99a804fcb981804197c2be806ac040f6497a3ce40": NOISE,
    "15cb8fff80f5459fbed3e0458a02c47ceff3267e7d76efb36ba5d261a659c8a0": COUNT,
    "f5a14aa93c649c8085d70f385da9d164985fc55a8c8cb8e884999374ad186e96": NOISE[:200_000]
    + COUNT[:100_000]
    + NOISE[700_000:],
}

chunks_of_any_kind = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=300),
        st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=9), st.integers(1, 400)),
    ),
    min_size=1,
    max_size=12,
)
schemes = st.lists(st.integers(0, 2), min_size=1, max_size=4)


def checked(body: bytes, name: str, cuts: tuple[int, ...] = ()) -> tuple[ChunkTable, bytes]:
    """The table of a xorb that arrives in pieces, and the bytes to store."""
    check = XorbCheck()
    edges = [0, *sorted(cuts), len(body)]
    stored = b"".join(bytes(check.feed(body[a:b])) for a, b in itertools.pairwise(edges))
    return check.finish(name), stored


class TestHashes:
    def test_text_is_four_little_endian_words(self):
        raw = bytes(range(32))
        assert hashes.to_text(raw) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"

    @given(st.binary(min_size=32, max_size=32))
    def test_text_and_back(self, raw):
        assert hashes.from_text(hashes.to_text(raw)) == raw

    @pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 62 + "\u0661\u0661"])
    def test_other_texts_are_refused(self, text):
        with pytest.raises(InvalidValueError):
            hashes.from_text(text)

    def test_all_hashes_of_the_stock_client(self):
        shard = parse_shard(SHARD)
        (xorb,) = shard.xorbs
        whole = b"".join(FILES[file.hash] for file in sorted(shard.files, key=lambda file: int(file.starts[0])))
        ends = np.cumsum(xorb.lengths)
        parts = [whole[end - length : end] for end, length in zip(ends.tolist(), xorb.lengths.tolist(), strict=True)]
        assert [hashes.chunk_hash(part) for part in parts] == [raw.tobytes() for raw in xorb.chunks]
        assert hashes.to_text(hashes.xorb_hash(xorb.chunks, xorb.lengths)) == xorb.hash == XORB
        assert {file.hash for file in shard.files} == set(FILES)
        for file in shard.files:
            run = slice(int(file.starts[0]), int(file.ends[0]))
            assert hashes.to_text(hashes.file_hash(xorb.chunks[run], xorb.lengths[run])) == file.hash
            assert hashes.range_hash(xorb.chunks[run].tobytes()) == file.proofs[0].tobytes()

    def test_a_lone_chunk_names_its_xorb(self):
        raw = hashes.chunk_hash(b"hello")
        assert hashes.xorb_hash(hashes.as_hashes(raw), lengths([b"hello"])) == raw

    def test_an_empty_file_is_all_zeros(self):
        assert hashes.file_hash(hashes.as_hashes(b""), np.empty(0, np.uint32)) == bytes(32)


class TestXorbs:
    def test_chunks_of_the_stock_client(self):
        assert b"".join(read_chunks([CHUNKS])) == COUNT[: 36274 + 11657]

    @given(st.binary(max_size=1000))
    def test_grouping_by_fours(self, data):
        assert ungroup(group(data)) == data

    @given(chunks_of_any_kind, schemes, st.lists(st.integers(0, 3000), max_size=6))
    def test_a_xorb_arrives_in_pieces_of_any_size(self, chunks, schemes, cuts):
        made = make_xorb(chunks, schemes)
        table, stored = checked(made.body, made.name, tuple(min(cut, len(made.body)) for cut in cuts))
        assert stored == made.body
        assert table.packed == len(made.body)
        assert table.lengths.tolist() == [len(chunk) for chunk in chunks]
        assert list(read_chunks([stored])) == chunks
        again = ChunkTable.from_bytes(table.to_bytes())
        assert (again.xorb, again.packed, again.raw) == (made.name, table.packed, sum(map(len, chunks)))
        start, stop = again.span(len(chunks) // 2, len(chunks))
        assert list(read_chunks([stored[start:stop]])) == chunks[len(chunks) // 2 :]

    @given(chunks_of_any_kind, schemes, st.lists(st.integers(0, 3000), max_size=6))
    def test_a_stored_run_is_read_in_pieces_of_any_size(self, chunks, schemes, cuts):
        body = make_xorb(chunks, schemes).body
        places = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
        pieces = [body[start:stop] for start, stop in itertools.pairwise(places)]
        assert list(read_chunks(pieces)) == chunks
        with pytest.raises(XetFormatError):
            list(read_chunks([*pieces, b"\0"]))

    def test_an_older_clients_footer_is_dropped(self):
        made = make_xorb([b"a" * 50, b"b" * 60], [1])
        for cut in range(len(made.body) - 3, len(made.body) + 12):
            _, stored = checked(made.body + b"XETBLOB\x01" + bytes(500), made.name, (cut,))
            assert stored == made.body

    @settings(max_examples=scaled(80, 3000))
    @given(chunks_of_any_kind, schemes, st.data())
    def test_a_flipped_bit_is_refused(self, chunks, schemes, data):
        made = make_xorb(chunks, schemes)
        bit = data.draw(st.integers(0, 8 * len(made.body) - 1))
        broken = bytearray(made.body)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            _, stored = checked(bytes(broken), made.name)
        except XetFormatError:
            return
        # LZ4 may say the same in several ways; never may another content pass.
        assert list(read_chunks([stored])) == chunks
        assert any(schemes)

    @given(chunks_of_any_kind, schemes, st.data())
    def test_a_cut_off_xorb_is_refused(self, chunks, schemes, data):
        made = make_xorb(chunks, schemes)
        length = data.draw(st.integers(0, len(made.body) - 1))
        with pytest.raises(XetFormatError):
            checked(made.body[:length], made.name)

    @given(st.binary(max_size=2000))
    def test_noise_is_refused_and_nothing_else_happens(self, noise):
        with pytest.raises(XetFormatError):
            checked(noise, "0" * 64)

    @pytest.mark.parametrize(
        ("chunk", "reason"),
        [
            (b"\x01" + pack(b"abc", 0)[1:], "version 1"),
            (bytes([0, 3, 0, 0, 7, 3, 0, 0]) + b"abc", "unknown scheme 7"),
            (bytes([0, 3, 0, 0, 0, 4, 0, 0]) + b"abc", "3 packed ones"),
            (bytes([0, 4, 0, 0, 1, 3, 0, 0]) + b"abcd", "4 packed ones"),
            (bytes([0, 0, 0, 0, 0, 0, 0, 0]), "0 bytes"),
            (bytes([0, 1, 0, 0, 1, 1, 0, 2]) + b"a", "131073 bytes"),
            (bytes([0, 40, 0, 0, 1, 99, 0, 0]) + b"x" * 40, "no LZ4 frame"),
        ],
    )
    def test_limits_of_a_chunk(self, chunk, reason):
        with pytest.raises(XetFormatError, match=reason):
            checked(chunk, "0" * 64)

    @pytest.mark.parametrize("more", [1, 100_000])
    def test_a_frame_is_never_unpacked_beyond_what_its_header_says(self, more):
        frame = lz4.frame.compress(bytes(5000 + more))
        head = bytes([0]) + len(frame).to_bytes(3, "little") + bytes([1]) + (5000).to_bytes(3, "little")
        with pytest.raises(XetFormatError, match="does not unpack to 5000"):
            checked(head + frame, "0" * 64)

    def test_two_frames_are_not_one(self):
        data = lz4.frame.compress(bytes(3000)) + lz4.frame.compress(bytes(3000))
        head = bytes([0]) + len(data).to_bytes(3, "little") + bytes([1]) + (3000).to_bytes(3, "little")
        with pytest.raises(XetFormatError):
            checked(head + data, "0" * 64)

    def test_too_many_chunks(self):
        with pytest.raises(XetFormatError, match="more than"):
            checked(pack(b"a", 0) * (MAX_CHUNKS + 1), "0" * 64)

    def test_too_many_unpacked_bytes(self):
        check = XorbCheck()
        chunk = pack(bytes(MAX_CHUNK), 1)
        check.feed(chunk * 512)
        with pytest.raises(XetFormatError, match="more than"):
            check.feed(chunk)


class TestShards:
    @given(st.data(), chunks_of_any_kind)
    def test_what_is_written_is_read(self, data, chunks):
        xorbs = [make_xorb(chunks), make_xorb([*chunks, b"more"])]
        runs = []
        for _ in range(data.draw(st.integers(0, 4))):
            xorb = data.draw(st.sampled_from(xorbs))
            start = data.draw(st.integers(0, len(xorb.chunks) - 1))
            runs.append((xorb, start, data.draw(st.integers(start + 1, len(xorb.chunks)))))
        shard = parse_shard(make_shard([file_rows(runs)], xorbs))
        (file,) = shard.files
        assert file.size == sum(len(chunk) for xorb, start, end in runs for chunk in xorb.chunks[start:end])
        assert list(zip(file.starts.tolist(), file.ends.tolist(), strict=True)) == [run[1:] for run in runs]
        assert [hashes.to_text(raw.tobytes()) for raw in file.xorbs] == [run[0].name for run in runs]
        assert [xorb.hash for xorb in shard.xorbs] == [xorb.name for xorb in xorbs]
        assert shard.xorbs[1].lengths.tolist() == [len(chunk) for chunk in xorbs[1].chunks]

    @given(st.integers(0, len(SHARD) - 1))
    def test_a_cut_off_shard_is_refused(self, length):
        with pytest.raises(XetFormatError):
            parse_shard(SHARD[:length])

    @given(st.binary(max_size=48 * 8), st.booleans())
    def test_noise_is_refused(self, noise, tagged):
        head = TAG + (2).to_bytes(8, "little") + bytes(8) if tagged else b""
        assume(not (tagged and noise == END + END))
        with pytest.raises(XetFormatError):
            parse_shard(head + noise)

    @pytest.mark.parametrize(
        ("files", "xorbs", "reason"),
        [
            ([b"a" * 32 + u32(1 << 29, 0, 0, 0)], [], "unknown flags"),
            ([b"a" * 32 + u32(0, 0, 1, 0)], [], "reserved"),
            ([b"a" * 32 + u32(0, 2**32 - 1, 0, 0)], [], "too early"),
            ([b"a" * 32 + u32(0, 1, 0, 0) + b"x" * 32 + u32(0, 5, 3, 3)], [], "no run"),
            ([b"a" * 32 + u32(0, 1, 0, 0) + b"x" * 32 + u32(0, 5, 4, 3)], [], "no run"),
            ([b"a" * 32 + u32(0, 1, 0, 0) + b"x" * 32 + u32(0, 5, 0, 8193)], [], "no run"),
            ([b"a" * 32 + u32(0, 1, 0, 0) + b"x" * 32 + u32(0, 1, 0, 2)], [], "impossible length"),
            ([b"a" * 32 + u32(0, 1, 0, 0) + b"x" * 32 + u32(0, 2**26 + 1, 0, 2)], [], "impossible length"),
            ([b"a" * 32 + u32(0, 0, 0, 0)] * 2, [], "a file twice"),
            ([], [b"x" * 32 + u32(0, 0, 0, 0)], "0 chunks"),
            ([], [b"x" * 32 + u32(0, 8193, 0, 0)], "8193 chunks"),
            ([], [b"x" * 32 + u32(0, 1, 5, 0) + b"c" * 32 + u32(0, 4, 0, 0)], "gaps or overlaps"),
            ([], [b"x" * 32 + u32(0, 2, 8, 0) + b"c" * 32 + u32(0, 4, 0, 0) + b"d" * 32 + u32(3, 4, 0, 0)], "overlaps"),
            ([], [b"x" * 32 + u32(0, 1, 0, 0) + b"c" * 32 + u32(0, 0, 0, 0)], "or none"),
            ([], [xorb_rows(make_xorb([b"one"]))] * 2, "a xorb twice"),
        ],
    )
    def test_limits(self, files, xorbs, reason):
        body = TAG + (2).to_bytes(8, "little") + bytes(8) + b"".join(files) + END + b"".join(xorbs) + END
        with pytest.raises(XetFormatError, match=reason):
            parse_shard(body)

    def test_look_up_tables_after_the_end_are_not_read(self):
        body = bytearray(SHARD)
        body[40:48] = (200).to_bytes(8, "little")
        assert len(parse_shard(bytes(body) + b"tables" * 50).files) == 3
        with pytest.raises(XetFormatError, match="after its end"):
            parse_shard(SHARD + bytes(48))
