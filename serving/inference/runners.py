"""What a runner of forward passes is, which one was asked for, and the one that PyTorch itself is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, cast, get_args

import torch

from serving.errors import BaseError
from serving.families.load import runs_in_bfloat16
from serving.families.types import InstanceModel, Prediction
from serving.inference.adapters import PinnedRows
from serving.inference.precision import quick_bfloat16

EngineName = Literal["auto", "eager", "onnxruntime", "openvino"]
Precision = Literal["auto", "float32", "bfloat16"]

ROWS_AT_ONCE = 8
"""Rows of one forward pass on a CPU. What a layer says of more of them does not stay in the cache until the next layer
reads it, and exported graphs need few shapes this way."""

MAX_ROWS = 1024


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What was asked for."""

    engine: EngineName = "eager"
    precision: Precision = "float32"

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """From PARCELHUB_ENGINE and PARCELHUB_PRECISION, both `auto` by default. Raises BaseError."""
        engine = environment.get("PARCELHUB_ENGINE") or "auto"
        precision = environment.get("PARCELHUB_PRECISION") or "auto"
        if engine not in get_args(EngineName):
            raise BaseError(f"PARCELHUB_ENGINE is {engine!r}; known are {', '.join(get_args(EngineName))}")
        if precision not in get_args(Precision):
            raise BaseError(f"PARCELHUB_PRECISION is {precision!r}; known are {', '.join(get_args(Precision))}")
        return cls(cast(EngineName, engine), cast(Precision, precision))

    def dtype(self, device: torch.device, family: str) -> torch.dtype:
        """The type of weights and products. `auto` is bfloat16 where it was seen to answer the same masks faster."""
        if self.precision == "auto":
            fast = device.type == "cpu" and quick_bfloat16() and runs_in_bfloat16(family)
            return torch.bfloat16 if fast else torch.float32
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


EAGER = EngineChoice()
"""PyTorch in float32: what variants are compared with."""


class Runner(Protocol):
    """Runs forward passes of one loaded base, one at a time."""

    @property
    def name(self) -> str:
        """`eager`, `onnxruntime`, `openvino` or `cuda graphs`."""

    @property
    def precision(self) -> str:
        """`float32` or `bfloat16`."""

    def run(self, pixels: torch.Tensor, pinned: PinnedRows | None) -> Prediction:
        """Predict on normalised pictures float32 [B, 3, S, S], row by row on what is pinned."""

    def warm_up(self) -> None:
        """Prepare the shapes that first requests would otherwise wait for."""


class EagerRunner:
    """The network as PyTorch runs it."""

    name = "eager"

    def __init__(self, model: InstanceModel) -> None:
        some = next(model.parameters())
        self.at_once = ROWS_AT_ONCE if some.device.type == "cpu" else MAX_ROWS
        self._model = model
        self._dtype = some.dtype
        self.precision = str(some.dtype).removeprefix("torch.")

    def run(self, pixels: torch.Tensor, pinned: PinnedRows | None) -> Prediction:
        """Predict on normalised pictures float32 [B, 3, S, S]."""
        order = None
        if pinned is not None:
            # Parts of a batch that are one variant's alone run on its merged weights.
            pinned, order = pinned.side_by_side()
        said = []
        for start in range(0, len(pixels), self.at_once):
            stop = min(start + self.at_once, len(pixels))
            if pinned is not None:
                pinned.use(start, stop)
            part = pixels[start:stop] if order is None else pixels[list(order[start:stop])]
            said.append(self._model.answer(part.to(self._dtype)))
        return joined(said, order)

    def warm_up(self) -> None:
        """A first batch is all it needs, and the segmenter sends one."""


def joined(parts: list[Prediction], order: Sequence[int] | None = None) -> Prediction:
    """The predictions of parts of a batch as one; `order` says which row of the batch each of their rows is."""
    if order is None:
        if len(parts) == 1:
            return parts[0]
        return Prediction(torch.cat([one.masks for one in parts]), torch.cat([one.scores for one in parts]))
    whole = Prediction(*(some.new_empty(len(order), *some.shape[1:]) for some in (parts[0].masks, parts[0].scores)))
    start = 0
    for part in parts:
        rows = list(order[start : start + len(part.scores)])
        whole.masks[rows], whole.scores[rows] = part.masks, part.scores
        start += len(rows)
    return whole
