"""Layers with a low-rank branch for each row of a batch, and how one adapter lies in memory for them.

For a batch whose row i belongs to the adapter (A_i, B_i),

    y_i = W x_i + b + B_i (A_i x_i)

is the base's own product and two small batched ones, whatever the mix. What those cost beside the base is memory
traffic, so there is little of it: all layers' rows of an adapter are one block that is gathered once for a batch, not
layer by layer, and only as many of its rows as the batch's largest rank. The branch is computed first, with the bias as
one more row of B, and the base's product accumulates on it: the result is then touched as often as without an adapter.

A convolution has few weights and many pixels: each row of the batch gets a weight of its own, W + B_i A_i, and is
convolved by itself. A network whose convolutions are adapted runs the parts that hold them variant by variant
(`RowBlocks.run_by_run`): what each variant's rows become is put side by side once, and not behind every convolution.
A part of which no convolution is adapted goes on all rows at once: there a 1 x 1 convolution is a linear layer.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import nn

from serving.families.patches import PatchConv
from serving.families.types import Stage
from serving.inference.adapter_files import Adapter, LayerShape

MERGE_FACTOR = 4
"""How many times the branch's products a row's own weight may cost to be made, at rank equal."""

Adaptable = nn.Linear | nn.Conv2d
Columns = tuple[int, int]


def can_carry(layer: nn.Module) -> bool:
    """Whether rows of a batch can have adapters of their own on this layer."""
    if isinstance(layer, nn.Conv2d):
        plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
        return plain and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def shape_of(layer: Adaptable) -> LayerShape:
    """What an adapter of the layer has to fit."""
    if isinstance(layer, nn.Linear):
        return LayerShape(layer.in_features, layer.out_features)
    rows, columns = layer.kernel_size
    return LayerShape(layer.in_channels, layer.out_channels, (rows, columns))


def flat_weight(layer: Adaptable) -> torch.Tensor:
    """A layer's weight as [out, depth], a convolution's with channels last."""
    weight = layer.weight
    return weight if weight.dim() == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def shaped_weight(layer: Adaptable, flat: torch.Tensor) -> torch.Tensor:
    """Weights [..., out, depth] in the shape that the layer computes with; no copy."""
    kernel = shape_of(layer).kernel
    return flat if kernel is None else flat.view(*flat.shape[:-1], *kernel, -1).movedim(-1, -3)


@dataclass(frozen=True, slots=True)
class Span:
    """Columns of one layer in the block of an adapter: A's `[a, b)`, B's `[b, end)`."""

    a: int
    b: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """An adapter in memory as a slot takes it: `block` [r, columns] in the model's type holds the layers that it
    changes and nothing else, `runs` says which columns of a slot those are."""

    touched: frozenset[str]
    runs: tuple[Columns, ...]
    block: torch.Tensor


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """How an adapter of rank r on all layers lies in one block [1 + r, width].

    Row 0 holds each layer's own bias in B's columns and zeros in A's; row k the k-th row of A [r, depth] and of
    B [r, out]. A batch that needs rank r takes the first 1 + r rows of the blocks, whatever they were made for.
    """

    spans: Mapping[str, Span]
    width: int

    @classmethod
    def of(cls, layers: Mapping[str, Adaptable]) -> Self:
        """One layer after the other."""
        spans, at = {}, 0
        for name, layer in layers.items():
            shape = shape_of(layer)
            middle, end = at + shape.depth, at + shape.depth + shape.outer
            spans[name] = Span(at, middle, end)
            at = end
        return cls(spans, at)

    def base_row(self, layers: Mapping[str, Adaptable]) -> torch.Tensor:
        """Row 0 of every block, [width], in the model's type and on its device."""
        some = next(iter(layers.values())).weight
        row = some.new_zeros(self.width)
        for name, layer in layers.items():
            if layer.bias is not None:
                row[self.spans[name].b : self.spans[name].end] = layer.bias
        return row

    def pack(self, adapter: Adapter, dtype: torch.dtype) -> Packed:
        """The adapter on the CPU, its layers in the order of the block."""
        touched = sorted(adapter.weights, key=lambda name: self.spans[name].a)
        parts = [half.to(dtype) for name in touched for half in adapter.weights[name]]
        runs: list[Columns] = []
        for span in (self.spans[name] for name in touched):
            start = runs.pop()[0] if runs and runs[-1][1] == span.a else span.a
            runs.append((start, span.end))
        return Packed(frozenset(touched), tuple(runs), torch.cat(parts, dim=1))

    def write(self, packed: Packed, slot: torch.Tensor) -> None:
        """Put an adapter into a slot [rows, width], beside the biases in its row 0."""
        rank, at = len(packed.block), 0
        slot[1:].zero_()
        for start, end in packed.runs:
            slot[1 : 1 + rank, start:end].copy_(packed.block[:, at : at + end - start])
            at += end - start

    @staticmethod
    def hull(runs: Iterable[Columns]) -> Columns:
        """The columns from the first to the last of some runs."""
        starts, ends = zip(*runs, strict=True)
        return min(starts), max(ends)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Rows of a batch that lie side by side and are one variant's.

    Attributes:
        rows: how many.
        touched: the layers that the variant's adapter changes.
        own: these layers' weights with the adapter in them, where they are ready.
    """

    rows: int
    touched: frozenset[str] = frozenset()
    own: Mapping[str, torch.Tensor] | None = None


@dataclass(slots=True)
class RowBlocks:
    """The blocks of the rows of the batch in flight, shared by all layers and set before each forward pass.

    `blocks` is [B, 1 + r, columns], or [1, 1 + r, columns] where all rows are one variant's; `first` is the column of
    the layout that they begin with; None runs the base as it is. `touched` names the layers that an adapter of the
    batch changes. `merged` has the weights to use instead of the base's where all rows are one variant's. `runs` says
    which rows are one variant's; empty where that is not known or all of them are. `convolutions` are the names of all
    layers that are some. With `traced`, layers compute in the plain order that graph compilers know how to fuse.
    """

    blocks: torch.Tensor | None = None
    touched: frozenset[str] = field(default_factory=frozenset)
    merged: Mapping[str, torch.Tensor] | None = None
    first: int = 0
    runs: tuple[Run, ...] = ()
    convolutions: frozenset[str] = field(default_factory=frozenset)
    traced: bool = False

    def put(
        self,
        blocks: torch.Tensor | None = None,
        touched: frozenset[str] = frozenset(),
        merged: Mapping[str, torch.Tensor] | None = None,
        first: int = 0,
        runs: tuple[Run, ...] = (),
    ) -> None:
        """Set what the next forward pass computes with; the base alone by default."""
        self.blocks, self.touched, self.merged, self.first, self.runs = blocks, touched, merged, first, runs

    def run_by_run(self, stage: Stage, *inputs: torch.Tensor, parts: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
        """Run a part of the network on the batch in flight: where a convolution in it is adapted each run's rows by
        themselves, else all rows at once. On a GPU all rows always go at once: more launches would cost more than they
        save."""
        blocks, touched, merged, first, runs = self.blocks, self.touched, self.merged, self.first, self.runs
        if len(runs) < 2 or self.traced or inputs[0].device.type != "cpu":
            return stage(*inputs)
        if not any(name.partition(".")[0] in parts for name in touched & self.convolutions):
            return stage(*inputs)
        said, at = [], 0
        try:
            for run in runs:
                if run.own is not None or not run.touched or blocks is None:
                    self.put(touched=run.touched, merged=run.own)
                else:
                    self.put(blocks[at : at + 1], run.touched, first=first)
                said.append(stage(*(one[at : at + run.rows] for one in inputs)))
                at += run.rows
        finally:
            self.put(blocks, touched, merged, first, runs)
        return tuple(torch.cat(parts) for parts in zip(*said, strict=True))

    def of(self, span: Span) -> tuple[torch.Tensor, torch.Tensor]:
        """A [B, 1 + r, depth] and B [B, 1 + r, out] of a layer that is touched. Raises ValueError without blocks."""
        if self.blocks is None:
            raise ValueError("no adapters are set for this batch")
        a, b, end = span.a - self.first, span.b - self.first, span.end - self.first
        return self.blocks[:, :, a:b], self.blocks[:, :, b:end]


class SlotLayer(nn.Module):
    """A layer that takes its rows' adapters from `rows`.

    A network that attends in windows makes several rows of each image, one image's windows side by side: the first
    axis may then be a multiple of the batch.
    """

    def __init__(self, name: str, base: Adaptable, span: Span, rows: RowBlocks) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.span = span
        self.rows = rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's answer to x [R, ...], each of R rows with its own adapter; rows without one have the base's."""
        rows = self.rows
        if self.name not in rows.touched:
            return cast("torch.Tensor", self.base(x))
        if rows.merged is not None:
            return self._alone(x, rows.merged[self.name])
        a, b = rows.of(self.span)
        return self._traced(x, a, b) if rows.traced else self._mixed(x, a, b)

    @abstractmethod
    def _alone(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """All rows on one weight."""

    @abstractmethod
    def _mixed(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Each row on its own A and B, both with the row 0 of the block."""

    @abstractmethod
    def _traced(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The same in the plain order."""


class SlotLinear(SlotLayer):
    """An `nn.Linear`. Input [B, ..., in], output [B, ..., out]."""

    base: nn.Linear

    def _alone(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weight, self.base.bias)

    def _mixed(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        base, inner = self.base, x.shape[-1]
        tokens = x.reshape(len(a), -1, inner)
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

    def _traced(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        low = torch.bmm(x.reshape(a.shape[0], -1, x.shape[-1]), a[:, 1:].transpose(1, 2))
        return self.base(x) + torch.bmm(low, b[:, 1:]).view(*x.shape[:-1], -1)


class SlotConv(SlotLayer):
    """An `nn.Conv2d` that `can_carry`. Input [B, in, h, w], output [B, out, h', w']; fastest with channels last."""

    base: nn.Conv2d

    def _alone(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return self.base._conv_forward(x, weight, self.base.bias)

    def _mixed(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu":  # a launch for each row would cost more than it saves
            return self._traced(x, a, b)
        if isinstance(self.base, PatchConv):
            patches = self.base.patches(x)
            y = torch.baddbmm(b[:, :1], patches.reshape(len(a), -1, patches.shape[-1]), self._own(a, b).mT)
            return y.view(*patches.shape[:-1], -1).permute(0, 3, 1, 2)
        weights = shaped_weight(self.base, self._own(a, b)).unbind()
        if len(weights) == 1:
            return self._alone(x, weights[0])
        parts = torch.split(x, len(x) // len(a))
        return torch.cat([self._alone(part, own) for part, own in zip(parts, weights, strict=True)])

    def _own(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(flat_weight(self.base), b[:, 1:].mT, a[:, 1:])

    def _traced(self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.shape[0] != x.shape[0]:  # `len` would fix the batch of an export
            a, b = (half.repeat_interleave(x.shape[0] // a.shape[0], 0) for half in (a, b))
        # One product for all places of the kernel at once; a convolution that picks place (i, j) of each plane at the
        # offset (i, j) moves them there and adds them up.
        rows, columns = self.base.kernel_size
        y: torch.Tensor = self.base(x)
        count, rank = a.shape[0], a.shape[1] - 1
        places = a[:, 1:].reshape(count, rank * rows * columns, -1)
        planes = torch.bmm(places, x.flatten(2)).reshape(-1, rows * columns, *x.shape[-2:])
        pick = torch.eye(rows * columns, dtype=x.dtype, device=x.device).view(1, -1, rows, columns)
        low = F.conv2d(planes, pick, None, self.base.stride, self.base.padding)
        added = torch.bmm(b[:, 1:].transpose(1, 2), low.reshape(count, rank, -1))
        return y + added.view(count, -1, *y.shape[-2:])


def slot_layer(name: str, base: Adaptable, span: Span, rows: RowBlocks) -> SlotLayer:
    """What takes the place of a base's layer."""
    return (SlotConv if isinstance(base, nn.Conv2d) else SlotLinear)(name, base, span, rows)
