"""Masks as FiftyOne keeps them: a NumPy array of the box, in the `.npy` format, deflated, in base64 inside JSON."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_HEADER: Final = 4_096
_WIDEST: Final = 8
"""Bytes of one value, at most: FiftyOne writes one, NumPy's default is eight."""


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """bool [h, w] as MongoDB's extended JSON holds it."""
    with io.BytesIO() as file:
        np.save(file, mask, allow_pickle=False)
        packed = zlib.compress(file.getvalue())
    return {"$binary": {"base64": base64.b64encode(packed).decode("ascii"), "subType": "00"}}


def decode_mask(value: object, most: int) -> npt.NDArray[np.bool_]:
    """bool [h, w] of extended JSON, or of the bare text of older exports; of at most `most` pixels. Raises ValueError
    for whatever is none: no object is ever made of it but an array of numbers."""
    if isinstance(value, dict):
        inner = value.get("$binary")
        value = inner.get("base64") if isinstance(inner, dict) else inner
    if not isinstance(value, str):
        raise ValueError("the mask is no base64 text")  # noqa: TRY004  # what a file holds
    try:
        packed = base64.b64decode(value, validate=True)
        inflate = zlib.decompressobj()
        data = inflate.decompress(packed, most * _WIDEST + _HEADER)
    except (ValueError, zlib.error):
        raise ValueError("the mask cannot be unpacked") from None
    if inflate.unconsumed_tail or not inflate.eof:
        raise ValueError("the mask is larger than its picture, or cut short")
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"the mask is no NumPy array ({type(error).__name__})") from None
    return flat(array)


def flat(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """bool [h, w] of numbers [h, w] or [h, w, 1]: all that is not 0 is in. Raises ValueError."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 or array.dtype.kind not in "biuf" or not array.size:
        raise ValueError(f"the mask is an array of {array.dtype} {array.shape}, not one of a box")
    found: npt.NDArray[np.bool_] = array != 0
    return found
