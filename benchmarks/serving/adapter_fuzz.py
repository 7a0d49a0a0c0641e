"""Adapters that are damaged in every way we can think of, at the door where a server reads them.

A damaged adapter is refused as one (`AdapterError`), or it is still one: its numbers are finite, its change of every
layer is within the limit, and its classes have names. Whatever else is raised would leave its tenant.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save

from serving.errors import AdapterError
from serving.inference.adapter_files import (
    CONFIG,
    MAX_CLASS_NAME,
    VARIANT,
    WEIGHTS,
    LayerShape,
    change_norm,
    read_adapter,
)
from serving.inference.picture_sizes import PictureSizes

LAYERS: Final = {
    "layers.0.attention.q_proj": LayerShape(32, 32, None, 50.0),
    "layers.0.mlp.fc1": LayerShape(32, 64, None, 50.0),
    "neck.0.conv": LayerShape(8, 16, (3, 3), 50.0),
}
BASE, LABELS = "universal@v1", frozenset({"box", "bag", "tube"})
SIZES: Final = PictureSizes(320, others=True)
_PREFIX = "base_model.model."
_TYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int8,
    torch.int64,
    torch.bool,
    torch.uint8,
    torch.complex64,
)
_NAMES = ("F4", "F8_E4M3", "F8_E5M2", "F8_E8M0", "BF16", "F64", "I64", "U64", "BOOL", "C64", "", "x", "f32", None, 7)
_ODD: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, -0.5, float("nan"), float("inf"), "", "1", "nan", "\ud800"),
    *(
        "x" * 5000,
        "a\0b",
        "../../x",
        [],
        {},
        [[]],
        [None],
        {"": None},
        [1] * 1000,
        "LORA",
        "pissa",
        "\u202e",
        "é" * 300,
    ),
)


@dataclass(slots=True)
class AdapterFuzz:
    """What came of the damaged adapters; `escaped` has an example of each thing that must not be."""

    files: int = 0
    refused: int = 0
    taken: int = 0
    escaped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)
    """The seed of one of each."""


def run_adapters(folder: Path, *, files: int, seed: int = 0) -> AdapterFuzz:
    """Read so many damaged adapters, each written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    found = AdapterFuzz()
    for number in range(seed, seed + files):
        _write(folder, random.Random(number))
        found.files += 1
        said = _read(folder)
        if said == "":
            found.taken += 1
        elif said == "refused":
            found.refused += 1
        else:
            found.escaped[said] += 1
            found.examples.setdefault(said, number)
    return found


def _read(folder: Path) -> str:
    """Nothing for an adapter, "refused", or what is wrong."""
    try:
        made = read_adapter("a@v1", folder, base_name=BASE, base_labels=LABELS, layers=LAYERS, max_rank=8, sizes=SIZES)
    except AdapterError as error:
        return "refused" if str(error).strip() else "refused without a word"
    except BaseException as error:  # this is what is looked for
        return f"{type(error).__name__}: {error}"[:200]
    for layer, (a, b) in made.weights.items():
        if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            return "numbers that are not finite"
        if not change_norm(a, b) <= LAYERS[layer].limit:
            return "a change beyond the limit"
    if not all(0 < len(name) <= MAX_CLASS_NAME and name.isprintable() for name in made.labels.values()):
        return "a class without a name to show"
    return "" if math.isfinite(made.pivot) else "a pivot that is not finite"


def _write(folder: Path, dice: random.Random) -> None:
    tensors = {}
    for layer, shape in LAYERS.items():
        if dice.random() < 0.9:
            tensors[f"{_PREFIX}{layer}.lora_A.weight"] = torch.full(shape.file_a(4), 0.01)
            tensors[f"{_PREFIX}{layer}.lora_B.weight"] = torch.full(shape.file_b(4), 0.01)
    config: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_rslora": False}
    variant: dict[str, Any] = {
        "base": {"repo": "base/universal", "revision": "v1", "commit": "c" * 64},
        "labels": {"box": "carton", "bag": "sack"},
        "rank": 4,
        "score_pivot": 0.4,
    }
    ways = dice.choices(("config", "variant", "numbers", "shapes", "header", "bytes", "text"), k=dice.choice((1, 1, 2)))
    for way in ways:
        if way == "config":
            _damage(config, dice)
        elif way == "variant":
            _damage(variant, dice)
        elif way in ("numbers", "shapes") and tensors:
            _tensors(tensors, way, dice)
    data = save(tensors) if tensors else b""
    if "header" in ways and data:
        data = _header(data, dice)
    if "bytes" in ways:
        data = _bytes(data, dice)
    texts = [json.dumps(one).encode("utf-8", "surrogatepass") for one in (config, variant)]
    if "text" in ways:
        at = dice.randrange(2)
        texts[at] = _bytes(texts[at], dice)
    for name, content in ((CONFIG, texts[0]), (VARIANT, texts[1]), (WEIGHTS, data)):
        (folder / name).write_bytes(content)


