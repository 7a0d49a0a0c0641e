"""The loss of ParcelSeg: which cells answer for an instance is decided by how well they already do.

Task-aligned assignment and quality-weighted class targets: Feng et al., "TOOD", arXiv 2108.07755; the class loss is
that paper's, a binary cross-entropy towards the overlap reached. Boxes learn by GIoU (Rezatofighi et al., arXiv
1902.09630), outlines by cross-entropy and dice inside of their boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from finetune.training.boxonly import projection_loss
from serving.families.parcelseg import OUTSIDE, Dense, box_areas, inside_boxes

CELLS_EACH = 9  # at most so many cells answer for one instance while training
MASKS_A_BATCH = 400  # outlines that are compared pixel by pixel, drawn from the cells that answer
MARGIN = 1.5  # samples around a box in which its outline is judged


@dataclass(frozen=True, slots=True)
class Weights:
    """How the parts of the loss are weighed against each other."""

    box: float = 2.0
    distance: float = 5.0
    mask: float = 2.0
    dice: float = 2.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """For one picture with A answering cells: `cells` int64 [A], the instance each answers for `owner` int64 [A], and
    how well, `quality` float32 [A] in [0, 1]."""

    cells: Tensor
    owner: Tensor
    quality: Tensor


@dataclass(frozen=True, slots=True)
class _Picture:
    """One picture of the batch that has something to find: its row, who answers, and the truth; `covered` float32
    [N, h, w] is how much of each of the prototypes' samples each mask covers."""

    row: int
    chosen: Assignment
    masks: Tensor
    covered: Tensor
    boxes: Tensor
    box_only: Tensor


