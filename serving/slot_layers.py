"""Linear layers with a low-rank branch for each row of a batch, and how one adapter lies in memory for them.

For a batch whose row i belongs to the adapter (A_i, B_i),

    y_i = W x_i + b + B_i (A_i x_i)

is the base's own product and two small batched ones, whatever the mix. What those cost beside the base is memory
traffic, so there is little of it: all layers' rows of an adapter are one block that is gathered once for a batch, not
layer by layer, and only as many of its rows as the batch's largest rank. The branch is computed first, with the bias as
one more row of B, and the base's product accumulates on it: the result is then touched as often as without an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
import torch.nn.functional as F
from torch import nn

from serving.adapter_files import Adapter

MERGE_FACTOR = 4
"""How many times the branch's products a row's own weight may cost to be made, at rank equal."""


@dataclass(frozen=True, slots=True)
class Span:
    """Columns of one layer in the block of an adapter: A's `[a, b)`, B's `[b, end)`."""

    a: int
    b: int
    end: int


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """How an adapter of rank r on all layers lies in one block [1 + r, width].

    Row 0 holds each layer's own bias in B's columns and zeros in A's; row k the k-th row of A [r, in] and of
    B [r, out]. A batch that needs rank r takes the first 1 + r rows of the blocks, whatever they were made for.
    """

    spans: Mapping[str, Span]
    width: int

    @classmethod
    def of(cls, linears: Mapping[str, nn.Linear]) -> Self:
        """One layer after the other."""
        spans, at = {}, 0
        for name, linear in linears.items():
            middle, end = at + linear.in_features, at + linear.in_features + linear.out_features
            spans[name] = Span(at, middle, end)
            at = end
        return cls(spans, at)

    def base_row(self, linears: Mapping[str, nn.Linear]) -> torch.Tensor:
        """Row 0 of every block, [width], in the model's type and on its device."""
        some = next(iter(linears.values())).weight
        row = some.new_zeros(self.width)
        for name, linear in linears.items():
            if linear.bias is not None:
                row[self.spans[name].b : self.spans[name].end] = linear.bias
        return row

    def pack(self, adapter: Adapter, base_row: torch.Tensor) -> torch.Tensor:
        """The block [1 + r, width] of an adapter on the CPU, in the model's type."""
        block = torch.zeros(1 + adapter.rank, self.width, dtype=base_row.dtype)
        block[0] = base_row
        for name, (a, b) in adapter.weights.items():
            span = self.spans[name]
            block[1:, span.a : span.b] = a
            block[1:, span.b : span.end] = b
        return block


@dataclass(slots=True)
class RowBlocks:
    """The blocks of the rows of the batch in flight, shared by all layers and set before each forward pass.

    `blocks` is [B, 1 + r, width], or [1, 1 + r, width] where all rows are one variant's; None runs the base as it is.
    `touched` names the layers that an adapter of the batch changes. `merged` has the weights to use instead of the
    base's where all rows are one variant's. With `traced`, layers compute in the plain order that graph compilers know
    how to fuse.
    """

    blocks: torch.Tensor | None = None
    touched: frozenset[str] = field(default_factory=frozenset)
    merged: Mapping[str, torch.Tensor] | None = None
    traced: bool = False

    def put(
        self,
        blocks: torch.Tensor | None = None,
        touched: frozenset[str] = frozenset(),
        merged: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Set what the next forward pass computes with; the base alone by default."""
        self.blocks, self.touched, self.merged = blocks, touched, merged


class SlotLinear(nn.Module):
    """An `nn.Linear` that takes its rows' adapters from `rows`. Input [B, ..., in], output [B, ..., out].

    A network that attends in windows makes several rows of each image, one image's windows side by side: the first
    axis may then be a multiple of the batch.
    """

    def __init__(self, name: str, base: nn.Linear, span: Span, rows: RowBlocks) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.span = span
        self.rows = rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, base = self.rows, self.base
        if self.name not in rows.touched:
            y: torch.Tensor = base(x)
            return y
        if rows.merged is not None:
            return F.linear(x, rows.merged[self.name], base.bias)
        if rows.blocks is None:
            return F.linear(x, base.weight, base.bias)
        inner = x.shape[-1]
        tokens = x.reshape(rows.blocks.shape[0], -1, inner)
        a, b = rows.blocks[:, :, self.span.a : self.span.b], rows.blocks[:, :, self.span.b : self.span.end]
        if rows.traced:
            low = torch.bmm(tokens, a[:, 1:].transpose(1, 2))
            return F.linear(x, base.weight, base.bias) + torch.bmm(low, b[:, 1:]).view(*x.shape[:-1], -1)
        if inner * base.out_features * MERGE_FACTOR <= tokens.shape[1] * (inner + base.out_features):
            # A small layer over many tokens: a weight of its own for each row is less work than the branch.
            own = torch.baddbmm(base.weight.t(), a[:, 1:].transpose(1, 2), b[:, 1:])
            return torch.baddbmm(b[:, :1], tokens, own).view(*x.shape[:-1], -1)
        # Lying on its side, the thin product fills the vector units; its first row is for the bias.
        low = torch.bmm(a, tokens.transpose(1, 2))
        low[:, 0] = 1.0
        y = torch.bmm(low.transpose(1, 2), b)
        y.view(-1, base.out_features).addmm_(tokens.reshape(-1, inner), base.weight.t())
        return y.view(*x.shape[:-1], -1)
