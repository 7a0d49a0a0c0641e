"""What the model takes while it learns: normalised pictures with one mask and class per instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serving.preprocess import IMAGENET_MEAN, IMAGENET_STD

MASK_STRIDE = 2  # targets are kept at half the picture's resolution, twice that of the predicted masks


@dataclass(frozen=True, slots=True)
class Example:
    """`pixels` uint8 [S, S, 3] RGB; `masks` bool [N, S / MASK_STRIDE, S / MASK_STRIDE]; `classes` int64 [N]."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    classes: NDArray[np.int64]


def collate(examples: Sequence[Example]) -> dict[str, Any]:
    """A batch as the model's forward takes it.

    `pixel_values` float32 [B, 3, S, S]; `mask_labels` B tensors float32 [N_i, M, M]; `class_labels` B tensors
    int64 [N_i].
    """
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1) * 255
    pixels = torch.stack([torch.from_numpy(np.ascontiguousarray(e.pixels)).permute(2, 0, 1) for e in examples])
    masks: list[Tensor] = [torch.from_numpy(np.ascontiguousarray(e.masks)).float() for e in examples]
    classes: list[Tensor] = [torch.from_numpy(e.classes) for e in examples]
    return {"pixel_values": (pixels.float() - mean) / std, "mask_labels": masks, "class_labels": classes}
