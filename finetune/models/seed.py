"""A public checkpoint made into a base: any family we know, its class head mapped onto the package labels.

The encoder and everything else is taken as it is; only what counts classes changes shape.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from finetune.errors import BaseModelError
from finetune.models.model import picture_size, save_base
from finetune.scenes import LABELS
from serving.errors import BaseError
from serving.families.load import FAMILIES, family_of, load_model
from serving.families.parcelseg import ParcelSeg
from serving.families.types import InstanceModel
from serving.inference.preprocess import IMAGENET_MEAN, IMAGENET_STD
from serving.inference.segmenter import RESERVED

NEEDED = ("config.json", "model.safetensors", "preprocessor_config.json")
# The parts that count classes, for a checkpoint that happens to have as many as we do.
_HEADS = re.compile(r"class_predictor|class_embed|cls_score|bbox_pred|mask_fcn_logits")
_UNSURE = -4.6  # the bias of a label that no class of the checkpoint stands for: a probability of 1 %


@dataclass(frozen=True, slots=True)
class Seeded:
    """What became of a checkpoint: its family, picture size in pixels, and the class that each label came from."""

    family: str
    image_size: int
    mapped: Mapping[str, str]
    fresh: tuple[str, ...]


def fetch_checkpoint(source: str, cache: Path) -> Path:
    """The folder of a checkpoint: `source` itself if it is one, otherwise `ORG/NAME[@REVISION]` from the hub that
    HF_ENDPOINT names. Only safetensors and JSON are ever fetched. Raises BaseModelError."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    name, _, revision = source.partition("@")
    try:
        fetched = snapshot_download(
            name, revision=revision or None, cache_dir=cache, allow_patterns=["*.json", "*.safetensors", "README.md"]
        )
    except HFValidationError as error:
        raise BaseModelError(f"{source!r} is neither a folder nor ORG/NAME: {error}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise BaseModelError(f"{source!r} cannot be fetched: {error}") from error
    return Path(fetched)


def seed_base(
    folder: Path,
    out: Path,
    *,
    class_map: Mapping[str, str] | None = None,
    labels: Sequence[str] = LABELS,
    spare_labels: int = 10,
    new_head: bool = False,
    image_size: int | None = None,
    origin: str = "",
) -> Seeded:
    """Write the checkpoint in `folder` to `out` as a base that answers `labels` and spare ones.

    Args:
        class_map: label -> class of the checkpoint it starts from; equal names are mapped without being told.
        new_head: allow that no class is mapped, as for a checkpoint that knows no packages.
        image_size: pixels a side, by default the checkpoint's own.
        origin: what the card says it was made from.

    Raises BaseModelError naming the culprit: a missing or damaged file, an unknown family, a map that names an unknown
    class or drops every class, another normalisation than ImageNet's.
    """
    for name in NEEDED:
        if not (folder / name).is_file():
            raise BaseModelError(f"{folder / name}: missing; a checkpoint has {', '.join(NEEDED)}")
    try:
        family = family_of(folder)
        model = load_model(folder)
    except BaseError as error:
        raise BaseModelError(f"{folder}: {error}") from error
    size = image_size or _size(folder / "preprocessor_config.json") or picture_size(model)
    names = [*labels, *(f"{RESERVED}{k}" for k in range(spare_labels))]
    rows = _rows(model.labels, names, class_map or {})
    if not rows and not new_head:
        raise BaseModelError(
            f"{folder}: none of its classes is mapped ({_some(model.labels.values())}); map some with --map "
            "LABEL=CLASS, or start with an untrained class head with --new-head"
        )
    seeded = _with_head(model, names, rows)
    mapped = {names[k]: model.labels[theirs] for k, theirs in rows.items() if not names[k].startswith(RESERVED)}
    found = Seeded(family, size, mapped, tuple(name for name in labels if name not in mapped))
    try:
        if isinstance(seeded, ParcelSeg):
            seeded.resize(size)
        with torch.inference_mode():
            seeded.answer(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError, IndexError) as error:
        raise BaseModelError(
            f"{folder}: a {family} of this shape takes no {size} x {size} pictures: {error}"
        ) from error
    save_base(seeded, out, card=_card(found, origin or folder.name), image_size=size)
    return found


def _rows(theirs: Mapping[int, str], names: Sequence[str], chosen: Mapping[str, str]) -> dict[int, int]:
    """Index of our label -> index of their class."""
    index = {name: k for k, name in theirs.items()}
    for label, name in chosen.items():
        if label not in names:
            raise BaseModelError(f"the class map names {label!r}; labels are {_some(names)}")
        if name not in index:
            raise BaseModelError(f"the class map names {name!r}; the checkpoint has {_some(theirs.values())}")
    plain = {_plain(name): k for name, k in index.items()}
    found = {names.index(label): index[name] for label, name in chosen.items()}
    for mine, label in enumerate(names):
        if mine not in found and _plain(label) in plain:
            found[mine] = plain[_plain(label)]
    return found


def _with_head(model: InstanceModel, names: Sequence[str], rows: Mapping[int, int]) -> InstanceModel:
    """A model with these labels: the weights of `model`, and of what counts classes the rows that are mapped."""
    config = copy.deepcopy(model.config)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: k for k, name in enumerate(names)}
    seeded = FAMILIES[config.model_type](config).eval()
    old, new = model.state_dict(), seeded.state_dict()
    before, after = len(model.labels), len(names)
    for name, tensor in new.items():
        counts = tensor.shape != old[name].shape or (before == after and _HEADS.search(name))
        new[name] = _head(name, old[name], tensor, before, after, rows) if counts else old[name]
    seeded.load_state_dict(new)
    return seeded


