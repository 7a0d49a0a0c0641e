from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from transformers import EomtImageProcessor

from serving.errors import BaseError, ImageError
from serving.inference.preprocess import (
    Letterbox,
    Preprocess,
    check_pixels,
    decode_image,
    image_size,
    preprocessor_config,
    resize,
)
from tests.scale import scaled
from tests.serving.conftest import encode, scene


@pytest.mark.parametrize("shape", [(120, 160), (160, 120), (64, 64), (30, 40), (1080, 1920), (333, 257), (48, 64)])
def test_same_pixels_as_the_transformers_image_processor(shape: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor_config(64)))
    image = scene(*shape)
    theirs = EomtImageProcessor.from_pretrained(tmp_path)(images=image, return_tensors="pt")["pixel_values"]
    ours, _ = Preprocess.from_config(preprocessor_config(64)).batch([image], device=torch.device("cpu"))
    assert ours.shape == theirs.shape == (1, 3, 64, 64)
    # Theirs may lose the last pixel of the long edge to float truncation; ours never does. Compare inside of it,
    # within two grey levels (a level is about 0.018 after normalisation).
    box = Letterbox.fit(*shape, 64)
    inner = (..., slice(0, box.inner_height - 1), slice(0, box.inner_width - 1))
    assert (ours[inner] - theirs[inner]).abs().max() < 0.04
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[: box.inner_height, : box.inner_width] = False
    assert torch.allclose(ours[0][:, outside], theirs[0][:, outside], atol=1e-5)


@pytest.mark.slow
@settings(max_examples=scaled(60, 2000), deadline=None)
@given(st.integers(1, 8000), st.integers(1, 8000), st.sampled_from([64, 256, 640]))
def test_letterbox_geometry(height: int, width: int, size: int) -> None:
    box = Letterbox.fit(height, width, size)
    assert max(box.inner_height, box.inner_width) == size
    assert min(box.inner_height, box.inner_width) >= 1
    scale = size / max(height, width)
    assert abs(box.inner_height - height * scale) <= max(0.5, 1 - height * scale)
    assert abs(box.inner_width - width * scale) <= max(0.5, 1 - width * scale)


def test_resize_takes_flipped_and_sliced_views() -> None:
    image = scene(40, 60)
    assert torch.equal(resize(image[::-1], 20, 30), resize(image[::-1].copy(), 20, 30))
    assert torch.equal(resize(image[:, 10:40], 20, 15), resize(image[:, 10:40].copy(), 20, 15))


def test_decodes_jpeg_and_png_to_rgb() -> None:
    image = scene()
    assert np.array_equal(decode_image(encode(image, ".png")), image)
    assert np.abs(decode_image(encode(image)).astype(int) - image).mean() < 4
    assert image_size(encode(image)) == ("jpeg", 120, 160)
    assert image_size(encode(image, ".png")) == ("png", 120, 160)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "I;16", "1"])
def test_other_png_modes_become_rgb(mode: str) -> None:
    grey = np.tile(np.arange(0, 160, dtype=np.uint8), (120, 1))
    picture = (
        PilImage.fromarray(grey.astype(np.uint16) << 8) if mode == "I;16" else PilImage.fromarray(grey).convert(mode)
    )
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    decoded = decode_image(buffer.getvalue())
    assert decoded.shape == (120, 160, 3)
    assert decoded.dtype == np.uint8
    if mode != "1":
        assert np.abs(decoded[..., 0].astype(int) - grey).max() <= 1


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_jpeg_modes_become_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    PilImage.fromarray(scene()).convert(mode).save(buffer, "JPEG")
    assert decode_image(buffer.getvalue()).shape == (120, 160, 3)


def test_exif_orientation_is_ignored() -> None:
    buffer = io.BytesIO()
    exif = PilImage.Exif()
    exif[0x0112] = 6
    PilImage.fromarray(scene(40, 60)).save(buffer, "JPEG", exif=exif.tobytes())
    assert decode_image(buffer.getvalue()).shape == (40, 60, 3)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_a_truncated_file_is_an_error_not_half_an_image(kind: str, share: float) -> None:
    data = encode(scene(), kind)
    with pytest.raises(ImageError):
        decode_image(data[: int(len(data) * share)])


@settings(max_examples=scaled(60, 2000), deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"]))
def test_random_bytes_are_an_image_error(data: bytes, head: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(head + data)


def test_limits_hold_before_decoding() -> None:
    data = encode(scene(), ".png")
    with pytest.raises(ImageError, match="limit is 100 pixels"):
        decode_image(data, max_pixels=100)
    with pytest.raises(ImageError, match="the limit is 10"):
        decode_image(data, max_bytes=10)
    bomb = data[:16] + (60_000).to_bytes(4, "big") * 2 + data[24:]
    with pytest.raises(ImageError, match="60000x60000"):
        decode_image(bomb)
    with pytest.raises(ImageError, match="uint8"):
        check_pixels(np.zeros((4, 4, 3), np.float32))


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"height": 64, "width": 64}},
        {"size": {"shortest_edge": 64, "longest_edge": 128}},
        {"do_pad": False},
        {"do_split_image": True},
        {"image_std": [0, 1, 1]},
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BaseError):
        Preprocess.from_config(preprocessor_config(64) | change)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_pictures_of_many_bits_are_scaled_by_the_range_they_use(bits: int) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    deep = (ramp.astype(np.uint32) << (bits - 8)).astype(np.uint16)
    out = io.BytesIO()
    PilImage.fromarray(deep).save(out, "PNG")
    assert np.array_equal(decode_image(out.getvalue())[..., 0], ramp)
