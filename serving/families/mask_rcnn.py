"""Mask R-CNN (He et al., arXiv 1703.06870), torchvision's, as a `transformers` model that saves and loads like others.

The classic to compare with. Its heads work on regions, not on rows of the batch, so it can be trained, judged and
served as a base, but variants cannot share a batch on it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, resnet18, resnet50
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from serving.families.types import InstanceModel, Prediction

OUTSIDE = -12.0


class MaskRcnnConfig(PreTrainedConfig):  # type: ignore[misc]  # untyped in the library
    """`backbone` is `mobilenet_v3_small`, `resnet18` or `resnet50`; `pyramid_channels` the width of its feature pyramid
    and mask head, `hidden_size` that of the box head, `num_queries` how many instances a picture is answered with."""

    model_type = "mask_rcnn"

    image_size: int = 256
    backbone: str = "mobilenet_v3_small"
    pyramid_channels: int = 96
    hidden_size: int = 256
    num_queries: int = 100


def _extractor(config: MaskRcnnConfig) -> BackboneWithFPN:
    """Features at 1/4, 1/8, 1/16 and 1/32 of the picture, and a pooled fifth level."""
    if config.backbone == "mobilenet_v3_small":
        network: nn.Module = mobilenet_v3_small(weights=None).features
        levels, channels = ("1", "3", "8", "12"), [16, 24, 48, 576]
    else:
        network = {"resnet18": resnet18, "resnet50": resnet50}[config.backbone](weights=None)
        first = 64 if config.backbone == "resnet18" else 256
        levels, channels = ("layer1", "layer2", "layer3", "layer4"), [first * 2**k for k in range(4)]
    names = {level: str(k) for k, level in enumerate(levels)}
    return BackboneWithFPN(network, names, channels, config.pyramid_channels)


class MaskRcnn(PreTrainedModel, InstanceModel):  # type: ignore[misc]  # untyped in the library
    """torchvision's network on pictures that are normalised and square already."""

    config_class = MaskRcnnConfig
    main_input_name = "pixel_values"

    def __init__(self, config: MaskRcnnConfig) -> None:
        super().__init__(config)
        width, classes = config.pyramid_channels, config.num_labels + 1
        self.detector = MaskRCNN(
            _extractor(config),
            min_size=config.image_size,
            max_size=config.image_size,
            image_mean=[0.0, 0.0, 0.0],
            image_std=[1.0, 1.0, 1.0],
            rpn_anchor_generator=AnchorGenerator(((12,), (24,), (48,), (96,), (192,)), ((0.5, 1.0, 2.0),) * 5),
            box_head=TwoMLPHead(width * 7 * 7, config.hidden_size),
            box_predictor=FastRCNNPredictor(config.hidden_size, classes),
            mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
            mask_predictor=MaskRCNNPredictor(width, width, classes),
            box_score_thresh=0.01,
            box_detections_per_img=config.num_queries,
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """torchvision has initialised everything itself."""

    def forward(self, pixel_values: Tensor, targets: list[dict[str, Tensor]] | None = None, **_: Any) -> Any:  # noqa: ANN401
        """torchvision's own answer: losses by name while training, detections otherwise."""
        return self.detector(list(pixel_values), targets)

    def answer(self, pixel_values: Tensor) -> Prediction:
        """Predict on normalised pictures float [B, 3, S, S]; masks come at a quarter of their side."""
        found = self(pixel_values)
        side = self.config.image_size // 4
        most = max(1, *(len(one["scores"]) for one in found))
        masks = pixel_values.new_full((len(found), most, side, side), OUTSIDE)
        scores = pixel_values.new_zeros(len(found), most, self.config.num_labels)
        for row, one in enumerate(found):
            count = len(one["scores"])
            if count:
                masks[row, :count] = torch.logit(F.adaptive_avg_pool2d(one["masks"][:, 0], side), eps=1e-5)
                scores[row, torch.arange(count), one["labels"] - 1] = one["scores"]
        return Prediction(masks, scores)


AutoConfig.register("mask_rcnn", MaskRcnnConfig)
