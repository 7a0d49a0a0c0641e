"""A tiny random base and LoRA variants of it: small enough to run in milliseconds, the real classes throughout."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import EomtConfig, Mask2FormerConfig, RfDetrConfig, SwinConfig

from serving.families.eomt import Eomt
from serving.families.load import FAMILIES, load_model
from serving.families.mask2former import Mask2Former
from serving.families.parcelseg import ParcelSeg, ParcelSegConfig
from serving.families.rf_detr import RfDetr
from serving.folder.routing import CellRoute, RoutingTable, materialise, write_routing
from serving.inference.adapter_files import FILES
from serving.inference.preprocess import preprocessor_config
from serving.inference.segmenter import Segmenter

# The models here are so small that threads only wait for each other.
torch.set_num_threads(1)
# Servers are compared with float32 here; what bfloat16 changes is measured, not tested.
os.environ.setdefault("PARCELHUB_PRECISION", "float32")

LABELS = ("box", "bag", "tube", "reserved_0", "reserved_1")
SIZE = 64

_LABELS = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
CONFIGS = {
    "parcelseg": lambda: ParcelSegConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=SIZE,
        stem_channels=(8, 16),
        pyramid_channels=16,
        num_prototypes=8,
        num_queries=20,
        **_LABELS,
    ),
    "eomt": lambda: EomtConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=SIZE,
        patch_size=16,
        num_queries=8,
        num_blocks=2,
        num_upscale_blocks=2,
        **_LABELS,
    ),
    "rf_detr": lambda: RfDetrConfig(
        backbone_config={
            "model_type": "rf_detr_dinov2",
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": 16,
            "num_windows": 2,
            "out_features": ["stage2", "stage4"],
        },
        d_model=32,
        decoder_layers=2,
        decoder_ffn_dim=64,
        decoder_self_attention_heads=4,
        decoder_cross_attention_heads=4,
        num_queries=8,
        group_detr=2,
        **_LABELS,
    ),
    "mask2former": lambda: Mask2FormerConfig(
        backbone_config=SwinConfig(
            image_size=SIZE,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[2, 2, 2, 2],
            window_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=64,
        dim_feedforward=64,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=4,
        num_queries=8,
        **_LABELS,
    ),
}


def make_base(folder: Path, *, seed: int = 0, family: str = "parcelseg") -> Path:
    """Write a small base whose random masks cover parts of the image."""
    torch.manual_seed(seed)
    model = FAMILIES[family](CONFIGS[family]())
    with torch.no_grad():
        if isinstance(model, ParcelSeg):
            model.class_predictor.weight.mul_(6)
            model.class_predictor.bias.zero_()
            model.mask_head.weight.mul_(8)
        elif isinstance(model, Eomt | Mask2Former):
            model.class_predictor.weight.mul_(6)
            model.class_predictor.bias[-1] -= 2
        elif isinstance(model, RfDetr):
            model.model.class_embed.weight.mul_(6)
            model.model.class_embed.bias.zero_()
            model.query_features_proj.weight.mul_(20)
        if isinstance(model, Eomt):
            model.attn_mask_probs.zero_()
            model.query.weight.normal_(std=2)
            model.mask_head.fc3.weight.mul_(4)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config(SIZE)))
    return folder


def make_variant(
    base: Path, folder: Path, *, seed: int = 1, rank: int = 4, labels: dict[str, str] | None = None, **lora: object
) -> Path:
    """Write a random LoRA variant of `base` as peft itself saves it, plus variant.json."""
    torch.manual_seed(seed)
    model = load_model(base)
    settings = {"r": rank, "lora_alpha": 2 * rank, "target_modules": model.adapter_targets} | lora
    peft_model = get_peft_model(model, LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    peft_model.save_pretrained(folder)
    variant = {
        "base": {"repo": "base/universal", "revision": "v1", "commit": "0" * 40},
        "labels": labels or {"box": "carton", "reserved_0": "polybag", "bag": "bag"},
        "rank": rank,
        "deck": "0" * 64,
    }
    (folder / "variant.json").write_text(json.dumps(variant))
    return folder


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def variant_dirs(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("variants")
    return {
        "north@v1": make_variant(base_dir, root / "north@v1", seed=1),
        "south@v2": make_variant(base_dir, root / "south@v2", seed=2, rank=8, use_rslora=True),
    }


@pytest.fixture
def segmenter(base_dir: Path, variant_dirs: dict[str, Path]) -> Segmenter:
    made = Segmenter.load(base_dir, device="cpu")
    for name, folder in variant_dirs.items():
        made.add_variant(name, folder)
    return made


def scene(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    """uint8 [H, W, 3]: coloured rectangles on a smooth ground, so that resizing has edges to agree on."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(40, 200, (4, 4, 3), dtype=np.uint8)
    image = cv2.resize(ground, (width, height), interpolation=cv2.INTER_LINEAR)
    for _ in range(5):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        image[y : y + height // 4, x : x + width // 4] = rng.integers(0, 255, 3)
    return image


@pytest.fixture
def make_scene() -> Callable[..., np.ndarray]:
    return scene


def encode(image: np.ndarray, kind: str = ".jpg") -> bytes:
    ok, data = cv2.imencode(kind, image[..., ::-1])
    assert ok
    return data.tobytes()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def publish(folder: Path, version: int, cells: dict[str, CellRoute], base: str = "universal@v1") -> RoutingTable:
    """Write routing.json for every variant that lies in the folder."""
    digests = {
        str(path.relative_to(folder)): sha256(path) for path in folder.glob("variants/*/adapter_model.safetensors")
    }
    table = RoutingTable(version, base, cells, digests)
    write_routing(folder, table)
    return table


def write_serving_folder(folder: Path, base_dir: Path, variant_dirs: dict[str, Path]) -> Path:
    """Cell `north` on its variant, `south` on the base; south@v2 lies ready to be promoted."""
    materialise(folder, "base/universal@v1", {path.name: path for path in base_dir.iterdir()})
    for name, source in variant_dirs.items():
        materialise(folder, f"variants/{name}", {file: source / file for file in FILES})
    publish(folder, 1, {"north": CellRoute(fleet="north@v1"), "south": CellRoute()})
    return folder


@pytest.fixture
def serving_folder(base_dir: Path, variant_dirs: dict[str, Path], tmp_path: Path) -> Path:
    return write_serving_folder(tmp_path / "serving", base_dir, variant_dirs)
