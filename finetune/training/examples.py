"""What the model takes while it learns: normalised pictures with one mask and class per instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serving.inference.preprocess import IMAGENET_MEAN, IMAGENET_STD

MASK_STRIDE = 2  # targets are kept at half the picture's resolution, twice that of the predicted masks


@dataclass(frozen=True, slots=True)
class Example:
    """`pixels` uint8 [S, S, 3] RGB; `masks` bool [N, S / MASK_STRIDE, S / MASK_STRIDE]; `classes` int64 [N].

    `box_only` bool [N]: instances whose mask is a filled box, because nobody drew their outline; None where there are
    none.
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    classes: NDArray[np.int64]
    box_only: NDArray[np.bool_] | None = None


def collate(examples: Sequence[Example]) -> dict[str, Any]:
    """A batch as the model's forward takes it.

    `pixel_values` float32 [B, 3, S, S]; `mask_labels` B tensors float32 [N_i, M, M]; `class_labels` B tensors
    int64 [N_i]; where any example has instances with a box alone, `box_only` B tensors bool [N_i].
    """
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1) * 255
    pixels = torch.stack([torch.from_numpy(np.ascontiguousarray(e.pixels)).permute(2, 0, 1) for e in examples])
    masks: list[Tensor] = [torch.from_numpy(np.ascontiguousarray(e.masks)).float() for e in examples]
    classes: list[Tensor] = [torch.from_numpy(e.classes) for e in examples]
    batch = {"pixel_values": (pixels.float() - mean) / std, "mask_labels": masks, "class_labels": classes}
    if any(e.box_only is not None and e.box_only.any() for e in examples):
        none = [np.zeros(len(e.classes), np.bool_) for e in examples]
        told = [e.box_only if e.box_only is not None else n for e, n in zip(examples, none, strict=True)]
        batch["box_only"] = [torch.from_numpy(t) for t in told]
    return batch
