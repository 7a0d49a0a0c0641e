"""The base model: made from scratch in any family, and read from and written to folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import EomtConfig, Mask2FormerConfig, RfDetrConfig, SwinConfig

from finetune.errors import BaseModelError
from finetune.models.families import Architecture as Architecture
from finetune.models.families import Configs, TrainedFamily, register_training
from serving.errors import BaseError
from serving.families.eomt import Eomt
from serving.families.load import FAMILIES, load_model
from serving.families.mask_rcnn import MaskRcnnConfig
from serving.families.parcelseg import ParcelSeg, ParcelSegConfig
from serving.families.positions import sine_positions
from serving.families.types import InstanceModel
from serving.inference.preprocess import preprocessor_config
from serving.inference.segmenter import RESERVED


def _parcelseg(a: Architecture) -> ParcelSegConfig:
    return ParcelSegConfig(
        encoder=a.encoder,
        image_size=a.image_size,
        patch_size=a.patch_size,
        hidden_size=a.hidden_size,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        stem_channels=(a.hidden_size // 6, a.hidden_size // 3),
        pyramid_channels=a.hidden_size // 2,
        num_queries=a.queries,
    )


def _eomt(a: Architecture) -> EomtConfig:
    return EomtConfig(
        image_size=a.image_size,
        patch_size=a.patch_size,
        hidden_size=a.hidden_size,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        num_blocks=a.blocks,
        num_queries=a.queries,
        # Far fewer points than the 12,544 of the original: our masks have 64 x 64 cells, and on a CPU the point-sampled
        # losses would otherwise take longer than the network.
        train_num_points=1024,
    )


def _rf_detr(a: Architecture) -> RfDetrConfig:
    stages = [f"stage{round(a.layers * (k + 1) / 4)}" for k in range(4)]
    width = max(1, a.hidden_size * 2 // 3 // 32) * 32  # 128 for the default width
    return RfDetrConfig(
        backbone_config={
            "model_type": "rf_detr_dinov2",
            "hidden_size": a.hidden_size,
            "num_hidden_layers": a.layers,
            "num_attention_heads": a.heads,
            "image_size": a.image_size,
            "patch_size": a.patch_size,
            "num_windows": 2,
            "out_features": list(dict.fromkeys(stages)),
        },
        d_model=width,
        decoder_layers=a.blocks,
        decoder_ffn_dim=4 * width,
        decoder_self_attention_heads=8,
        decoder_cross_attention_heads=8,
        num_queries=a.queries,
        # Thirteen groups are for many GPUs; what they bring over a few is small (Chen et al., arXiv 2207.13085).
        group_detr=3,
        dropout=0.0,
        num_labels=0,
    )


def _mask2former(a: Architecture) -> Mask2FormerConfig:
    width = max(1, a.hidden_size // 64) * 32  # its norms have 32 groups
    return Mask2FormerConfig(
        backbone_config=SwinConfig(
            image_size=a.image_size,
            embed_dim=a.hidden_size // 4,
            depths=[2, 2, max(2, a.layers - 4), 2],
            num_heads=[2, 4, 8, 16],
            window_size=8,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        feature_size=width,
        mask_feature_size=width,
        hidden_dim=width,
        encoder_feedforward_dim=4 * width,
        dim_feedforward=4 * width,
        encoder_layers=2,
        decoder_layers=a.blocks + 1,
        num_attention_heads=8,
        num_queries=a.queries,
        train_num_points=1024,
    )


def _mask_rcnn(a: Architecture) -> MaskRcnnConfig:
    width = a.hidden_size // 2
    return MaskRcnnConfig(image_size=a.image_size, pyramid_channels=width, hidden_size=2 * width, num_queries=a.queries)


CONFIGS: Mapping[str, Callable[[Architecture], Any]] = Configs()
"""Family to the configuration of an architecture."""

register_training("parcelseg", TrainedFamily(_parcelseg, lora_rate=1e-2))  # convolutions take larger steps
register_training("eomt", TrainedFamily(_eomt))
register_training("rf_detr", TrainedFamily(_rf_detr))
register_training("mask2former", TrainedFamily(_mask2former))
register_training("mask_rcnn", TrainedFamily(_mask_rcnn))


def new_base(architecture: Architecture, labels: Sequence[str], *, seed: int = 0) -> InstanceModel:
    """A randomly initialised base in float32 whose label space is `labels` plus spare slots `reserved_<k>`.

    Raises BaseModelError for an unknown family.
    """
    if architecture.family not in CONFIGS:
        raise BaseModelError(f"there is no family {architecture.family!r}; there are {', '.join(CONFIGS)}")
    names = [*labels, *(f"{RESERVED}{k}" for k in range(architecture.spare_labels))]
    config = CONFIGS[architecture.family](architecture)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: k for k, name in enumerate(names)}
    return random_model(FAMILIES[architecture.family], config, seed=seed)


def random_model(family: type[InstanceModel], config: Any, *, seed: int) -> InstanceModel:  # noqa: ANN401
    """A model of this configuration with random weights, float32, seeded. `init_weights` of a loaded model
    would not do: the library leaves weights that came from a file alone."""
    torch.manual_seed(seed)
    model = family(config)
    if isinstance(model, Eomt):
        with torch.no_grad():
            # The library draws position embeddings at random with unit spread, to be overwritten by pre-trained
            # weights. From scratch, sines tell neighbours apart from the first step on.
            side = int(config.image_size) // int(config.patch_size)
            model.embeddings.position_embeddings.weight.copy_(sine_positions(side, config.hidden_size))
            # Masked attention speeds EoMT up where the encoder is pre-trained; here dense supervision does that, and
            # inference needs no intermediate predictions.
            model.attn_mask_probs.zero_()
    return model


def save_base(
    model: InstanceModel, folder: Path, *, card: str, image_size: int | None = None, dtype: torch.dtype = torch.float16
) -> None:
    """Write a base as `from_pretrained` reads it: weights in `dtype`, config, preprocessor config and model card.

    `image_size` in pixels, by default what the config says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)
    config = json.loads((folder / "config.json").read_text())
    # Others load the weights with the library's own class, so its name is the one to write down.
    config["architectures"] = [architecture_name(model)]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    size = image_size or picture_size(model)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config(size), indent=2) + "\n")
    (folder / "README.md").write_text(card)


