"""What is minimised: one wrapper per family of networks, all with the same forward for the Trainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from finetune.models.families import training_of
from finetune.training.aligned import aligned_loss, mask_boxes
from finetune.training.dense import CELLS, DenseHead, dense_loss, dense_targets
from serving.families.eomt import Eomt
from serving.families.mask2former import Mask2Former
from serving.families.mask_rcnn import MaskRcnn
from serving.families.parcelseg import ParcelSeg
from serving.families.rf_detr import RfDetr
from serving.families.types import InstanceModel

ENCODER_SHARE = 0.33  # of the time, for the families whose encoder learns alone first


class Learner(nn.Module):
    """`model` with its family's loss. By default the library's own, for set prediction (Mask2Former, EoMT).

    `all_used`: whether every trained parameter has a gradient in every step, so that processes that train together
    need not look for those without.
    """

    all_used: bool = False
    pretrained: str | None = None
    """Prefix of the parameters that learnt from photographs before and are to move slowly."""

    def __init__(self, model: InstanceModel) -> None:
        super().__init__()
        self.model = model

    @property
    def hidden(self) -> str:
        """Prefix of the names of the encoder's layers, whose matrices Muon takes."""
        swin = isinstance(self.model, Mask2Former)
        return "model.model.pixel_level_module.encoder." if swin else "model.layers."

    def stage(self, progress: float) -> None:
        """Told the spent share of the budget before each step."""

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: list[Tensor],
        class_labels: list[Tensor],
        box_only: list[Tensor] | None = None,
    ) -> dict[str, Any]:
        """A dict with `loss`, as Trainer wants it. Arguments as `collate` makes them.

        Families that cannot learn a box without its outline are not told of such instances.
        """
        if box_only is not None:
            mask_labels = [m[~b] for m, b in zip(mask_labels, box_only, strict=True)]
            class_labels = [c[~b] for c, b in zip(class_labels, box_only, strict=True)]
        return {"loss": self.loss(pixel_values, mask_labels, class_labels)}

    def loss(self, pixel_values: Tensor, mask_labels: list[Tensor], class_labels: list[Tensor]) -> Tensor:
        """The family's loss, from instances that have an outline."""
        output = self.model(pixel_values=pixel_values, mask_labels=mask_labels, class_labels=class_labels)
        loss: Tensor = output.loss
        return loss


class AlignedLearner(Learner):
    """ParcelSeg. On a foundation, the encoder keeps its weights for the first `frozen` of the budget, and the stem with
    the first `kept_stages` stages for all of it.

    What learns from drawn pictures alone forgets what photographs look like; features that stay as photographs made
    them carry over (Hinterstoisser et al., "On Pre-Trained Image Features and Synthetic Images for Deep Learning",
    arXiv 1710.10710). Nothing is computed backwards through what is kept, which saves half of a step's time.
    """

    model: ParcelSeg

    def __init__(self, model: ParcelSeg, *, frozen: float = 0.0, kept_stages: int = 0) -> None:
        super().__init__(model)
        founded = model.config.encoder != "stem"
        self.all_used = not founded
        self.pretrained = "model.encoder." if founded else None
        self.frozen, self.kept_stages = frozen, kept_stages
        self._kept: int | None = None

    def stage(self, progress: float) -> None:
        """The encoder joins in after its share of the budget. A training that keeps nothing leaves it as it finds it:
        under LoRA all of the base is kept, and that is for its adapters to say."""
        if self.pretrained is None or not (self.frozen or self.kept_stages):
            return
        kept = len(self.model.encoder.stages) if progress < self.frozen else self.kept_stages
        if kept != self._kept:
            self._kept = kept
            self.model.encoder.freeze(kept)

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: list[Tensor],
        class_labels: list[Tensor],
        box_only: list[Tensor] | None = None,
    ) -> dict[str, Any]:
        """A dict with `loss`. Arguments as `collate` makes them."""
        parts = aligned_loss(self.model.dense(pixel_values), mask_labels, class_labels, box_only)
        return {"loss": torch.stack(list(parts.values())).sum()}


