"""Where a network from scratch starts. Vision transformers lack the prior of convolutions and learn slowly from few
pictures; a good start supplies some of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finetune.training.examples import Example, collate
from serving.families.eomt import Eomt
from serving.families.parcelseg import ParcelSeg
from serving.families.types import InstanceModel


def start_from_scratch(model: InstanceModel, examples: Sequence[Example], *, seed: int) -> None:
    """Give a randomly initialised plain vision transformer its start: whitened patches of `examples`, mimetic
    attention. Families without one are left as they are."""
    if isinstance(model, ParcelSeg):
        # One that sees with an EfficientNet-Lite has no patches.
        patches = model.patch_embedding if model.config.encoder == "stem" else None
    elif isinstance(model, Eomt):
        patches = model.embeddings.patch_embeddings.projection
    else:
        return
    if patches is not None:
        whiten_patches(patches, collate(examples)["pixel_values"])
    mimic_attention([attention_views(layer.attention) for layer in model.layers], seed=seed)


@dataclass(frozen=True, slots=True)
class AttentionViews:
    """The matrices of one attention layer [width, width], as views that may be written to, and its biases."""

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    biases: tuple[Tensor, ...]
    heads: int


def attention_views(attention: Any) -> AttentionViews:  # noqa: ANN401 - the library's are untyped
    """The matrices of an attention layer, whether it keeps queries, keys and values apart or in one."""
    if hasattr(attention, "qkv"):
        query, key, value = attention.qkv.weight.data.chunk(3)
        biases = (attention.qkv.bias, attention.out_proj.bias)
        return AttentionViews(query, key, value, attention.out_proj.weight, biases, attention.heads)
    parts = (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
    query, key, value, out = (part.weight for part in parts)
    return AttentionViews(query, key, value, out, tuple(part.bias for part in parts), attention.num_heads)


@torch.no_grad()
def whiten_patches(layer: nn.Conv2d, pixel_values: Tensor, *, damping: float = 0.01) -> None:
    """Set a patch embedding to the whitened principal components of the patches of `pixel_values` [N, 3, S, S].

    Raw patches are nearly constant: almost all their variance is their mean colour, and edges and print, by which
    packages are told apart, are faint in comparison. After whitening every component weighs the same (cf. the frozen
    first layer of Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498). `damping`, as a share
    of the mean kept variance, keeps noise from being blown up.
    """
    size, width = layer.kernel_size[0], layer.out_channels
    patches = F.unfold(pixel_values, size, stride=size).transpose(1, 2).flatten(0, 1).double()
    mean = patches.mean(0)
    covariance = torch.cov((patches - mean).T)
    variance, direction = torch.linalg.eigh(covariance)
    variance, direction = variance.flip(0)[:width], direction.flip(1)[:, :width]
    whitening = (direction / (variance + damping * variance.mean()).sqrt()).T
    # A random rotation, so that no channel alone carries the strongest component.
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
    kernel = rotation[:, : len(whitening)] @ whitening
    layer.weight.copy_(kernel.to(layer.weight.dtype).view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(-(kernel @ mean).to(layer.bias.dtype))


@torch.no_grad()
def mimic_attention(
    layers: Sequence[AttentionViews],
    *,
    seed: int,
    products: tuple[float, float] = (0.7, 0.4),
    values: tuple[float, float] = (0.4, 0.4),
) -> None:
    """Start attention as trained transformers have it: queries and keys alike, values times outputs near minus one.

    With sine position embeddings tokens then look at their neighbours first, as convolutions do (Trockman & Kolter,
    "Mimetic Initialization of Self-Attention Layers", arXiv 2305.09828). Each pair is (random part, identity part).
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        width = layer.out.shape[0]
        head = width // layer.heads
        eye = torch.eye(width)
        for index in range(layer.heads):
            rows = slice(index * head, (index + 1) * head)
            target = products[0] * torch.randn(width, width, generator=generator) / math.sqrt(width) + products[1] * eye
            left, strength, right = torch.linalg.svd(target)
            root = strength[:head].sqrt()
            layer.query[rows] = (left[:, :head] * root).T
            layer.key[rows] = root[:, None] * right[:head]
        target = values[0] * torch.randn(width, width, generator=generator) / math.sqrt(width) - values[1] * eye
        left, strength, right = torch.linalg.svd(target)
        layer.value.copy_(strength.sqrt()[:, None] * right)
        layer.out.copy_(left * strength.sqrt())
        for bias in layer.biases:
            bias.zero_()
