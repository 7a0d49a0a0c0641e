"""What comes in through the door: safetensors headers with limits, and nothing in model repos that could run code."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import pickletools
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from registry.content import Window, find_danger, read_header
from registry.content.pickles import is_pickle
from registry.content.safetensors_header import MAX_HEADER, HeaderError
from registry.content.window import HEAD
from registry.errors import UnsafeFileError
from registry.repos.repos import AddFile
from registry.types import RepoId

MODEL, DATASET = RepoId("model", "acme", "m"), RepoId("dataset", "acme", "d")


class Bomb:
    """Unpickling it would call something."""

    def __reduce__(self):
        return print, ("boom",)


def file_of(header: object, data: bytes = b"", *, raw: bytes | None = None, length: int | None = None) -> bytes:
    text = json.dumps(header).encode() if raw is None else raw
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def one(dtype: str = "U8", shape: object = (4,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


class Packed:
    """Archives of all kinds."""

    @staticmethod
    def zipped(**files: bytes) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return out.getvalue()

    @staticmethod
    def tarred() -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
        return out.getvalue()


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        arrays.arrays(
            st.sampled_from(["float32", "float64", "int8", "uint8", "int64", "float16", "bool"]),
            arrays.array_shapes(min_dims=0, min_side=0, max_side=4),
        ),
        max_size=5,
    )
)
def test_what_the_library_writes_is_read(tensors):
    data = safetensors.numpy.save(tensors, {"format": "np"})
    assert {(one.name, one.shape) for one in read_header(Window.of(data))} == {
        (name, array.shape) for name, array in tensors.items()
    }


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "too short"),
        (b"weights", "too short"),
        (file_of(one(), b"1234", length=2**40), "1099511627776"),
        (file_of(one(), b"1234", length=MAX_HEADER + 1), "allowed"),
        (file_of(one(), b"1234", length=1000), "has only"),
        (file_of([], b""), "does not begin"),
        (file_of(None, raw=b"{" * 100_000), "no JSON"),
        (file_of(None, raw=b'{"a":' * 100_000), "levels"),
        (file_of(None, raw=b"{\xff}      "), "no JSON"),
        (file_of(None, b"1234", raw=b'{"t":%s,"t":%s}' % ((json.dumps(one()["t"]).encode(),) * 2)), "twice"),
        (file_of(one("F77"), b"1234"), "unknown type"),
        (file_of(one(shape=[-4]), b"1234"), "whole numbers"),
        (file_of(one(shape=[4.0]), b"1234"), "whole numbers"),
        (file_of(one(shape=[True]), b"1"), "whole numbers"),
        (file_of(one(shape=[1] * 100), b"1"), "short list"),
        (file_of(one(shape=[2**40, 2**40]), b"1234"), "absurd"),
        (file_of(one(shape=[5]), b"1234"), "do not fit"),
        (file_of(one(dtype="F4", shape=[1], offsets=[0, 0])), "do not fit"),
        (file_of(one(offsets=[4, 0]), b"1234"), "do not fit"),
        (file_of(one(offsets=[0, 4, 8]), b"1234"), "offsets"),
        (file_of(one(offsets=[4, 8]), b"12345678"), "hole"),
        (file_of(one() | {"u": one(offsets=[2, 6])["t"]}, b"123456"), "overlaps"),
        (file_of(one(), b"123"), "speaks of 4"),
        (file_of(one(), b"12345"), "speaks of 4"),
        (file_of({"t": {"dtype": "U8", "shape": [0]}}), "without dtype"),
        (file_of({"__metadata__": {"a": 1}}), "metadata"),
        (file_of(None, raw=b'{"t":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}'), "NaN"),
    ],
)
def test_bad_headers_are_refused(data, says):
    with pytest.raises(HeaderError, match=says):
        read_header(Window.of(data))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data):
    window = Window.of(data)
    find_danger(window)
    try:
        read_header(window)
    except HeaderError:
        return
    assert len(data) >= 10


PICKLES = [pickle.dumps(Bomb(), protocol) for protocol in range(6)]
DANGERS = {
    **{f"pickle {protocol}": data for protocol, data in enumerate(PICKLES)},
    "pickle of plain values": pickle.dumps({"a": [1, 2, 3]}, 4),
    "pickle with rubbish behind": PICKLES[4] + b"\0" * 100,
    "pickle behind much that is harmless": b"\x80\x04" + b"N0" * 5_000 + PICKLES[4][2:],
    "old pickle behind much that is harmless": b"N0" * 5_000 + PICKLES[0],
    "pickle whose first argument is endless": b"\x80\x04B\xff\xff\xff\x7f" + b"\0" * (2 * HEAD),
    "the old format of torch": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + PICKLES[2],
    "zip with a pickle": Packed.zipped(**{"archive/data.pkl": PICKLES[2], "archive/version": b"3"}),
    "zip behind other bytes": b"x" * 5_000 + Packed.zipped(data=PICKLES[2]),
    "zip in a zip": Packed.zipped(inner=Packed.zipped(data=PICKLES[2])),
    "broken zip": b"PK\x03\x04" + b"\0" * 100,
    "objects in npy": b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 60,
    "ELF": b"\x7fELF\x02\x01\x01" + b"\0" * 60,
    "PE": b"MZ" + b"\x90\0" * 29 + struct.pack("<I", 64) + b"PE\0\0" + b"\0" * 50,
    "Mach-O": b"\xcf\xfa\xed\xfe" + b"\0" * 60,
    "Java": b"\xca\xfe\xba\xbe" + b"\0" * 60,
    "compiled Python": b"\xa7\r\r\n" + b"\0" * 60,
    "gzip": gzip.compress(PICKLES[4]),
    "zlib, as joblib does": zlib.compress(PICKLES[4]),
    "tar": Packed.tarred(),
}
HARMLESS = {
    "nothing": b"",
    "text": b"# A card\n\nWords (in brackets) and more.\n",
    "words, one to a line": b"cat\ndog\nbird\n.\nI\nS\nN\n",
    "JSON": b'{"a": 1}',
    "names like a pickle's": b"cos\nsystem\nare letters\n",
    "PNG": b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    "JPEG": b"\xff\xd8\xff\xe0" + b"\0" * 100,
    "GGUF": b"GGUF\x03\0\0\0" + b"\0" * 100,
    "zeros": b"\0" * 2_000,
    "noughts": b"0" * 100_000,
    "letters that are opcodes": b"Nt" * 50_000,
    "the word MZ": b"MZ is a village\n" * 20,
    "numbers in npy": b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" + b" " * 60,
    "zip of texts": Packed.zipped(**{"a.txt": b"hello"}),
    "weights": safetensors.numpy.save({"t": np.zeros((300, 300), np.float32)}),
    "Python source": b"#!/usr/bin/env python\nimport os\nos.system('true')\n",
}


@pytest.mark.parametrize("data", DANGERS.values(), ids=DANGERS)
def test_danger_is_seen_whatever_the_name(data):
    assert find_danger(Window.of(data)) is not None


@pytest.mark.parametrize("data", HARMLESS.values(), ids=HARMLESS)
def test_harmless_files_come_in(data):
    assert find_danger(Window.of(data)) is None


@settings(deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=40), st.integers(2, 5))
def test_every_marked_pickle_is_one(value, protocol):
    data = pickletools.optimize(pickle.dumps(value, protocol))
    assert is_pickle(data, whole=True)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=400))
def test_texts_are_no_pickles(words):
    if not words.rstrip().endswith("."):
        assert not is_pickle(words.encode(), whole=True)


@pytest.fixture
def commit(registry):
    for repo in (MODEL, DATASET):
        registry.repos.create(repo)

    def made(repo: RepoId, path: str, data: bytes):
        blob = registry.blobs.put_bytes(data)
        return registry.repos.commit(repo, [AddFile(path, blob.sha256, blob.size)], message="m", author="a")

    return made


@pytest.mark.parametrize("path", ["model.safetensors", "weights/MODEL.SafeTensors", "pytorch_model.bin", "README.md"])
def test_a_pickle_comes_in_under_no_name(registry, commit, path):
    with pytest.raises(UnsafeFileError, match="pickle"):
        commit(MODEL, path, PICKLES[4])
    assert registry.repos.refs(MODEL) == ()  # nothing became visible


def test_datasets_hold_what_they_hold_but_weights_are_weights(registry, commit):
    commit(DATASET, "frames.pkl", PICKLES[4])
    with pytest.raises(UnsafeFileError):
        commit(DATASET, "a.safetensors", b"no weights at all")
    commit(DATASET, "a.safetensors", safetensors.numpy.save({"t": np.zeros(3)}))


def test_large_files_are_judged_by_their_beginning_and_end(registry, commit):
    tensor = np.arange(2 * HEAD, dtype=np.uint8)
    good = safetensors.numpy.save({"t": tensor})
    commit(MODEL, "model.safetensors", good)
    with pytest.raises(UnsafeFileError, match="speaks of"):
        commit(MODEL, "model.safetensors", good + b"!")
    hidden = Packed.zipped(**{"data.pkl": PICKLES[2]})
    size = 3 * HEAD + len(hidden)
    polyglot = file_of(one(shape=[size], offsets=[0, size]), b"\0" * (3 * HEAD) + hidden)
    with pytest.raises(UnsafeFileError, match="zip archive"):
        commit(MODEL, "model.safetensors", polyglot)