def architecture_name(model: InstanceModel) -> str:
    """The name under which `transformers` knows the network, ours for families of our own."""
    for kind in type(model).__mro__:
        if kind.__module__.startswith("transformers.models."):
            return kind.__name__
    return type(model).__name__


def picture_size(model: InstanceModel) -> int:
    """Pixels a side of the pictures a model takes, by its config. Raises BaseModelError if that does not say."""
    config = model.config
    for place in (config, getattr(config, "backbone_config", None)):
        if place is not None and getattr(place, "image_size", None):
            return int(place.image_size)
    raise BaseModelError(f"the config of {type(model).__name__} names no image_size")


def architecture_of(model: InstanceModel, told: Architecture) -> Architecture:
    """The family and size of a model; what the config of its family has no one word for is as `told`."""
    config = model.config
    found = replace(told, family=str(config.model_type), image_size=picture_size(model))
    if not isinstance(model, ParcelSeg):
        return found
    return replace(
        found,
        encoder=config.encoder,
        patch_size=config.patch_size,
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        queries=config.num_queries,
    )


def resize(model: InstanceModel, image_size: int) -> None:
    """Let a model take pictures of `image_size` pixels a side from now on.

    Raises BaseModelError for a family that keeps the size it was made for, or a size that its patches do not fill.
    """
    if image_size == picture_size(model):
        return
    if not isinstance(model, ParcelSeg):
        raise BaseModelError(
            f"a {model.config.model_type} goes on with the pictures it was made for, "
            f"{picture_size(model)} pixels a side, not {image_size}"
        )
    try:
        model.resize(image_size)
    except ValueError as error:
        raise BaseModelError(str(error)) from error


def load_base(folder: Path) -> InstanceModel:
    """Read a base folder to float32 on the CPU, in eval mode.

    Raises BaseModelError naming the file when one is missing, damaged or of a family we do not know.
    """
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise BaseModelError(
                f"{folder / name}: missing; a base has config.json, model.safetensors and preprocessor_config.json"
            )
    try:
        return load_model(folder)
    except BaseError as error:
        raise BaseModelError(f"{folder}: {error}") from error


def base_labels(model: InstanceModel) -> tuple[str, ...]:
    """All label names in index order, spare ones included."""
    names = model.labels
    return tuple(names[k] for k in range(len(names)))
