"""Packages in colours that their class never has: what a package is, is told by its shape and surface."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNDYED = 0.35  # of a picture's packages: beside a red sack there is still the kraft box
SATURATION = (0.15, 0.9)
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601, as OpenCV's grey


def dye(
    pixels: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    hues: Sequence[tuple[float, float]],
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    """A picture [H, W, 3] RGB whose packages, masks [N, H, W], lost their own colours and got one each.

    Hues are drawn from `hues`, ranges in degrees of [0, 360), evenly over their length, so that a colour kept back for
    cells that judge a base stays kept back. A package is as light as it was; what lies outside the masks is untouched.
    """
    if not len(masks):
        return pixels
    colours = np.stack([_colour(hues, rng) for _ in masks])
    chosen = rng.random(len(masks)) >= UNDYED
    dyed = masks[chosen].any(axis=0)
    out = pixels.copy()
    shade = pixels[dyed].astype(np.float32) @ LUMA
    owner = masks[chosen][:, dyed].argmax(axis=0) if chosen.any() else np.zeros(0, np.intp)
    out[dyed] = np.clip(shade[:, None] * colours[chosen][owner], 0, 255).astype(np.uint8)
    return out


def _colour(hues: Sequence[tuple[float, float]], rng: np.random.Generator) -> NDArray[np.float32]:
    """Factors [3] that give a grey pixel a hue and keep its luma."""
    lengths = np.array([high - low for low, high in hues])
    low, high = hues[int(rng.choice(len(hues), p=lengths / lengths.sum()))]
    place = rng.uniform(low, high) / 60.0
    # Red, green and blue at full saturation: each a trapezoid around its own place on the circle of six.
    full = np.clip(np.abs((np.array([place, place + 4.0, place + 2.0]) % 6.0) - 3.0) - 1.0, 0.0, 1.0)
    saturation = rng.uniform(*SATURATION)
    colour = (1.0 - saturation + saturation * full).astype(np.float32)
    return np.asarray(colour / (colour @ LUMA), np.float32)