def _head(name: str, old: Tensor, new: Tensor, before: int, after: int, rows: Mapping[int, int]) -> Tensor:
    """One tensor of a head: what belongs to mapped classes and to "no object" copied, the rest unsure or, where it is
    not about which class, the mean over theirs."""
    about_class = "class" in name or "cls" in name
    for extra in (0, 1):
        each, rest = divmod(old.shape[0], before + extra) if old.ndim else (0, 1)
        if not rest and each in (1, 4) and new.shape[0] == each * (after + extra) and old.shape[1:] == new.shape[1:]:
            break
    else:
        raise BaseModelError(f"{name}: shape {tuple(old.shape)} is not that of a head for {before} classes")
    # torchvision's detectors have their background first, the others their "no object" last or not at all.
    first = extra if name.startswith("detector.") else 0
    theirs = old.reshape(before + extra, each, *old.shape[1:])
    if not about_class:
        made = theirs.mean(0, keepdim=True).repeat(after + extra, *[1] * (theirs.ndim - 1))
    elif old.ndim > 1:
        made = torch.zeros(after + extra, *theirs.shape[1:])
        torch.nn.init.normal_(made, std=float(old.float().std()) * 0.1)
    else:
        made = torch.full((after + extra, each), _UNSURE)
    for mine, origin in rows.items():
        made[first + mine] = theirs[first + origin]
    if extra:
        made[0 if first else -1] = theirs[0 if first else -1]
    return made.reshape(new.shape).to(new.dtype)


def _size(path: Path) -> int | None:
    """Side of the square pictures that a preprocessor config asks for, None where it says nothing of it."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        for key, expected in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
            told = config.get(key)
            if told is not None and max(abs(a - b) for a, b in zip(told, expected, strict=True)) > 1e-3:
                raise BaseModelError(f"{path}: {key} is {told}; a base takes pictures normalised as ImageNet's")
        size = config.get("size")
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge") or size.get("longest_edge")
        return int(size) if size else None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BaseModelError(f"{path}: not a preprocessor config ({error})") from error


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _some(names: Iterable[str], most: int = 12) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _card(seeded: Seeded, origin: str) -> str:
    mapped = "\n".join(f"| `{label}` | `{name}` |" for label, name in seeded.mapped.items())
    fresh = ", ".join(f"`{name}`" for name in seeded.fresh) or "none"
    return f"""---
library_name: transformers
pipeline_tag: image-segmentation
tags: [parcelhub, base, instance-segmentation, {seeded.family}]
---

# A base seeded from `{origin}`

Family `{seeded.family}`, pictures of {seeded.image_size} pixels. Weights are those of `{origin}`, under its licence;
only the class head was mapped onto the package labels.

| label | started from |
|---|---|
{mapped}

Labels with an untrained head, to be learnt by fine-tuning: {fresh}.
"""
