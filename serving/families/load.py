"""Which family a base folder is of, and its network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as hf_logging

from serving import extensions
from serving.errors import BaseError
from serving.families.eomt import Eomt
from serving.families.mask2former import Mask2Former
from serving.families.mask_rcnn import MaskRcnn
from serving.families.parcelseg import ParcelSeg
from serving.families.rf_detr import RfDetr
from serving.families.types import InstanceModel

# Reading a few megabytes needs no progress bar, and in the log of a job it is noise.
hf_logging.disable_progress_bar()

_families: dict[str, type[InstanceModel]] = {}
_bfloat16: set[str] = set()


def register_family(name: str, network: type[InstanceModel], *, bfloat16: bool = False) -> None:
    """Make a family known: `name` is its `model_type` in config.json, `network` the class that reads it. `bfloat16`:
    its masks were compared with float32's. What training needs beside it: `finetune.models.families`.

    Raises ValueError if another family has the name.
    """
    if _families.setdefault(name, network) is not network:
        raise ValueError(f"there are two families named {name!r}")
    if bfloat16:
        _bfloat16.add(name)


def runs_in_bfloat16(name: str) -> bool:
    """Whether the masks of a family were compared with float32's (docs/benchmarks.md, "Engines")."""
    return name in _bfloat16


class _Families(Mapping[str, type[InstanceModel]]):
    """What is registered, those of extensions among them. Raises ExtensionError."""

    def __getitem__(self, name: str) -> type[InstanceModel]:
        extensions.load()
        return _families[name]

    def __iter__(self) -> Iterator[str]:
        extensions.load()
        return iter(_families)

    def __len__(self) -> int:
        extensions.load()
        return len(_families)


FAMILIES: Mapping[str, type[InstanceModel]] = _Families()
"""`model_type` of config.json -> the class that reads it."""

register_family("parcelseg", ParcelSeg, bfloat16=True)
register_family("eomt", Eomt)
register_family("rf_detr", RfDetr)
register_family("mask2former", Mask2Former)
register_family("mask_rcnn", MaskRcnn)

MAX_CONFIG_BYTES = 1024 * 1024


def family_of(folder: Path) -> str:
    """The `model_type` of a folder's config.json. Raises BaseError where that is none of FAMILIES."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise BaseError(f"{path.name}: larger than {MAX_CONFIG_BYTES:,} bytes")
        family = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except OSError as error:
        raise BaseError(f"{path.name}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise BaseError(f"{path.name}: not a JSON object ({error})") from error
    if family not in FAMILIES:
        raise BaseError(f"{path.name}: model_type is {family!r}; known are {', '.join(FAMILIES)}")
    return str(family)


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> InstanceModel:
    """The network of a folder (config.json, model.safetensors) on the CPU, in eval mode. Raises BaseError."""
    family = FAMILIES[family_of(folder)]
    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise BaseError(f"{path.name}: not valid safetensors ({error})") from error
    try:
        model: InstanceModel
        model, told = family.from_pretrained(  # type: ignore[attr-defined]
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise BaseError(f"model.safetensors or config.json cannot be loaded as {family.__name__}: {error}") from error
    # The library leaves what a file lacks at random, and only warns.
    lacking = sorted({name for name, _ in model.named_parameters()} & set(told["missing_keys"]))
    if lacking:
        raise BaseError(
            f"{path.name}: cannot be loaded as {family.__name__}: {len(lacking)} tensors are missing, the "
            f"first of them '{lacking[0]}'"
        )
    return model.eval()
