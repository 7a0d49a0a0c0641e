"""The header of a safetensors file, parsed with limits and checked against the file's size.

The format: eight bytes, little-endian, say how long the header is; the header is a JSON object that gives each tensor
its type, its shape and where its bytes lie, counted from the header's end; then come the bytes, without holes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from registry.content.window import Window

MAX_HEADER: Final = 16 * 1024**2
"""Bytes of a header; a model of 100,000 tensors needs about ten million."""
MAX_TENSORS: Final = 200_000
MAX_DIMENSIONS: Final = 32
MAX_ELEMENTS: Final = 2**62
BITS: Final = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of one element, by the format's names of types."""


class HeaderError(ValueError):
    """Raised when a header breaks the format; the sentence says where."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a header: its bytes are [begin, end) after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(window: Window) -> tuple[TensorInfo, ...]:
    """The tensors of a file, in the order of their bytes.

    Raises HeaderError unless the header is of a sane length, is a JSON object without repeated names, each tensor's
    type is known and its shape fits its bytes, and the tensors' bytes fill the rest of the file without a hole, an
    overlap or anything after them.
    """
    if window.size < 10:
        raise HeaderError("is too short for a safetensors file")
    length = int.from_bytes(window.read(0, 8), "little")
    if length > MAX_HEADER:
        raise HeaderError(f"says that its header has {length} bytes; {MAX_HEADER} are allowed")
    if length > window.size - 8:
        raise HeaderError(f"says that its header has {length} bytes, but has only {window.size - 8}")
    header = _parse(window.read(8, 8 + length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise HeaderError("has metadata that are not texts")
    if len(header) > MAX_TENSORS:
        raise HeaderError(f"has more than {MAX_TENSORS} tensors")
    tensors = sorted((_tensor(name, value) for name, value in header.items()), key=lambda one: (one.begin, one.end))
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            what = "overlaps the one before it" if tensor.begin < at else "leaves a hole before it"
            raise HeaderError(f"has a tensor {_short(tensor.name)} that {what}")
        at = tensor.end
    if at != window.size - 8 - length:
        raise HeaderError(f"has {window.size - 8 - length} bytes of tensors, and its header speaks of {at}")
    return tuple(tensors)


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise HeaderError("has a header that does not begin with '{'")
    try:
        header = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise HeaderError("has a header of too many levels") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise HeaderError(f"has a header that is no JSON: {str(error)[:100]}") from None
    if not isinstance(header, dict):
        raise HeaderError("has a header that is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Readers differ in which of two equal names they believe.
    made = dict(pairs)
    if len(made) != len(pairs):
        raise HeaderError("has a header that gives a name twice")
    return made


def _no_constant(text: str) -> None:
    raise HeaderError(f"has {text} in its header")


def _tensor(name: str, value: object) -> TensorInfo:
    where = f"has a tensor {_short(name)}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise HeaderError(f"{where} without dtype, shape and data_offsets, or with more than these")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise HeaderError(f"{where} of an unknown type {_short(str(dtype))}")
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_count, shape)):
        raise HeaderError(f"{where} whose shape is no short list of whole numbers")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_is_count, offsets)):
        raise HeaderError(f"{where} whose offsets are no two whole numbers")
    elements = 1
    for side in shape:
        elements *= side
        if elements > MAX_ELEMENTS:
            raise HeaderError(f"{where} of an absurd shape")
    bits = elements * BITS[dtype]
    begin, end = offsets
    if bits % 8 or end - begin != bits // 8:
        raise HeaderError(f"{where} whose {end - begin} bytes do not fit its shape {shape} of {dtype}")
    return TensorInfo(name, dtype, tuple(shape), begin, end)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_ELEMENTS


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")
