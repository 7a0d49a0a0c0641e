"""LoRA on convolutions, trained on the weight that it makes: one convolution a layer instead of three.

PEFT computes `conv(x) + scale * B(A(x))`. A convolution's A runs over as many pixels as the layer itself, forwards and
backwards; `conv(x, W + scale * B A)` is the same function, and what the adapter bank serves.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Conv2d
from torch import Tensor, nn


def train_merged(model: nn.Module) -> int:
    """Let every convolution of a `PeftModel` that has one adapter compute on its merged weight; returns how many.

    Names, weights and what is saved stay PEFT's.
    """
    layers = [module for module in model.modules() if isinstance(module, Conv2d) and len(module.lora_A) == 1]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    return len(layers)


def _forward(layer: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - untyped in the library
    (name,) = layer.lora_A
    base = layer.get_base_layer()
    if layer.disable_adapters or layer.merged:
        return base(x)
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    with torch.autocast(x.device.type, enabled=False):  # the sum is the weights': it stays in their precision
        weight = base.weight + layer.scaling[name] * (b.flatten(1) @ a.flatten(1)).view_as(base.weight)
    return base._conv_forward(x, weight, base.bias)
