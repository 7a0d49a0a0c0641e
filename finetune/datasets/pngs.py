"""PNGs that hold numbers instead of colours: class and instance masks, read with their palette and written small."""

from __future__ import annotations

import io
import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from serving.errors import ImageError
from serving.image_header import MAX_BYTES, MAX_PIXELS, image_size

Palette = npt.NDArray[np.uint8]
"""uint8 [256, 3]."""


_OPAQUE, _HALF = 255, 128


class MaskPng(NamedTuple):
    """Pixels as stored: [H, W] indices or grey values (up to 16 bits), or uint8 [H, W, 3] colours."""

    pixels: npt.NDArray[np.integer]
    palette: Palette | None


def decode_mask_png(data: bytes) -> MaskPng:
    """Decode a PNG without touching its values. Raises ValueError with the sentence to show."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"the PNG has {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    try:
        kind, height, width = image_size(data)
    except ImageError as error:
        raise ValueError(f"the mask is no PNG: {error}") from None
    if kind != "png":
        raise ValueError("the mask is a JPEG, whose values are no longer exact: save PNG")
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"the mask is {width}x{height} pixels; the limit is {MAX_PIXELS:,} pixels")
    try:
        with PillowImage.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            if image.mode == "P":
                flat = np.array(image.getpalette("RGB") or [], np.uint8)[:768]
                return MaskPng(np.array(image), np.pad(flat, (0, 768 - flat.size)).reshape(256, 3))
            pixels = np.array(image)
            if image.mode in ("RGBA", "LA"):  # alpha says nothing about whose a pixel is
                pixels = pixels[..., :3] if image.mode == "RGBA" else pixels[..., 0]
            return MaskPng(pixels.astype(np.uint8) if image.mode == "1" else pixels, None)
    except (OSError, SyntaxError, ValueError, zlib.error, PillowImage.DecompressionBombError) as error:
        raise ValueError(f"the PNG cannot be decoded: {error}") from None


def decode_bitmask(data: bytes) -> npt.NDArray[np.bool_]:
    """bool [H, W] of a PNG that shows one mask: where it is opaque, or if it is so everywhere, where it is not black.

    Raises ValueError with the sentence to show.
    """
    png = decode_mask_png(data)  # its checks of size and kind
    with PillowImage.open(io.BytesIO(data), formats=["PNG"]) as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
    if alpha.min() < _OPAQUE:
        return alpha >= _HALF
    if png.palette is not None:
        return np.asarray(png.palette.max(1) > 0)[png.pixels]
    return np.asarray(png.pixels.max(2) > 0) if png.pixels.ndim == 3 else png.pixels != 0


def encode_png(pixels: npt.NDArray[np.integer], palette: Palette | None = None) -> bytes:
    """PNG of uint8 or uint16 [H, W]; the same pixels give the same bytes."""
    image = PillowImage.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette.tobytes(), "RGB")
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=6)
    return out.getvalue()


def distinct_colours() -> Palette:
    """256 different colours, neighbours far apart: the bits of the index spread over the high bits of the channels.

    The colours of the Pascal VOC palette, which tools expect in such files; the first is black.
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            if 3 * bit + channel < 8:
                colours[:, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours.astype(np.uint8)
