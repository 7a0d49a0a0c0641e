"""Label Studio's brush RLE: a stream of bits that spells the RGBA values of an image, row by row.

The stream: 32 bits, the number of values; 5 bits, the size of a value in bits - 1; four times 4 bits, the four sizes
that a count can have, in bits - 1. Then blocks until all values are there: 1 bit, whether the block is one value
repeated; 2 bits, which size the count has; the count - 1; then the one value, or as many values as the count says.
A pixel belongs to the mask where its alpha is at least half.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_HALF = 128
_CHANNELS = 4
_VALUE_BITS = 8
# Sizes of counts for short, middling, long and very long runs, as Label Studio itself chooses them.
_SIZES = (3, 4, 8, 16)


def decode_brush(data: Sequence[object], height: int, width: int) -> npt.NDArray[np.bool_]:
    """bool [height, width] of a list of byte values. Raises ValueError with the sentence to show."""
    if not all(isinstance(byte, int) and not isinstance(byte, bool) and 0 <= byte <= 255 for byte in data):
        raise ValueError("the brush RLE must be a list of bytes (0 to 255)")
    bits = np.unpackbits(np.array(data, np.uint8))
    reader = _Bits(bits)
    total = reader.number(32)
    if total != height * width * _CHANNELS:
        raise ValueError(
            f"the brush RLE holds {total:,} values, the image of {width}x{height} needs {height * width * _CHANNELS:,}"
        )
    value_bits = reader.number(5) + 1
    sizes = [reader.number(4) + 1 for _ in range(4)]
    if value_bits != _VALUE_BITS:
        raise ValueError(f"the brush RLE has values of {value_bits} bits; Label Studio writes {_VALUE_BITS}")
    mask = np.zeros(height * width, np.bool_)
    at = 0
    while at < total:
        repeated = reader.number(1)
        count = reader.number(sizes[reader.number(2)]) + 1
        if at + count > total:
            raise ValueError("the brush RLE holds more values than it says")
        first = at // _CHANNELS  # the first pixel whose alpha, the last of its four values, this block may hold
        if repeated:
            if reader.number(_VALUE_BITS) >= _HALF:
                mask[first : (at + count) // _CHANNELS] = True
        else:
            values = reader.values(count)
            alphas = values[_CHANNELS - 1 - at % _CHANNELS :: _CHANNELS]
            mask[first : first + alphas.size] = alphas >= _HALF
        at += count
    return mask.reshape(height, width)


class _Bits:
    """Reads numbers, highest bit first. Raises ValueError at the end of the bits."""

    def __init__(self, bits: npt.NDArray[np.uint8]) -> None:
        self._bits = bits
        self._text = bits.tobytes().translate(_DIGITS).decode("ascii")
        self._at = 0

    def number(self, size: int) -> int:
        end = self._at + size
        if end > len(self._text):
            raise ValueError("the brush RLE is cut short")
        value = int(self._text[self._at : end], 2)
        self._at = end
        return value

    def values(self, count: int) -> npt.NDArray[np.uint8]:
        end = self._at + count * _VALUE_BITS
        if end > len(self._text):
            raise ValueError("the brush RLE is cut short")
        values = np.packbits(self._bits[self._at : end])
        self._at = end
        return values


_DIGITS = bytes.maketrans(b"\x00\x01", b"01")


def encode_brush(mask: npt.NDArray[np.bool_]) -> list[int]:
    """The list of byte values of a mask, bool [H, W]; it is white and opaque where the mask is."""
    flat = mask.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(edges, prepend=0, append=flat.size) * _CHANNELS
    parts = [f"{flat.size * _CHANNELS:032b}{_VALUE_BITS - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    value = bool(flat[0])
    for length in lengths.tolist():
        word = "11111111" if value else "00000000"
        left = length
        while left > 0:
            # The smallest size that holds what is left; the largest takes the rest in turns.
            which = next((i for i, size in enumerate(_SIZES) if left <= 1 << size), len(_SIZES) - 1)
            count = min(left, 1 << _SIZES[which])
            parts.append(f"1{which:02b}{count - 1:0{_SIZES[which]}b}{word}")
            left -= count
        value = not value
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return np.packbits(np.frombuffer(text.encode("ascii"), np.uint8) - ord("0")).tolist()
