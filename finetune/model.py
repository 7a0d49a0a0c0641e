"""The base model: a small EoMT made from scratch, and bases read from and written to folders.

Architecture: EoMT, an encoder-only mask transformer (Kerssies et al., "Your ViT is Secretly an Image Segmentation
Model", arXiv 2503.19108), as implemented in `transformers`. All its blocks are plain `nn.Linear`, which is
what LoRA adapts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import EomtConfig

from finetune.errors import BaseModelError
from serving.network import Eomt
from serving.preprocess import preprocessor_config
from serving.segmenter import RESERVED


@dataclass(frozen=True, slots=True)
class Architecture:
    """Size of a base made from scratch. `image_size` and `patch_size` are pixels; masks come at a quarter of
    the size.
    """

    image_size: int = 256
    patch_size: int = 16
    hidden_size: int = 192
    layers: int = 8
    heads: int = 6
    query_blocks: int = 3
    queries: int = 80
    spare_labels: int = 10


def new_base(architecture: Architecture, labels: Sequence[str], *, seed: int = 0) -> Eomt:
    """A randomly initialised base in float32 whose label space is `labels` plus spare slots `reserved_<k>`."""
    names = [*labels, *(f"{RESERVED}{k}" for k in range(architecture.spare_labels))]
    config = EomtConfig(
        image_size=architecture.image_size,
        patch_size=architecture.patch_size,
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_blocks=architecture.query_blocks,
        num_queries=architecture.queries,
        # Far fewer points than the 12,544 of the original: our masks have 64 x 64 cells, and on a CPU the point-sampled
        # losses would otherwise take longer than the network.
        train_num_points=1024,
        id2label=dict(enumerate(names)),
        label2id={name: k for k, name in enumerate(names)},
    )
    return random_model(config, seed=seed)


def random_model(config: EomtConfig, *, seed: int) -> Eomt:
    """A model of this configuration with random weights, float32, seeded. `init_weights` of a loaded model
    would not do: the library leaves weights that came from a file alone."""
    torch.manual_seed(seed)
    model = Eomt(config)
    with torch.no_grad():
        # The library draws position embeddings at random with unit spread, to be overwritten by pre-trained weights.
        # From scratch, sines tell neighbours apart from the first step on.
        side = int(config.image_size) // int(config.patch_size)
        model.embeddings.position_embeddings.weight.copy_(_sine_positions(side, config.hidden_size))
        # Masked attention speeds EoMT up where the encoder is pre-trained; here dense supervision does that, and
        # inference needs no intermediate predictions.
        model.attn_mask_probs.zero_()
    return model


def _sine_positions(side: int, width: int) -> torch.Tensor:
    """2-D sine-cosine position embeddings, float32 [side * side, width] (Vaswani et al., arXiv 1706.03762, per
    axis).
    """
    quarter = width // 4
    frequency = 1.0 / (100.0 ** (torch.arange(quarter) / quarter))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    parts = [f(axis.reshape(-1, 1) * frequency) for axis in (rows, columns) for f in (torch.sin, torch.cos)]
    table = torch.cat(parts, dim=1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1]))


def save_base(model: Eomt, folder: Path, *, card: str, dtype: torch.dtype = torch.float16) -> None:
    """Write a base as `from_pretrained` reads it: weights in `dtype`, config, preprocessor config and model card."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)
    # Others load the weights with the library's own class, so its name is the one to write down.
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["EomtForUniversalSegmentation"]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    size = int(model.config.image_size)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config(size), indent=2) + "\n")
    (folder / "README.md").write_text(card)


def load_base(folder: Path) -> Eomt:
    """Read a base folder to float32 on the CPU, in eval mode.

    Raises BaseModelError naming the file when one is missing, damaged or of a family we cannot adapt.
    """
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise BaseModelError(
                f"{folder / name}: missing; a base has config.json, model.safetensors and preprocessor_config.json"
            )
    try:
        family = json.loads((folder / "config.json").read_text()).get("model_type")
    except (ValueError, AttributeError) as error:
        raise BaseModelError(f"{folder / 'config.json'}: not a JSON object ({error})") from error
    if family != "eomt":
        raise BaseModelError(f"{folder / 'config.json'}: model_type is {family!r}; this version adapts 'eomt'")
    try:
        model = Eomt.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise BaseModelError(f"{folder / 'model.safetensors'}: {error}") from error
    return model.eval()


def base_labels(model: Eomt) -> tuple[str, ...]:
    """All label names in index order, spare ones included."""
    names = model.config.id2label
    return tuple(names[k] for k in range(len(names)))
