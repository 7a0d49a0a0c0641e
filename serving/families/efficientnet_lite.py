"""EfficientNet-Lite as an encoder: plain convolutions, batch norms already folded into them.

Tan & Le, "EfficientNet", arXiv 1905.11946; the Lite variants have no squeeze-and-excitation and ReLU6 for SiLU, so that
they run well without a GPU. Public ImageNet weights exist (`finetune.training.foundation` brings them here); serving
needs neither their package nor `timm`.

The 1 x 1 convolutions are linear layers over channels-last pictures. That is the same product, and rows of a batch
can then have adapters of their own at the price of two small matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

LiteName = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]
LITE_NAMES: tuple[LiteName, ...] = get_args(LiteName)

_SCALES: dict[str, tuple[float, float]] = {
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
}
"""Name -> how many times as wide and as deep as the first."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """`repeats` blocks to `channels`, the first with `stride`; inside they are `expansion` times as wide."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# ImageNet-normalised channels times the one plus the other are (pixel - 127) / 128.
_SCALE = tuple(deviation * 255 / 128 for deviation in (0.229, 0.224, 0.225))
_SHIFT = tuple((mean * 255 - 127) / 128 for mean in (0.485, 0.456, 0.406))
_STEM = 32
_TAPPED = (1, 2, 4, 6)  # the stages whose last block is the finest at a fourth, eighth, sixteenth, thirty-second


def _round_channels(channels: float) -> int:
    """To a multiple of eight, never below nine tenths of it, as the reference does."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after `size` samples for an output of ceil(size / stride): TensorFlow's rule, which puts the odd
    one behind."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv(nn.Conv2d):
    """A convolution with a bias, padded as TensorFlow pads. Channels-last pictures [B, h, w, C] in and out."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int = 1, *, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inner, outer, kernel, stride, padding, groups=groups)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, h, w, inner] to [B, ceil(h / stride), ceil(w / stride), outer]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            rows = _same_padding(pixels.shape[1], kernel, stride)
            columns = _same_padding(pixels.shape[2], kernel, stride)
            pixels = F.pad(pixels, (0, 0, *columns, *rows))
        return super().forward(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class Block(nn.Module):
    """An inverted bottleneck (Sandler et al., arXiv 1801.04381): wider, each channel by itself, narrower. Without
    `expansion` the first of the three is left out."""

    def __init__(self, inner: int, outer: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inner * expansion
        self.expand = nn.Linear(inner, middle) if expansion > 1 else None
        self.depthwise = SameConv(middle, middle, kernel, stride, groups=middle)
        self.project = nn.Linear(middle, outer)
        self.shortcut = stride == 1 and inner == outer

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, h, w, inner] to [B, h / stride, w / stride, outer]."""
        wide = pixels if self.expand is None else F.relu6(self.expand(pixels))
        narrow = self.project(F.relu6(self.depthwise(wide)))
        return pixels + narrow if self.shortcut else narrow


class LiteEncoder(nn.Module):
    """Features of pictures at a fourth, an eighth, a sixteenth and a thirty-second of their side.

    Pictures come normalised by ImageNet's mean and deviation, as all of the project's networks take them; the weights
    were trained on another scale, so the first thing that happens is the change to it. Raises ValueError for a name
    that is not among `LITE_NAMES`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in _SCALES:
            raise ValueError(f"there is no encoder {name!r}; there are {', '.join(LITE_NAMES)}")
        wider, deeper = _SCALES[name]
        # In the Lite variants neither the stem nor the depth of the first and the last stage grows.
        self.stem = SameConv(3, _STEM, 3, 2)
        self.stages = nn.ModuleList()
        inner = _STEM
        self.channels: list[int] = []
        for number, stage in enumerate(_STAGES):
            ends = number in (0, len(_STAGES) - 1)
            repeats = stage.repeats if ends else math.ceil(stage.repeats * deeper)
            outer = _round_channels(stage.channels * wider)
            blocks = []
            for k in range(repeats):
                stride = stage.stride if k == 0 else 1
                blocks.append(Block(inner, outer, kernel=stage.kernel, stride=stride, expansion=stage.expansion))
                inner = outer
            self.stages.append(nn.ModuleList(blocks))
            if number in _TAPPED:
                self.channels.append(outer)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """[B, S, S, 3] to four features [B, s, s, C], the finest first."""
        # Not buffers: what a file does not hold, the library leaves undefined when it loads a network.
        x = pixels * pixels.new_tensor(_SCALE) + pixels.new_tensor(_SHIFT)
        x = F.relu6(self.stem(x))
        features = []
        for number, stage in enumerate(self.stages):
            for block in stage:  # type: ignore[attr-defined]  # a ModuleList of blocks
                x = block(x)
            if number in _TAPPED:
                features.append(x)
        return features

    def freeze(self, stages: int) -> None:
        """Let the stem and the first `stages` stages keep their weights while the rest learns; 0 for none of it."""
        kept: list[Any] = [self.stem, *self.stages[:stages]] if stages else []
        for part in (self.stem, *self.stages):
            part.requires_grad_(part not in kept)
