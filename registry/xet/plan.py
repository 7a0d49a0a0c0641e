"""Which chunks of which xorbs make up a range of a file, in the shape that clients fetch them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from registry.xet.hashes import XetHash
from registry.xet.xorbs import ChunkTable


@dataclass(frozen=True, slots=True)
class StoredXorb:
    """A xorb's row: `blob` is the sha256 of its bytes in the store of xorbs, of which the first `packed` are chunks."""

    key: int
    hash: XetHash
    blob: str
    packed: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Run:
    """A term of a file: the chunks [start, end) of a xorb, `length` bytes when unpacked."""

    xorb: StoredXorb
    start: int
    end: int
    length: int


@dataclass(frozen=True, slots=True)
class Term:
    """As `Run`, on the wire."""

    xorb: XetHash
    start: int
    end: int
    length: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """The chunks [start, end) of a xorb are its stored bytes [first, stop)."""

    start: int
    end: int
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What makes up a range: the terms in order, `skip` bytes of the first one left out, and where to fetch them.

    The last term may hold bytes beyond the range.
    """

    skip: int
    terms: tuple[Term, ...]
    fetches: dict[XetHash, tuple[Fetch, ...]]


def cut(
    runs: Sequence[Run], table_of: Callable[[StoredXorb], ChunkTable], start: int, stop: int
) -> tuple[int, list[Run]]:
    """The runs that hold the bytes [start, stop) of a file, no chunk more, and how many bytes to skip in the first.

    The range lies inside the file and is not empty.
    """
    ends = np.cumsum([run.length for run in runs], dtype=np.int64)
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(ends, stop, side="left"))
    chosen = list(runs[first : last + 1])
    begin = int(ends[first]) - runs[first].length
    # The end is cut first: if both lie in one run, the chunk numbers of its start are still the run's own.
    over = int(ends[last]) - stop
    chosen[-1] = _cut_end(chosen[-1], table_of(chosen[-1].xorb), over)
    chosen[0], skip = _cut_start(chosen[0], table_of(chosen[0].xorb), start - begin)
    return skip, chosen


def _cut_start(run: Run, table: ChunkTable, leave_out: int) -> tuple[Run, int]:
    ends = np.cumsum(table.lengths[run.start : run.end], dtype=np.int64)
    chunks = int(np.searchsorted(ends, leave_out, side="right"))
    gone = int(ends[chunks - 1]) if chunks else 0
    return Run(run.xorb, run.start + chunks, run.end, run.length - gone), leave_out - gone


def _cut_end(run: Run, table: ChunkTable, leave_out: int) -> Run:
    ends = np.cumsum(table.lengths[run.start : run.end][::-1], dtype=np.int64)
    chunks = int(np.searchsorted(ends, leave_out, side="right"))
    gone = int(ends[chunks - 1]) if chunks else 0
    return Run(run.xorb, run.start, run.end - chunks, run.length - gone)


def reconstruction(skip: int, runs: Sequence[Run], table_of: Callable[[StoredXorb], ChunkTable]) -> Reconstruction:
    """The runs as terms, and for each xorb the fewest ranges that cover its terms."""
    xorbs = {run.xorb.hash: run.xorb for run in runs}
    wanted: dict[XetHash, list[tuple[int, int]]] = {}
    for run in runs:
        wanted.setdefault(run.xorb.hash, []).append((run.start, run.end))
    fetches = {}
    for name, ranges in wanted.items():
        table = table_of(xorbs[name])
        fetches[name] = tuple(Fetch(start, end, *table.span(start, end)) for start, end in _merged(ranges))
    return Reconstruction(skip, tuple(Term(run.xorb.hash, run.start, run.end, run.length) for run in runs), fetches)


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
