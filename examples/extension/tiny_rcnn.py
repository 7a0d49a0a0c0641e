"""A family of networks: Mask R-CNN with a narrow pyramid. Its weights differ from the big one's by size alone."""

from __future__ import annotations

from finetune.models.families import TrainedFamily, register_training
from finetune.models.model import Architecture
from finetune.training.learner import RegionLearner
from serving.families.load import register_family
from serving.families.mask_rcnn import MaskRcnn, MaskRcnnConfig


class TinyRcnnConfig(MaskRcnnConfig):
    """`model_type` is what config.json says, and what the family is registered as."""

    model_type = "tiny_rcnn"


class TinyRcnn(MaskRcnn):
    """The network; a family with an answer of its own overrides `answer` (`serving.families.types`)."""

    config_class = TinyRcnnConfig


def config(wanted: Architecture) -> TinyRcnnConfig:
    """The configuration of an architecture."""
    return TinyRcnnConfig(image_size=wanted.image_size, pyramid_channels=32, hidden_size=64, num_queries=wanted.queries)


register_family("tiny_rcnn", TinyRcnn)
register_training("tiny_rcnn", TrainedFamily(config, learner=lambda model, _scratch: RegionLearner(model)))
