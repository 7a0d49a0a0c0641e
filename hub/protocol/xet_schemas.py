"""The JSON of the Xet content store, as its published OpenAPI schema has it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from registry.xet import Reconstruction, XetHash


class XorbAnswer(msgspec.Struct, frozen=True):
    """Whether an uploaded xorb was new; one that was there already is no error."""

    was_inserted: bool


class ShardAnswer(msgspec.Struct, frozen=True):
    """What came of an uploaded shard. `result` 0: nothing new; 1: registered. Both mean success."""

    result: int
    """0: nothing new; 1: registered. Both mean success."""


class Chunks(msgspec.Struct, frozen=True):
    """Chunk numbers [start, end)."""

    start: int
    end: int


class Bytes(msgspec.Struct, frozen=True):
    """Byte positions, both inclusive."""

    start: int
    end: int


class TermOut(msgspec.Struct, frozen=True):
    """A piece of a file: chunks of one xorb, and their length in bytes when unpacked."""

    hash: XetHash
    unpacked_length: int
    range: Chunks


class FetchOut(msgspec.Struct, frozen=True):
    """Where the stored bytes of some chunks are read: a link, and the bytes that it is good for."""

    range: Chunks
    url: str
    url_range: Bytes


class ReconstructionOut(msgspec.Struct, frozen=True):
    """Version 1: a link for each range of a xorb."""

    offset_into_first_range: int
    terms: list[TermOut]
    fetch_info: dict[XetHash, list[FetchOut]]


class RangeOut(msgspec.Struct, frozen=True):
    """Chunks and the stored bytes that hold them."""

    chunks: Chunks
    bytes: Bytes


class LinkOut(msgspec.Struct, frozen=True):
    """A link, and what may be read by it."""

    url: str
    ranges: list[RangeOut]


class ReconstructionOut2(msgspec.Struct, frozen=True):
    """Version 2: a link may stand for several ranges; ours each stand for one."""

    offset_into_first_range: int
    terms: list[TermOut]
    xorbs: dict[XetHash, list[LinkOut]]


class TokenOut(msgspec.Struct, frozen=True, rename="camel"):
    """What the content store is asked with. `exp` is when the token ends, in epoch seconds."""

    cas_url: str
    exp: int
    """When the token ends, in epoch seconds."""
    access_token: str


LinkOf = Callable[[XetHash, int, int], str]
"""The link that fetches the stored bytes [first, stop) of a xorb."""


def version_1(plan: Reconstruction, link_of: LinkOf) -> ReconstructionOut:
    """A plan as clients of the first version read it. Makes one link for each range."""
    links = {
        xorb: [
            FetchOut(Chunks(one.start, one.end), link_of(xorb, one.first, one.stop), Bytes(one.first, one.stop - 1))
            for one in fetches
        ]
        for xorb, fetches in plan.fetches.items()
    }
    return ReconstructionOut(plan.skip, _terms(plan), links)


def version_2(plan: Reconstruction, link_of: LinkOf) -> ReconstructionOut2:
    """A plan as clients of the second version read it. Makes one link for each range."""
    links = {
        xorb: [
            LinkOut(
                link_of(xorb, one.first, one.stop),
                [RangeOut(Chunks(one.start, one.end), Bytes(one.first, one.stop - 1))],
            )
            for one in fetches
        ]
        for xorb, fetches in plan.fetches.items()
    }
    return ReconstructionOut2(plan.skip, _terms(plan), links)


def _terms(plan: Reconstruction) -> list[TermOut]:
    return [TermOut(term.xorb, term.length, Chunks(term.start, term.end)) for term in plan.terms]
