"""The protocol's small parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.accounts.links import Signer
from hub.errors import ForbiddenError
from hub.hf.cards import problems_of
from hub.hf.commits import lines_of
from hub.hf.files import ByteRange, parse_range
from hub.hf.paths import keep_encoded_slashes, text
from hub.protocol.attributes import default_attributes, ignored_files, large_files
from hub.protocol.views import nodes_of
from registry.errors import TooLargeError
from registry.repos.cards import CardError, read_head
from registry.types import FileEntry


@pytest.mark.parametrize(
    ("path", "large"),
    [
        ("a.bin", True),
        ("deep/er/model.safetensors", True),
        ("saved_model/x/variables", True),
        ("logs/events.out.tfevents.1", True),
        ("a.txt", False),
        ("bin", False),
        ("a.bin/readme", False),
        ("image.png", False),
    ],
)
def test_default_attributes(path: str, large: bool) -> None:
    assert large_files(default_attributes("model")).match_file(path) is large
    assert large_files(default_attributes("dataset")).match_file("image.png")


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        ("*.log", "a/b.log", True),
        ("/a.log", "b/a.log", False),
        ("/a.log", "a.log", True),
        ("build/", "build/x/y", True),
        ("build/", "build", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**", "a/x/y", True),
        ("**/c", "x/c", True),
        ("*.txt\n!keep.txt", "keep.txt", False),
        ("d/\n!d/keep.txt", "d/keep.txt", True),
        ("[ab].x", "b.x", True),
        ("[!ab].x", "b.x", False),
        ("[^ab].x", "c.x", True),
        (r"\#x", "#x", True),
        ("# comment", "# comment", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a*c", "a/c", False),
        ("[", "[", False),
        ("*a*a*a*a*a*a*a*a*a*a*b", "a" * 200, False),
        ("**/**/**/**/**/**/x/**/y", "x/" * 100 + "z", False),
    ],
)
def test_ignore_patterns(pattern: str, path: str, ignored: bool) -> None:
    assert ignored_files(pattern.encode()).match(path) is ignored


@given(st.binary(max_size=200), st.text(max_size=50))
def test_no_pattern_file_does_harm(data: bytes, path: str) -> None:
    ignored_files(data).match(path)
    large_files(data).match_file(path)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=2-", ByteRange(2, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-30", ByteRange(0, 10)),
        ("bytes=5-99", ByteRange(5, 10)),
        ("bytes=10-", False),
        ("bytes=-0", False),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=1" + "0" * 30 + "-", None),
    ],
)
def test_ranges(header: str | None, wanted: ByteRange | bool | None) -> None:
    assert parse_range(header, 10) == wanted


async def _collect(chunks: list[bytes], limit: int) -> list[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [line async for line in lines_of(stream(), limit)]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_lines_are_the_same_however_they_arrive(data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(data)]
    chunks = [data[a:b] for a, b in pairwise(bounds)]
    expected = [line for line in b"".join(chunks).split(b"\n") if line.strip()]
    assert asyncio.run(_collect(chunks, 1000)) == expected


@pytest.mark.parametrize("chunks", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"x" * 11 + b"\n"]])
def test_a_line_has_a_limit(chunks: list[bytes]) -> None:
    with pytest.raises(TooLargeError):
        asyncio.run(_collect(chunks, 10))


class Grant(msgspec.Struct):
    name: str


class Other(msgspec.Struct):
    name: str


def test_signed_links() -> None:
    clock: Iterator[float] = iter([0.0, 9.0, 11.0, 1.0])
    signer = Signer(b"key", now=lambda: next(clock))
    token = signer.sign(Grant("x"), seconds=10)
    assert signer.check(token, Grant) == Grant("x")
    for kind in (Grant, Other):  # expired; meant for something else
        with pytest.raises(ForbiddenError):
            signer.check(token, kind)


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_link_is_refused(at: int, by: int) -> None:
    signer = Signer(b"key", now=lambda: 0.0)
    token = bytearray(signer.sign(Grant("x"), seconds=10).encode())
    token[at % len(token)] ^= by
    changed = token.decode("latin-1")
    try:
        # The last character of base64 has bits that mean nothing.
        assert signer.check(changed, Grant) == Grant("x")
        assert at % len(token) in (token.find(b".") - 1, len(token) - 1)
    except ForbiddenError:
        pass


@pytest.mark.parametrize(
    ("readme", "data"),
    [
        ("# no head", {}),
        ("---\na: 1\n---\n# x", {"a": 1}),
        ("\ufeff---\r\na: 2020-01-01\r\n---\r\n", {"a": "2020-01-01"}),
        ("---\n---\n", {}),
    ],
)
def test_heads(readme: str, data: dict[str, object]) -> None:
    assert read_head(readme) == data


@pytest.mark.parametrize(
    "head",
    [
        "a: &x [1]\nb: *x",
        "- a list",
        "a: [",
        "a: " + "[" * 40 + "]" * 40,
        "a: !!python/object/apply:os.system [x]",
        "x: [" + "1," * 21_000 + "]",
    ],
)
def test_heads_that_are_refused(head: str) -> None:
    with pytest.raises(CardError):
        read_head(f"---\n{head}\n---\n")
    assert problems_of(f"---\n{head}\n---\n", "model")[0]


def test_encoded_slashes_stay_in_their_segment() -> None:
    scope = {"type": "http", "path": "/a/refs/pr/1/x/y", "raw_path": b"/a/refs%2Fpr%2f1/x/y?b=%2F"}
    keep_encoded_slashes(scope)  # type: ignore[arg-type]
    segments = scope["path"].split("/")  # type: ignore[union-attr]
    assert [text(segment) for segment in segments] == ["", "a", "refs/pr/1", "x", "y"]


def test_trees_have_folders() -> None:
    files = [FileEntry(path, "0" * 64, 1) for path in ("a", "d/b", "d/e/c", "dx")]
    assert [(node.path, node.entry is None) for node in nodes_of(files, "", recursive=False)] == [
        ("a", False),
        ("d", True),
        ("dx", False),
    ]
    assert [node.path for node in nodes_of(files, "d", recursive=True)] == ["d/b", "d/e", "d/e/c"]
    assert nodes_of(files, "nowhere", recursive=True) == []
