"""A look at what a variant says before it answers robots: on drawn pictures, beside what the base says of them.

It finds weights that have diverged, and nothing else: how good a variant is, its evaluation on its own holdout says. A
variant that is made for other things than there are in these pictures may be as unsure as it likes. One that says
nothing of any of them at any score, where the base sees much, would answer robots with empty bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from serving.errors import NotFinite
from serving.inference.preprocess import Image
from serving.inference.segmenter import Segmenter, SegmentOptions
from serving.instances import Instances

PICTURES = 2
MUCH = 3
"""So many instances of the base are much."""
LEAST_SCORE = 1e-4
"""A score below which even a network that was made for other things hardly ever goes with all that it says."""


@cache
def pictures() -> tuple[Image, ...]:
    """Bins of boxes, drawn: uint8 [240, 320, 3]. The same on every machine."""
    return tuple(_bin(seed) for seed in range(PICTURES))


def _bin(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    height, width = 240, 320
    down, across = np.mgrid[0:height, 0:width]
    image = np.repeat((90.0 + 40.0 * across / width + 20.0 * down / height)[..., None], 3, 2)
    for row in range(3):
        for column in range(4):
            y, x = 12 + 76 * row + int(rng.integers(0, 8)), 12 + 78 * column + int(rng.integers(0, 8))
            h, w = int(rng.integers(44, 62)), int(rng.integers(44, 62))
            colour = rng.integers(60, 230, 3).astype(np.float64)
            image[y + 3 : y + h + 5, x + 3 : x + w + 5] *= 0.6  # its shadow
            image[y : y + h, x : x + w] = colour
            image[y + h // 2 - 2 : y + h // 2 + 2, x : x + w] = colour * 0.8  # its tape
    return (image + rng.normal(0.0, 3.0, image.shape)).clip(0, 255).astype(np.uint8)


def look(segmenter: Segmenter, variant: str) -> str:
    """What is wrong with what a variant that is in memory says; empty where nothing is. Raises UnknownVariant."""
    quiet = True
    for image in pictures():
        (own,) = segmenter.answer([image], [SegmentOptions(variant, 0.0)])
        if isinstance(own, NotFinite):
            return "what it says of the packaged pictures is not finite numbers"
        quiet = quiet and _best(own) < LEAST_SCORE
    if quiet and _sees_much(segmenter, pictures()):
        return "it says nothing of the packaged pictures, of which the base says much"
    return ""


def _sees_much(segmenter: Segmenter, images: Sequence[Image]) -> bool:
    for image in images:
        (said,) = segmenter.answer([image], [SegmentOptions(None, LEAST_SCORE)])
        if isinstance(said, NotFinite) or len(said) < MUCH:
            return False
    return True


def _best(said: Instances) -> float:
    return float(said.scores.max()) if len(said) else 0.0
