"""Whether a cell's labels lie in one another: a tray and what is in it, or a box and its label, under one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from finetune.datasets.types import Sample

WITHIN = 0.8
"""The share of an instance within a larger one from which on it lies in it."""
OFTEN = 0.02
"""Of all instances; fewer are slips of whoever labelled."""


def labels_nest(samples: Sequence[Sample], classes: Mapping[str, str]) -> bool:
    """Whether instances of one class lie in one another in more than OFTEN of all cases, and more than once.

    `classes` maps the samples' labels to what the network calls them; labels that are not in it do not count.
    """
    nested = count = 0
    for sample in samples:
        chosen = [k for k, label in enumerate(sample.labels) if label in classes]
        count += len(chosen)
        if len(chosen) < 2:
            continue
        masks = [{"size": [sample.height, sample.width], "counts": sample.masks[k]} for k in chosen]
        names = np.array([classes[sample.labels[k]] for k in chosen])
        area = np.asarray(coco_mask.area(masks), np.float64)
        # Against a crowd, COCO divides the shared area by the first mask's own.
        share = np.asarray(coco_mask.iou(masks, masks, [1] * len(masks)))
        inside = (share >= WITHIN) & (area[None, :] > area[:, None]) & (names[:, None] == names[None, :])
        nested += int(inside.any(1).sum())
    return nested > 1 and nested > OFTEN * count
