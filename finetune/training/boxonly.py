"""Learning from instances that have a box and no mask: class and extent are taught, the outline is not.

A box says which rows and columns an instance touches, and nothing about which of its pixels it covers. So its mask is
judged by its projections alone, as in BoxInst (Tian et al., "BoxInst: High-Performance Instance Segmentation with Box
Annotations", arXiv 2012.02310): the maximum of the predicted mask along each axis should be one inside the box's
extent and zero outside, by Dice. A mask that fills its box and one that only touches its four sides are equally right.
The losses on mask pixels, and the cost of those in the matching, are left to the instances that have masks.

Instances of both kinds share one assignment to the queries: a box without a mask must not be free to take the query
that another instance's mask belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers.models.eomt.modeling_eomt import (
    pair_wise_dice_loss,
    pair_wise_sigmoid_cross_entropy_loss,
    sample_point,
)

Matches = list[tuple[Tensor, Tensor]]
"""Per image: indices of queries and of the instances that they are for, int64 [K] each."""
_HUGE = 1e10


def projections(masks: Tensor) -> Tensor:
    """What masks [..., H, W] with values 0 to 1 reach along the axes: [..., W + H], columns first."""
    return torch.cat((masks.amax(-2), masks.amax(-1)), dim=-1)


def extents(masks: Tensor, height: int, width: int) -> Tensor:
    """Projections of boxes, float [N, width + height] of 0 and 1, on a prediction's grid.

    `masks` [N, M, M'] are the boxes filled; a cell of the grid that the box touches counts as inside, since a smaller
    grid could not say it otherwise.
    """
    target = projections(masks.float())
    across, down = target.split((masks.shape[-1], masks.shape[-2]), dim=-1)
    return torch.cat((F.adaptive_max_pool1d(across, width), F.adaptive_max_pool1d(down, height)), dim=-1)


def projection_cost(mask_logits: Tensor, boxes: Tensor) -> Tensor:
    """Dice losses [Q, N] between the projections of mask logits [Q, h, w] and of filled boxes [N, M, M']."""
    height, width = mask_logits.shape[-2:]
    predicted = projections(mask_logits.sigmoid())
    target = extents(boxes, height, width)
    # The axes count alike, however long they are.
    parts = zip(predicted.split((width, height), -1), target.split((width, height), -1), strict=True)
    return torch.stack([_pairwise_dice(p, t) for p, t in parts]).mean(0)


def projection_loss(mask_logits: Tensor, boxes: Tensor) -> Tensor:
    """Dice loss [N] between each mask's projections, logits [N, h, w], and those of its filled box [N, M, M']."""
    height, width = mask_logits.shape[-2:]
    predicted = projections(mask_logits.sigmoid())
    target = extents(boxes, height, width)
    parts = zip(predicted.split((width, height), -1), target.split((width, height), -1), strict=True)
    return torch.stack([_dice(p, t) for p, t in parts]).mean(0)


def match(
    criterion: Any,  # noqa: ANN401 - transformers' EomtLoss
    mask_logits: Tensor,
    class_logits: Tensor,
    mask_labels: Sequence[Tensor],
    class_labels: Sequence[Tensor],
    box_only: Sequence[Tensor],
) -> Matches:
    """The cheapest assignment of queries to instances; see `mixed_loss` for the arguments.

    An instance with a mask costs what the library's matcher says; one without costs its class and its projections,
    the latter as much as both mask costs together, so that neither kind is cheaper by its kind.
    """
    matcher = criterion.matcher
    found: Matches = []
    with torch.no_grad():
        for masks, classes, targets, labels, boxed in zip(
            mask_logits, class_logits, mask_labels, class_labels, box_only, strict=True
        ):
            cost = -matcher.cost_class * classes.softmax(-1)[:, labels]
            if bool(boxed.any()):
                weight = matcher.cost_mask + matcher.cost_dice
                cost[:, boxed] += weight * projection_cost(masks, targets[boxed])
            if not bool(boxed.all()):
                cost[:, ~boxed] += _mask_cost(matcher, masks, targets[~boxed])
            cost = torch.nan_to_num(cost, nan=0.0, posinf=_HUGE, neginf=-_HUGE)
            rows, columns = linear_sum_assignment(cost.float().cpu().numpy())
            found.append((torch.as_tensor(rows), torch.as_tensor(columns)))
    return found


def mixed_loss(
    criterion: Any,  # noqa: ANN401 - transformers' EomtLoss
    mask_logits: Tensor,
    class_logits: Tensor,
    mask_labels: Sequence[Tensor],
    class_labels: Sequence[Tensor],
    box_only: Sequence[Tensor],
) -> dict[str, Tensor]:
    """The losses of a batch in which some instances have a box and no mask.

    Args:
        criterion: the model's own loss (`Eomt.criterion`), for its matcher, its weights and its mask losses.
        mask_logits, class_logits: predictions, float32 [B, Q, h, w] and [B, Q, C + 1].
        mask_labels: B tensors [N_i, M, M]; the mask of an instance without one is its box, filled.
        class_labels: B tensors int64 [N_i].
        box_only: B tensors bool [N_i].

    Returns `loss_mask`, `loss_dice` and `loss_cross_entropy` as the library has them, and `loss_projection`; all are
    means over all instances, so a box teaches as much as a mask. Where no instance is box-only they are the library's.
    """
    matches = match(criterion, mask_logits, class_logits, mask_labels, class_labels, box_only)
    count = criterion.get_num_masks(list(class_labels), device=mask_logits.device)
    losses: dict[str, Tensor] = criterion.loss_labels(class_logits, list(class_labels), matches)
    outlined: Matches = []
    queries, boxes = [], []
    for k, ((rows, columns), boxed) in enumerate(zip(matches, box_only, strict=True)):
        by_box = boxed.cpu()[columns]
        outlined.append((rows[~by_box], columns[~by_box]))
        queries.append(mask_logits[k][rows[by_box]])
        boxes.append(mask_labels[k][columns[by_box]])
    nothing = mask_logits.sum() * 0.0  # keeps the graph whole where there is nothing to learn of a kind
    if sum(len(rows) for rows, _ in outlined):
        losses |= criterion.loss_masks(mask_logits, list(mask_labels), outlined, count)
    else:
        losses |= {"loss_mask": nothing, "loss_dice": nothing}
    if sum(len(each) for each in queries):
        losses["loss_projection"] = projection_loss(torch.cat(queries), torch.cat(boxes)).sum() / count
    else:
        losses["loss_projection"] = nothing
    return losses


def total(criterion: Any, losses: dict[str, Tensor]) -> Tensor:  # noqa: ANN401 - transformers' EomtLoss
    """The weighted sum of `mixed_loss`; a projection weighs as much as both losses of a mask together."""
    weights = criterion.weight_dict
    weighted = torch.stack([losses[name] * weight for name, weight in weights.items() if name in losses]).sum()
    return weighted + (weights["loss_mask"] + weights["loss_dice"]) * losses["loss_projection"]


def _mask_cost(matcher: Any, masks: Tensor, targets: Tensor) -> Tensor:  # noqa: ANN401 - transformers' matcher
    points = torch.rand(1, matcher.num_points, 2, device=masks.device)
    predicted = sample_point(masks[:, None], points.expand(len(masks), -1, -1), align_corners=False).squeeze(1)
    wanted = targets.to(masks)[:, None]
    wanted = sample_point(wanted, points.expand(len(targets), -1, -1), align_corners=False).squeeze(1)
    cost: Tensor = matcher.cost_mask * pair_wise_sigmoid_cross_entropy_loss(predicted, wanted)
    return cost + matcher.cost_dice * pair_wise_dice_loss(predicted, wanted)


def _dice(predicted: Tensor, target: Tensor) -> Tensor:
    overlap = 2 * (predicted * target).sum(-1)
    # Squares in the denominator, as BoxInst has it: then the loss is 0 only where both are equal.
    return 1 - (overlap + 1e-5) / (predicted.square().sum(-1) + target.square().sum(-1) + 1e-5)


def _pairwise_dice(predicted: Tensor, target: Tensor) -> Tensor:
    overlap = 2 * predicted @ target.T
    sizes = predicted.square().sum(-1)[:, None] + target.square().sum(-1)[None]
    return 1 - (overlap + 1e-5) / (sizes + 1e-5)
