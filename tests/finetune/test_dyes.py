"""Dyed packages: which pixels change, what they keep, and which colours they never get."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.scenes import BROAD, DEMO_CELL, write_cell
from finetune.training.dyes import LUMA, UNDYED, dye
from finetune.training.scene_examples import SceneExamples, written_examples

SEEDS = st.integers(0, 2**32 - 1)


def blocks(count: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey ground with `count` textured kraft-coloured blocks, not so light that a colour would clip."""
    texture = np.random.default_rng(5).integers(10, 50, (64, 64, 1))
    pixels = np.full((64, 64, 3), 90, np.uint8)
    masks = np.zeros((count, 64, 64), np.bool_)
    for k in range(count):
        y, x = 16 * (k // 4), 16 * (k % 4)
        masks[k, y : y + 12, x : x + 12] = True
        pixels[masks[k]] = (np.array([1.2, 1.0, 0.7]) * texture)[masks[k]]
    return pixels, masks


@given(SEEDS, st.integers(0, 12))
def test_packages_change_in_colour_and_nothing_else_does(seed: int, count: int) -> None:
    pixels, masks = blocks(count)
    before = pixels.copy()
    out = dye(pixels, masks, BROAD.hues, np.random.default_rng(seed))
    assert np.array_equal(pixels, before)
    outside = ~masks.any(axis=0)
    assert np.array_equal(out[outside], pixels[outside])
    for mask in masks:
        if np.array_equal(out[mask], pixels[mask]):
            continue
        # Values are cut to whole numbers, twice. A deep blue alone clips: its luma weight is 0.114.
        clear = mask & (out.max(axis=2) < 255)
        np.testing.assert_allclose(out[clear] @ LUMA, pixels[clear] @ LUMA, atol=1.5)


@given(SEEDS)
def test_colours_kept_back_are_never_drawn(seed: int) -> None:
    pixels, masks = blocks(12)
    pixels[masks.any(axis=0)] = 100
    out = dye(pixels, masks, BROAD.hues, np.random.default_rng(seed))
    for mask in masks:
        red, green, blue = out[mask][0] / 255
        hue, saturation, _ = colorsys.rgb_to_hsv(red, green, blue)
        if saturation > 0.1 and out[mask].max() < 255:
            # One step of 255 moves the hue of a pale colour by several degrees.
            slack = 2.0 + 2.0 / saturation
            assert any(low - slack <= hue * 360 <= high + slack for low, high in BROAD.hues)


def test_the_share_of_packages_is_as_declared() -> None:
    pixels, masks = blocks(12)
    rng = np.random.default_rng(2)
    left = [
        np.array_equal(out[mask], pixels[mask])
        for out in (dye(pixels, masks, BROAD.hues, rng) for _ in range(60))
        for mask in masks
    ]
    assert np.mean(left) == pytest.approx(UNDYED, abs=0.06)


def test_scenes_and_written_scenes_are_dyed_when_asked(tmp_path: Path) -> None:
    plain, dyed = (SceneExamples(BROAD, size=64, seed=3, count=9, dyed=share) for share in (0.0, 1.0))
    assert any(not np.array_equal(plain[k].pixels, dyed[k].pixels) for k in range(4))
    for k in range(4):
        assert np.array_equal(plain[k].masks, dyed[k].masks)
        outside = ~np.repeat(np.repeat(plain[k].masks.any(axis=0), 2, 0), 2, 1)
        # Masks are every other pixel's: a line of pixels around them may be a package's too.
        outside[1:] &= outside[:-1].copy()
        outside[:-1] &= outside[1:].copy()
        outside[:, 1:] &= outside[:, :-1].copy()
        outside[:, :-1] &= outside[:, 1:].copy()
        assert np.array_equal(plain[k].pixels[outside], dyed[k].pixels[outside])
    cell = write_cell(tmp_path / "demo", DEMO_CELL, images=4, seed=4, size=96, valid_share=0.0)
    one, other, again = (
        written_examples([cell], look=BROAD, size=64, count=8, seed=1, dyed=share) for share in (0.0, 1.0, 1.0)
    )
    assert any(not np.array_equal(one[k].pixels, other[k].pixels) for k in range(8))
    assert all(np.array_equal(again[k].pixels, other[k].pixels) for k in range(8))
