"""Where a network from scratch starts. Vision transformers lack the prior of convolutions and learn slowly from few
pictures; a good start supplies some of it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import EomtForUniversalSegmentation


@torch.no_grad()
def whiten_patches(model: EomtForUniversalSegmentation, pixel_values: Tensor, *, damping: float = 0.01) -> None:
    """Set the patch embedding to the whitened principal components of the patches of `pixel_values` [N, 3, S, S].

    Raw patches are nearly constant: almost all their variance is their mean colour, and edges and print, by which
    packages are told apart, are faint in comparison. After whitening every component weighs the same (cf. the frozen
    first layer of Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498). `damping`, as a share
    of the mean kept variance, keeps noise from being blown up.
    """
    layer: nn.Conv2d = model.embeddings.patch_embeddings.projection
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
    model: EomtForUniversalSegmentation,
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
    for layer in model.layers:
        attention = layer.attention
        width, heads = attention.embed_dim, attention.num_heads
        head = width // heads
        eye = torch.eye(width)
        for index in range(heads):
            rows = slice(index * head, (index + 1) * head)
            target = products[0] * torch.randn(width, width, generator=generator) / math.sqrt(width) + products[1] * eye
            left, strength, right = torch.linalg.svd(target)
            root = strength[:head].sqrt()
            attention.q_proj.weight[rows] = (left[:, :head] * root).T
            attention.k_proj.weight[rows] = root[:, None] * right[:head]
        target = values[0] * torch.randn(width, width, generator=generator) / math.sqrt(width) - values[1] * eye
        left, strength, right = torch.linalg.svd(target)
        attention.v_proj.weight.copy_(strength.sqrt()[:, None] * right)
        attention.out_proj.weight.copy_(left * strength.sqrt())
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
            linear.bias.zero_()
