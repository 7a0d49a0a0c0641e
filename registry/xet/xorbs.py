"""Xorbs: up to 64 MiB of chunks, each one packed for itself, and the table of what a xorb holds.

A chunk is an 8-byte header (version 0, packed length in 3 bytes, scheme, unpacked length in 3 bytes, all little-endian)
and its packed bytes. Older clients send a footer after the last chunk; it says nothing that the chunks do not say, so
it is dropped unread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import lz4.frame
import numpy as np
from numpy.typing import NDArray

from registry.errors import XetFormatError
from registry.xet import hashes
from registry.xet.hashes import Hashes, XetHash

MAX_CHUNK: Final = 128 * 1024
"""Bytes of an unpacked chunk."""
MAX_CHUNKS: Final = 8192
"""Chunks of a xorb."""
MAX_XORB: Final = 64 * 1024**2
"""Unpacked bytes of a xorb."""
HEADER: Final = 8
MAX_FOOTER: Final = 1024**2
MAX_UPLOAD: Final = MAX_XORB + MAX_CHUNKS * HEADER + MAX_FOOTER
"""Bytes of a xorb as it is sent: a chunk that does not shrink is sent as it is."""

_FOOTER: Final = b"XETBLOB"
_STORED, _LZ4, _GROUPED = 0, 1, 2

_ROW: Final = np.dtype([("hash", "u1", (32,)), ("packed", "<u4"), ("raw", "<u4")])


class Header(NamedTuple):
    """A chunk's header: the lengths are bytes, without the header's own."""

    packed: int
    scheme: int
    raw: int


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """What a xorb holds, chunk by chunk.

    `hashes` uint8 [n, 32]; `packed_ends` uint32 [n], where each chunk ends in the stored bytes, its header included;
    `lengths` uint32 [n], the unpacked bytes of each chunk.
    """

    hashes: Hashes
    packed_ends: NDArray[np.uint32]
    lengths: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def packed(self) -> int:
        """Stored bytes of all chunks."""
        return int(self.packed_ends[-1])

    @property
    def raw(self) -> int:
        """Unpacked bytes of all chunks."""
        return int(self.lengths.sum(dtype=np.uint64))

    @property
    def xorb(self) -> XetHash:
        """The hash of the xorb that holds these chunks."""
        return hashes.to_text(hashes.xorb_hash(self.hashes, self.lengths))

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the chunks [start, end) lie in the stored bytes, as a half-open range."""
        return (int(self.packed_ends[start - 1]) if start else 0), int(self.packed_ends[end - 1])

    def to_bytes(self) -> bytes:
        """40 bytes a chunk."""
        rows = np.empty(len(self), _ROW)
        rows["hash"], rows["packed"], rows["raw"] = self.hashes, self.packed_ends, self.lengths
        return rows.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> ChunkTable:
        """Read what `to_bytes` wrote. Raises XetFormatError."""
        if not data or len(data) % _ROW.itemsize:
            raise XetFormatError("chunk table", f"has {len(data)} bytes")
        rows = np.frombuffer(data, _ROW)
        return cls(rows["hash"], rows["packed"].copy(), rows["raw"].copy())


class ChunkReader:
    """Takes packed chunks in pieces of any size and gives them unpacked; holds a piece and a chunk at most."""

    def __init__(self) -> None:
        self._rest = b""
        self.position = 0
        """Where in the stored bytes the next chunk begins."""
        self.ended = False
        """Whether a footer was met; what follows is ignored."""
        self.taken = memoryview(b"")
        """The stored bytes of the chunks that the last `feed` gave."""

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[bytes]:
        """The chunks that `data` completes. Exhaust it before the next call. Raises XetFormatError."""
        self.taken = memoryview(b"")
        if self.ended:
            return
        piece = memoryview(self._rest + bytes(data) if self._rest else bytes(data))
        at = 0
        while len(piece) - at >= HEADER:
            head = bytes(piece[at : at + HEADER])
            if head.startswith(_FOOTER):
                self.ended, self._rest = True, b""
                self.taken = piece[:at]
                return
            header = read_header(head)
            end = at + HEADER + header.packed
            if end > len(piece):
                break
            chunk = unpack(header, piece[at + HEADER : end])
            self.position += end - at
            at = end
            yield chunk
        self._rest = bytes(piece[at:])
        self.taken = piece[:at]

    def close(self) -> None:
        """Raises XetFormatError if the last chunk is cut off."""
        if self._rest:
            raise XetFormatError("xorb", f"ends in the middle of a chunk ({len(self._rest)} bytes are left)")