class EncoderFirst(Learner):
    """EoMT from random weights, with a dense head beside it. For the first ENCODER_SHARE of the budget the encoder
    alone learns from the dense head's loss; afterwards all of it learns from the set prediction's loss with the dense
    one beside it, `dense_weight` times.
    """

    model: Eomt

    def __init__(self, model: Eomt, *, dense_weight: float = 0.5) -> None:
        super().__init__(model)
        self.head = DenseHead(model.config.hidden_size, model.config.num_labels)
        self.dense_weight = dense_weight
        self.encoder_only = False
        # One intermediate prediction to learn from beside the last.
        model.supervised = (1,) if model.config.num_blocks > 1 else (0,)

    def stage(self, progress: float) -> None:
        """The encoder alone first."""
        self.encoder_only = progress < ENCODER_SHARE

    def loss(self, pixel_values: Tensor, mask_labels: list[Tensor], class_labels: list[Tensor]) -> Tensor:
        """The family's loss, from instances that have an outline."""
        model = self.model
        if self.encoder_only:
            loss, patches = pixel_values.new_zeros(()), model.features(pixel_values)
        else:
            output = model(pixel_values=pixel_values, mask_labels=mask_labels, class_labels=class_labels)
            skipped = model.config.num_queries + model.embeddings.num_prefix_tokens
            loss, patches = output.loss, output.last_hidden_state[:, skipped:]
        cells = model.grid_size[0] * CELLS
        targets = dense_targets(mask_labels, class_labels, cells=cells, background=self.head.classes)
        weight = 1.0 if self.encoder_only else self.dense_weight
        return loss + weight * dense_loss(self.head(patches), targets)


class RfDetrLearner(Learner):
    """RF-DETR-Seg, whose loss wants boxes beside masks."""

    @property
    def hidden(self) -> str:
        """Prefix of the names of the encoder's layers."""
        return "model.model.model.backbone.backbone.encoder."

    def loss(self, pixel_values: Tensor, mask_labels: list[Tensor], class_labels: list[Tensor]) -> Tensor:
        """The family's loss, from instances that have an outline."""
        labels = []
        for masks, classes in zip(*_with_pixels(mask_labels, class_labels), strict=True):
            boxes = mask_boxes(masks) if len(masks) else masks.new_zeros(0, 4)
            middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            labels.append({"class_labels": classes, "boxes": torch.cat([middle, size], dim=1), "masks": masks})
        loss: Tensor = self.model(pixel_values=pixel_values, labels=labels).loss
        return loss


class RegionLearner(Learner):
    """Mask R-CNN."""

    model: MaskRcnn

    def loss(self, pixel_values: Tensor, mask_labels: list[Tensor], class_labels: list[Tensor]) -> Tensor:
        """The family's loss, from instances that have an outline."""
        side = pixel_values.shape[-1]
        targets = []
        for masks, classes in zip(*_with_pixels(mask_labels, class_labels), strict=True):
            boxes = mask_boxes(masks) * side if len(masks) else masks.new_zeros(0, 4)
            fine = masks.repeat_interleave(side // max(1, masks.shape[-1]), 1) if len(masks) else masks
            fine = fine.repeat_interleave(side // max(1, masks.shape[-1]), 2) if len(masks) else fine
            targets.append({"boxes": boxes, "labels": classes + 1, "masks": fine.to(torch.uint8)})
        # Regions are cut out and boxes decoded in float32: bfloat16 rounds a coordinate of 250 pixels to even numbers.
        with torch.autocast(pixel_values.device.type, enabled=False):
            losses = self.model(pixel_values.float(), targets)
        return torch.stack(list(losses.values())).sum()


def _with_pixels(masks: list[Tensor], classes: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Without the instances that have no pixel at the labels' resolution: they have no box."""
    seen = [m.flatten(1).any(1) if len(m) else torch.zeros(0, dtype=torch.bool, device=m.device) for m in masks]
    return [m[s] for m, s in zip(masks, seen, strict=True)], [c[s] for c, s in zip(classes, seen, strict=True)]


def learner_for(model: InstanceModel, *, scratch: bool, frozen: float = 0.0, kept_stages: int = 0) -> Learner:
    """The learner of a model's family; `scratch` where it starts from random weights. `frozen` and `kept_stages` are
    for encoders with a foundation (`AlignedLearner`)."""
    known = training_of(str(model.config.model_type))
    if known is not None and known.learner is not None:
        made: Learner = known.learner(model, scratch)
        return made
    if isinstance(model, ParcelSeg):
        return AlignedLearner(model, frozen=frozen, kept_stages=kept_stages)
    if isinstance(model, RfDetr):
        return RfDetrLearner(model)
    if isinstance(model, MaskRcnn):
        return RegionLearner(model)
    if isinstance(model, Eomt):
        if scratch:
            return EncoderFirst(model)
        model.supervised = ()  # the last prediction is enough for a short training, in half the time a step
    return Learner(model)
