"""What every family of networks gives the segmenter."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of a batch, before anything is chosen.

    `masks` are logits, float32 [B, Q, h, w] over the model's whole square, `scores` probabilities, float32 [B, Q, C].
    Where classes exclude each other (a softmax) a row of `scores` adds up to at most one.
    """

    masks: Tensor
    scores: Tensor


Stage = Callable[..., tuple[Tensor, ...]]
"""A part of a network: tensors whose first axis is the batch to tensors whose first axis is the batch."""


class StageRunner(Protocol):
    """Runs a part of a network on a batch."""

    def __call__(self, stage: Stage, *inputs: Tensor, parts: tuple[str, ...]) -> tuple[Tensor, ...]:
        """What `stage` makes of `inputs`. `parts` are the first names of the layers in it: `stem` of `stem.0.conv`."""


def all_rows_at_once(stage: Stage, *inputs: Tensor, parts: tuple[str, ...]) -> tuple[Tensor, ...]:  # noqa: ARG001
    """As a network without adapters runs its parts."""
    return stage(*inputs)


class InstanceModel(nn.Module):
    """A network that segments instances, whatever its family; mixed into the `transformers` classes.

    `duplicate_iou` is the overlap of masks from which on two answers are one instance twice, as suits the family: where
    one query is made to answer for one instance, only near copies are; where neighbouring cells all answer, more.
    `part_share` is the share of an answer within a larger one of its class from which on it may be a part of it
    (`serving.inference.postprocess.score_parts`); more than 1 for families whose answers are not looked at so.

    `adapter_targets` matches the whole names of the layers that a variant may adapt, None where there are none: linear
    layers and convolutions whose first axis is the batch, or the batch times a number of windows, image by image, so
    that the variants of a batch can be told apart by row. Norms and query embeddings always stay the base's.
    `tuned_targets` matches those of them that a fine-tune adapts unless it is told otherwise, None for all.

    `feature_layers` names modules whose output is a map, [B, h, w, C] or [B, h * w, C] of a square, that embeddings of
    packages are made of (`serving.inference.embeddings`); none where a family has none to offer.

    `any_size`: whether pictures may have another side than the network's own (`serving.inference.picture_sizes`).

    `run_stage` is what a network runs those parts with that hold adapted convolutions: whoever serves variants puts
    one in its place that lets each variant's rows go through such a part by themselves.
    """

    config: Any
    duplicate_iou: float = 0.8
    part_share: float = math.inf
    adapter_targets: str | None = None
    tuned_targets: str | None = None
    feature_layers: tuple[str, ...] = ()
    any_size: bool = False
    run_stage: StageRunner = staticmethod(all_rows_at_once)

    @abstractmethod
    def answer(self, pixel_values: Tensor) -> Prediction:
        """Predict on normalised pictures float [B, 3, S, S]."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401
            """The submodules of classes that the library leaves untyped."""

    @property
    def labels(self) -> dict[int, str]:
        """Index -> name of every label, spare ones included."""
        return {int(index): str(name) for index, name in self.config.id2label.items()}
