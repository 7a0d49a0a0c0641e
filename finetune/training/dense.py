"""Dense supervision of the encoder: at every cell of a fine grid, which class is here and how far its box goes.

Set prediction gives a picture with seven packages seven positives; a network that starts from random weights learns
little from that. Asking every cell for the class and for the four distances to the edges of its instance's box (Tian
et al., "FCOS", arXiv 1904.01355) gives thousands. The head is one linear layer on the patch tokens; it is thrown away
at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS = 4  # a side of each patch


@dataclass(frozen=True, slots=True)
class DenseTargets:
    """For cells [B, G, G]: `classes` int64 (the background is `background`), `boxes` float32 [B, G, G, 4] the distances
    left, top, right, bottom as shares of the picture's side, and `weights` float32 one over the root of the area."""

    classes: Tensor
    boxes: Tensor
    weights: Tensor
    background: int


class DenseHead(nn.Module):
    """One linear layer from a patch token to CELLS x CELLS cells of `classes` + 1 scores and four distances."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.linear = nn.Linear(width, CELLS * CELLS * (classes + 5))
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Patch tokens [B, side * side, width] to float32 [B, side * CELLS, side * CELLS, classes + 5]."""
        count, number, _ = patches.shape
        side = round(number**0.5)
        cells = self.linear(patches).view(count, side, side, CELLS, CELLS, -1).permute(0, 1, 3, 2, 4, 5)
        return cells.reshape(count, side * CELLS, side * CELLS, -1).float()


def dense_targets(
    mask_labels: Sequence[Tensor], class_labels: Sequence[Tensor], *, cells: int, background: int
) -> DenseTargets:
    """Targets from masks float32 [N_i, M, M] and classes int64 [N_i]; M is a multiple of `cells`."""
    device = class_labels[0].device
    count = len(mask_labels)
    classes = torch.full((count, cells, cells), background, device=device)
    boxes = torch.zeros(count, cells, cells, 4, device=device)
    weights = torch.ones(count, cells, cells, device=device)
    centre = (torch.arange(cells, device=device) + 0.5) / cells
    for number, (masks, labels) in enumerate(zip(mask_labels, class_labels, strict=True)):
        if not len(masks):
            continue
        step = masks.shape[-1] // cells
        grid = masks[:, step // 2 :: step, step // 2 :: step]
        hit, owner = grid.max(0)
        inside = hit > 0
        left, right = _extent(masks.amax(1))
        top, bottom = _extent(masks.amax(2))
        x, y = centre[None, :].expand(cells, cells), centre[:, None].expand(cells, cells)
        boxes[number] = torch.stack([x - left[owner], y - top[owner], right[owner] - x, bottom[owner] - y], -1)
        classes[number][inside] = labels[owner[inside]]
        weights[number] = 1 / grid.sum((1, 2)).clamp(min=1).sqrt()[owner]
    return DenseTargets(classes, boxes.clamp(min=0), weights, background)


def _extent(profile: Tensor) -> tuple[Tensor, Tensor]:
    """First and last (exclusive) place above zero of each row of [N, M], as shares of M."""
    size = profile.shape[1]
    place = torch.arange(size, device=profile.device)
    first = torch.where(profile > 0, place, size).amin(1)
    last = torch.where(profile > 0, place, -1).amax(1) + 1
    return first / size, last / size


def dense_loss(output: Tensor, targets: DenseTargets) -> Tensor:
    """Cross-entropy over all cells plus, over cells with a package, the boxes' IoU loss and L1 distance."""
    scores, distances = output[..., : targets.background + 1], output[..., targets.background + 1 :]
    loss = F.cross_entropy(scores.flatten(0, 2), targets.classes.flatten())
    inside = targets.classes < targets.background
    if not inside.any():
        return loss + 0.0 * distances.sum()
    seen, true, weight = F.softplus(distances[inside]), targets.boxes[inside], targets.weights[inside]
    weight = weight / weight.sum()
    least = torch.minimum(seen, true)
    overlap = (least[:, 0] + least[:, 2]) * (least[:, 1] + least[:, 3])
    area, true_area = ((t[:, 0] + t[:, 2]) * (t[:, 1] + t[:, 3]) for t in (seen, true))
    iou = (overlap + 1e-4) / (area + true_area - overlap + 1e-4)
    return loss + 2 * (weight * (1 - iou)).sum() + 2 * (weight[:, None] * (seen - true).abs()).sum()