def aligned_loss(
    dense: Dense,
    mask_labels: Sequence[Tensor],
    class_labels: Sequence[Tensor],
    box_only: Sequence[Tensor] | None = None,
    weights: Weights | None = None,
) -> dict[str, Tensor]:
    """The parts of the loss, weighted, by name; the loss is their sum.

    `mask_labels` are B tensors float32 [N_i, M, M] with M a multiple of the grid and of the prototypes' side,
    `class_labels` B tensors int64 [N_i]. Instances without a pixel are passed over. Where `box_only` (B tensors bool
    [N_i]) is set, the mask is a filled box: class and box are learnt from it, of the outline its extent alone.
    """
    weights = weights or Weights()
    side = round(dense.logits.shape[1] ** 0.5)
    height = dense.prototypes.shape[1]
    target = torch.zeros_like(dense.logits)
    found: list[_Picture] = []
    for row, (masks, classes) in enumerate(zip(mask_labels, class_labels, strict=True)):
        boxes = mask_boxes(masks)
        boxed = box_only[row] if box_only is not None else torch.zeros_like(classes, dtype=torch.bool)
        seen = boxes[:, 2] > boxes[:, 0]
        if not seen.all():  # seldom: masks are the largest part of a batch, and copies of them cost time
            masks, classes, boxes, boxed = masks[seen], classes[seen], boxes[seen], boxed[seen]
        if not len(masks):
            continue
        covered = F.avg_pool2d(masks[None], masks.shape[-1] // height)[0]
        with torch.no_grad():
            chosen = assign(dense.logits[row], dense.boxes[row], covered, classes, boxes, side)
        target[row, chosen.cells, classes[chosen.owner]] = chosen.quality
        found.append(_Picture(row, chosen, masks, covered, boxes, boxed))
    sure = dense.logits.sigmoid().detach()
    share = torch.where(target > 0, 1.0, 0.75 * sure**1.5 + 0.02)
    classify = F.binary_cross_entropy_with_logits(dense.logits, target, reduction="none") * share
    if not found:
        nothing = 0.0 * (dense.boxes.sum() + dense.coefficients.float().sum() + dense.prototypes.float().sum())
        return {"class": classify.sum() / len(target) + nothing}
    quality = torch.cat([picture.chosen.quality for picture in found])
    total = quality.sum().clamp(min=1.0)
    said = torch.cat([dense.boxes[picture.row, picture.chosen.cells] for picture in found])
    true = torch.cat([picture.boxes[picture.chosen.owner] for picture in found])
    giou = box_overlap(said, true)[1]
    outline, dice = _outlines(dense, found)
    return {
        "class": classify.sum() / total,
        "box": weights.box * ((1 - giou) * quality).sum() / total,
        "distance": weights.distance * ((said - true).abs().mean(-1) * quality).sum() / total,
        "mask": weights.mask * outline,
        "dice": weights.dice * dice,
    }


def assign(logits: Tensor, said: Tensor, masks: Tensor, classes: Tensor, boxes: Tensor, side: int) -> Assignment:
    """Which of side x side cells answer for which of N instances in one picture. `masks` float32 [N, M, M], or what
    share of M x M samples they cover; M is a multiple of `side`.

    A cell can answer for an instance that covers half of it or more (the fullest cell, if none is); of these the
    CELLS_EACH with the best score**0.5 * IoU**4 do. A cell that two want goes to the one it fits better.
    """
    step = masks.shape[-1] // side
    cover = F.avg_pool2d(masks[None], step)[0].flatten(1)
    can = cover >= 0.5
    lone = ~can.any(1)
    can[lone, cover[lone].argmax(1)] = True
    overlap = box_overlap(said[None], boxes[:, None])[0]
    score = logits.sigmoid()[:, classes].T
    fit = score.clamp(min=1e-4).sqrt() * overlap.clamp(min=1e-3) ** 4 * can
    best, place = fit.topk(min(CELLS_EACH, fit.shape[1]), dim=1)
    wanted = torch.zeros_like(can).scatter_(1, place, best > 0)
    kept = torch.where(wanted, fit, 0.0)
    cells = wanted.any(0).nonzero().flatten()
    owner = kept.argmax(0)[cells]
    own_fit, own_overlap = kept[owner, cells], overlap[owner, cells]
    zeros = torch.zeros(len(masks), device=logits.device)
    most_fit = zeros.scatter_reduce(0, owner, own_fit, "amax", include_self=False)
    most_overlap = zeros.scatter_reduce(0, owner, own_overlap, "amax", include_self=False)
    # The best cell of an instance is asked for the overlap it reached, the others for less.
    quality = own_fit / most_fit[owner].clamp(min=1e-9) * most_overlap[owner].clamp(min=0.1)
    return Assignment(cells, owner, quality)


def _outlines(dense: Dense, found: Sequence[_Picture]) -> tuple[Tensor, Tensor]:
    """Cross-entropy per pixel and dice of the answering cells' outlines inside of their true boxes; for instances with
    a box alone the dice of the outline's projections, and no cross-entropy."""
    _, height, width, _ = dense.prototypes.shape
    each = max(8, MASKS_A_BATCH // len(dense.logits))
    cross, dice, total = [], [], []
    for picture in found:
        chosen, masks = picture.chosen, picture.masks
        pick = torch.arange(len(chosen.cells), device=masks.device)
        if len(pick) > each:
            pick = torch.randperm(len(pick), device=masks.device)[:each]
        owner, quality = chosen.owner[pick], chosen.quality[pick]
        coefficients = dense.coefficients[picture.row, chosen.cells[pick]].float()
        logits = (coefficients @ dense.prototypes[picture.row].float().flatten(0, 1).T).view(-1, height, width)
        true = picture.covered[owner]
        inside = inside_boxes(picture.boxes[owner], height, width, margin=MARGIN).float()
        area = inside.sum((1, 2)).clamp(min=1)
        entropy = (F.binary_cross_entropy_with_logits(logits, true, reduction="none") * inside).sum((1, 2)) / area
        seen = logits.sigmoid() * inside
        both = (seen * true).sum((1, 2))
        apart = 1 - (2 * both + 1) / (seen.sum((1, 2)) + (true * inside).sum((1, 2)) + 1)
        boxed = picture.box_only[owner]
        if boxed.any():
            entropy = torch.where(boxed, 0.0, entropy)
            # Outside of its box an outline is cut off anyway; what it reaches inside is what the box knows.
            reach = projection_loss(logits.masked_fill(inside == 0, OUTSIDE), masks[owner])
            apart = torch.where(boxed, reach, apart)
        cross.append((entropy * quality).sum())
        dice.append((apart * quality).sum())
        total.append(quality.sum())
    weight = torch.stack(total).sum().clamp(min=1e-6)
    return torch.stack(cross).sum() / weight, torch.stack(dice).sum() / weight


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes x0, y0, x1, y1 of masks [N, M, M] as shares of the side: float32 [N, 4]. The box of a mask without a pixel
    ends before it begins (1, 1, 0, 0)."""
    left, right = _extent(masks.amax(1))
    top, bottom = _extent(masks.amax(2))
    return torch.stack([left, top, right, bottom], dim=-1)


def _extent(profile: Tensor) -> tuple[Tensor, Tensor]:
    """First and last (exclusive) place above zero of each row of [N, M], as shares of M."""
    size = profile.shape[1]
    place = torch.arange(size, device=profile.device)
    first = torch.where(profile > 0, place, size).amin(1)
    last = torch.where(profile > 0, place, -1).amax(1) + 1
    return first / size, last / size


def box_overlap(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes [..., 4] that broadcast against each other."""
    both, total = box_areas(one, other)
    union = total - both
    hull = (torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])).prod(-1)
    iou = both / union.clamp(min=1e-9)
    return iou, iou - (hull - union) / hull.clamp(min=1e-9)
