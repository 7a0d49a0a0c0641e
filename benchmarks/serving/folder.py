"""A serving folder for measurements: a base as it is, and as many random LoRA variants of it as are wanted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from serving.folder.routing import CellRoute, RoutingTable, materialise, write_routing
from serving.inference.adapter_files import CONFIG, VARIANT, WEIGHTS, LayerShape
from serving.inference.segmenter import BASE_FILES, Segmenter

BASE = "universal@v1"


def make_folder(folder: Path, base_dir: Path, *, variants: int, rank: int = 8, seed: int = 0) -> RoutingTable:
    """Write base, variants `cell-0@v1` … and a routing table with one cell for each. Returns the table.

    The adapters are random and small, on every layer that a fine-tune trains: what they cost does not depend on what
    they learned.
    """
    materialise(folder, f"base/{BASE}", {name: base_dir / name for name in BASE_FILES})
    segmenter = Segmenter.load(base_dir, base_name=BASE, device="cpu", slots=2, max_rank=rank)
    layers, labels = segmenter.tuned_layers, segmenter.labels
    generator = torch.Generator().manual_seed(seed)
    digests = {
        f"base/{BASE}/{name}": hashlib.sha256((folder / "base" / BASE / name).read_bytes()).hexdigest()
        for name in BASE_FILES
    }
    cells: dict[str, CellRoute] = {}
    for number in range(variants):
        name = f"cell-{number}@v1"
        repo, _, revision = BASE.partition("@")
        origin = {"repo": f"base/{repo}", "revision": revision, "commit": "0" * 40}
        document = {"base": origin, "labels": {label: label for label in labels}, "rank": rank, "deck": "0" * 64}
        data = write_random_variant(folder / "variants" / name, layers, document, generator)
        digests[f"variants/{name}/{WEIGHTS}"] = hashlib.sha256(data).hexdigest()
        cells[f"cell-{number}"] = CellRoute(fleet=name)
    table = RoutingTable(1, BASE, cells, digests)
    write_routing(folder, table)
    return table


def write_random_variant(
    target: Path, layers: Mapping[str, LayerShape], document: Mapping[str, Any], generator: torch.Generator
) -> bytes:
    """Write the three files of a variant whose `variant.json` is `document`. Returns the bytes of its weights."""
    rank = int(document["rank"])
    data = _weights(layers, rank, generator)
    target.mkdir(parents=True, exist_ok=True)
    (target / WEIGHTS).write_bytes(data)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "bias": "none", "target_modules": sorted(layers)}
    (target / CONFIG).write_text(json.dumps(config))
    (target / VARIANT).write_text(json.dumps(document))
    return data


def _weights(layers: Mapping[str, LayerShape], rank: int, generator: torch.Generator) -> bytes:
    tensors = {}
    for name, shape in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn(shape.file_a(rank), generator=generator) * 0.02
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.randn(shape.file_b(rank), generator=generator) * 0.002
    return save(tensors)