def _damage(document: dict[str, Any], dice: random.Random) -> None:
    node = document
    key = dice.choice(sorted(node))
    while isinstance(node[key], dict) and node[key] and dice.random() < 0.7:
        node = node[key]
        key = dice.choice(sorted(node))
    if dice.random() < 0.2:
        node.pop(key)
    elif dice.random() < 0.2:
        extra = ("use_dora", "modules_to_save", "rank_pattern", "init_lora_weights", "bias", "\ud800", "tube")
        node[dice.choice(extra)] = dice.choice(_ODD)
    else:
        node[key] = dice.choice(_ODD)


def _tensors(tensors: dict[str, torch.Tensor], way: str, dice: random.Random) -> None:
    key = dice.choice(sorted(tensors))
    one = tensors[key]
    if way == "numbers":
        if not one.dtype.is_floating_point:  # what another damage made of it takes none of these numbers
            one = one.to(torch.float32)
        value = dice.choice((math.nan, math.inf, -math.inf, 3e38, 1e30, 65_504.0, 1e-45, 0.0, 1e4))
        whole = dice.random() < 0.5 or not one.numel()
        tensors[key] = torch.full_like(one, value) if whole else one.index_fill(0, torch.tensor([0]), value)
        if dice.random() < 0.5:
            tensors[key] = tensors[key].to(dice.choice(_TYPES))
        return
    match dice.randrange(5):
        case 0:
            tensors[key] = torch.zeros([dice.choice((0, 1, 3, 4, 8, 9)) for _ in range(dice.randint(0, 5))])
        case 1:
            tensors[key] = one.flatten()
        case 2:
            tensors.pop(key)
        case 3:
            tensors[dice.choice(("x", "", key + ".extra", _PREFIX, f"{_PREFIX}é.lora_A.weight"))] = one.clone()
        case _:
            tensors[key] = one.transpose(0, -1).contiguous()


def _header(data: bytes, dice: random.Random) -> bytes:
    size = struct.unpack("<Q", data[:8])[0]
    if dice.random() < 0.3:
        return struct.pack("<Q", dice.choice((0, 1, size - 1, size + 1, 2**32, 2**63, 2**64 - 1))) + data[8:]
    header = json.loads(data[8 : 8 + size])
    name = dice.choice([key for key in header if key != "__metadata__"])
    match dice.randrange(4):
        case 0:
            header[name]["dtype"] = dice.choice(_NAMES)
        case 1:
            header[name]["shape"] = dice.choice(
                ([2**62, 4], [2**64, 2**64], [-1, 4], [0], [], [4.5], "4", None, [4] * 100)
            )
        case 2:
            header[name]["data_offsets"] = dice.choice(
                ([0, 0], [8, 4], [0, 2**63], [-8, 8], [0], None, [0, 10**400], ["0", 4])
            )
        case _:
            header[dice.choice(("__metadata__", name, "x"))] = dice.choice(_ODD)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _bytes(data: bytes, dice: random.Random) -> bytes:
    made = bytearray(data)
    at = dice.randrange(len(made) + 1)
    match dice.randrange(4):
        case 0:
            for _ in range(dice.randint(1, 30)):
                if made:
                    made[dice.randrange(len(made))] = dice.randrange(256)
        case 1:
            del made[at:]
        case 2:
            made[at:at] = dice.randbytes(dice.randint(1, 50))
        case _:
            made[at:at] = dice.choice((b"[", b'{"a":', b"\xff", b"\0")) * dice.choice((3, 5_000, 100_000))
    return bytes(made)
