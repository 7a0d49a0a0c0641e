"""A variant's folder: the adapter in half precision and `variant.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from finetune.contract import FinetuneRequest
from finetune.datasets.deck import Deck
from finetune.models.model import picture_size
from finetune.training.loop import core
from serving.families.types import InstanceModel
from serving.inference.adapter_files import DISJOINT, VARIANT
from serving.inference.picture_sizes import KEY as SIZE_KEY


def save_variant(
    model: Any,  # noqa: ANN401 - a PeftModel
    folder: Path,
    request: FinetuneRequest,
    deck: Deck,
    *,
    size: int | None = None,
    disjoint: bool = False,
) -> None:
    """Write the adapter in half precision and `variant.json`; B matrices of a small rank lose nothing that a
    mask shows. `size` is the side of its pictures, where that is not the base's own; `disjoint` says that no label lies
    in another (`finetune.datasets.nesting`).
    """
    state = {name: tensor.half() for name, tensor in _adapter_state(model).items()}
    model.save_pretrained(folder, state_dict=state, safe_serialization=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    repo, _, revision = request.base_ref.partition("@")
    config["base_model_name_or_path"], config["revision"] = repo, revision
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    document = {
        "base": {"repo": repo, "revision": revision, "commit": request.base_commit},
        "labels": dict(sorted(deck.label_map.items())),
        "rank": config["r"],
        "deck": deck.digest,
    }
    if size is not None and size != picture_size(cast(InstanceModel, core(model))):
        document[SIZE_KEY] = size
    if disjoint:
        document[DISJOINT] = True
    (folder / VARIANT).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def _adapter_state(model: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}
