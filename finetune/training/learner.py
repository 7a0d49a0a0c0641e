"""A network that learns from scratch: EoMT with a dense head beside it, encoder first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from finetune.training.dense import CELLS, DenseHead, dense_loss, dense_targets
from finetune.training.examples import Example, collate
from finetune.training.start import mimic_attention, whiten_patches
from serving.network import Eomt


class ScratchLearner(nn.Module):
    """`model` and a dense head. While `encoder_only` is set, the encoder alone learns from the dense head's loss;
    afterwards all of it learns from the set prediction's loss with the dense one beside it, `dense_weight` times.
    """

    def __init__(self, model: Eomt, *, dense_weight: float) -> None:
        super().__init__()
        self.model = model
        self.head = DenseHead(model.config.hidden_size, model.config.num_labels)
        self.dense_weight = dense_weight
        self.encoder_only = False

    def forward(self, pixel_values: Tensor, mask_labels: list[Tensor], class_labels: list[Tensor]) -> dict[str, Any]:
        """A dict with `loss`, as Trainer wants it. Arguments as `collate` makes them."""
        model = self.model
        if self.encoder_only:
            loss, patches = pixel_values.new_zeros(()), model.features(pixel_values)
        else:
            output = model(pixel_values=pixel_values, mask_labels=mask_labels, class_labels=class_labels)
            skipped = model.config.num_queries + model.embeddings.num_prefix_tokens
            loss, patches = output.loss, output.last_hidden_state[:, skipped:]
        if self.encoder_only or self.dense_weight:
            cells = model.grid_size[0] * CELLS
            targets = dense_targets(mask_labels, class_labels, cells=cells, background=self.head.classes)
            loss = loss + (1.0 if self.encoder_only else self.dense_weight) * dense_loss(self.head(patches), targets)
        return {"loss": loss}


def start_from_scratch(model: Eomt, examples: Sequence[Example], *, seed: int) -> None:
    """Give a randomly initialised model its start: whitened patches of `examples`, mimetic attention."""
    whiten_patches(model, collate(examples)["pixel_values"])
    mimic_attention(model, seed=seed)
