"""How large a cell's pictures should be for the network, by how large its packages are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune.datasets import Sample
from finetune.errors import BaseModelError
from finetune.models.model import picture_size
from serving.families.types import InstanceModel
from serving.inference.picture_sizes import MOST, STEP, PictureSizes

SMALL = 24.0
"""Pixels a side of the network's picture: where a quarter of a cell's packages are smaller, finer pictures help."""
FINER = (1.4, 2.0)
"""Times the base's own side, that is about twice and four times the work."""
SOURCE_SCALE = 1.5
"""Pictures are kept at this multiple of the network's side, so that crops have detail to show."""
MOST_BYTES = 4 * 1024**3
"""Of a cell's train pictures in memory: a byte a pixel for each mask and each colour."""


def sizes_of(base: InstanceModel) -> PictureSizes:
    """What pictures a base takes."""
    return PictureSizes(picture_size(base), others=base.any_size)


def chosen_size(base: InstanceModel, samples: Sequence[Sample], asked: int | None = None) -> int:
    """The side in pixels of the pictures that a variant of `base` is to see: what is `asked` for, or else what suits
    the labels of `samples`. Raises BaseModelError for a size that the base does not take."""
    sizes = sizes_of(base)
    if asked is None:
        return suitable(sizes, samples)
    try:
        return sizes.check(asked)
    except ValueError as error:
        raise BaseModelError(str(error)) from error


def suitable(sizes: PictureSizes, samples: Sequence[Sample]) -> int:
    """The smallest of the base's own size and finer ones at which few packages are SMALL; no finer than the pictures
    themselves are, nor than memory has room for."""
    if not sizes.others:
        return sizes.own
    sides, edges = [], []
    for sample in samples:
        edge = max(sample.height, sample.width)
        edges.append(edge)
        sides += (np.sqrt(sample.truth().areas()) / edge).tolist()
    if not sides:
        return sizes.own
    small, long = float(np.quantile(sides, 0.25)), float(np.median(edges))
    best = sizes.own
    for times in FINER:
        if small * best >= SMALL:
            break
        finer = min(round(sizes.own * times / STEP) * STEP, max(MOST, sizes.own))
        if finer > max(long, sizes.own) or _bytes(samples, finer) > MOST_BYTES:
            break
        best = max(best, finer)
    return best


def source_side(size: int, samples: Sequence[Sample]) -> int:
    """The long edge in pixels that train pictures are kept at: SOURCE_SCALE times the network's `size`, less where
    there are so many masks that memory would not do, and never less than `size`."""
    side = int(size * SOURCE_SCALE)
    total = _bytes(samples, side)
    return side if total <= MOST_BYTES else max(size, int(side * (MOST_BYTES / total) ** 0.5))


def _bytes(samples: Sequence[Sample], side: int) -> int:
    """What samples take in memory with a long edge of `side` pixels."""
    total = 0
    for sample in samples:
        scale = min(1.0, side / max(sample.height, sample.width))
        total += (len(sample.labels) + 3) * round(sample.height * scale) * round(sample.width * scale)
    return total
