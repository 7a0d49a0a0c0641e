"""Position embeddings of a square of tokens: where they start, and how they serve another square."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def between_positions(learnt: Tensor, old: int, side: int) -> Tensor:
    """Position embeddings learnt for old x old tokens, [1, old * old, width], for side x side: between those learnt, in
    their type (Dosovitskiy et al., arXiv 2010.11929, section 3.2)."""
    grid = learnt.float().view(1, old, old, -1).permute(0, 3, 1, 2)
    finer = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return finer.permute(0, 2, 3, 1).reshape(1, side**2, -1).to(learnt.dtype)


def sine_positions(side: int, width: int) -> Tensor:
    """2-D sine-cosine position embeddings, float32 [side * side, width] (Vaswani et al., arXiv 1706.03762, by axis)."""
    quarter = width // 4
    frequency = 1.0 / (100.0 ** (torch.arange(quarter) / quarter))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    parts = [f(axis.reshape(-1, 1) * frequency) for axis in (rows, columns) for f in (torch.sin, torch.cos)]
    table = torch.cat(parts, dim=1)
    return F.pad(table, (0, width - table.shape[1]))