class XorbCheck:
    """Checks a xorb while it arrives: every chunk is unpacked and hashed once, nothing is kept but the table."""

    def __init__(self) -> None:
        self._reader = ChunkReader()
        self._hashes: list[bytes] = []
        self._ends: list[int] = []
        self._lengths: list[int] = []
        self._raw = 0
        self._sent = 0

    def feed(self, data: bytes | bytearray | memoryview) -> memoryview:
        """Add bytes; gives those to store, which are the ones of whole chunks. Raises XetFormatError."""
        self._sent += len(data)
        if self._sent > MAX_UPLOAD:
            raise XetFormatError("xorb", f"has more than {MAX_UPLOAD} bytes")
        for chunk in self._reader.feed(data):
            self._hashes.append(hashes.chunk_hash(chunk))
            self._ends.append(self._reader.position)
            self._lengths.append(len(chunk))
            self._raw += len(chunk)
            if len(self._hashes) > MAX_CHUNKS or self._raw > MAX_XORB:
                raise XetFormatError("xorb", f"has more than {MAX_CHUNKS} chunks or {MAX_XORB} unpacked bytes")
        return self._reader.taken

    def finish(self, expected: XetHash) -> ChunkTable:
        """The table of a whole xorb. Raises XetFormatError if it is cut off, empty, or not the expected one."""
        self._reader.close()
        if not self._hashes:
            raise XetFormatError("xorb", "holds no chunk")
        table = ChunkTable(
            hashes.as_hashes(b"".join(self._hashes)),
            np.array(self._ends, np.uint32),
            np.array(self._lengths, np.uint32),
        )
        if table.xorb != expected:
            raise XetFormatError("xorb", f"hashes to {table.xorb}, not to {expected}")
        return table


def read_header(head: bytes) -> Header:
    """Read 8 bytes. Raises XetFormatError if they break a limit."""
    header = Header(int.from_bytes(head[1:4], "little"), head[4], int.from_bytes(head[5:8], "little"))
    if head[0] != 0:
        raise XetFormatError("chunk", f"has version {head[0]}, not 0")
    if header.scheme not in (_STORED, _LZ4, _GROUPED):
        raise XetFormatError("chunk", f"has the unknown scheme {header.scheme}")
    if not 1 <= header.raw <= MAX_CHUNK:
        raise XetFormatError("chunk", f"has {header.raw} bytes, not 1 to {MAX_CHUNK}")
    if not 1 <= header.packed <= header.raw or (header.scheme == _STORED and header.packed != header.raw):
        raise XetFormatError("chunk", f"of {header.raw} bytes has {header.packed} packed ones")
    return header


def unpack(header: Header, packed: memoryview) -> bytes:
    """A chunk's bytes. Raises XetFormatError."""
    if header.scheme == _STORED:
        return bytes(packed)
    raw = _unpack_frame(packed, header.raw)
    return raw if header.scheme == _LZ4 else ungroup(raw)


def ungroup(grouped: bytes) -> bytes:
    """Undo the grouping by fours: all first bytes, then all second bytes, and so on."""
    size = len(grouped)
    source = np.frombuffer(grouped, np.uint8)
    whole = np.empty(size, np.uint8)
    start = 0
    for lane in range(4):
        count = (size - lane + 3) // 4
        whole[lane::4] = source[start : start + count]
        start += count
    return whole.tobytes()


_local = threading.local()


def _unpack_frame(packed: memoryview, size: int) -> bytes:
    """One LZ4 frame of exactly `size` bytes, never unpacked any further than that."""
    decoder: lz4.frame.LZ4FrameDecompressor | None = getattr(_local, "decoder", None)
    if decoder is None:
        decoder = _local.decoder = lz4.frame.LZ4FrameDecompressor()
    try:
        decoder.reset()
        raw = bytes(decoder.decompress(packed, max_length=size + 1))
        whole = decoder.eof and not decoder.unused_data
    except (RuntimeError, EOFError, ValueError) as error:
        _local.decoder = None
        raise XetFormatError("chunk", f"is no LZ4 frame: {error}") from error
    if not whole or len(raw) != size:
        raise XetFormatError("chunk", f"does not unpack to {size} bytes")
    return raw


def read_chunks(pieces: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """The unpacked chunks of a stored run; one that was stored as it is comes as a view of its piece, uncopied.

    Only the chunk in which a piece ends is put together from two. Raises XetFormatError if the run is damaged.
    """
    rest = bytearray()
    for piece in pieces:
        view, at = memoryview(piece), 0
        while at < len(view):
            if not rest and len(view) - at >= HEADER:
                header = read_header(bytes(view[at : at + HEADER]))
                end = at + HEADER + header.packed
                if end <= len(view):
                    yield _unpack_view(header, view[at + HEADER : end])
                    at = end
                    continue
            wanted = HEADER if len(rest) < HEADER else HEADER + read_header(bytes(rest[:HEADER])).packed
            more = view[at : at + wanted - len(rest)]
            rest += more
            at += len(more)
            if len(rest) > HEADER and len(rest) == wanted:
                whole = bytes(rest)
                rest.clear()
                yield _unpack_view(read_header(whole[:HEADER]), memoryview(whole)[HEADER:])
    if rest:
        raise XetFormatError("xorb", f"ends in the middle of a chunk ({len(rest)} bytes are left)")


def _unpack_view(header: Header, packed: memoryview) -> bytes | memoryview:
    return packed if header.scheme == _STORED else unpack(header, packed)
