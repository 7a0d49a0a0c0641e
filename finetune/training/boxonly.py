"""Learning from instances that have a box and no mask: class and extent are taught, the outline is not.

A box says which rows and columns an instance touches, and nothing about which of its pixels it covers. So its mask is
judged by its projections alone, as in BoxInst (Tian et al., "BoxInst: High-Performance Instance Segmentation with Box
Annotations", arXiv 2012.02310): the maximum of the predicted mask along each axis should be one inside the box's
extent and zero outside, by Dice. A mask that fills its box and one that only touches its four sides are equally right.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def projections(masks: Tensor) -> Tensor:
    """What masks [..., H, W] with values 0 to 1 reach along the axes: [..., W + H], columns first."""
    return torch.cat((masks.amax(-2), masks.amax(-1)), dim=-1)


def extents(masks: Tensor, height: int, width: int) -> Tensor:
    """Projections of boxes, float [N, width + height] of 0 and 1, on a prediction's grid.

    `masks` [N, M, M'] are the boxes filled; a cell of the grid that the box touches counts as inside, since a smaller
    grid could not say it otherwise.
    """
    target = projections(masks.float())
    across, down = torch.split(target, [masks.shape[-1], masks.shape[-2]], dim=-1)
    return torch.cat((F.adaptive_max_pool1d(across, width), F.adaptive_max_pool1d(down, height)), dim=-1)


def projection_loss(mask_logits: Tensor, boxes: Tensor) -> Tensor:
    """Dice loss [N] between each mask's projections, logits [N, h, w], and those of its filled box [N, M, M']."""
    height, width = mask_logits.shape[-2:]
    predicted = projections(mask_logits.sigmoid())
    target = extents(boxes, height, width)
    parts = zip(torch.split(predicted, [width, height], -1), torch.split(target, [width, height], -1), strict=True)
    return torch.stack([_dice(p, t) for p, t in parts]).mean(0)


def _dice(predicted: Tensor, target: Tensor) -> Tensor:
    overlap = 2 * (predicted * target).sum(-1)
    # Squares in the denominator, as BoxInst has it: then the loss is 0 only where both are equal.
    return 1 - (overlap + 1e-5) / (predicted.square().sum(-1) + target.square().sum(-1) + 1e-5)
