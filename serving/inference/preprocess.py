"""From encoded bytes to the model's input tensor: decode with limits, letterbox, normalise.

Decoding is torchvision's (libjpeg-turbo, libpng): a third faster than OpenCV on a 1080p JPEG here, and it raises on a
truncated file where others return a half-grey image. Resizing is torch's antialiased bilinear on channels-last uint8,
which is what `EomtImageProcessor` calls, so training through either path sees the same pixels.

EXIF orientation is ignored on purpose. A robot's calibration maps the sensor's own pixel grid to the world: a picture
turned on its side because of a tag would put every mask in the wrong place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torchvision.io import ImageReadMode, decode_jpeg, decode_png

from serving.errors import BaseError, ImageError
from serving.image_header import MAX_BYTES as MAX_BYTES
from serving.image_header import MAX_PIXELS as MAX_PIXELS
from serving.image_header import image_size as image_size

Image = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""

_SAMPLE_BITS = (8, 10, 12, 14, 16)
"""Bits that a sample of a 16-bit PNG may use."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


# --- decoding ---------------------------------------------------------------------------------------------------------


def decode_image(data: bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode JPEG or PNG bytes to uint8 [H, W, 3] RGB; grey, palette and alpha images become RGB, and samples
    of more than 8 bits are scaled by the range that they use.

    Raises ImageError for anything else: other formats, truncated or damaged files, and files over the limits, which
    are read from the header so that a small bomb of a file never makes a large array.
    """
    if len(data) > max_bytes:
        raise ImageError(f"the file has {len(data):,} bytes; the limit is {max_bytes:,}")
    kind, height, width = image_size(data)
    if height < 1 or width < 1 or height * width > max_pixels:
        raise ImageError(f"the image is {width}x{height} pixels; the limit is {max_pixels:,} pixels")
    source = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        decode = decode_jpeg if kind == "jpeg" else decode_png
        pixels = decode(source, mode=ImageReadMode.RGB)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ImageError(f"the {kind.upper()} cannot be decoded: {reason}") from error
    if pixels.dtype == torch.uint16:
        pixels = _eight_bits(pixels)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def _eight_bits(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 of uint16 samples, by the bits that the picture really uses.

    Cameras of 10, 12 and 14 bits write their counts into 16-bit PNGs as they are: 4095 is white, and of its high byte
    alone one sees almost nothing. The range is the smallest of a camera's that holds the brightest sample, so that
    pictures of one camera are scaled alike; it is the same for training and for a robot's frames.
    """
    wide = pixels.to(torch.int32)
    brightest = int(wide.max()) if wide.numel() else 0
    bits = next(bits for bits in _SAMPLE_BITS if brightest < 1 << bits)
    return (wide >> (bits - 8)).to(torch.uint8)


def check_pixels(image: npt.NDArray[Any], *, max_pixels: int = MAX_PIXELS) -> Image:
    """`image` itself if it is uint8 [H, W, 3] within the limits, else ImageError."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ImageError(f"pixels must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    if height < 1 or width < 1 or height * width > max_pixels:
        raise ImageError(f"the image is {width}x{height} pixels; the limit is {max_pixels:,} pixels")
    return image


# --- letterbox --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image of `height` x `width` lies in the model's square of `size`: top left, aspect kept.

    `inner_height` x `inner_width` is the image's size there; the rest, to the right or below, is padding.
    """

    height: int
    width: int
    size: int
    inner_height: int
    inner_width: int

    @classmethod
    def fit(cls, height: int, width: int, size: int) -> Self:
        """The long edge becomes `size`, the short one is rounded (at least one pixel)."""
        long_edge = max(height, width)
        inner_height = size if height == long_edge else max(1, round(height * size / long_edge))
        inner_width = size if width == long_edge else max(1, round(width * size / long_edge))
        return cls(height, width, size, inner_height, inner_width)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """What preprocessor_config.json says, reduced to what we do: square size, mean and standard deviation per channel.

    `mean` and `std` are for values in [0, 1].
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read a preprocessor_config.json mapping. Raises BaseError if it asks for what we do not do."""
        edges = config.get("size")
        size = edges.get("longest_edge") if isinstance(edges, Mapping) else None
        if not isinstance(size, int) or size < 16 or edges != {"shortest_edge": size, "longest_edge": size}:
            raise BaseError(f"preprocessor_config.json: size must name one square, got {edges!r}")
        if config.get("do_split_image") or not config.get("do_pad", False):
            raise BaseError("preprocessor_config.json: only do_pad without do_split_image is served")
        mean, std = config.get("image_mean", IMAGENET_MEAN), config.get("image_std", IMAGENET_STD)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise BaseError("preprocessor_config.json: image_mean and image_std need three values each")
        return cls(size, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def at(self, size: int) -> Self:
        """The same for pictures of another side."""
        return self if size == self.size else replace(self, size=size)

    def batch(self, images: Sequence[Image], *, device: torch.device) -> tuple[torch.Tensor, list[Letterbox]]:
        """Letterbox and normalise to float32 [B, 3, size, size]; the boxes say where each image lies."""
        canvas = torch.zeros(len(images), self.size, self.size, 3, dtype=torch.uint8)
        boxes = []
        for row, image in zip(canvas, images, strict=True):
            box = Letterbox.fit(image.shape[0], image.shape[1], self.size)
            row[: box.inner_height, : box.inner_width] = resize(image, box.inner_height, box.inner_width)
            boxes.append(box)
        pixels = canvas.to(device).permute(0, 3, 1, 2).to(torch.float32)
        mean = torch.tensor(self.mean, device=device).mul_(255.0)
        std = torch.tensor(self.std, device=device).mul_(255.0)
        return pixels.sub_(mean[:, None, None]).div_(std[:, None, None]), boxes


def resize(image: Image, height: int, width: int) -> torch.Tensor:
    """uint8 [height, width, 3] of an image, antialiased bilinear."""
    # Negative strides (a flipped view) have no torch equivalent; other layouts go through without a copy.
    pixels = torch.from_numpy(image if min(image.strides) >= 0 else image.copy())
    if pixels.shape[:2] == (height, width):
        return pixels
    # The permuted view is channels-last, for which torch has a SIMD path that is 15 times faster than planar.
    planar = pixels.permute(2, 0, 1)[None]
    return F.interpolate(planar, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def preprocessor_config(image_size: int) -> dict[str, Any]:
    """The preprocessor_config.json of a base with square input `image_size`: `EomtImageProcessor` reads it too."""
    return {
        "image_processor_type": "EomtImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": image_size, "longest_edge": image_size},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "do_split_image": False,
        "do_pad": True,
        "ignore_index": None,
    }
