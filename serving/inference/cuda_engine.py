"""The network on a CUDA device as captured graphs: one launch instead of hundreds for each batch.

Not tried on a GPU yet; a capture that fails falls back to the network as PyTorch runs it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from serving.families.types import InstanceModel, Prediction
from serving.inference.adapters import AdapterBank, PinnedRows
from serving.inference.runners import EagerRunner, joined

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32)
"""Batches that graphs are captured for; others are padded to the next one."""


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    pixels: torch.Tensor
    blocks: torch.Tensor | None
    said: Prediction


class CudaGraphRunner:
    """Replays a graph for each size of batch, with and without adapters. Shapes are static, so rank is the bank's."""

    name = "cuda graphs"

    def __init__(self, model: InstanceModel, bank: AdapterBank, size: int) -> None:
        self._model, self._bank, self._size = model, bank, size
        some = next(model.parameters())
        self._dtype, self._device = some.dtype, some.device
        self.precision = str(some.dtype).removeprefix("torch.")
        self._captured: dict[tuple[int, bool], _Captured] = {}
        self._eager: EagerRunner | None = None

    def run(self, pixels: torch.Tensor, pinned: PinnedRows | None) -> Prediction:
        """Predict on normalised pictures float32 [B, 3, S, S]."""
        if self._eager is None:
            try:
                return self._replay(pixels, pinned)
            except RuntimeError as error:
                log.warning("CUDA graphs cannot be used, eager is: %s", error)
                self._eager = EagerRunner(self._model)
                self.name = self._eager.name
        return self._eager.run(pixels, pinned)

    def warm_up(self) -> None:
        """Capture every graph."""
        for size in SIZES:
            self.run(torch.zeros(size, 3, self._size, self._size, device=self._device), None)
            if self._eager is None:
                self._of(size, True)

    def _replay(self, pixels: torch.Tensor, pinned: PinnedRows | None) -> Prediction:
        said = []
        for start in range(0, len(pixels), SIZES[-1]):
            part = pixels[start : start + SIZES[-1]]
            blocks = pinned.blocks(start, start + len(part)) if pinned is not None else None
            found = self._of(next(size for size in SIZES if size >= len(part)), blocks is not None)
            found.pixels[: len(part)].copy_(part)
            if found.blocks is not None and blocks is not None:
                found.blocks[: len(part), : blocks.shape[1]].copy_(blocks)
                found.blocks[: len(part), blocks.shape[1] :].zero_()
            found.graph.replay()
            # The next replay overwrites what the graph says.
            said.append(Prediction(found.said.masks[: len(part)].clone(), found.said.scores[: len(part)].clone()))
        return joined(said)

    def _of(self, batch: int, adapted: bool) -> _Captured:
        key = (batch, adapted)
        if key not in self._captured:
            self._captured[key] = self._capture(batch, adapted)
        return self._captured[key]

    def _capture(self, batch: int, adapted: bool) -> _Captured:
        pixels = torch.zeros(batch, 3, self._size, self._size, device=self._device, dtype=self._dtype)
        shape = (batch, 1 + self._bank.max_rank, self._bank.layout.width)
        blocks = torch.zeros(shape, device=self._device, dtype=self._dtype) if adapted else None
        graph = torch.cuda.CUDAGraph()
        with self._bank.on_blocks(blocks):
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # libraries choose their kernels before the capture
                for _ in range(3):
                    self._model.answer(pixels)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(graph):
                said = self._model.answer(pixels)
        return _Captured(graph, pixels, blocks, said)
